"""Dipoles of one flexible molecule with and without atomic dipoles (inset of Fig. 5): ethanol, as in the paper.

python benchmarks/paper/painn_ethanol_dipoles.py ethanol-gfn2.h5 [--set train.epochs=2]

The 10,000 structures are those of a trajectory with GFN2-xTB, which gives the dipoles too:
`benchmarks/painn_paper/trajectory_data.py ethanol` makes them. The paper has 0.020 D for charges only and 0.009 D with
atomic dipoles, from as many structures with a density functional.
"""

import argparse
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from painn_dipoles import DIPOLES
from property_study import PAINN, errors, source_arguments, train_on
from study import RED, Study

from equispec.checkpoint import load_model
from equispec.data.properties import PropertyStore
from equispec.spectra.plot import REFERENCE_GREY
from equispec.units import conversion

EPOCHS = 40
RECIPE = [
    "data.split={train: 8000, valid: 1000, seed: 0}",
    f"train.epochs={EPOCHS}",
    "train.batch_size=20",
    "train.schedule=cosine",
    "train.lr=0.001",
    "train.patience=null",
]
PAPER = {"atomic dipoles and charges (eq 13)": 0.009, "charges only (eq 12)": 0.020}  # D


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = {}
    for name, settings in DIPOLES.items():
        label = f"painn-ethanol-{'dipole' if 'atomic' in name else 'charges'}"
        folder = train_on(arguments, arguments.data, "qm9_dipole.yaml", label, [*RECIPE, *settings])
        found = errors(folder, arguments.data)
        error = (found.predicted["dipole"] - found.given["dipole"]) * conversion("e·Å", "D")
        vector = np.linalg.norm(error, axis=1)
        rows[name] = {
            "component": float(np.abs(error).mean()),
            "vector": float(vector.mean()),
            "sorted": np.quantile(vector, np.linspace(0, 1, 101)).round(6).tolist(),
        }
    split = load_model(folder).metadata["training"]["split"]
    spread = PropertyStore(arguments.data).values("dipole").std(axis=0) * conversion("e·Å", "D")
    return {
        "rows": rows,
        "structures": {part: len(ids) for part, ids in split.items()},
        "spread": float(np.sqrt((spread**2).mean())),
        "epochs": EPOCHS,
    }


def table(results: dict[str, Any]) -> list[list[Any]]:
    rows: list[list[Any]] = [["network", "dipole component (D)", "length of the error vector (D)", "paper (D)"]]
    return rows + [[name, row["component"], row["vector"], PAPER[name]] for name, row in results["rows"].items()]


def text(results: dict[str, Any]) -> str:
    n, (full, charges) = results["structures"], results["rows"].values()
    ratio = charges["component"] / full["component"]
    return (
        f"{n['train']:,} structures of a trajectory of ethanol for training, {n['valid']:,} for validation, "
        f"{n['test']:,} to test on, dipoles by GFN2-xTB (components spread by {results['spread']:.2f} D), "
        f"{results['epochs']} epochs. Charges alone have {ratio:.1f} times the mean absolute error of charges and "
        "atomic dipoles (the paper: 2.2 times)."
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
    source_arguments(data="store of the trajectory (.h5)"),
    measure,
    table,
    text,
    {"": (draw, "Errors of the dipole vector of ethanol with and without atomic dipoles")},
    page=PAINN,
)

if __name__ == "__main__":
    STUDY.main()
