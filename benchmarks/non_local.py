"""Non-local So3krates: all pairs of a molecule against a search for those that matter in SPHC space.

    python benchmarks/non_local.py          # writes docs/benchmarks/non_local.md

Chains with random weights, whose geometric attention is made stronger (STRONGER) so that atoms lie apart in SPHC space
as they do after training; energies and forces by both routes, called in turn, and the numbers they differ by.
"""

import datetime
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equispec.data.atoms import graph_from_arrays
from equispec.derivatives import evaluate
from equispec.graph import AtomGraph
from equispec.model import Model, ModelConfig, build
from equispec.models import so3krates
from painn_vs_schnetpack import processor

REPORT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "non_local.md"
SIZES = (32, 64, 128, 256, 512)
STRONGER = 5.0
CUTS = {"1 / atoms (the paper)": None, "a tenth of that": 0.1}


def network(cut: float | None) -> Model:
    torch.manual_seed(0)
    backbone = {
        "name": "so3krates",
        "blocks": 4,
        "degrees": [1, 2, 3],
        "cutoff": 2.5,
        "non_local": True,
        "chi_cut": cut,
    }
    model = build(ModelConfig.parse({"backbone": backbone, "heads": [{"name": "energy"}]}), torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("geometry.query.weight"):
                parameter.mul_(STRONGER)
    return model.requires_grad_(False)


def chain(n: int) -> AtomGraph:
    """A bent chain of n atoms."""
    rng = np.random.default_rng(0)
    steps = np.array([1.2, 0.0, 0.0]) + rng.normal(0, 0.4, (n, 3))
    return graph_from_arrays(rng.choice([1, 6, 7, 8], n), np.cumsum(steps, axis=0), 2.5, dtype=torch.float64)


def compared(n: int, share: float | None) -> dict[str, Any]:
    model, graph = network(None if share is None else share / n), chain(n)
    found, times = {}, {}
    for route, threshold in (("all", 10**9), ("search", 0)):
        so3krates.SEARCH_FROM = threshold
        evaluate(model, graph, ["energy", "forces"])
        start = time.process_time()
        found[route] = evaluate(model, graph, ["energy", "forces"])
        times[route] = time.process_time() - start
    states = list(model.backbone.states(graph))[1:]  # type: ignore[operator]
    pairs = np.mean([state.among.index.receiver.shape[1] for state in states])
    difference = max(float((found["all"][k] - found["search"][k]).abs().max()) for k in found["all"])
    return {**times, "pairs": pairs / (n * (n - 1) / 2), "difference": difference}


def main() -> None:
    torch.set_num_threads(1)
    lines = []
    for name, share in CUTS.items():
        for n in SIZES:
            row = compared(n, share)
            lines.append(
                f"| {name} | {n} | {100 * row['pairs']:.0f} % | {row['all']:.2f} | {row['search']:.2f} | "
                f"{row['all'] / row['search']:.2f} | {row['difference']:.0e} |"
            )
            print(lines[-1], flush=True)
    table = "\n".join(lines)
    text = f"""# Non-local attention: all pairs, or those that matter

Written by `benchmarks/non_local.py` on {datetime.date.today()}: {processor()}, one thread; load average
{os.getloadavg()[1]:.1f} on {os.cpu_count()} cores.

Chains, four layers, F = 132, degrees 1 to 3, double precision, random weights with stronger geometric attention. Energy
and forces, seconds of processor time; differences in eV and eV/Å. Share: pairs that the search keeps, the mean over the
layers.

| χ_cut | atoms | share | all pairs | search | ratio | difference |
|-|-|-|-|-|-|-|
{table}
"""
    REPORT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
