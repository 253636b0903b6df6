"""Figures of spectra, as PNG or SVG. Equal spectra give equal files.

Colours are those of Okabe & Ito (https://jfly.uni-koeln.de/color/), which colour-blind readers can tell apart; line
styles and labels carry the same information once more. Figures are made without pyplot: no window, no global state.
"""

import functools
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from jaxtyping import Float

from equispec.errors import InputError
from equispec.spectra.io import write_bytes
from equispec.spectra.polarization import Polarization, PolarizationLike
from equispec.spectra.sites import SiteSpectra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")
Sticks = tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n 3"]]

SUFFIXES = (".png", ".svg")
AXIS_COLOURS = {"iso": "#000000", "x": "#D55E00", "y": "#009E73", "z": "#0072B2"}
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
REFERENCE_GREY = "#8C8C8C"
MAX_SITE_ROWS = 30

_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.5,
    "xtick.minor.visible": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "mathtext.default": "regular",
    "svg.hashsalt": "equispec",  # fixed, for reproducible files
    "svg.fonttype": "none",
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function with our style, whatever the user's own settings are."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib as mpl

        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(_STYLE)
            return draw(*args, **kwargs)

    return styled


@styled
def plot_spectra(
    spectra: SiteSpectra,
    path: str | Path | None = None,
    *,
    polarizations: Sequence[PolarizationLike] = ("iso", "x", "y", "z"),
    per_site: bool = True,
    site_polarization: PolarizationLike = "iso",
    reference: SiteSpectra | None = None,
    sticks: Sequence[Sticks] | None = None,
    names: tuple[str, str] = ("prediction", "first principles"),
    title: str | None = None,
    window: tuple[float, float] | None = None,
) -> "Figure":
    """Draw the total for several polarisations and the spectra of the sites; write it if a path is given.

    With a `reference` every polarisation gets its own panel with both curves (`names` are their names), else one panel
    holds all. If the reference lacks some sites, both totals are sums over the common ones, and the title says so.
    `sticks`: transitions, one pair (energy [n] eV on the axis of the spectra, dipole [n,3]) per site, drawn
    below the total. A band is shaded: for `site_polarization` where one panel holds all, else in every one. `window`:
    energy limits in eV. `path` ends in .png or .svg. `title`: default formula, edge, model.

    Raises InputError for another suffix, a bad polarisation, and a path that cannot be written.
    """
    check_suffix(path)
    chosen = [Polarization.parse(polarization) for polarization in polarizations]
    if not chosen:
        raise InputError("a plot needs at least one polarisation")
    title = default_title(spectra) if title is None else title
    if reference is not None:
        spectra, reference, remark = _common_sites(spectra, reference)
        title += remark
    site_rows = len(spectra.sites) if per_site and len(spectra.sites) > 1 else 0
    heights = [1.45] * len(chosen) if reference is not None else [3.0]
    heights += [0.9] if sticks else []
    heights += [0.9 + 0.34 * min(site_rows, MAX_SITE_ROWS)] if site_rows else []
    figure, axes = _figure(heights)
    label = f"Absorption ({spectra.meta.get('intensity_unit', 'arb. u.')})"
    rows = iter(axes)
    if reference is None:
        totals = [next(rows)]
        _draw_overlay(totals[0], spectra, chosen, Polarization.parse(site_polarization))
    else:
        totals = [next(rows) for _ in chosen]
        _draw_comparison(totals, spectra, reference, chosen, names)
    _label_group(totals, label)
    totals[0].set_title(title, loc="left")
    if sticks:
        _draw_sticks(next(rows), sticks, chosen)
    if site_rows:
        _draw_sites(next(rows), spectra, reference, Polarization.parse(site_polarization))
    axes[-1].set_xlabel("Energy (eV)")
    axes[-1].set_xlim(*(window or _common_window(spectra, reference)))
    return write_figure(figure, path)


def check_suffix(path: str | Path | None) -> None:
    """InputError unless the path is None or ends in a suffix that can be drawn: call it before long work."""
    if path is not None and Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: unknown suffix {Path(path).suffix!r} of a plot; known ones are {', '.join(SUFFIXES)}"
        )


def default_title(spectra: SiteSpectra) -> str:
    """Formula, edge and model of some spectra, as far as they are known."""
    from ase.symbols import Symbols

    formula = Symbols(spectra.z).get_chemical_formula("hill")
    subscripted = re.sub(r"\d+", r"$_{\g<0>}$", formula)
    edge = spectra.meta.get("edge", "").replace("-", " ")
    known = [subscripted, f"{edge} edge" if edge else "", spectra.meta.get("model", "")]
    return " · ".join(part for part in known if part)


# --- panels ----------------------------------------------------------------------------------------------------------


def _draw_overlay(axis: "Axes", spectra: SiteSpectra, chosen: Sequence[Polarization], banded: Polarization) -> None:
    drawn = [spectra.site_intensity(polarization).sum(axis=0) for polarization in chosen]
    for k, polarization in enumerate(chosen):
        isotropic = polarization.direction is None
        axis.plot(
            spectra.energy,
            drawn[k],
            color=_colour(polarization, k),
            linewidth=2.0 if isotropic else 1.4,
            linestyle=("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))[k % 4],
            label=_name(polarization),
        )
        if polarization == banded:
            drawn += _shade(axis, spectra, polarization, _colour(polarization, k))
    from_zero(axis, *drawn)
    axis.legend(loc="upper right")


def _draw_comparison(
    axes: Sequence["Axes"],
    spectra: SiteSpectra,
    reference: SiteSpectra,
    chosen: Sequence[Polarization],
    names: tuple[str, str],
) -> None:
    drawn = []
    for k, (axis, polarization) in enumerate(zip(axes, chosen, strict=True)):
        ours = spectra.site_intensity(polarization).sum(axis=0)
        theirs = reference.site_intensity(polarization).sum(axis=0)
        drawn += _shade(axis, spectra, polarization, _colour(polarization, k))
        draw_pair(axis, spectra.energy, ours, reference.energy, theirs, _colour(polarization, k), names)
        _caption(axis, _name(polarization))
        drawn += [ours, theirs]
    for axis in axes:  # one scale, so that the panels show the anisotropy
        from_zero(axis, *drawn)
    axes[0].legend(loc="upper right")


def draw_pair(
    axis: "Axes", energy: Any, ours: Any, reference_energy: Any, theirs: Any, colour: str, names: tuple[str, str]
) -> None:
    """A predicted spectrum as a line over its reference, a shaded area."""
    axis.fill_between(reference_energy, theirs, color=REFERENCE_GREY, alpha=0.25, linewidth=0)
    axis.plot(energy, ours, color=colour, label=names[0])
    axis.plot(reference_energy, theirs, color=REFERENCE_GREY, linewidth=1.0, linestyle="--", label=names[1], zorder=1.9)


def _shade(axis: "Axes", spectra: SiteSpectra, polarization: Polarization, colour: str) -> list[np.ndarray]:
    """Draw the band of the total, where there is one, and return its upper end; no intensity is below zero."""
    half_width = spectra.half_width(polarization)
    if half_width is None or spectra.band is None:
        return []
    total = spectra.site_intensity(polarization).sum(axis=0)
    low, high = np.maximum(total - half_width, 0.0), total + half_width
    label = f"{100 * spectra.band.level:g} % band"
    axis.fill_between(spectra.energy, low, high, color=colour, alpha=0.2, linewidth=0, zorder=1.5, label=label)
    return [high]


def _draw_sticks(axis: "Axes", sticks: Sequence[Sticks], chosen: Sequence[Polarization]) -> None:
    energy = np.concatenate([pair[0] for pair in sticks])
    dipole = np.concatenate([pair[1] for pair in sticks])
    dyads = dipole[:, :, None] * dipole[:, None, :]
    for k, polarization in enumerate(chosen):
        if polarization.direction is not None or len(chosen) == 1:
            axis.vlines(energy, 0.0, polarization.intensity(dyads), color=_colour(polarization, k), linewidth=1.2)
    axis.set_ylim(bottom=0.0)
    axis.set_ylabel("|n·d|²\n(e²a$_0$²)")


def _draw_sites(axis: "Axes", spectra: SiteSpectra, reference: SiteSpectra | None, polarization: Polarization) -> None:
    """The spectra of the sites above one another, the first on top, each on its own line and with its own name."""
    curves = spectra.site_intensity(polarization)[:MAX_SITE_ROWS]
    theirs = [] if reference is None else reference.site_intensity(polarization)[:MAX_SITE_ROWS]
    spacing = 0.6 * max(curves.max(), *(values.max() for values in theirs), 1e-300)
    bases = spacing * np.arange(len(curves))[::-1]
    half_widths = spectra.site_half_width(polarization)
    for k, (curve, label) in enumerate(zip(curves, spectra.labels, strict=False)):
        base = bases[k]
        colour = CYCLE[k % len(CYCLE)]
        if reference is not None:
            axis.plot(reference.energy, base + theirs[k], color=REFERENCE_GREY, linewidth=1.0, linestyle="--")
        axis.axhline(base, color="#DDDDDD", linewidth=0.6, zorder=0)
        axis.plot(spectra.energy, base + curve, color=colour, linewidth=1.3)
        if half_widths is not None:
            low, high = base + np.maximum(curve - half_widths[k], 0.0), base + curve + half_widths[k]
            axis.fill_between(spectra.energy, low, high, color=colour, alpha=0.2, linewidth=0)
        index, element = label.split("_")
        place = {"xy": (1.0, base), "xycoords": ("axes fraction", "data"), "xytext": (4, 0)}
        axis.annotate(f"{element} {index}", **place, textcoords="offset points", va="center", color=colour)
    tops = [
        np.max(curves + bases[:, None] + (0.0 if half_widths is None else half_widths[: len(curves)])),
        *(base + values.max() for base, values in zip(bases, theirs, strict=False)),
    ]
    axis.set_ylim(-0.1 * spacing, np.max(tops) + 0.15 * spacing)
    axis.set_yticks([])
    part = f"; first {len(curves)} of {len(spectra.sites)}" if len(spectra.sites) > len(curves) else ""
    axis.set_ylabel(f"Sites, {_name(polarization)}\n(offset{part})")


def _common_sites(spectra: SiteSpectra, reference: SiteSpectra) -> tuple[SiteSpectra, SiteSpectra, str]:
    """Both with the sites that both have, and a remark for the title if that is not all of them."""
    known = set(reference.sites.tolist())
    common = [site for site in spectra.sites.tolist() if site in known]
    if not common:
        raise InputError(f"the reference has none of the sites {spectra.sites.tolist()}; it has {sorted(known)}")
    remark = f" · sum of sites {', '.join(map(str, common))}" if len(common) < len(spectra.sites) else ""
    return spectra.select(common), reference.select(common), remark


# --- common ----------------------------------------------------------------------------------------------------------


def _figure(heights: Sequence[float]) -> tuple["Figure", list["Axes"]]:
    """Panels of these heights (inches) above one another, sharing the energy axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, sum(heights) + 0.75), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
    return figure, list(axes[:, 0])


def write_figure(figure: "Figure", path: str | Path | None) -> "Figure":
    """Write the figure where a path is given, whole or not at all and without a date; returns the figure."""
    if path is not None:
        suffix = Path(path).suffix.lower()
        buffer = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None} if suffix == ".svg" else {"Software": None}
        figure.savefig(buffer, format=suffix[1:], dpi=200, metadata=metadata)
        write_bytes(path, buffer.getvalue())
    return figure


def _label_group(axes: Sequence["Axes"], label: str) -> None:
    """One label for the vertical axes of neighbouring panels, in their middle, and few ticks where panels are low."""
    from matplotlib.ticker import MaxNLocator

    axes[(len(axes) - 1) // 2].set_ylabel(label, y=0.5 if len(axes) % 2 else -0.1)
    for axis in axes:
        axis.yaxis.set_major_locator(MaxNLocator(3 if len(axes) > 1 else 5))


def from_zero(axis: "Axes", *curves: np.ndarray) -> None:
    """Vertical limits from zero, or from the lowest value where a curve goes clearly below it."""
    low, high = min(curve.min() for curve in curves), max(curve.max() for curve in curves)
    axis.set_ylim(1.1 * low if low < -0.005 * high else 0.0, 1.1 * high if high > 0 else 1.0)


def _common_window(spectra: SiteSpectra, reference: SiteSpectra | None) -> tuple[float, float]:
    energies = [spectra.energy] if reference is None else [spectra.energy, reference.energy]
    return max(float(energy[0]) for energy in energies), min(float(energy[-1]) for energy in energies)


def _caption(axis: "Axes", text: str) -> None:
    axis.text(0.012, 0.95, text, transform=axis.transAxes, va="top", fontsize=9.0)


def _colour(polarization: Polarization, k: int) -> str:
    return AXIS_COLOURS.get(polarization.label, CYCLE[(k + 3) % len(CYCLE)])


def _name(polarization: Polarization) -> str:
    if polarization.direction is None:
        return "isotropic"
    if polarization.label in AXIS_COLOURS:
        return f"E ∥ {polarization.label}"
    return "E ∥ ({})".format(", ".join(f"{component:.2f}" for component in polarization.direction))
