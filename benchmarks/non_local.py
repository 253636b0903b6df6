"""Non-local So3krates: all pairs of a molecule against a search for those that matter in SPHC space.

    python benchmarks/non_local.py          # writes docs/benchmarks/non_local.md

Chains with random weights, whose geometric attention is made stronger (STRONGER) so that atoms lie apart in SPHC space
as they do after training; energies and forces by both routes, called in turn, and the numbers they differ by. Also the
memory that a pair takes, beside the estimate by which structures are refused.
"""

import argparse
import datetime
import os
import resource
import subprocess
import sys
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
MEMORY_SIZES = (120, 240)
TRAINING = "training step"
ASKED = {"energy": ["energy"], "energy + forces": ["energy", "forces"], TRAINING: ["energy", "forces"]}
STRONGER = 5.0
CUTS = {"1 / atoms (the paper)": None, "a tenth of that": 0.1}


def network(cut: float | None, dtype: torch.dtype = torch.float64) -> Model:
    torch.manual_seed(0)
    backbone = {
        "name": "so3krates",
        "blocks": 4,
        "degrees": [1, 2, 3],
        "cutoff": 2.5,
        "non_local": True,
        "chi_cut": cut,
    }
    model = build(ModelConfig.parse({"backbone": backbone, "heads": [{"name": "energy"}]}), dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("geometry.query.weight"):
                parameter.mul_(STRONGER)
    return model.requires_grad_(False)


def chain(n: int, dtype: torch.dtype = torch.float64) -> AtomGraph:
    """A bent chain of n atoms."""
    rng = np.random.default_rng(0)
    steps = np.array([1.2, 0.0, 0.0]) + rng.normal(0, 0.4, (n, 3))
    return graph_from_arrays(rng.choice([1, 6, 7, 8], n), np.cumsum(steps, axis=0), 2.5, dtype=dtype)


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


def peak(n: int, kind: str) -> float:
    """By how much n atoms that all see one another raise the peak memory of this process, in bytes."""
    so3krates.SEARCH_FROM = 0  # as in structures that may be too large
    model = all_seeing(kind)
    before = peak_with(model, 10, kind)
    return peak_with(model, n, kind) - before


def peak_with(model: Model, n: int, kind: str) -> float:
    """The peak memory of this process after n atoms, in bytes."""
    with torch.set_grad_enabled(kind != "energy"):
        found = evaluate(model, chain(n, torch.float32), ASKED[kind], create_graph=kind == TRAINING)
        if kind == TRAINING:
            sum(values.square().sum() for values in found.values()).backward()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def all_seeing(kind: str) -> Model:
    """A network in single precision whose atoms all see one another."""
    return network(10.0, torch.float32).requires_grad_(kind == TRAINING).train(kind == TRAINING)


def memory_row(kind: str) -> str:
    """What a pair takes, from two sizes, each in a process of its own; and the estimate."""
    found = []
    for n in MEMORY_SIZES:
        command = [sys.executable, __file__, "--peak", str(n), kind]
        found.append(float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
    pairs = [n * (n - 1) / 2 for n in MEMORY_SIZES]
    with torch.set_grad_enabled(kind != "energy"):
        estimate = all_seeing(kind).backbone.bytes_per_pair(chain(2, torch.float32))  # type: ignore[operator]
    return f"| {kind} | {(found[1] - found[0]) / (pairs[1] - pairs[0]):,.0f} | {estimate:,} |"


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak", nargs=2, help="one measurement of memory in this process: atoms, kind")
    if given := parser.parse_args().peak:
        print(peak(int(given[0]), given[1]))
        return
    memory = "\n".join(memory_row(kind) for kind in ASKED)
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

## Memory

The same networks in single precision where all atoms see one another (χ_cut = 10), by the search: bytes a pair, from
the peaks at {MEMORY_SIZES[0]} and {MEMORY_SIZES[1]} atoms, and the estimate by which structures are refused.

| | bytes a pair | estimate |
|-|-|-|
{memory}
"""
    REPORT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
