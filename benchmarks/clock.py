"""Time that all benchmarks of networks take in the same way."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Side = Callable[[], Any]


def timed(sides: dict[str, Side], repeats: int, device: str = "cpu") -> dict[str, float]:
    """Median milliseconds of all sides, called in turn, the first turn not counted; see `now`."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, side in sides.items():
            start = now(device)
            side()
            times[name].append(1e3 * (now(device) - start))
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def now(device: str) -> float:
    """Seconds: of the process on the CPU, or since any time when the GPU has done all it was given."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()
