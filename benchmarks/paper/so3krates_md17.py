"""MD17 ethanol: errors of So3krates trained on 1,000 structures, beside the paper (Table 1) and our own PaiNN.

python benchmarks/paper/so3krates_md17.py ethanol.h5 runs/so3krates-md17-ethanol [--painn md17-ethanol]

The store comes from `equispec data convert md17`, the run from `equispec train configs/so3krates_md17_ethanol.yaml`.
Both networks are tested on the structures that neither was trained on.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from property_study import SO3KRATES, epoch_seconds, errors
from study import RED, Study

from equispec.checkpoint import load_model
from equispec.data.properties import PropertyStore
from equispec.errors import InputError
from equispec.predict import model_folder
from equispec.spectra.plot import REFERENCE_GREY
from equispec.units import conversion

PUBLISHED = {"So3krates": (0.052, 0.096), "PaiNN": (None, 0.230), "NequIP": (None, 0.09)}  # kcal/mol, kcal/mol/Å
AIM = 1.3  # times the paper's
UNITS = {"energy": "kcal/mol", "forces": "kcal/mol/Å"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, help="property store of the trajectory")
    parser.add_argument("run", type=Path, help="run folder of the training")
    parser.add_argument("--painn", default="md17-ethanol", help="a PaiNN of the same trajectory")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    store = PropertyStore(given.data)
    ids = store.ids
    rows, seen = {}, set()
    for name, model in (("equispec So3krates", given.run), ("equispec PaiNN", given.painn)):
        folder = model_folder(model)
        loaded = load_model(folder)
        training = loaded.metadata["training"]
        if not store.goes_by(training["data_sha256"]):
            raise InputError(
                f"{given.data}: {folder} was trained on other data; which structures it knows is not known"
            )
        split = training["split"]
        seen |= set(split["train"]) | set(split["valid"])
        rows[name] = {
            "found": errors(folder, given.data, "all"),
            "parameters": loaded.metadata["parameters"],
            "train": len(split["train"]),
            "minutes": training["config"]["train"]["epochs"] * epoch_seconds(folder, given.data) / 60,
            "hash": loaded.hash,
            "initial": (training["initial"] or {}).get("hash"),
        }
    unseen = np.array([i not in seen for i in ids])
    for row in rows.values():
        found = row.pop("found")
        energy = np.abs(found.predicted["energy"] - found.given["energy"])[unseen]
        forces = np.abs(found.predicted["forces"] - found.given["forces"]).reshape(len(ids), -1)[unseen]
        for name, values in (("energy", energy), ("forces", forces)):
            values = values * conversion({"energy": "eV", "forces": "eV/Å"}[name], UNITS[name])
            row[name] = float(values.mean())
            row[f"{name} sorted"] = np.quantile(values, np.linspace(0, 1, 101)).round(6).tolist()
    return {"rows": rows, "structures": int(unseen.sum())}


def table(results: dict[str, Any]) -> list[list[Any]]:
    rows: list[list[Any]] = [
        [
            "network",
            "training",
            "parameters",
            "training (core minutes)",
            *(f"{name} ({unit})" for name, unit in UNITS.items()),
        ]
    ]
    for name, row in results["rows"].items():
        rows.append([name, *(row[key] for key in ("train", "parameters", "minutes", "energy", "forces"))])
    return rows + [[f"{name} (published)", None, None, None, *values] for name, values in PUBLISHED.items()]


def text(results: dict[str, Any]) -> str:
    ours = results["rows"]["equispec So3krates"]
    ratios = [ours[name] / published for name, published in zip(UNITS, PUBLISHED["So3krates"], strict=True)]
    verdict = "within" if max(ratios) <= AIM else "outside"
    before = f", but for what came before: So3krates went on from weights {first}" if (first := ours["initial"]) else ""
    return (
        f"Mean absolute errors of the {results['structures']} structures that neither network was trained on. "
        f"So3krates: {ratios[0]:.2f} and {ratios[1]:.2f} times the paper's errors, {verdict} {AIM} times; weights "
        f"{ours['hash']}. The time of training is that of an epoch, in uncompiled steps, times their number{before}. "
        "Published PaiNN with 950 structures, the others with 1,000, as quoted in the paper."
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axis = figure.subplots()
    for (name, row), colour in zip(results["rows"].items(), (RED, REFERENCE_GREY), strict=True):
        axis.plot(np.arange(101), row["forces sorted"], color=colour, label=name)
    axis.set_yscale("log")
    axis.set_ylim(1e-3, None)
    axis.set_xlabel("Test force components, sorted by error (%)")
    axis.set_ylabel("|error| (kcal/mol/Å)")
    axis.legend()
    return figure


STUDY = Study(
    "so3krates_md17",
    2,
    "MD17 ethanol (Table 1)",
    arguments,
    measure,
    table,
    text,
    {"": (draw, "Force errors of So3krates and of PaiNN")},
    page=SO3KRATES,
)

if __name__ == "__main__":
    STUDY.main()
