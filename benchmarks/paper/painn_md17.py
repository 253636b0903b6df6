"""MD17 ethanol: energy and force errors of PaiNN trained on 950 structures, beside those of the paper (its Table 3).

python benchmarks/paper/painn_md17.py ethanol.h5 runs/md17-ethanol

The store comes from `equispec data convert md17`, the run from `equispec train configs/md17_ethanol.yaml`.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from property_study import PAINN, errors, in_units
from study import RED, Study

from equispec.checkpoint import load_model
from equispec.predict import model_folder
from equispec.spectra.plot import REFERENCE_GREY
from equispec.units import conversion

# mean absolute errors in kcal/mol and kcal/mol/Å, 950 training structures (the paper's Table 3; others as quoted there)
PUBLISHED = {
    "PaiNN, energies and forces": (0.063, 0.230),
    "PaiNN, forces": (0.064, 0.224),
    "SchNet": (0.08, 0.39),
    "PhysNet": (0.059, 0.160),
    "DimeNet": (0.064, 0.230),
    "sGDML": (0.07, 0.33),
    "FCHL19": (0.054, 0.136),
    "NequIP (forces)": (None, 0.208),
}
AIM = 1.3  # times the paper's


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, help="property store of the trajectory")
    parser.add_argument("run", type=Path, help="run folder of the training")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    evaluation = errors(given.run, given.data)
    model = load_model(model_folder(given.run))
    force = np.abs(evaluation.predicted["forces"] - evaluation.given["forces"]).ravel() * conversion(
        "eV/Å", "kcal/mol/Å"
    )
    energy = np.abs(evaluation.predicted["energy"] - evaluation.given["energy"]) * conversion("eV", "kcal/mol")
    with (given.run / "metrics.csv").open(newline="") as file:
        history = [
            (int(row["epoch"]), float(row["valid_energy_mae"]), float(row["valid_forces_mae"]))
            for row in csv.DictReader(file)
        ]
    training = model.metadata["training"]
    return {
        "errors": in_units(evaluation, energy="kcal/mol", forces="kcal/mol/Å"),
        "meV": in_units(evaluation, energy="meV", forces="meV/Å"),
        "structures": {name: len(ids) for name, ids in training["split"].items()},
        "epoch": training["epoch"],
        "model": {"hash": model.hash, "parameters": model.metadata["parameters"]},
        "history": history[:: max(1, len(history) // 400)],
        "sorted": {
            "energy": np.quantile(energy, np.linspace(0, 1, 101)).round(5).tolist(),
            "forces": np.quantile(force, np.linspace(0, 1, 101)).round(5).tolist(),
        },
    }


def table(results: dict[str, Any]) -> list[list[Any]]:
    ours = results["errors"]
    rows: list[list[Any]] = [
        ["network", "energy (kcal/mol)", "forces (kcal/mol/Å)", "energy / paper", "forces / paper"]
    ]
    paper = PUBLISHED["PaiNN, energies and forces"]
    mae = ours["energy"]["mae"], ours["forces"]["mae"]
    rows.append(["equispec PaiNN, energies and forces", *mae, mae[0] / paper[0], mae[1] / paper[1]])
    return rows + [[f"{name} (published)", *values, None, None] for name, values in PUBLISHED.items()]


def text(results: dict[str, Any]) -> str:
    n, ours, mev = results["structures"], results["errors"], results["meV"]
    ratio = max(ours[k]["mae"] / p for k, p in zip(ours, PUBLISHED["PaiNN, energies and forces"], strict=True))
    verdict = "within" if ratio <= AIM else "outside"
    return (
        f"{n['train']} structures for training, {n['valid']} for validation, {n['test']} others to test on; the "
        "paper's test set is the rest of the whole trajectory, of which these are 2,000 scattered frames. "
        "Mean absolute errors: "
        f"{ours['energy']['mae']:.3f} kcal/mol ({mev['energy']['mae']:.1f} meV) and {ours['forces']['mae']:.3f} "
        f"kcal/mol/Å ({mev['forces']['mae']:.1f} meV/Å), root mean square {ours['energy']['rmse']:.3f} and "
        f"{ours['forces']['rmse']:.3f}: {verdict} {AIM} times the paper's. Best weights of epoch {results['epoch']}; "
        f"{results['model']['parameters']:,} parameters, weights {results['model']['hash']}."
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs, energy, forces = (np.array(column) for column in zip(*results["history"], strict=True))
    for values, unit, name, colour in (
        (energy * conversion("eV", "kcal/mol"), "kcal/mol", "energy", REFERENCE_GREY),
        (forces * conversion("eV/Å", "kcal/mol/Å"), "kcal/mol/Å", "forces", RED),
    ):
        left.plot(epochs, values, color=colour, label=f"{name} ({unit})")
    for value, colour in zip(PUBLISHED["PaiNN, energies and forces"], (REFERENCE_GREY, RED), strict=True):
        left.axhline(value, color=colour, linestyle="--", linewidth=1)
    left.set_yscale("log")
    left.set_ylim(0.03, 5)
    left.set_xlabel("Epoch")
    left.set_ylabel("Validation MAE")
    left.legend(title="dashed: the paper's test errors")
    percent = np.arange(101)
    right.plot(percent, results["sorted"]["energy"], color=REFERENCE_GREY, label="energy (kcal/mol)")
    right.plot(percent, results["sorted"]["forces"], color=RED, label="force component (kcal/mol/Å)")
    right.set_yscale("log")
    right.set_ylim(1e-3, None)
    right.set_xlabel("Test errors, sorted (%)")
    right.set_ylabel("Absolute error")
    right.legend()
    return figure


STUDY = Study(
    "painn_md17",
    1,
    "MD17 ethanol (Table 3)",
    arguments,
    measure,
    table,
    text,
    {"": (draw, "Validation errors during training, and the distribution of the test errors")},
    page=PAINN,
)

if __name__ == "__main__":
    STUDY.main()
