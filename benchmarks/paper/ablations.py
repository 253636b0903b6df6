"""The paper's ablations: ISD-PaiNN whole, without directional embedding, without symmetric message, without either.

python benchmarks/paper/ablations.py data/ck-tp-pbe [--set train.epochs=2]

Small networks (64 features, 3 blocks), trained as in the paper on the spectra along x, y and z. A network that does
not see the direction cannot come below the floor: the error of the isotropic part of the reference itself,
mean over the sites of (1/3) Σ_c mean_E (S_c - S̄)².
"""

import argparse
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from spectra_study import AXES, ISD_PAINN, PAPER_TRAINING_SITES, THRESHOLD, evaluated, figures
from study import Study, plain, trained, training_arguments

from equispec.checkpoint import load_model
from equispec.predict import load
from equispec.spectra import directional, percentile_indices
from equispec.spectra.plot import AXIS_COLOURS, CYCLE
from equispec.workflows.evaluation import RESOLUTIONS, EvaluationResult

RECIPE = ["model.backbone.features=64", "model.backbone.blocks=3", "train.directions=together", "train.epochs=100"]
VARIANTS = {
    "ISD-PaiNN": (True, True),
    "without directional embedding": (False, True),
    "without symmetric message": (True, False),
    "without both": (False, False),
}
FLOOR = "oracle, isotropic part of the reference"
PARITY_MOLECULES = 50  # for S(n) against S(-n)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for name, (embedding, message) in VARIANTS.items():
        switches = [f"model.backbone.directional_embedding={str(embedding).lower()}"]
        switches += [f"model.backbone.symmetric_message={str(message).lower()}"]
        folder = trained(arguments, f"isd-painn-{name.replace(' ', '-').lower()}", [*RECIPE, *switches])
        result = evaluated(folder, arguments.data)
        metadata = load_model(folder).metadata
        if not rows:
            shown = anisotropic_site(result)
            rows["floor of any network that does not see the direction"] = {**figures(result, FLOOR)}
        rows[name] = {
            **figures(result),
            "parameters": metadata["parameters"],
            "anisotropy": anisotropy(result.predicted) / anisotropy(result.reference),
            "oddness": oddness(folder, result),
        }
        shown["predicted"][name] = plain(directional(result.predicted[shown["index"]]))
    first, *rest = rows.items()
    return {
        "test": {key: result.data[key] for key in ("store", "molecules", "sites")},
        "training sites": metadata["statistics"]["n_sites"],
        "rows": dict([*rest, first]),
        "shown": shown,
    }


def anisotropy(tensor: np.ndarray) -> float:
    """Mean of (1/3) Σ_c (S_c - S̄)² along x, y and z: how much spectra [sites, E, 3, 3] depend on the direction."""
    return float(directional(tensor).var(axis=-2).mean())


def oddness(folder: Any, result: EvaluationResult) -> float:
    """Mean of (S(n) - S(-n))² over mean of S(n)², n along x, y and z; 0 for a spectrum that is even in n."""
    predictor = load(folder, device="cpu")
    squares = []
    for sample in result.samples[:PARITY_MOLECULES]:
        atoms = Atoms(sample.z, sample.pos)
        for n in np.eye(3):
            there, back = (predictor.along(atoms, direction.tolist()) for direction in (n, -n))
            squares.append([((there - back) ** 2).mean(), (there**2).mean()])
    difference, size = np.mean(squares, axis=0)
    return float(difference / size)


def anisotropic_site(result: EvaluationResult) -> dict[str, Any]:
    """A test site that is more anisotropic than three quarters of all."""
    k = percentile_indices(directional(result.reference).var(axis=-2).mean(axis=-1), (75,))[0]
    molecule, atom = result.site_index[k]
    sample = result.samples[molecule]
    return {
        "index": k,
        "molecule": sample.id,
        "smiles": sample.smiles,
        "site": atom,
        "energy": plain(result.energy, 7),
        "reference": plain(directional(result.reference[k])),
        "predicted": {},
    }


def table(results: dict[str, Any]) -> list[list[Any]]:
    header = ["network", "parameters", "native", "paper-broad", f"share < {THRESHOLD}"]
    rows: list[list[Any]] = [[*header, "dependence on the direction", "S(n) ≠ S(−n)"]]
    for name, row in results["rows"].items():
        numbers = [row.get("parameters"), row["native"], row["paper-broad"], f"{100 * row['share']:.1f} %"]
        rows.append([name, *numbers, row.get("anisotropy"), row.get("oddness")])
    return rows


def text(results: dict[str, Any]) -> str:
    test = results["test"]
    return (
        f"Networks of one size and one training, {results['training sites']:,} training sites (the paper's: "
        f"{PAPER_TRAINING_SITES:,}), tested on {test['sites']:,} sites of {test['molecules']:,} molecules. *Dependence "
        "on the direction*: mean square deviation of the spectra along x, y and z from their mean, over that of the "
        "reference. *S(n) ≠ S(−n)*: mean of (S(n) − S(−n))² over mean of S(n)². Without the directional embedding "
        "nothing depends on the direction, and the floor is the error of a perfect network of that kind; without the "
        "symmetric message the spectrum changes when the direction is reversed, which no dipole transition allows."
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(10.5, 5.4), layout="constrained")
    left, right = figure.add_gridspec(1, 2, width_ratios=(1, 1.35))
    bars = left.subgridspec(2, 1).subplots(sharex=True)
    names = list(VARIANTS)
    floor = results["rows"]["floor of any network that does not see the direction"]
    for axis, metric in zip(bars, RESOLUTIONS, strict=True):
        values = [results["rows"][name][metric] for name in names]
        drawn = axis.bar(range(len(names)), values, color=CYCLE[: len(names)], width=0.65)
        axis.bar_label(drawn, fmt="%.3g", padding=2, fontsize=8.5)
        axis.axhline(floor[metric], color="#444444", linestyle="--", linewidth=1)
        axis.text(4.3, floor[metric], f"floor\n{floor[metric]:.3g}", ha="right", va="bottom", fontsize=8.5)
        axis.set_ylabel(f"{metric} MSE")
        axis.set_ylim(0, 1.2 * max(*values, floor[metric]))
        axis.set_xlim(-0.6, 4.3)
        axis.tick_params(axis="x", which="minor", bottom=False)
    short = ["ISD-PaiNN", "without\ndirectional\nembedding", "without\nsymmetric\nmessage", "without\nboth"]
    bars[1].set_xticks(range(len(names)), short)
    shown = results["shown"]
    panels = right.subgridspec(2, 2).subplots(sharex=True, sharey=True)
    for axis, name in zip(panels.flat, names, strict=True):
        for direction, predicted, calculated in zip(AXES, shown["predicted"][name], shown["reference"], strict=True):
            axis.plot(shown["energy"], calculated, ":", color=AXIS_COLOURS[direction], linewidth=1)
            axis.plot(
                shown["energy"], predicted, color=AXIS_COLOURS[direction], linewidth=1.3, label=f"E ∥ {direction}"
            )
        axis.set_title(name, loc="left", fontsize=9)
        axis.set_xlim(282, shown["energy"][-1])
    where = f"id {shown['molecule']}, C{shown['site']}"
    panels[0, 0].legend(title=f"{where}\nsolid: predicted\ndotted: calculated", alignment="left", loc="upper right")
    for axis in panels[1]:
        axis.set_xlabel("Energy (eV)")
    for axis in panels[:, 0]:
        axis.set_ylabel("Absorption (mean = 1)")
    return figure


STUDY = Study(
    "ablations",
    4,
    "Ablations: directional embedding and symmetric message",
    training_arguments("ck-directional.yaml"),
    measure,
    table,
    text,
    {"": (draw, "Errors of the four networks with the floor, and spectra of an anisotropic site")},
    page=ISD_PAINN,
)

if __name__ == "__main__":
    STUDY.main()
