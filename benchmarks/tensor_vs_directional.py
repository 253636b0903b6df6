"""Time of all directions at once against three directions one after another, at equal width; memory of many structures.

python benchmarks/tensor_vs_directional.py      # writes docs/benchmarks/tensor_vs_directional.md
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms

from equispec.data.atoms import graphs_from_many
from equispec.data.store import StickStore
from equispec.graph import along_directions
from equispec.model import Model, ModelConfig, build

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "benchmarks" / "tensor_vs_directional.md"
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "64000000000", "MALLOC_TOP_PAD_": "268435456"}
WIDTH, CUTOFF, MOLECULES = 96, 6.0, 50
COMMON = {"features": WIDTH, "blocks": 3, "n_radial": 32, "cutoff": CUTOFF}
DESIGNS = {
    "directional": ({"name": "isd-painn", **COMMON}, {"name": "directional-spectrum"}),
    "n-linear": ({"name": "dyad-painn", **COMMON}, {"name": "dyad-tensor"}),
    "symmetric square": ({"name": "painn", "radial": "gaussian", **COMMON}, {"name": "square-tensor"}),
}

XAS_WITH_PEAK_MEMORY = """
import resource, sys
from equispec.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def network(design: str) -> Model:
    backbone, head = DESIGNS[design]
    return build(ModelConfig.parse({"backbone": backbone, "heads": [head]})).eval()


def structures() -> list[Atoms]:
    """The largest molecules of the reference set."""
    with StickStore(ROOT / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5") as store:
        samples = sorted(store, key=lambda sample: -len(sample.z))
    return [Atoms(sample.z, sample.pos) for sample in samples]


def measure(repeats: int) -> dict[str, float]:
    """CPU milliseconds of a batch, medians of interleaved calls on one thread."""
    torch.set_num_threads(1)
    graph = graphs_from_many(structures()[:MOLECULES], CUTOFF)
    axes = torch.eye(3)
    networks = {design: network(design) for design in DESIGNS}
    one_by_one = [along_directions(graph, n[None]) for n in axes]
    at_once = along_directions(graph, axes)
    calls = {
        "directional, three passes": lambda: [networks["directional"](each) for each in one_by_one],
        "directional, one batch of three": lambda: networks["directional"](at_once),
        "n-linear": lambda: networks["n-linear"](graph),
        "symmetric square": lambda: networks["symmetric square"](graph),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        for _ in range(repeats + 2):
            for name, call in calls.items():
                start = time.thread_time()
                call()
                times[name].append(time.thread_time() - start)
    figures = {name: 1e3 * float(np.median(values[2:])) for name, values in times.items()}
    return {**figures, "atoms": graph.n_atoms, "edges": graph.n_edges}


def throughput(number: int, folder: Path) -> tuple[float, float]:
    """Molecules per second (wall clock, start included) and peak memory (MB) of `equispec xas` on two threads."""
    pool = structures()
    source, target = folder / "many.xyz", folder / "many.h5"
    ase.io.write(source, [pool[i % len(pool)] for i in range(number)], format="extxyz")
    command = [sys.executable, "-c", XAS_WITH_PEAK_MEMORY, "xas", str(source), "-o", str(target)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return number / (time.perf_counter() - start), float(done.stderr.split()[-1]) / 1024


def in_fresh_process(repeats: int, **environment: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", "--repeats", str(repeats)]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--measure", action="store_true", help="print the figures of this process as JSON")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.repeats)))
        return
    default, tuned = in_fresh_process(arguments.repeats), in_fresh_process(arguments.repeats, **ALLOCATOR)
    rows = []
    for name in list(default)[:-2]:
        cells = [f"{f[name]:.0f} | {f[name] / f['directional, three passes']:.2f}" for f in (default, tuned)]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    folder = ROOT / "runs"
    folder.mkdir(exist_ok=True)
    flow = [(n, *throughput(n, folder)) for n in (100, 1000)]
    text = f"""# All directions at once, against three directions

`python benchmarks/tensor_vs_directional.py`, {datetime.date.today()}, {platform.machine()}, one thread, float32, eager;
load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.

One batch of {MOLECULES} molecules ({default["atoms"]:.0f} atoms, {default["edges"]:.0f} edges), {WIDTH} features,
3 blocks, cutoff {CUTOFF:g} Å, 301 energies. CPU milliseconds, medians, and the ratio to three passes of the directional
network. The tensor networks answer for every direction, the directional one for three.

| | glibc's allocator | ratio | allocator set | ratio |
|-|-|-|-|-|
{chr(10).join(rows)}

## `equispec xas`, two threads

| molecules | per second, start included | peak memory (MB) |
|-|-|-|
{chr(10).join(f"| {n} | {rate:.0f} | {memory:.0f} |" for n, rate, memory in flow)}
"""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
