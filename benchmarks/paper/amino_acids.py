"""The four aromatic amino acids: spectra averaged over all carbons, predicted and calculated.

python benchmarks/paper/amino_acids.py ck-tensor data/ck-tp-pbe-extra/amino-acids.h5

They have 11 to 15 heavy atoms; the model has seen no molecule with more than eight.
"""

import argparse
from typing import Any

import numpy as np
from ase.symbols import Symbols
from matplotlib.figure import Figure
from spectra_study import (
    AXES,
    ISD_PAINN,
    THRESHOLD,
    described,
    draw_calculated,
    errors_along_axes,
    evaluated,
    native_and_broad,
    origin,
)
from study import RED, Study, cell, plain

from equispec.spectra import directional, isotropic_part
from equispec.workflows.evaluation import RESOLUTIONS

NAMES = {"C9H11NO2": "phenylalanine", "C9H11NO3": "tyrosine", "C11H12N2O2": "tryptophan", "C6H9N3O2": "histidine"}
SHOWN = ("isotropic", *(f"E ∥ {axis}" for axis in AXES))


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a shipped name or a model folder")
    parser.add_argument("data", help="store of the amino acids")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    result = evaluated(arguments.model, arguments.data, "all")
    molecule = np.array([m for m, _ in result.site_index])
    acids = []
    for m, sample in enumerate(result.samples):
        formula = Symbols(sample.z).get_chemical_formula("hill")
        pair = [tensor[molecule == m].mean(axis=0) for tensor in (result.predicted, result.reference)]
        ours, theirs = (np.concatenate([isotropic_part(t)[None], directional(t)]) for t in pair)
        sites = {name: errors_along_axes(result, name)[molecule == m] for name in RESOLUTIONS}
        acids.append(
            {
                "name": NAMES.get(formula, formula),
                "smiles": sample.smiles,
                "sites": int((molecule == m).sum()),
                "carbons": int((sample.z == 6).sum()),
                "mse": {name: plain(errors) for name, errors in native_and_broad(result, ours, theirs).items()},
                "site mse": {name: float(values.mean()) for name, values in sites.items()},
                "share": float((sites["paper-broad"] < THRESHOLD).mean()),
                "predicted": plain(ours),
                "reference": plain(theirs),
            }
        )
    order = list(NAMES.values())
    acids.sort(key=lambda acid: (order.index(acid["name"]) if acid["name"] in order else len(order), acid["name"]))
    return {**described(result), "energy": plain(result.energy, 7), "acids": acids}


def table(results: dict[str, Any]) -> list[list[Any]]:
    header = ["molecule", "calculated sites", *(f"{name}, {shown}" for name in RESOLUTIONS for shown in SHOWN)]
    rows: list[list[Any]] = [
        [*header, "single sites, native", "single sites, paper-broad", f"share of single sites < {THRESHOLD}"]
    ]
    for acid in results["acids"]:
        row = [acid["name"], f"{acid['sites']} of {acid['carbons']}"]
        row += [value for name in RESOLUTIONS for value in acid["mse"][name]]
        rows.append([*row, *(acid["site mse"][name] for name in RESOLUTIONS), f"{100 * acid['share']:.1f} %"])
    return rows


def text(results: dict[str, Any]) -> str:
    return f"{origin(results)} Mean squared errors of the spectra averaged over the carbons, and of single sites."


def draw(results: dict[str, Any]) -> Figure:
    acids, energy = results["acids"], results["energy"]
    figure = Figure(figsize=(11.0, 2.0 * len(acids) + 0.6), layout="constrained")
    panels = figure.subplots(len(acids), len(SHOWN), sharex=True, sharey="row", squeeze=False)
    for row, acid in zip(panels, acids, strict=True):
        for k, (axis, shown) in enumerate(zip(row, SHOWN, strict=True)):
            draw_calculated(axis, energy, acid["reference"][k])
            axis.plot(energy, acid["predicted"][k], color=RED, linewidth=1.3, label="predicted")
            axis.text(0.97, 0.95, f"{shown}\nMSE {cell(acid['mse']['native'][k])}", transform=axis.transAxes,
                      ha="right", va="top", fontsize=8.5)  # fmt: skip
            axis.set_xlim(282, energy[-1])
        row[0].set_ylim(0, 1.3 * max(np.max(acid["reference"]), np.max(acid["predicted"])))
        row[0].set_title(f"{acid['name']}, mean of {acid['sites']} C", loc="left")
        row[0].set_ylabel("Absorption (mean = 1)")
    for axis in panels[-1]:
        axis.set_xlabel("Energy (eV)")
    panels[0, -1].legend(loc="center right")
    return figure


STUDY = Study(
    "amino_acids",
    7,
    "Aromatic amino acids",
    arguments,
    measure,
    table,
    text,
    {"": (draw, "Spectra of the four amino acids averaged over their carbons; native errors")},
    page=ISD_PAINN,
)

if __name__ == "__main__":
    STUDY.main()
