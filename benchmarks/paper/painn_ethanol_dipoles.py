"""Dipoles of one flexible molecule with and without atomic dipoles (inset of Fig. 5): ethanol, as in the paper.

python benchmarks/paper/painn_ethanol_dipoles.py ethanol_random2000.npz [--set train.epochs=2]

The structures are those of MD17, the dipoles our own, of GFN2-xTB: `equispec label` makes them on first use (a minute).
The paper has 0.020 D for charges only and 0.009 D with atomic dipoles, from 8,000 structures with a density functional.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from painn_dipoles import DIPOLES
from property_study import PAINN, STORES, errors, source_arguments, store_of, train_on
from study import RED, Study

from equispec.checkpoint import load_model
from equispec.data.properties import PropertyStore
from equispec.spectra.plot import REFERENCE_GREY
from equispec.units import conversion

EPOCHS = 60
RECIPE = [
    "data.split={train: 1600, valid: 200, seed: 0}",
    f"train.epochs={EPOCHS}",
    "train.batch_size=20",
    "train.schedule=cosine",
    "train.lr=0.001",
    "train.patience=null",
]
PAPER = {"atomic dipoles and charges (eq 13)": 0.009, "charges only (eq 12)": 0.020}  # D


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    store = labelled(store_of("md17", arguments.trajectory))
    rows = {}
    for name, settings in DIPOLES.items():
        label = f"painn-ethanol-{'dipole' if 'atomic' in name else 'charges'}"
        folder = train_on(arguments, store, "qm9_dipole.yaml", label, [*RECIPE, *settings])
        found = errors(folder, store)
        error = (found.predicted["dipole"] - found.given["dipole"]) * conversion("e·Å", "D")
        vector = np.linalg.norm(error, axis=1)
        rows[name] = {
            "component": float(np.abs(error).mean()),
            "vector": float(vector.mean()),
            "sorted": np.quantile(vector, np.linspace(0, 1, 101)).round(6).tolist(),
        }
    split = load_model(folder).metadata["training"]["split"]
    spread = PropertyStore(store).values("dipole").std(axis=0) * conversion("e·Å", "D")
    return {
        "rows": rows,
        "structures": {part: len(ids) for part, ids in split.items()},
        "spread": float(np.sqrt((spread**2).mean())),
        "epochs": EPOCHS,
    }


def labelled(trajectory: Path) -> Path:
    """The store of the same structures with dipoles of GFN2-xTB."""
    path, frames = STORES / f"{trajectory.stem}-gfn2.h5", STORES / f"{trajectory.stem}.xyz"
    if not path.is_file():
        atoms = [Atoms(sample.z, sample.pos, info={"id": k}) for k, sample in enumerate(PropertyStore(trajectory), 1)]
        ase.io.write(frames, atoms, format="extxyz")
        words = ["label", str(frames), "--method", "gfn2", "--workers", "1", "--resume", "-o", str(path)]
        subprocess.run([sys.executable, "-c", "from equispec.cli import main; main()", *words], check=True)
    return path


def table(results: dict[str, Any]) -> list[list[Any]]:
    rows: list[list[Any]] = [["network", "dipole component (D)", "length of the error vector (D)", "paper (D)"]]
    return rows + [[name, row["component"], row["vector"], PAPER[name]] for name, row in results["rows"].items()]


def text(results: dict[str, Any]) -> str:
    n, (full, charges) = results["structures"], results["rows"].values()
    ratio = charges["component"] / full["component"]
    return (
        f"{n['train']:,} structures of MD17 ethanol for training, {n['valid']} for validation, {n['test']} to test on, "
        f"dipoles by GFN2-xTB (components spread by {results['spread']:.2f} D), {results['epochs']} epochs. Charges "
        f"alone have {ratio:.1f} times the mean absolute error of charges and atomic dipoles (the paper: 2.2 times)."
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axis = figure.subplots()
    for (name, found), colour in zip(results["rows"].items(), (RED, REFERENCE_GREY), strict=True):
        axis.plot(np.arange(101), found["sorted"], color=colour, label=name)
    axis.set_yscale("log")
    axis.set_xlabel("Test structures, sorted by error (%)")
    axis.set_ylabel("|error of the dipole vector| (D)")
    axis.legend()
    return figure


STUDY = Study(
    "painn_ethanol_dipoles",
    5,
    "Dipoles of ethanol with and without atomic dipoles (Fig. 5)",
    source_arguments(trajectory="MD17 ethanol (.npz)"),
    measure,
    table,
    text,
    {"": (draw, "Errors of the dipole vector of ethanol with and without atomic dipoles")},
    PAINN,
)

if __name__ == "__main__":
    STUDY.main()
