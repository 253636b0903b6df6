"""Polarizability tensors of water clusters and of small organic molecules (eq 14), a network of its own for each set.

python benchmarks/paper/painn_polarizability.py WATER QM7X [--set train.epochs=2]

WATER holds water_monomer_1000.npz, water_dimer_1000.npz and water_zundel_1000.npz (Grisafi et al. 2018), QM7X holds
qm7x_reduced_100.xyz and qm7x_reduced_100_CHNO.xyz (QM7-X, a hundred molecules each). Structures that occur twice are
taken once. Networks are small (F = 64); those of neutral molecules learn the dipole moment as well.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from property_study import PAINN, errors, source_arguments, store_of, train_on
from study import Study

from equispec.checkpoint import load_model
from equispec.data.convert import Naming
from equispec.data.leaks import duplicates
from equispec.data.properties import PropertyStore, write_properties
from equispec.spectra.plot import CYCLE
from equispec.units import conversion

Tensors = Float[np.ndarray, "structures 3 3"]


@dataclass(frozen=True)
class Source:
    """A file, and how it is learned: `splits` are random ones; a network is trained and tested on each of them."""

    folder: str
    file: str
    form: str
    splits: tuple[str, ...]
    settings: tuple[str, ...] = ()
    naming: Naming | None = None


ONLY_POLARIZABILITY = ("model.heads=[{name: polarizability}]", "train.losses={polarizability: 1.0}")
WATER = ("data.split={seed: 0, train: 700, valid: 100}",)
QM7X = tuple(f"data.split={{seed: {seed}, train: 70, valid: 10}}" for seed in range(5))
FEW = ("train.batch_size=5",)  # as many steps for 70 molecules as are worth while
UNIT = {"polarizability": "bohr³"}
SETS = {
    "H₂O": Source("water", "water_monomer_1000.npz", "water", WATER),
    "(H₂O)₂": Source("water", "water_dimer_1000.npz", "water", WATER),
    "H₅O₂⁺": Source("water", "water_zundel_1000.npz", "water", WATER, ONLY_POLARIZABILITY),
    "QM7-X, C₅H₇NS": Source(
        "qm7x",
        "qm7x_reduced_100.xyz",
        "extxyz",
        QM7X,
        (*ONLY_POLARIZABILITY, *FEW),
        Naming({"polarizability": "polarizability"}, UNIT),
    ),
    "QM7-X, CHNO": Source(
        "qm7x",
        "qm7x_reduced_100_CHNO.xyz",
        "extxyz",
        QM7X,
        FEW,
        # the dipoles are in e·Å, as those of QM7-X are: GFN2-xTB gives the same lengths within 5 %
        Naming({"polarizability": "alpha", "dipole": "mu"}, UNIT),
    ),
}


def distinct(store: Path) -> Path:
    """The store without structures that are the same as one before them, but for motion, mirrors and numbering."""
    path = store.with_name(f"{store.stem}-distinct.h5")
    if not path.is_file():
        known = PropertyStore(store)
        kept = np.flatnonzero(duplicates(known) == np.arange(len(known)))
        attributes = {name: value for name, value in known.attributes.items() if not name.startswith("format")}
        write_properties(path, [known[int(i)] for i in kept], attributes)
    return path


def isotropic_and_anisotropic(tensors: Tensors) -> tuple[Float[np.ndarray, "structures"], Tensors]:
    """A third of the trace, and the tensor without it."""
    isotropic = np.trace(tensors, axis1=1, axis2=2) / 3
    return isotropic, tensors - isotropic[:, None, None] * np.eye(3)


def scores(predicted: Tensors, given: Tensors) -> dict[str, Any]:
    """Errors of the components and of both parts, in the unit given.

    Relative errors are root mean square errors over what a constant would miss: the standard deviation of the isotropic
    part, and the root mean square of the anisotropic one, of which nothing is known without directions.
    """
    error = predicted - given
    parts = zip(isotropic_and_anisotropic(error), isotropic_and_anisotropic(given), strict=True)
    found: dict[str, Any] = {"mae": float(np.abs(error).mean()), "rmse": rms(error)}
    for name, (missed, true) in zip(("isotropic", "anisotropic"), parts, strict=True):
        spread = float(true.std()) if name == "isotropic" else rms(true)
        each = np.sqrt((missed**2).reshape(len(missed), -1).mean(1)) / spread
        found[name] = {
            "rmse": rms(missed),
            "spread": spread,
            "relative": rms(missed) / spread,
            "sorted": np.quantile(each, np.linspace(0, 1, 101)).round(7).tolist(),
        }
    return found


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = {}
    for title, source in SETS.items():
        raw = store_of(source.form, getattr(arguments, source.folder) / source.file, naming=source.naming)
        store = distinct(raw)
        label = f"painn-{source.file.partition('.')[0]}"
        networks = [
            train_on(arguments, store, "polarizability.yaml", label, [split, *source.settings])
            for split in source.splits
        ]
        tested = [errors(folder, store) for folder in networks]
        joined = {
            name: [np.concatenate([getattr(one, kind)[name] for one in tested]) for kind in ("predicted", "given")]
            for name in tested[0].predicted
        }
        training, factor = load_model(networks[0]).metadata["training"], conversion("Å³", "bohr³")
        rows[title] = {
            "structures": {part: len(ids) for part, ids in training["split"].items()},
            "splits": len(source.splits),
            "twice": len(PropertyStore(raw)) - len(PropertyStore(store)),
            "polarizability": scores(*(factor * values for values in joined["polarizability"])),
            "dipole": dipole_scores(*joined["dipole"]) if "dipole" in joined else None,
        }
    return {"rows": rows}


def dipole_scores(predicted: np.ndarray, given: np.ndarray) -> dict[str, float]:
    """Root mean square error of the components in D and over the root mean square of the labels."""
    return {"rmse": rms(predicted - given) * conversion("e·Å", "D"), "relative": rms(predicted - given) / rms(given)}


def table(results: dict[str, Any]) -> list[list[Any]]:
    header = ["set", "training", "test", "MAE (bohr³)", "RMSE (bohr³)", "RMSE (Å³)"]
    for part in ("isotropic", "anisotropic"):
        header += [f"{part}: RMSE (bohr³)", "RMSE / spread (%)"]
    rows: list[list[Any]] = [[*header, "dipole: RMSE (D)", "RMSE / size (%)"]]
    for name, row in results["rows"].items():
        tensor, dipole = row["polarizability"], row["dipole"]
        test = f"{row['splits']} x {row['structures']['test']}" if row["splits"] > 1 else row["structures"]["test"]
        numbers = [tensor["mae"], tensor["rmse"], tensor["rmse"] * conversion("bohr³", "Å³")]
        for part in ("isotropic", "anisotropic"):
            numbers += [tensor[part]["rmse"], 100 * tensor[part]["relative"]]
        numbers += [None, None] if dipole is None else [dipole["rmse"], 100 * dipole["relative"]]
        rows.append([name, row["structures"]["train"], test, *numbers])
    return rows


def text(results: dict[str, Any]) -> str:
    rows = results["rows"]
    doubled = [f"{row['twice']} of {name}" for name, row in rows.items() if row["twice"]]
    left_out = f" Structures that occur twice were taken once ({', '.join(doubled)} left out)." if doubled else ""
    return (
        "MAE and RMSE are of the nine components; *isotropic* is a third of the trace, *anisotropic* are the nine "
        "components of the rest. RMSE / spread is relative to the standard deviation of the isotropic part and to the "
        "root mean square of the anisotropic part of the test structures, the measure of Grisafi et al. (Phys. Rev. "
        "Lett. 120, 036002 (2018)), from whom the water sets come." + left_out + " The QM7-X files hold a hundred "
        "molecules each, isomers of one composition and molecules of 7 to 11 atoms: five networks were trained on five "
        "random splits and their errors taken together. The dipole moment of the charged H₅O₂⁺ depends on the origin "
        "and was not learned, that of C₅H₇NS is not in the file."
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    axes: Sequence[Any] = figure.subplots(1, 2, sharey=True)
    for axis, part, norm in zip(axes, ("isotropic", "anisotropic"), ("σ", "rms size"), strict=True):
        for (name, row), colour in zip(results["rows"].items(), CYCLE, strict=False):
            values = np.array(row["polarizability"][part]["sorted"])
            axis.plot(np.arange(101), 100 * values, color=colour, label=name)
        axis.set_yscale("log")
        axis.set_ylim(1e-3, 100)
        axis.set_xlabel("Test structures, sorted by error (%)")
        axis.set_title(f"{part} part, relative to its {norm}", loc="left")
    axes[0].set_ylabel("Error (%)")
    axes[0].legend(loc="lower right")
    return figure


STUDY = Study(
    "painn_polarizability",
    7,
    "Polarizability tensors of water clusters and of QM7-X molecules (eq 14)",
    source_arguments(water="folder of the water sets (.npz)", qm7x="folder of the QM7-X molecules (.xyz)"),
    measure,
    table,
    text,
    {"": (draw, "Errors of the isotropic and the anisotropic part of the polarizability")},
    page=PAINN,
)

if __name__ == "__main__":
    STUDY.main()
