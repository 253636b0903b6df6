"""Absorption tensors on the features of So3krates: the recipe of `ck-tensor` with one word changed, beside PaiNN.

python benchmarks/paper/so3krates_spectra.py data/ck-tp-pbe [--set train.epochs=2]

Both networks are trained from nothing on the same split with configs/ck-tensor.yaml, whose recipe was chosen for PaiNN.
Beside them the shipped ck-tensor: three PaiNN networks that have learned from crude spectra first.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from property_study import SO3KRATES
from spectra_study import PAPER_TRAINING_SITES, THRESHOLD, draw_sorted, errors_along_axes, evaluated, figures
from study import RED, Study, plain, trained, training_arguments

from equispec.checkpoint import load_model
from equispec.errors import InputError
from equispec.spectra.plot import REFERENCE_GREY

NETWORKS = {"So3krates": "so3krates", "PaiNN": "painn"}
SHIPPED = "ck-tensor"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = {}
    for name, backbone in NETWORKS.items():
        folder = trained(arguments, f"{backbone}-tensor", [f"model.backbone.name={backbone}"])
        result, model = evaluated(folder, arguments.data), load_model(folder).metadata
        rows[name] = {
            **figures(result),
            "parameters": model["parameters"],
            "sorted": plain(np.quantile(errors_along_axes(result, "paper-broad"), np.linspace(0, 1, 201))),
        }
    if shipped := of_shipped(arguments.data, {sample.id for sample in result.samples}):
        rows[SHIPPED] = shipped
    return {
        "rows": rows,
        "training sites": model["statistics"]["n_sites"],
        "test": {key: result.data[key] for key in ("molecules", "sites")},
        "epochs": model["training"]["config"]["train"]["epochs"],
    }


def of_shipped(data: Path, tested: set[int]) -> dict[str, Any] | None:
    """The shipped model on its own test split, if that is part of what was tested here; None for other data."""
    try:
        found = evaluated(SHIPPED, data)
    except InputError:
        return None
    known = {sample.id for sample in found.samples}
    figures_of_it = {**figures(found), "parameters": found.model["parameters"], "molecules": len(known)}
    return figures_of_it if known <= tested else None


def table(results: dict[str, Any]) -> list[list[Any]]:
    rows: list[list[Any]] = [["backbone", "parameters", "native MSE", "paper-broad MSE", f"share < {THRESHOLD}"]]
    for name, row in results["rows"].items():
        share = f"{100 * row['share']:.1f} %"
        rows.append([name, row["parameters"], row["native"], row["paper-broad"], share])
    return rows


def text(results: dict[str, Any]) -> str:
    test = results["test"]
    return (
        f"One network each, {results['epochs']} epochs, {results['training sites']:,} training sites, tested on "
        f"{test['sites']:,} sites of {test['molecules']:,} molecules (the paper of ISD-PaiNN: {PAPER_TRAINING_SITES:,} "
        "sites). The recipe was chosen for PaiNN; nothing but the name of the backbone was changed. "
        + (
            f"{SHIPPED}: the shipped ensemble of three, which has learned from crude spectra first, on the "
            f"{results['rows'][SHIPPED]['molecules']} test molecules that there were when it was trained."
            if SHIPPED in results["rows"]
            else ""
        )
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axis = figure.subplots()
    for name, colour in zip(NETWORKS, (RED, REFERENCE_GREY), strict=True):
        draw_sorted(axis, results["rows"][name]["sorted"], colour, name)
    axis.legend()
    return figure


STUDY = Study(
    "so3krates_spectra",
    5,
    "Absorption tensors on the features of So3krates",
    training_arguments("ck-tensor.yaml"),
    measure,
    table,
    text,
    {"": (draw, "Errors of the spectra along x, y and z, on both backbones")},
    page=SO3KRATES,
)

if __name__ == "__main__":
    STUDY.main()
