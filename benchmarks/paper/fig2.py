"""Fig. 2 of the paper: the molecule with the median error of its molecular spectra; spectra of its sites and their sum.

python benchmarks/paper/fig2.py ck-tensor data/ck-tp-pbe
"""

import argparse
import io
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from spectra_study import (
    AXES,
    ISD_PAINN,
    described,
    draw_calculated,
    evaluated,
    molecular_sums,
    native_and_broad,
    origin,
)
from study import Study, cell, model_and_data, plain

from equispec.data.bonds import bond_matrix
from equispec.spectra import directional, percentile_indices
from equispec.spectra.plot import AXIS_COLOURS
from equispec.workflows.evaluation import RESOLUTIONS

PERCENTILES = (0, 50, 95, 100)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    result = evaluated(arguments.model, arguments.data)
    predicted, reference = molecular_sums(result)
    errors = native_and_broad(result, predicted, reference)
    m = percentile_indices(errors["native"].mean(axis=1), (50,))[0]
    sites = [k for k, (molecule, _) in enumerate(result.site_index) if molecule == m]
    sample = result.samples[m]
    return {
        **described(result),
        "percentiles": {name: plain(np.percentile(errors[name], PERCENTILES)) for name in RESOLUTIONS},
        "mean": {name: float(errors[name].mean()) for name in RESOLUTIONS},
        "molecule": sample.id,
        "smiles": sample.smiles,
        "z": sample.z.tolist(),
        "pos": plain(sample.pos, 6),
        "sites": [site.atom for site in sample.sites],
        "mse": {name: plain(errors[name][m]) for name in RESOLUTIONS},
        "energy": plain(result.energy, 7),
        "site spectra": [plain(directional(t[sites])) for t in (result.predicted, result.reference)],
        "molecular spectra": [plain(predicted[m]), plain(reference[m])],
    }


def table(results: dict[str, Any]) -> list[list[Any]]:
    header = ["metric", "mean", *(f"{p} %" for p in PERCENTILES), *(f"this molecule, E ∥ {axis}" for axis in AXES)]
    return [
        header,
        *([name, results["mean"][name], *results["percentiles"][name], *results["mse"][name]] for name in RESOLUTIONS),
    ]


def text(results: dict[str, Any]) -> str:
    return (
        f"{origin(results)} Molecular spectra are sums over the calculated sites for one direction, without "
        f"multiplicities; the table has the errors of all of them. Molecule {results['molecule']} "
        f"(`{results['smiles']}`) has the median error (native, mean of the three directions)."
    )


def draw(results: dict[str, Any]) -> Figure:
    energy, sites = results["energy"], results["sites"]
    ours, theirs = results["site spectra"]
    figure = Figure(figsize=(10.5, max(4.8, 1.3 * len(sites) + 0.9)), layout="constrained")
    left, middle, right = figure.add_gridspec(1, 3, width_ratios=(0.75, 1, 1))
    drawings = left.subgridspec(2, 1)
    draw_formula(figure.add_subplot(drawings[0]), results)
    draw_structure(figure.add_subplot(drawings[1]), results)
    rows = middle.subgridspec(len(sites), 1, hspace=0).subplots(sharex=True, squeeze=False)[:, 0]
    for axis, site, mine, reference in zip(rows, sites, ours, theirs, strict=True):
        for direction, predicted, calculated in zip(AXES, mine, reference, strict=True):
            colour = AXIS_COLOURS[direction]
            axis.plot(energy, calculated, color=colour, linewidth=1, linestyle=":")
            axis.plot(energy, predicted, color=colour, linewidth=1.3, label=f"E ∥ {direction}")
        axis.text(0.02, 0.9, f"C{site}", transform=axis.transAxes, va="top")
        axis.set_ylim(bottom=min(0.0, np.min(mine)))
    rows[0].legend(loc="upper right", title="solid: predicted\ndotted: calculated", alignment="right")
    rows[0].set_title("Sites", loc="left")
    panels = right.subgridspec(3, 1, hspace=0).subplots(sharex=True)
    totals = results["molecular spectra"]
    for k, axis in enumerate(panels):
        draw_calculated(axis, energy, totals[1][k])
        axis.plot(energy, totals[0][k], color=AXIS_COLOURS[AXES[k]], label="predicted")
        axis.text(0.98, 0.9, f"E ∥ {AXES[k]}\nMSE {cell(results['mse']['native'][k])}", transform=axis.transAxes,
                  va="top", ha="right")  # fmt: skip
        axis.set_ylim(0, 1.08 * max(np.max(totals[0]), np.max(totals[1])))
    panels[0].legend(loc="center right")
    panels[0].set_title(f"Molecule: sum of {len(sites)} calculated site{'s' * (len(sites) > 1)}", loc="left")
    middle = rows[len(sites) // 2]
    middle.set_ylabel("Absorption (mean of a site = 1)")
    middle.yaxis.set_label_coords(-0.11, 0.5)  # clear of the numbers of the rows above and below
    for axis in (rows[-1], panels[-1]):
        axis.set_xlabel("Energy (eV)")
        axis.set_xlim(282, energy[-1])
    return figure


def draw_formula(axis: Axes, results: dict[str, Any]) -> None:
    """The structural formula; carbon sites carry the numbers of the spectra where the bonds can be told."""
    from matplotlib.image import imread
    from rdkit import Chem
    from rdkit.Chem.Draw import rdMolDraw2D

    molecule = numbered(results) or Chem.MolFromSmiles(results["smiles"])
    drawer = rdMolDraw2D.MolDraw2DCairo(700, 560)
    drawer.drawOptions().annotationFontScale = 0.8
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, molecule)
    drawer.FinishDrawing()
    axis.imshow(imread(io.BytesIO(drawer.GetDrawingText()), format="png"))
    axis.set_axis_off()
    axis.set_title(f"id {results['molecule']}  {results['smiles']}", loc="left")


def numbered(results: dict[str, Any]) -> Any:
    """The molecule read from its geometry, without hydrogen atoms and with the calculated sites numbered, or None."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds

    lines = [f"{chemical_symbols[z]} {x} {y} {w}" for z, (x, y, w) in zip(results["z"], results["pos"], strict=True)]
    with rdBase.BlockLogs():
        molecule = Chem.MolFromXYZBlock("\n".join([str(len(lines)), "", *lines]))
        try:
            rdDetermineBonds.DetermineBonds(molecule)
        except ValueError:
            return None
    for site in results["sites"]:
        molecule.GetAtomWithIdx(site).SetProp("atomNote", f"C{site}")
    return Chem.RemoveHs(molecule)


def draw_structure(axis: Axes, results: dict[str, Any]) -> None:
    """The geometry in projection, with the directions x, y and z."""
    z, pos = np.array(results["z"]), np.array(results["pos"])
    pos = pos - (pos.max(0) + pos.min(0)) / 2
    view = viewpoint(pos)
    flat = pos @ view.T  # right, up, towards the reader
    for bonded in np.argwhere(np.triu(bond_matrix(z, pos))):
        axis.plot(*flat[bonded, :2].T, color="#777777", linewidth=3, zorder=flat[bonded, 2].min() - 0.01)
    for number, (x, y, depth) in zip(z, flat, strict=True):
        axis.scatter(x, y, 420 * covalent_radii[number], color=jmol_colors[number], edgecolor="#444444", zorder=depth)
    corner = flat[:, :2].min(0) - 1.6
    for axis_name, end in zip(AXES, 1.3 * view.T[:, :2], strict=True):
        arrow = {"arrowstyle": "->", "color": AXIS_COLOURS[axis_name], "linewidth": 1.6}
        axis.annotate("", corner + end, corner, arrowprops=arrow, annotation_clip=False)
        axis.text(*(corner + 1.25 * end), axis_name, color=AXIS_COLOURS[axis_name], ha="center", va="center")
    low, high = np.minimum(flat[:, :2].min(0) - 2.2, corner - 0.8), flat[:, :2].max(0) + 0.8
    axis.set_xlim(low[0], high[0])
    axis.set_ylim(low[1], high[1])
    axis.set_aspect("equal")
    axis.set_axis_off()


def viewpoint(pos: np.ndarray) -> np.ndarray:
    """Rows: right, up and towards the reader; the broad side of the molecule, a little from the side."""
    axes = np.linalg.svd(pos, full_matrices=True)[2]
    axes[2] *= np.sign(np.linalg.det(axes))
    tilt, turn = np.radians([20, 25])
    about_right = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    about_up = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    return about_right @ about_up @ axes


STUDY = Study(
    "fig2",
    2,
    "A median molecule (Fig. 2)",
    model_and_data,
    measure,
    table,
    text,
    {"": (draw, "Structure, spectra of the sites and of the molecule")},
    page=ISD_PAINN,
)

if __name__ == "__main__":
    STUDY.main()
