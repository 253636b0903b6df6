"""Benzene turned about x in steps of 18°: spectra along the fixed directions x, y and z, averaged over the six carbons.

python benchmarks/paper/benzene.py ck-tensor data/ck-tp-pbe-extra/benzene-rotated.h5

The store has one molecule for each orientation, with all six sites calculated; the angles are read off the positions.
Intensities are raw, (e a0)²/eV: the model's output times its intensity scale.
"""

import argparse
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from spectra_study import AXES, ISD_PAINN, described, evaluated, native_and_broad, origin
from study import RED, Study, plain

from equispec.errors import InputError
from equispec.spectra import directional, mse
from equispec.spectra.plot import AXIS_COLOURS

PI_STAR = 3.0  # eV, width of the window around the first peak whose intensity is followed


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a shipped name or a model folder")
    parser.add_argument("data", help="store of the rotated molecules")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    result = evaluated(arguments.model, arguments.data, "all")
    molecule = np.array([m for m, _ in result.site_index])
    rotations = np.stack([rotation(result.samples[0].pos, sample.pos) for sample in result.samples])
    angles = np.array([angle_about_x(r) for r in rotations])
    order = np.argsort(angles)
    scale = result.model["intensity_scale"]
    predicted, reference = (
        np.stack([tensor[molecule == m].mean(axis=0) for m in order]) for tensor in (result.predicted, result.reference)
    )
    first = order[0]
    turned = np.stack([rotations[m] @ rotations[first].T for m in order])
    # the spectra of every orientation from the tensors calculated in the first one
    from_first = turned[:, None] @ reference[0] @ turned.transpose(0, 2, 1)[:, None]
    along = {
        "predicted": directional(predicted),
        "reference": directional(reference),
        "one calculation": directional(from_first),
    }
    step = float(result.energy[1] - result.energy[0])
    ours, theirs = along["predicted"], along["reference"]
    peak = result.energy[np.argmax(theirs.sum(axis=(0, 1)) * (result.energy < 288))]
    window = np.abs(result.energy - peak) < PI_STAR / 2
    return {
        **described(result),
        "scale": scale,
        "angles": plain(angles[order], 4),
        "energy": plain(result.energy, 7),
        "mse": {name: plain(errors) for name, errors in native_and_broad(result, ours, theirs).items()},
        "raw mse": plain(mse(ours, theirs) * scale**2),
        "deviation": float(np.sqrt(np.mean((along["one calculation"] - theirs) ** 2) / np.mean(theirs**2))),
        "peak": float(peak),
        "peak intensity": {name: plain(1e3 * scale * step * s[..., window].sum(-1)) for name, s in along.items()},
        "spectra": {name: plain(1e3 * scale * along[name]) for name in ("predicted", "reference")},
    }


def rotation(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The proper rotation R with after = R before + shift; InputError if the two are not the same rigid body."""
    a, b = before - before.mean(0), after - after.mean(0)
    u, _, vt = np.linalg.svd(b.T @ a)
    found = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    if before.shape != after.shape or np.abs(a @ found.T - b).max() > 1e-3:
        raise InputError("the molecules of the store are not one rigid molecule in several orientations")
    return found


def angle_about_x(matrix: np.ndarray) -> float:
    """Degrees by which a rotation turns about x; InputError for a rotation about another axis."""
    if abs(matrix[0, 0] - 1) > 1e-4:
        raise InputError("the molecules of the store are not turned about x")
    return round(float(np.degrees(np.arctan2(matrix[2, 1], matrix[1, 1]))), 3)


def table(results: dict[str, Any]) -> list[list[Any]]:
    header = ["angle (°)", *(f"{name}, E ∥ {axis}" for name in results["mse"] for axis in AXES)]
    header += [f"raw ((e a0)²/eV)², E ∥ {axis}" for axis in AXES]
    rows: list[list[Any]] = [header]
    for k, angle in enumerate(results["angles"]):
        row = [f"{angle:g}", *(value for values in results["mse"].values() for value in values[k])]
        rows.append([*row, *(f"{value:.2e}" for value in results["raw mse"][k])])
    return rows


def text(results: dict[str, Any]) -> str:
    return (
        f"{origin(results)} Mean squared errors of the spectra averaged over the six carbons (native and paper-broad "
        f"with the training mean as unit, native in raw units). The tensors calculated at {results['angles'][0]:g}° "
        "and turned give the spectra calculated at the other angles up to "
        f"{100 * results['deviation']:.2g} % (root mean square of the difference over that of the spectra): one "
        "calculation is enough for all directions."
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(11.0, 5.4), layout="constrained")
    *panels, last = figure.subplots(1, 4, gridspec_kw={"width_ratios": (1, 1, 1, 1.15)})
    energy, spectra = results["energy"], results["spectra"]
    spacing = 0.75 * np.max(spectra["reference"])
    for c, axis in enumerate(panels):
        for k, angle in enumerate(results["angles"]):
            base = k * spacing
            axis.fill_between(energy, base, base + np.array(spectra["reference"][k][c]), color="#8C8C8C", alpha=0.3,
                              linewidth=0)  # fmt: skip
            axis.plot(energy, base + np.array(spectra["reference"][k][c]), color="#8C8C8C", linewidth=1.2,
                      label="calculated" if k == 0 else None)  # fmt: skip
            axis.plot(energy, base + np.array(spectra["predicted"][k][c]), color=RED, linewidth=1.2,
                      label="predicted" if k == 0 else None)  # fmt: skip
            axis.text(energy[-1], base + 0.12 * spacing, f"{angle:g}°", ha="right", va="bottom")
        axis.set_title(f"E ∥ {AXES[c]}", loc="left")
        axis.set_xlim(282, energy[-1])
        axis.set_ylim(-0.05 * spacing, spacing * (len(results["angles"]) - 1) + 1.08 * np.max(spectra["reference"]))
        axis.set_xlabel("Energy (eV)")
        axis.tick_params(labelleft=c == 0)
    panels[0].set_ylabel("Absorption per carbon (10$^{-3}$ (e a$_0$)²/eV), offset by angle")
    panels[0].legend(loc="upper right")
    angles = results["angles"]
    for c, direction in enumerate(AXES):
        colour = AXIS_COLOURS[direction]
        value = {name: [row[c] for row in rows] for name, rows in results["peak intensity"].items()}
        last.plot(angles, value["reference"], "o", color=colour, label=f"calculated, E ∥ {direction}")
        last.plot(angles, value["one calculation"], "+", color=colour, markersize=11)
        last.plot(angles, value["predicted"], "-", color=colour)
    last.plot([], [], "k+", markersize=11, label=f"calculated at {angles[0]:g}° and turned")
    last.plot([], [], "k-", label="predicted")
    last.set_title(f"π* intensity, {results['peak']:.1f} ± {PI_STAR / 2:g} eV", loc="left")
    last.set_xlabel("Angle about x (°)")
    last.set_ylabel("Intensity per carbon (10$^{-3}$ (e a$_0$)²)")
    last.set_ylim(0, 1.55 * last.get_ylim()[1])
    last.legend(loc="upper left", fontsize=8)
    return figure


STUDY = Study(
    "benzene",
    6,
    "Benzene, rotated",
    arguments,
    measure,
    table,
    text,
    {"": (draw, "Spectra of benzene at six angles along x, y and z, and the intensity of the π* peak")},
    page=ISD_PAINN,
)

if __name__ == "__main__":
    STUDY.main()
