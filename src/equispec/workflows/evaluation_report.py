"""An evaluation as files: tables for programs, a page for people, pictures. The same evaluation gives the same files.

metrics.json  metrics.csv  per_site.csv  report.md  percentiles-native.png  percentiles-paper-broad.png
median-molecule.png  timing.json (apart, because it changes from run to run); and of a calibrated model calibration.png
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from equispec import __version__
from equispec.checkpoint import add_metadata
from equispec.data.describe import bonded_elements
from equispec.errors import InputError
from equispec.predict import model_folder
from equispec.spectra import write_bytes
from equispec.workflows.coverage import Coverage
from equispec.workflows.evaluation import MODEL, RESOLUTIONS, EvaluationResult, Scores
from equispec.workflows.evaluation_plots import (
    PERCENTILES,
    median_molecule,
    plot_calibration,
    plot_evaluation,
    plot_median_molecule,
)

WORST = 10  # sites listed in the report
MAX_REMARKS = 20  # flags listed in the report

COLUMNS = (
    "prediction",
    "resolution",
    "mean",
    *(f"p{percentile}" for percentile in PERCENTILES),
    "share_below_0.1",
    "tensor",
    "isotropic",
    "anisotropic",
)
HEADINGS = ("Mean", *(f"{p} %" for p in PERCENTILES), "Share < 0.1", "Tensor", "Isotropic", "Anisotropic")

READING = """\
Errors are mean squared errors over the energy grid, in units of the squared mean intensity of the training set.
*Mean*, the percentiles and *Share < 0.1* are those of single spectra: one site along x, y or z. *Tensor* is the error
averaged over all directions, (2 ‖ΔT‖² + (Tr ΔT)²)/15, and the sum of the errors of its *isotropic* and its
*anisotropic* part. *Native* compares the spectra as they are; *paper-broad* after convolving both with a Gaussian of
sigma 0.453 eV, which gives the width of the data of Shibata & Mizoguchi, Digital Discovery 3, 649 (2024), whose
"MSE below 0.1" belongs to it."""


def write_report(result: EvaluationResult, folder: str | Path) -> list[Path]:
    """Write all files of a report, each whole or not at all, and return their paths; the folder is made if need be.

    Raises InputError where that is not possible.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror or error}") from None
    texts = {
        "metrics.json": _json(metrics(result)),
        "metrics.csv": _csv([COLUMNS, *score_rows(result)]),
        "per_site.csv": _csv(_site_rows(result)),
        "report.md": markdown(result),
        "timing.json": _json(asdict(result.timing)),
    }
    for name, text in texts.items():
        write_bytes(folder / name, text.encode())
    pictures = [folder / f"percentiles-{resolution}.png" for resolution in RESOLUTIONS]
    for resolution, path in zip(RESOLUTIONS, pictures, strict=True):
        plot_evaluation(result, resolution, path)
    pictures.append(folder / "median-molecule.png")
    plot_median_molecule(result, pictures[-1])
    if result.coverage is not None:
        pictures.append(folder / "calibration.png")
        plot_calibration(result.coverage, result.energy, pictures[-1])
    return [*(folder / name for name in texts), *pictures]


def metrics(result: EvaluationResult) -> dict[str, Any]:
    """All figures but the times, as plain data."""
    return {
        "equispec_version": __version__,
        "model": result.model,
        "data": result.data,
        "unit": "squared mean intensity of the training set",
        "scores": {
            name: {resolution: _plain(scores) for resolution, scores in by.items()}
            for name, by in result.scores.items()
        },
        "directional": asdict(result.directional) if result.directional else None,
        "coverage": _plain_coverage(result.coverage) if result.coverage else None,
        "notes": list(result.notes),
    }


def record_metrics(result: EvaluationResult, models: Sequence[str]) -> None:
    """Write the model's own errors into the config.json of its folder; InputError for several folders."""
    if len(models) != 1:
        raise InputError("figures are recorded in one model folder; merge the ensemble first")
    own = {resolution: _plain(scores) for resolution, scores in result.scores[MODEL].items()}
    data = {key: result.data[key] for key in ("split", "molecules", "sites")}
    held = {"coverage": _plain_coverage(result.coverage)} if result.coverage else {}
    add_metadata(model_folder(models[0]), metrics={**data, **own, **held})


def score_rows(result: EvaluationResult) -> list[tuple[Any, ...]]:
    """One row of COLUMNS for every prediction and resolution, the model first; numbers are not rounded."""
    return [
        (name, resolution, *_numbers(result.scores[name][resolution]))
        for resolution in RESOLUTIONS
        for name in result.scores
    ]


def markdown(result: EvaluationResult) -> str:
    """The report as a page of Markdown that shows the pictures beside it."""
    data, title = result.data, result.model["name"]
    if result.model["members"] > 1:
        title += f", an ensemble of {result.model['members']}"
    parts = [
        f"# Evaluation of {title}",
        f"{result.model['edge']} edge, {result.model['backbone']} with {result.model['head']}, weights "
        f"{result.model['hash']}; compared with first principles on the "
        f"{data['split']} split of {data['store']} ({data['sha256'][:12]}): {data['molecules']} molecules, "
        f"{data['sites']} sites, {3 * data['sites']} spectra.",
        *result.notes,
    ]
    for resolution in RESOLUTIONS:
        rows = [[name, *_rounded(result.scores[name][resolution])] for name in result.scores]
        parts += [f"## {resolution.capitalize()}", _table(["", *HEADINGS], rows)]
        parts.append(f"![Sorted errors and spectra at four percentiles](percentiles-{resolution}.png)")
    parts.append(READING)
    if result.directional is not None:
        parts += ["## Direction", _directional_text(result)]
    if result.coverage is not None:
        parts += ["## Uncertainty", *_coverage_text(result.coverage)]
    m = median_molecule(result)
    parts += [
        "## A molecule",
        f"Molecule {result.samples[m].id} has the median error of the sum over the calculated sites.",
        "![Spectra of the median molecule](median-molecule.png)",
        "## Where the errors are",
        _table(["Bonded to", "Sites", "Native", "Paper-broad", "Share < 0.1"], _environment_rows(result)),
        "Means over the sites of one kind, most frequent first; share of paper-broad spectra below 0.1.",
        _table(["Molecule", "SMILES", "Atom", "Bonded to", "Native", "Paper-broad"], _worst_rows(result)),
        f"The {min(WORST, data['sites'])} sites with the largest native error, mean of x, y and z.",
    ]
    return "\n\n".join(parts) + "\n"


def _directional_text(result: EvaluationResult) -> str:
    assert result.directional is not None
    return (
        "This model predicts one direction at a time and is not bound to be quadratic in it. Along other directions it "
        f"departs from its own tensor by {100 * result.directional.quadraticity:.2g} % of the mean squared intensity; "
        f"{100 * result.directional.negative:.2g} % of its values along x, y and z are negative (below -1 % of the "
        "mean intensity). The tensor errors above are those of the tensor that agrees with it along x, y, z and the "
        "directions half-way between them."
    )


def coverage_rows(coverage: Coverage) -> tuple[list[str], list[list[str]]]:
    """Header and rows: of every quantity the share that its band holds and, in brackets, its mean half-width."""
    header = ["", *(region.capitalize() for region in next(iter(coverage.shares.values())))]
    rows = [
        [name, *(f"{share.coverage:.1%} (± {share.half_width:.2f})".replace("%", " %") for share in by.values())]
        for name, by in coverage.shares.items()
    ]
    return header, rows


def flag_text(coverage: Coverage) -> str:
    """How often the flag of an unknown domain fires, in a sentence."""
    molecules, sites = (100 * coverage.flagged[what] for what in ("molecules", "sites"))
    return f"The flag of an unknown domain fires on {molecules:.1f} % of the molecules and {sites:.1f} % of the sites."


def _coverage_text(coverage: Coverage) -> list[str]:
    return [
        f"Share of the reference intensities that the {100 * coverage.level:g} % band holds and, in brackets, its mean "
        "half-width in units of the mean intensity; `molecule` is the sum over the calculated sites.",
        _table(*coverage_rows(coverage)),
        "![Nominal level against coverage, and coverage against energy](calibration.png)",
        flag_text(coverage),
        *(f"* {remark}" for remark in coverage.remarks[:MAX_REMARKS]),
    ]


def _plain_coverage(coverage: Coverage) -> dict[str, Any]:
    return {
        "level": coverage.level,
        "shares": {name: {r: asdict(share) for r, share in by.items()} for name, by in coverage.shares.items()},
        "nominal": {
            name: {f"{level:g}": value for level, value in by.items()} for name, by in coverage.nominal.items()
        },
        "flagged": coverage.flagged,
        "remarks": list(coverage.remarks),
    }


def _numbers(scores: Scores) -> tuple[float | None, ...]:
    spectra = scores.spectra
    percentiles = (spectra.percentiles[p] for p in PERCENTILES)
    return (spectra.mean, *percentiles, spectra.share_below, scores.tensor, scores.isotropic, scores.anisotropic)


def _rounded(scores: Scores) -> list[str]:
    return [rounded(number, 3 if number is None or abs(number) < 10 else 1) for number in _numbers(scores)]


def rounded(number: float | None, digits: int = 3) -> str:
    """A figure of a table; nothing where there is none."""
    return "" if number is None else f"{number:.{digits}f}"


def _plain(scores: Scores) -> dict[str, Any]:
    values = asdict(scores)
    values["spectra"]["percentiles"] = {str(p): value for p, value in scores.spectra.percentiles.items()}
    return values


def _environments(result: EvaluationResult) -> list[str]:
    return [
        " ".join(bonded_elements(result.samples[m].z, result.samples[m].pos, atom)) or "none"
        for m, atom in result.site_index
    ]


def _site_rows(result: EvaluationResult) -> list[list[Any]]:
    quantities = [f"mse_{axis}" for axis in "xyz"] + ["tensor", "isotropic", "anisotropic"]
    header = ["molecule", "smiles", "atom", "bonded_to"]
    header += [f"{resolution}_{quantity}" for resolution in RESOLUTIONS for quantity in quantities]
    rows: list[list[Any]] = [header]
    diagonal = result.data["components"] == "diagonal"
    for s, ((m, atom), environment) in enumerate(zip(result.site_index, _environments(result), strict=True)):
        row: list[Any] = [result.samples[m].id, result.samples[m].smiles, atom, environment]
        for resolution in RESOLUTIONS:
            errors = result.errors[MODEL][resolution]
            row += errors.axes[s].tolist()
            row.append(None if diagonal else float(errors.tensor.total[s]))
            row += [float(errors.tensor.isotropic[s]), float(errors.tensor.anisotropic[s])]
        rows.append(row)
    return rows


def _environment_rows(result: EvaluationResult) -> list[list[str]]:
    members: dict[str, list[int]] = defaultdict(list)
    for s, environment in enumerate(_environments(result)):
        members[environment].append(s)
    native, broad = (result.errors[MODEL][resolution].axes for resolution in RESOLUTIONS)
    threshold = result.scores[MODEL]["paper-broad"].spectra.threshold
    return [
        [name, str(len(s)), f"{native[s].mean():.3f}", f"{broad[s].mean():.3f}", f"{(broad[s] < threshold).mean():.2f}"]
        for name, s in sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _worst_rows(result: EvaluationResult) -> list[list[str]]:
    native, broad = (result.errors[MODEL][resolution].axes.mean(axis=1) for resolution in RESOLUTIONS)
    environments = _environments(result)
    rows = []
    for s in (-native).argsort(kind="stable")[:WORST]:
        m, atom = result.site_index[s]
        sample = result.samples[m]
        row = [str(sample.id), f"`{sample.smiles}`", str(atom), environments[s]]
        rows.append([*row, f"{native[s]:.3f}", f"{broad[s]:.3f}"])
    return rows


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["-"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _csv(rows: list[Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row])
    return text.getvalue()


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"
