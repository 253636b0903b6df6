"""Time of So3krates: forces, training steps and large molecules, beside PaiNN (ours and SchNetPack's) and MACE.

Environment: see painn_vs_schnetpack.py, and in it `pip install mace-torch`.

    .venv-peers/bin/python benchmarks/so3krates_speed.py          # writes docs/benchmarks/so3krates_speed.md
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from clock import Side, timed
from equispec.data.atoms import graph_from_atoms
from equispec.data.structures import atoms_from_smiles
from equispec.derivatives import evaluate
from equispec.graph import AtomGraph
from equispec.model import Model, ModelConfig, build
from forces_vs_schnetpack import aspirins, networks, peer_inputs, training_case
from painn_vs_schnetpack import ALLOCATOR, processor

ROOT = Path(__file__).resolve().parent.parent
AUTHORS = (  # ms of the authors' compiled JAX code (v0.3) and of SchNetPack 2.2 beside it, measured in November 2026
    ("energy + forces, 1 aspirin", 15.6, 9.4),
    ("energy + forces, 100 aspirins", 3225, 1950),
    ("training step, 10 aspirins", 740, 209),
)
REPORT = ROOT / "docs" / "benchmarks" / "so3krates_speed.md"
CUTOFF = 5.0
SIZES = (4, 10, 20, 40, 80, 160)  # molecules in a row
L_MAX = (1, 2, 3, 4)


def so3krates(**backbone: Any) -> Model:
    config = {"backbone": {"name": "so3krates", **backbone}, "heads": [{"name": "energy", "hidden": 132}]}
    return build(ModelConfig.parse(config)).eval()


def mace_network(elements: list[int]) -> nn.Module:
    """MACE with 128 scalars and 128 vectors and two layers, random weights."""
    torch.serialization.add_safe_globals([slice])  # in a file of constants of the e3nn that MACE wants
    from e3nn import o3
    from mace.modules import MACE, RealAgnosticInteractionBlock, RealAgnosticResidualInteractionBlock

    return MACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=RealAgnosticResidualInteractionBlock,
        interaction_cls_first=RealAgnosticInteractionBlock,
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps("128x0e + 128x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)),
        avg_num_neighbors=15.0,
        atomic_numbers=elements,
        correlation=3,
        gate=nn.functional.silu,
    )


def mace_inputs(graph: AtomGraph, elements: list[int]) -> dict[str, Tensor]:
    """The same atoms and edges in the names of MACE: senders first, vectors from sender to receiver."""
    receiver, sender = graph.edge_index
    table = torch.tensor([elements.index(int(z)) for z in graph.z])
    counts = torch.bincount(graph.system)
    return {
        "positions": graph.pos.clone(),
        "node_attrs": nn.functional.one_hot(table, len(elements)).to(graph.pos.dtype),
        "edge_index": torch.stack([sender, receiver]),
        "shifts": torch.zeros(graph.n_edges, 3, dtype=graph.pos.dtype),
        "unit_shifts": torch.zeros(graph.n_edges, 3, dtype=graph.pos.dtype),
        "cell": torch.zeros(3 * graph.n_systems, 3, dtype=graph.pos.dtype),
        "batch": graph.system,
        "ptr": torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
    }


def forces(model: Model, graph: AtomGraph) -> Side:
    return lambda: evaluate(model, graph, ["energy", "forces"])["forces"]


def step(model: Model, graph: AtomGraph) -> Side:
    weights = list(model.parameters())

    def run() -> Any:
        found = evaluate(model, graph, ["energy", "forces"], create_graph=True)
        loss = 0.01 * found["energy"].square().mean() + 0.99 * found["forces"].square().mean()
        return torch.autograd.grad(loss, weights, allow_unused=True)

    return run


def rows(ours: Model, repeats: float) -> dict[str, dict[str, float]]:
    painn, schnetpack = networks()
    graphs = {1: aspirins(1), 10: aspirins(10), 100: aspirins(100)}
    elements = [1, 6, 8]
    mace = mace_network(elements)
    found = {}
    for n, many in ((1, 51), (100, 5)):
        graph = graphs[n]
        inputs = mace_inputs(graph, elements)

        def peer(graph: AtomGraph = graph) -> Tensor:
            return schnetpack(peer_inputs(graph))["forces"]

        def mace_forces(inputs: dict[str, Tensor] = inputs) -> Tensor:
            return mace({**inputs, "positions": inputs["positions"].clone()}, training=False)["forces"]

        sides = {
            "So3krates": forces(ours, graph),
            "PaiNN": forces(painn, graph),
            "SchNetPack": peer,
            "MACE": mace_forces,
        }
        found[f"energy + forces, {n} aspirin{'s' * (n > 1)}"] = timed(sides, max(1, round(many * repeats)))
    our_painn, peer_step = training_case(painn, schnetpack, graphs[10])
    inputs, weights = mace_inputs(graphs[10], elements), list(mace.parameters())

    def mace_step() -> Any:
        made = mace({**inputs, "positions": inputs["positions"].clone()}, training=True)
        loss = made["energy"].square().mean() + made["forces"].square().mean()
        return torch.autograd.grad(loss, weights, allow_unused=True)

    sides = {"So3krates": step(ours, graphs[10]), "PaiNN": our_painn, "SchNetPack": peer_step, "MACE": mace_step}
    found["training step, 10 aspirins"] = timed(sides, max(1, round(7 * repeats)))
    return found


def row_of_molecules(n: int) -> Atoms:
    """n molecules of alaninal (12 atoms) in a row, 5.2 Å apart: as many neighbours for each, however long."""
    one = atoms_from_smiles("CC(N)C=O")
    pos = np.concatenate([one.positions + np.array([5.2 * k, 0, 0]) for k in range(n)])
    return Atoms(np.tile(one.numbers, n), pos)


def scaling(repeats: float) -> dict[str, Any]:
    """Per atom for growing rows of molecules, local and non-local; per degree for ten aspirins."""
    local, non_local = so3krates(), so3krates(non_local=True, degrees=[1], blocks=4, cutoff=2.5)
    found: dict[str, Any] = {"rows": {}, "degrees": {}}
    for n in SIZES:
        atoms = row_of_molecules(n)
        sides = {"local": forces(local, graph_from_atoms(atoms, CUTOFF))}
        if len(atoms) <= 1000:
            sides["non-local"] = forces(non_local, graph_from_atoms(atoms, 2.5))
        found["rows"][len(atoms)] = timed(sides, max(1, round(3 * repeats)))
    graph = aspirins(10)
    for top in L_MAX:
        model = so3krates(degrees=list(range(1, top + 1)))
        found["degrees"][top] = timed(
            {"forces": forces(model, graph), "step": step(model, graph)}, max(1, round(5 * repeats))
        )
    return found


def measure(repeats: float) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours = so3krates()
    return {"rows": rows(ours, repeats), "scaling": scaling(repeats)}


def verdict(default: dict[str, Any], tuned: dict[str, Any]) -> str:
    """Times over those of SchNetPack beside the ratios of the authors' code."""
    lines = [
        "Authors' code: compiled JAX v0.3, in another run beside SchNetPack 2.2 (9.4, 1,950 and 209 ms).",
        "",
        "| times SchNetPack's PaiNN | here | with the allocator set | authors' code | aim: half of that |",
        "|-|-|-|-|-|",
    ]
    for (name, ms, peer), one, other in zip(AUTHORS, default["rows"].values(), tuned["rows"].values(), strict=True):
        here = [row["So3krates"] / row["SchNetPack"] for row in (one, other)]
        lines.append(f"| {name} | {here[0]:.2f} | {here[1]:.2f} | {ms / peer:.2f} ({ms:,g} ms) | {ms / peer / 2:.2f} |")
    return "\n".join(lines)


def report(default: dict[str, Any], tuned: dict[str, Any]) -> str:
    names = ("equispec", "schnetpack", "mace-torch", "torch")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)

    def number(value: float) -> str:
        return f"{value:.{1 if value < 100 else 0}f}"

    def table(results: dict[str, Any]) -> str:
        lines = []
        for name, row in results["rows"].items():
            ratios = [f"{row[other] / row['So3krates']:.2f}" for other in ("PaiNN", "SchNetPack", "MACE")]
            lines.append(f"| {name} | {' | '.join([*(number(value) for value in row.values()), *ratios])} |")
        return "\n".join(lines)

    header = (
        "| | So3krates | PaiNN | SchNetPack | MACE | PaiNN / So3krates | SchNetPack / So3krates | MACE / So3krates |"
    )
    rule = "|-" * 8 + "|"
    lengths = "\n".join(
        f"| {n} | {row['local'] / int(n):.2f} | {row['non-local'] / int(n):.2f} |"
        if "non-local" in row
        else f"| {n} | {row['local'] / int(n):.2f} | – |"
        for n, row in default["scaling"]["rows"].items()
    )
    degrees = "\n".join(
        f"| {top if int(top) == 1 else f'1 to {top}'} | {number(row['forces'])} | {number(row['step'])} |"
        for top, row in default["scaling"]["degrees"].items()
    )
    return f"""# So3krates: forces and training, beside PaiNN and MACE

Written by `benchmarks/so3krates_speed.py` on {datetime.date.today()}: {processor()}, one thread;
{versions}, Python {platform.python_version()}.

So3krates at the paper's size (F = 132, 6 layers, degrees 1-3); PaiNN with F = 128 and 3 blocks, ours and SchNetPack's
with the same weights; MACE with 128x0e + 128x1o, two layers, correlation 3, harmonics to degree 3. Cutoff 5 Å, float32,
random weights, the same atoms and edges, all called in turn in one process. CPU milliseconds, medians; load average
{os.getloadavg()[1]:.1f} on {os.cpu_count()} cores.

{header}
{rule}
{table(default)}

With the allocator set ({", ".join(f"`{name}={value}`" for name, value in ALLOCATOR.items())}), for all:

{header}
{rule}
{table(tuned)}

{verdict(default, tuned)}

## Size of the molecule

Molecules in a row; local: the paper's size; non-local: 4 layers, degree 1, cutoff 2.5 Å. Energy and forces, ms an atom.

| atoms | local | non-local |
|-|-|-|
{lengths}

## Degrees

Ten aspirins, six layers, ms.

| degrees | energy + forces | training step |
|-|-|-|
{degrees}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=float, default=1.0, help="multiplies the numbers of repetitions")
    parser.add_argument("--measure", action="store_true", help="one measurement in this process, printed as JSON")
    arguments = parser.parse_args()
    if arguments.measure:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(json.dumps(measure(arguments.repeats)))
        return
    results = []
    for extra in ({}, ALLOCATOR):
        command = [sys.executable, __file__, "--measure", "--repeats", str(arguments.repeats)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **extra}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(report(*results), encoding="utf-8")
    print(report(*results))


if __name__ == "__main__":
    main()
