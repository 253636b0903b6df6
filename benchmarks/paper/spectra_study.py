"""What the evaluations of spectra share: errors, spectra at percentiles, sums over molecules, drawings, power laws."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from study import RED, Page, cell, plain

from equispec.errors import InputError
from equispec.predict import Predictor, load
from equispec.spectra import (
    PAPER_SIGMA,
    broaden_spectrum,
    directional,
    mse,
    paper_broad_mse,
    percentile_indices,
)
from equispec.spectra.plot import REFERENCE_GREY
from equispec.workflows.evaluation import MODEL, RESOLUTIONS, EvaluationResult, evaluate

AXES = "xyz"
PAPER = "Shibata & Mizoguchi, Digital Discovery 3, 649 (2024)"
PAPER_TRAINING_SITES = 73_758
PAPER_SHARE = 0.95  # of the test spectra below THRESHOLD, at least
THRESHOLD = 0.1
ISD_PAINN = Page(
    "isd-painn-paper",
    f"""\
# The evaluations of the ISD-PaiNN paper, on our own data

Every evaluation of {PAPER}, made again with equispec's model and
equispec's own first-principles spectra. Each section is written by the command named in it;
`python benchmarks/paper/page.py` puts the page together again from the JSON files.

Errors are mean squared errors over the energy grid of one site and one direction, in units of the squared mean
intensity of the training set. *Native* compares the spectra as they are (pre-edge FWHM 0.5 eV). *Paper-broad* compares
them after convolution of both with a Gaussian of sigma {PAPER_SIGMA} eV, which gives the pre-edge the width of the
paper's data: the paper's "MSE below 0.1" belongs to this one. The paper had another method for its reference spectra
(CASTEP, plane waves, 288-310 eV) and {PAPER_TRAINING_SITES:,} training sites.
""",
)


def evaluated(model: Path | str | Predictor, data: Path, split: str = "test") -> EvaluationResult:
    """`evaluate` on one core."""
    predictor = model if isinstance(model, Predictor) else load(model, device="cpu")
    return evaluate(predictor, data, split)


def described(result: EvaluationResult) -> dict[str, Any]:
    """Model and data of an evaluation."""
    keep = ("name", "hash", "members", "backbone", "head", "parameters", "intensity_scale")
    return {"model": {key: result.model[key] for key in keep}, "data": result.data, "notes": list(result.notes)}


def origin(results: dict[str, Any]) -> str:
    """One line on model and data."""
    model, data = results["model"], results["data"]
    members = f", {model['members']} members" if model["members"] > 1 else ""
    part = "all" if data["split"] == "all" else f"{data['split']} split"
    return (
        f"Model {model['name']} ({model['hash']}{members}); {part} of {data['store']}: "
        f"{data['molecules']:,} molecules, {data['sites']:,} sites."
    )


def errors_along_axes(result: EvaluationResult, resolution: str, name: str = MODEL) -> np.ndarray:
    """[sites, 3]: mean squared errors along x, y and z."""
    return result.errors[name][resolution].axes


def figures(result: EvaluationResult, name: str = MODEL) -> dict[str, float]:
    """Mean errors and the share of paper-broad spectra below the paper's threshold."""
    native, broad = (errors_along_axes(result, resolution, name) for resolution in RESOLUTIONS)
    return {
        "native": float(native.mean()),
        "paper-broad": float(broad.mean()),
        "share": float((broad < THRESHOLD).mean()),
    }


# --- spectra at percentiles of the error (Fig. 1) --------------------------------------------------------------------


def at_percentiles(result: EvaluationResult, resolution: str, percentiles: Sequence[int]) -> dict[str, Any]:
    """The sorted errors of all spectra, and the spectra that stand at some percentiles of them."""
    errors = errors_along_axes(result, resolution).ravel()
    predicted, reference = (
        directional(t).reshape(-1, len(result.energy)) for t in (result.predicted, result.reference)
    )
    if resolution == "paper-broad":
        step = float(result.energy[1] - result.energy[0])
        predicted, reference = (broaden_spectrum(t, step, PAPER_SIGMA) for t in (predicted, reference))
    examples = []
    for percentile, k in zip(percentiles, percentile_indices(errors, percentiles), strict=True):
        site, direction = divmod(k, 3)
        molecule, atom = result.site_index[site]
        sample = result.samples[molecule]
        examples.append(
            {
                "percentile": percentile,
                "molecule": sample.id,
                "smiles": sample.smiles,
                "site": atom,
                "direction": AXES[direction],
                "mse": plain(errors[k]),
                "predicted": plain(predicted[k]),
                "reference": plain(reference[k]),
            }
        )
    share = float((errors < THRESHOLD).mean())
    return {
        "sorted": plain(np.sort(errors), 4),
        "mean": float(errors.mean()),
        "share": share,
        "energy": plain(result.energy, 7),
        "examples": examples,
    }


def draw_sorted(axis: Axes, errors: Sequence[float], colour: str = RED, label: str | None = None) -> None:
    """Sorted errors against their rank, with the paper's threshold."""
    rank = np.linspace(0, 100, len(errors))
    axis.plot(rank, errors, color=colour, linewidth=2, label=label)
    axis.axhline(THRESHOLD, color="#999999", linewidth=0.8, zorder=0)
    axis.set_yscale("log")
    axis.set_xlim(-3, 104)
    axis.set_xlabel("Spectra, sorted by error (%)")
    axis.set_ylabel("MSE (mean intensity = 1)")


def draw_example(axis: Axes, energy: Sequence[float], example: dict[str, Any], letter: str) -> None:
    """Predicted and calculated spectrum of one site and direction, named in an inset."""
    draw_calculated(axis, energy, example["reference"])
    axis.plot(energy, example["predicted"], color=RED, label="predicted")
    top = 1.5 * max(*example["reference"], *example["predicted"])
    axis.set_ylim(min(0.0, 1.1 * min(example["predicted"])), top)
    axis.set_xlim(282, energy[-1])
    where = f"id {example['molecule']}, C{example['site']}, E ∥ {example['direction']}"
    axis.text(0.97, 0.96, f"{where}\nMSE {cell(example['mse'])}", transform=axis.transAxes, ha="right", va="top")
    axis.set_title(f"({letter}) {example['percentile']} %", loc="left", fontsize=9)


def draw_calculated(axis: Axes, energy: Sequence[float], values: Sequence[float], label: str = "calculated") -> None:
    """A first-principles spectrum: a grey line over its shaded area."""
    axis.fill_between(energy, values, color=REFERENCE_GREY, alpha=0.25, linewidth=0)
    axis.plot(energy, values, color=REFERENCE_GREY, linewidth=1.3, label=label)


def mark_examples(axis: Axes, errors: Sequence[float], examples: Sequence[dict[str, Any]], letters: str) -> None:
    """Letters on the curve of the sorted errors where the examples stand."""
    for letter, example in zip(letters, examples, strict=True):
        at = example["percentile"]
        axis.plot(at, errors[round(at / 100 * (len(errors) - 1))], "o", color=RED, markeredgecolor="white")
        side, place = (7, "left") if at == 0 else (-7, "right")
        axis.annotate(letter, (at, example["mse"]), (side, 3), textcoords="offset points", ha=place)


# --- molecules -------------------------------------------------------------------------------------------------------


def molecular_sums(result: EvaluationResult) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and calculated [molecules, 3, E]: sums over the calculated sites along x, y and z, no multiplicity."""
    molecule = np.array([m for m, _ in result.site_index])
    sums = []
    for tensor in (result.predicted, result.reference):
        total = np.zeros((len(result.samples), 3, len(result.energy)))
        np.add.at(total, molecule, directional(tensor))
        sums.append(total)
    return sums[0], sums[1]


def native_and_broad(result: EvaluationResult, ours: np.ndarray, theirs: np.ndarray) -> dict[str, np.ndarray]:
    """Mean squared errors of spectra [..., E] at both resolutions."""
    step = float(result.energy[1] - result.energy[0])
    return dict(zip(RESOLUTIONS, (mse(ours, theirs), paper_broad_mse(ours, theirs, step)), strict=True))


def broadened(result: EvaluationResult, spectra: np.ndarray) -> np.ndarray:
    """Spectra [..., E] at the paper's width."""
    return broaden_spectrum(spectra, float(result.energy[1] - result.energy[0]), PAPER_SIGMA)


# --- fits ------------------------------------------------------------------------------------------------------------


def fit_power_law(n: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """(a, b) of y = a n^-b, by least squares of the logarithms; InputError below two points or for y <= 0."""
    n, y = np.asarray(n, dtype=float), np.asarray(y, dtype=float)
    if len(n) < 2 or len(n) != len(y) or not (n > 0).all() or not (y > 0).all():
        raise InputError(f"a power law needs two points or more, all positive, not n = {n.tolist()}, y = {y.tolist()}")
    slope, intercept = np.polyfit(np.log(n), np.log(y), 1)
    return float(np.exp(intercept)), float(-slope)


def crossing(a: float, b: float, y: float) -> float:
    """The n at which a n^-b falls to y; endless where it does not fall."""
    exponent = math.log(a / y) / b if b > 0 else math.inf
    return math.exp(exponent) if exponent < 700 else math.inf
