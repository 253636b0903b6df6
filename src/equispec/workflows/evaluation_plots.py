"""Pictures of an evaluation, in the form of the figures of Shibata & Mizoguchi, Digital Discovery 3, 649 (2024)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from equispec.spectra import SiteSpectra, broaden_spectrum, directional, mse, percentile_indices, plot_spectra
from equispec.spectra.broaden import PAPER_SIGMA
from equispec.spectra.plot import CYCLE, check_suffix, draw_pair, from_zero, styled, write_figure
from equispec.workflows.coverage import Coverage
from equispec.workflows.evaluation import MODEL, RESOLUTIONS, EvaluationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PERCENTILES = (0, 50, 95, 100)
MODEL_COLOUR = CYCLE[1]
# baseline -> colour and line style of its curve
CURVES: dict[str, tuple[str, Any]] = {
    "5 nearest sites, local frame": (CYCLE[0], "--"),
    "global mean": ("#555555", ":"),
}


@styled
def plot_evaluation(result: EvaluationResult, resolution: str, path: str | Path | None = None) -> "Figure":
    """The paper's Fig. 1: (a) the sorted errors of all sites and axes, (b-e) the spectra at four percentiles of them.

    `resolution`: "native" or "paper-broad"; `path` ends in .png or .svg.
    """
    from matplotlib.figure import Figure

    check_suffix(path)
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr]
    grid = figure.add_gridspec(2, 3, width_ratios=(1.2, 1, 1))
    _draw_sorted(figure.add_subplot(grid[:, 0]), result, resolution)
    flat = result.errors[MODEL][resolution].axes.ravel()
    shown = percentile_indices(flat, PERCENTILES)
    panels: list[Axes] = [figure.add_subplot(grid[k // 2, 1 + k % 2]) for k in range(4)]
    for letter, axis, percentile, index in zip("bcde", panels, PERCENTILES, shown, strict=True):
        _draw_spectrum(axis, result, resolution, index)
        site, direction = divmod(index, 3)
        molecule, atom = result.site_index[site]
        where = f"molecule {result.samples[molecule].id}, C{atom}, E ∥ {'xyz'[direction]}"
        axis.set_title(f"({letter})  {percentile} %,  MSE {flat[index]:.3g}\n{where}", loc="left", fontsize=8.5)
    panels[0].legend(loc="upper right", fontsize=8)
    reference = directional(result.reference).reshape(-1, len(result.energy))
    for axis in panels:
        axis.set_xlim(*_window(result.energy, reference[shown]))
    for axis in panels[2:]:
        axis.set_xlabel("Energy (eV)")
    for axis in panels[::2]:
        axis.set_ylabel("Absorption (1/eV)")
    return write_figure(figure, path)


def plot_median_molecule(result: EvaluationResult, path: str | Path | None = None) -> "Figure":
    """The paper's Fig. 2: the molecule with the median error of the sum over its calculated sites, along x, y and z."""
    m = median_molecule(result)
    sample = result.samples[m]
    rows = [k for k, (molecule, _) in enumerate(result.site_index) if molecule == m]
    ours, theirs = (
        SiteSpectra(
            energy=result.energy,
            tensor=tensor[rows],
            sites=np.array([site.atom for site in sample.sites]),
            z=sample.z,
            pos=sample.pos,
            meta={"intensity_unit": "1/eV"},
        )
        for tensor in (result.predicted, result.reference)
    )
    n = len(rows)
    title = f"Molecule {sample.id}, {sample.smiles}: sum of {n} calculated C site{'s' if n > 1 else ''}"
    return plot_spectra(
        ours,
        path,
        polarizations=("x", "y", "z"),
        reference=theirs,
        title=title,
        window=_window(result.energy, directional(theirs.tensor).reshape(-1, len(result.energy))),
    )


@styled
def plot_calibration(coverage: Coverage, energy: np.ndarray, path: str | Path | None = None) -> "Figure":
    """(a) The share that a band holds against the share it promises, (b) the share held at every energy."""
    from matplotlib.figure import Figure

    check_suffix(path)
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    left.plot([0.4, 1], [0.4, 1], color="#999999", linewidth=0.8, zorder=0)
    for k, (name, by_level) in enumerate(coverage.nominal.items()):
        left.plot(list(by_level), list(by_level.values()), "o-", color=CYCLE[k], markersize=4, label=name)
        right.plot(energy, coverage.by_energy[name], color=CYCLE[k], linewidth=1.2)
    left.set_title("(a)", loc="left")
    left.set_xlabel("Level of the band")
    left.set_ylabel("Coverage")
    left.legend(loc="upper left", fontsize=8)
    right.axhline(coverage.level, color="#999999", linewidth=0.8, zorder=0)
    right.set_title(f"(b)  {100 * coverage.level:g} % band", loc="left")
    right.set_xlim(float(energy[0]), float(energy[-1]))
    right.set_ylim(0.5, 1.01)
    right.set_xlabel("Energy (eV)")
    right.set_ylabel("Coverage")
    return write_figure(figure, path)


def median_molecule(result: EvaluationResult) -> int:
    """Position in `samples` of the molecule whose native molecular error (see `molecular_errors`) is the median."""
    return percentile_indices(molecular_errors(result), (50,))[0]


def molecular_errors(result: EvaluationResult) -> np.ndarray:
    """[molecules]: mean squared error of the sum over the calculated sites, averaged over x, y and z, native."""
    molecule = np.array([m for m, _ in result.site_index])
    total = np.zeros((len(result.samples), *result.predicted.shape[1:]))
    np.add.at(total, molecule, result.predicted - result.reference)
    axes = directional(total)
    return mse(axes, np.zeros_like(axes)).mean(axis=1)


def _draw_sorted(axis: "Axes", result: EvaluationResult, resolution: str) -> None:
    names = {MODEL: (MODEL_COLOUR, "-"), **{name: style for name, style in CURVES.items() if name in result.errors}}
    for name, (colour, style) in names.items():
        errors = np.sort(result.errors[name][resolution].axes.ravel())
        rank = np.linspace(0.0, 100.0, len(errors)) if len(errors) > 1 else np.array([50.0])
        label = {MODEL: "model"}.get(name, name)
        axis.plot(rank, errors, color=colour, linestyle=style, linewidth=2.0 if name == MODEL else 1.2, label=label)
        if name == MODEL:
            _mark_percentiles(axis, rank, errors)
    spectra = result.scores[MODEL][resolution].spectra
    axis.axhline(spectra.threshold, color="#999999", linewidth=0.8, zorder=0)
    axis.set_title(
        f"(a)  {resolution}:\n{100 * spectra.share_below:.0f} % of {spectra.n} spectra below {spectra.threshold}",
        loc="left",
        fontsize=8.5,
    )
    axis.set_yscale("log")
    axis.set_xlim(-3, 105)
    axis.set_xlabel("Spectra, sorted (%)")
    axis.set_ylabel("MSE (training mean intensity = 1)")
    axis.legend(loc="upper left", fontsize=8)


def _mark_percentiles(axis: "Axes", rank: np.ndarray, errors: np.ndarray) -> None:
    from matplotlib.patheffects import withStroke

    for letter, percentile in zip("bcde", PERCENTILES, strict=True):
        k = round(percentile / 100 * (len(errors) - 1))
        axis.plot(rank[k], errors[k], "o", color=MODEL_COLOUR, markersize=5, markeredgecolor="white")
        side, place = (7, "left") if percentile == 0 else (-7, "right")
        text = axis.annotate(letter, (rank[k], errors[k]), (side, 3), textcoords="offset points", ha=place, fontsize=9)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _draw_spectrum(axis: "Axes", result: EvaluationResult, resolution: str, index: int) -> None:
    site, direction = divmod(index, 3)
    ours, theirs = (tensor[site, :, direction, direction] for tensor in (result.predicted, result.reference))
    if resolution == RESOLUTIONS[1]:
        step = float(result.energy[1] - result.energy[0])
        ours, theirs = (broaden_spectrum(values, step, PAPER_SIGMA) for values in (ours, theirs))
    draw_pair(axis, result.energy, ours, result.energy, theirs, MODEL_COLOUR, ("prediction", "first principles"))
    from_zero(axis, ours, theirs)


def _window(energy: np.ndarray, spectra: np.ndarray) -> tuple[float, float]:
    """From a little below the first intensity to the end of the grid."""
    height = spectra.max(axis=0)
    first = int(np.argmax(height > 0.01 * height.max()))
    return max(float(energy[0]), float(energy[first]) - 1.5), float(energy[-1])
