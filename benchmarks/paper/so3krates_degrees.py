"""What higher degrees are worth (Fig. 4): So3krates with degrees 0 to l_max on many molecules of QM7-X together.

python benchmarks/paper/so3krates_degrees.py qm7x_2500.npz [--set train.epochs=2]

The file holds 250 molecules, ten structures of each one after the other, those of the highest energies last. Of 225
molecules eight structures are for training, the ninth for validation and the tenth to test on, nearly always higher in
energy than any that was learned; the other 25 molecules are left out whole and tested with all structures.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from property_study import SO3KRATES, STORES, errors, in_units, source_arguments, store_of, train_on
from study import RED, Study

from equispec.checkpoint import load_model
from equispec.data.properties import PropertyStore, write_properties
from equispec.spectra.plot import CYCLE

STRUCTURES = 10  # of a molecule
LEFT_OUT = 25  # molecules
SEED = 0
L_MAX = (0, 1, 2, 3)
UNITS = {"energy": "meV", "forces": "meV/Å"}
TESTS = {"known": "other structures of the same molecules", "unseen": "molecules left out"}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    known, unseen, counts = divided(store_of("qm7x", arguments.structures))
    split = f"data.split={{kind: blocks, train: {counts['train']}, valid: {counts['valid']}}}"
    rows = []
    for l_max in L_MAX:
        degrees = f"model.backbone.degrees={list(range(l_max + 1))}"
        folder = train_on(arguments, known, "so3krates_qm7x.yaml", f"so3krates-degrees-{l_max}", [split, degrees])
        model = load_model(folder)
        rows.append(
            {
                "l_max": l_max,
                "parameters": model.metadata["parameters"],
                "known": in_units(errors(folder, known), **UNITS),
                "unseen": in_units(errors(folder, unseen, "all"), **UNITS),
            }
        )
        epochs = model.metadata["training"]["config"]["train"]["epochs"]
    forces = [sample.properties["forces"] for sample in PropertyStore(known)]
    size = {"train": rms(forces[: counts["train"]]), "test": rms(forces[-counts["test"] :])}
    return {"rows": rows, "epochs": epochs, "structures": {**counts, "unseen": len(PropertyStore(unseen))}, "rms": size}


def rms(forces: Sequence[np.ndarray]) -> float:
    """The root mean square of force components, in eV/Å."""
    return float(np.sqrt(np.mean(np.concatenate(forces) ** 2)))


def divided(store: Path) -> tuple[Path, Path, dict[str, int]]:
    """Stores of the molecules to learn from, in the order train, valid, test, and of those left out; and the sizes."""
    samples = list(PropertyStore(store))
    molecules = [samples[first : first + STRUCTURES] for first in range(0, len(samples), STRUCTURES)]
    left_out = set(np.random.default_rng(SEED).permutation(len(molecules))[:LEFT_OUT].tolist())
    learned = [molecule for k, molecule in enumerate(molecules) if k not in left_out]
    parts = {"train": slice(0, STRUCTURES - 2), "valid": slice(STRUCTURES - 2, STRUCTURES - 1), "test": slice(-1, None)}
    ordered = [[sample for molecule in learned for sample in molecule[part]] for part in parts.values()]
    counts = {name: len(part) for name, part in zip(parts, ordered, strict=True)}
    attributes = {k: v for k, v in PropertyStore(store).attributes.items() if not k.startswith("format")}
    paths = STORES / "qm7x-degrees-known.h5", STORES / "qm7x-degrees-unseen.h5"
    unseen = [sample for k in sorted(left_out) for sample in molecules[k]]
    for path, chosen in zip(paths, ([sample for part in ordered for sample in part], unseen), strict=True):
        if not path.is_file():
            write_properties(path, [replace(sample, id=k) for k, sample in enumerate(chosen)], attributes)
    return *paths, counts


def table(results: dict[str, Any]) -> list[list[Any]]:
    header: list[Any] = ["degrees", "parameters"]
    for test in TESTS.values():
        header += [f"{test}: {name} ({unit})" for name, unit in UNITS.items()]
    rows = [header]
    for row in results["rows"]:
        numbers = [row[test][name]["mae"] for test in TESTS for name in UNITS]
        rows.append([f"0 to {row['l_max']}" if row["l_max"] else "0", row["parameters"], *numbers])
    return rows


def text(results: dict[str, Any]) -> str:
    n = results["structures"]
    falling = []
    for test, name in TESTS.items():
        forces = [row[test]["forces"]["mae"] for row in results["rows"] if row["l_max"] <= 2]
        falling += [name] if forces == sorted(forces, reverse=True) else []
    verdict = f"falls with every degree up to 2 for {' and '.join(falling)}" if falling else "does not always fall"
    return (
        f"{n['train']:,} structures for training, {n['valid']} for validation; to test on, {n['test']} others of the "
        f"same molecules and {n['unseen']} of molecules left out whole; {results['epochs']} epochs, one seed. The data "
        "have the highest energies of a molecule last, so that the former lie above what was learned: the root mean "
        f"square of their forces is {results['rms']['test']:.1f} eV/Å, that of the structures for training "
        f"{results['rms']['train']:.1f}. Mean absolute errors; that of the forces {verdict}. The paper trains "
        "on 80 structures of each molecule; its numbers are in a figure alone."
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axis = figure.subplots()
    for (test, label), colour in zip(TESTS.items(), (RED, CYCLE[0]), strict=True):
        forces = [row[test]["forces"]["mae"] for row in results["rows"]]
        axis.plot([row["l_max"] for row in results["rows"]], forces, "o-", color=colour, label=label)
    axis.set_xticks(L_MAX)
    axis.tick_params(axis="x", which="minor", bottom=False)
    axis.set_ylim(0, None)
    axis.set_xlabel("Highest degree of the SPHCs")
    axis.set_ylabel("Force error (meV/Å)")
    axis.legend()
    return figure


STUDY = Study(
    "so3krates_degrees",
    3,
    "Degrees and data (Fig. 4)",
    source_arguments(structures="QM7-X structures (.npz)"),
    measure,
    table,
    text,
    {"": (draw, "Force errors against the highest degree")},
    page=SO3KRATES,
)

if __name__ == "__main__":
    STUDY.main()
