"""Time that all benchmarks of networks take in the same way."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

Side = Callable[[], Any]


def timed(sides: dict[str, Side], repeats: int) -> dict[str, float]:
    """Median CPU milliseconds of all sides, called in turn, the first turn not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, side in sides.items():
            start = time.process_time()
            side()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: float(np.median(values[1:])) for name, values in times.items()}
