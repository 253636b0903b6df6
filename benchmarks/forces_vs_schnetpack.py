"""Time of forces and of training steps: PaiNN of equispec and of SchNetPack, same weights, same inputs, one process.

Environment: see painn_vs_schnetpack.py.

    .venv-peers/bin/python benchmarks/forces_vs_schnetpack.py          # writes docs/benchmarks/forces_vs_schnetpack.md
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from clock import timed
from equispec.data.atoms import graph_from_atoms, graphs_from_many
from equispec.data.structures import atoms_from_smiles
from equispec.derivatives import evaluate
from equispec.graph import AtomGraph
from equispec.model import Model, ModelConfig, build
from equispec.neighbors import neighbor_list
from painn_vs_schnetpack import ALLOCATOR, CONFIG, peer, peer_inputs, processor

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "benchmarks" / "forces_vs_schnetpack.md"
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
WATERS = (33, 167, 335, 667, 1335)  # in periodic boxes of 99 to 4005 atoms
LIST_BOX = 667  # waters of the box whose neighbour lists are timed alone
DENSITY = 0.0334  # water molecules per Å³
FORCE_WEIGHT = 0.95

Case = tuple[Callable[[], Any], Callable[[], Any]]  # ours, theirs


def networks() -> tuple[Model, nn.Module]:
    """Our model and SchNetPack's, with the same weights, that one also with its own module for forces."""
    ours = build(ModelConfig.parse({"backbone": CONFIG.model_dump(), "heads": [{"name": "energy"}]})).eval()
    theirs = peer(SimpleNamespace(representation=ours.backbone, head=ours.heads["energy"].network))  # type: ignore
    import schnetpack.atomistic

    theirs.output_modules.append(schnetpack.atomistic.Forces())
    theirs.collect_derivatives()
    theirs.collect_outputs()
    return ours, theirs


def aspirins(n: int) -> AtomGraph:
    """A batch of aspirins (21 atoms) with thermal disorder."""
    molecule, random = atoms_from_smiles(ASPIRIN), np.random.default_rng(0)
    shaken = [molecule.positions + random.normal(0, 0.05, molecule.positions.shape) for _ in range(n)]
    return graphs_from_many([Atoms(molecule.numbers, pos) for pos in shaken], CONFIG.cutoff)


def water_box(n: int) -> Atoms:
    """n water molecules, turned at random, about the points of a cubic lattice, at the density of the liquid."""
    random, side = np.random.default_rng(0), (n / DENSITY) ** (1 / 3)
    per_axis = int(np.ceil(n ** (1 / 3)))
    lattice = np.stack(np.unravel_index(random.permutation(per_axis**3)[:n], (per_axis,) * 3), axis=1)
    centres = (lattice + 0.5 + random.uniform(-0.1, 0.1, (n, 3))) * side / per_axis
    water = np.array([[0.0, 0, 0], [0.9572, 0, 0], [-0.24, 0.9266, 0]])
    turns = np.linalg.qr(random.normal(size=(n, 3, 3))).Q
    pos = centres[:, None] + np.einsum("ak,nkb->nab", water, turns)
    return Atoms("OHH" * n, pos.reshape(-1, 3), cell=[side] * 3, pbc=True)


def forces_case(ours: Model, theirs: nn.Module, graph: AtomGraph) -> Case:
    def peer_forces() -> Tensor:
        return theirs(peer_inputs(graph))["forces"]

    return lambda: evaluate(ours, graph, ["energy", "forces"])["forces"], peer_forces


def box_case(ours: Model, theirs: nn.Module, atoms: Atoms) -> Case:
    """Forces from the positions on: each side makes its neighbour list."""
    lists = peer_list(atoms)

    def peer_forces() -> Tensor:
        inputs = lists()
        inputs = {k: x.float() if x.is_floating_point() else x for k, x in inputs.items()}
        return theirs({**inputs, "_idx_m": torch.zeros(len(atoms), dtype=torch.int64)})["forces"]

    return lambda: evaluate(ours, graph_from_atoms(atoms, CONFIG.cutoff), ["energy", "forces"])["forces"], peer_forces


def list_case(atoms: Atoms) -> Case:
    pos, cell, pbc = (torch.as_tensor(x) for x in (atoms.positions, atoms.cell.array, atoms.pbc))
    return lambda: neighbor_list(pos, cell, pbc, CONFIG.cutoff), peer_list(atoms)


def peer_list(atoms: Atoms) -> Callable[[], dict[str, Tensor]]:
    """SchNetPack's inputs with the fastest of its neighbour lists, that of matscipy."""
    import schnetpack.transform

    search = schnetpack.transform.MatScipyNeighborList(CONFIG.cutoff)
    given = {
        "_atomic_numbers": torch.as_tensor(atoms.numbers),
        "_positions": torch.as_tensor(atoms.positions),
        "_cell": torch.as_tensor(atoms.cell.array)[None],
        "_pbc": torch.as_tensor(atoms.pbc),
        "_n_atoms": torch.tensor([len(atoms)]),
        "_idx": torch.zeros(1, dtype=torch.int64),
    }
    return lambda: search(dict(given))


def training_case(ours: Model, theirs: nn.Module, graph: AtomGraph) -> Case:
    """Loss of energies and forces, and its gradient by the weights. Labels are zeros: they cost nothing."""
    weights, peer_weights = list(ours.parameters()), list(theirs.parameters())

    def step(energy: Tensor, forces: Tensor, of: list[nn.Parameter]) -> list[Tensor]:
        loss = (1 - FORCE_WEIGHT) * energy.square().mean() + FORCE_WEIGHT * forces.square().mean()
        return [g for g in torch.autograd.grad(loss, of, allow_unused=True) if g is not None]

    def our_step() -> list[Tensor]:
        found = evaluate(ours, graph, ["energy", "forces"], create_graph=True)
        return step(found["energy"], found["forces"], weights)

    def peer_step() -> list[Tensor]:
        theirs.train()  # it keeps the graph of the forces in this mode
        found = theirs(peer_inputs(graph))
        theirs.eval()
        return step(found["energy"], found["forces"], peer_weights)

    return our_step, peer_step


def agree(case: Case) -> float:
    """Largest difference of the forces by the largest force; raises if the two sides do not compute the same."""
    ours, theirs = (side().detach() for side in case)
    difference = ((ours - theirs).abs().max() / ours.abs().max()).item()
    if difference > 1e-4:
        raise RuntimeError(f"the two networks disagree by {difference} of the largest force")
    return difference


def compare(case: Case, repeats: int) -> dict[str, float]:
    """Median CPU milliseconds of both, called in turn."""
    times = timed(dict(zip(("ours", "theirs"), case, strict=True)), repeats)
    return {**times, "ratio": times["theirs"] / times["ours"]}


def measure(repeats: float) -> dict[str, Any]:
    """Every row of the table; `repeats` multiplies the numbers of repetitions."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours, theirs = networks()
    one, ten, hundred = aspirins(1), aspirins(10), aspirins(100)
    boxes = {n: water_box(n) for n in WATERS}
    cases = {
        "energy + forces, 1 aspirin": (forces_case(ours, theirs, one), 101),
        "energy + forces, 100 aspirins": (forces_case(ours, theirs, hundred), 11),
        "training step, 10 aspirins": (training_case(ours, theirs, ten), 21),
        **{f"energy + forces, box of {3 * n}": (box_case(ours, theirs, boxes[n]), max(3, 1000 // n)) for n in WATERS},
        f"neighbour list alone, box of {3 * LIST_BOX}": (list_case(boxes[LIST_BOX]), 21),
    }
    compared = [forces_case(ours, theirs, hundred), box_case(ours, theirs, boxes[LIST_BOX])]
    return {
        "difference": max(agree(case) for case in compared),
        "rows": {name: compare(case, max(1, round(repeats * n))) for name, (case, n) in cases.items()},
    }


def report(default: dict[str, Any], tuned: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("equispec", "schnetpack", "torch"))

    def cells(row: dict[str, float]) -> str:
        return " | ".join(
            [*(f"{row[k]:.{1 if row[k] < 100 else 0}f}" for k in ("ours", "theirs")), f"{row['ratio']:.1f}"]
        )

    lines = [f"| {name} | {cells(row)} | {cells(tuned['rows'][name])} |" for name, row in default["rows"].items()]
    boxes = {3 * n: default["rows"][f"energy + forces, box of {3 * n}"]["ours"] for n in WATERS}
    per_atom = ", ".join(f"{time / atoms:.2f}" for atoms, time in boxes.items())
    share = default["rows"][f"neighbour list alone, box of {3 * LIST_BOX}"]["ours"] / boxes[3 * LIST_BOX]
    return f"""# PaiNN: forces and training, against SchNetPack

Written by `benchmarks/forces_vs_schnetpack.py` on {datetime.date.today()}: {processor()}, one thread;
{versions}, Python {platform.python_version()}.

F = 128, 3 blocks, 20 Bessel functions, cutoff 5 Å, float32, eager mode. Both networks have the same weights and are
called in turn in one process; their forces agree to {max(default["difference"], tuned["difference"]):.0e} of
the largest. A training step is the loss of energies and forces and its gradient by the weights. The boxes hold
liquid water, and each side makes its neighbour list within the time (vesin; matscipy). CPU milliseconds, medians;
load average {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores.

| | equispec | SchNetPack | ratio | equispec, allocator set | SchNetPack, allocator set | ratio |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}

Per atom, the boxes of {", ".join(map(str, boxes))} atoms take {per_atom} ms; the neighbour list is
{100 * share:.1f} % of the time of {3 * LIST_BOX} atoms.

"Allocator set" means {", ".join(f"`{name}={value}`" for name, value in ALLOCATOR.items())}, for both:
freed memory stays in the process.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=float, default=1.0, help="multiplies the numbers of repetitions")
    parser.add_argument("--measure", action="store_true", help="one measurement in this process, printed as JSON")
    arguments = parser.parse_args()
    if arguments.measure:
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
