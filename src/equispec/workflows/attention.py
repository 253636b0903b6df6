"""What a So3krates network attends to: matrices of attention between atoms, and a map of their SPHCs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from jaxtyping import Float
from torch import Tensor

from equispec import __version__
from equispec.data.atoms import graphs_from_many
from equispec.data.bonds import bond_matrix
from equispec.ensemble import structure_name
from equispec.errors import InputError
from equispec.models.so3krates import Neighbourhood, So3krates
from equispec.predict import Predictor
from equispec.spectra.plot import styled, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ATOMS = 1000  # matrices of more are for nobody to look at
SHOWN = 0.02  # of the largest attention: thinner lines are left out of the picture


@dataclass(frozen=True, eq=False)
class Attention:
    """Attention of every atom (row) on every other (column) in every layer, and the SPHCs behind it.

    features: root mean square of φ α over the heads; geometric: of [φ + φ~] α over the degrees; non_local: φ~, zero for
    a local model. sphc: χ at the start and after every layer. All are invariant under rotation, except sphc.
    `meta`: model, model_hash and equispec_version.
    """

    atoms: Atoms
    meta: dict[str, str]
    features: Float[np.ndarray, "layers atoms atoms"]
    geometric: Float[np.ndarray, "layers atoms atoms"]
    non_local: Float[np.ndarray, "layers atoms atoms"]
    sphc: Float[np.ndarray, "states atoms components"]

    def sphc_distance(self, state: int) -> Float[np.ndarray, "atoms atoms"]:
        """‖χ_i - χ_j‖ at the start (0) and after every layer."""
        return np.linalg.norm(self.sphc[state, :, None] - self.sphc[state], axis=-1)

    def sphc_map(self, state: int) -> Float[np.ndarray, "atoms 2"]:
        """The two principal components of the SPHCs of all atoms, the larger first; state -1 is the last one."""
        centred = self.sphc[state] - self.sphc[state].mean(0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        axes = np.concatenate([axes, np.zeros((2, axes.shape[1]))])[:2]
        flat = centred @ axes.T
        largest = np.take_along_axis(flat, np.abs(flat).argmax(0)[None], 0)  # made positive: a sign is a convention
        return flat * np.where(largest < 0, -1.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; matrices [layer][receiver][sender] are without a unit."""
        arrays = {name: getattr(self, name).tolist() for name in ("features", "geometric", "non_local")}
        arrays["sphc_distance"] = [self.sphc_distance(state).tolist() for state in range(len(self.sphc))]
        return {
            **self.meta,
            "structure": structure_name(self.atoms),
            "elements": self.atoms.get_chemical_symbols(),
            **arrays,
        }


def attention(predictor: Predictor, atoms: Atoms) -> Attention:
    """The attention of a model on one molecule.

    InputError for a periodic structure, fewer than two or more than 1,000 atoms, an ensemble, and networks of another
    kind. DomainWarning where the model is far from what it was trained on.
    """
    backbone = predictor.members[0].model.backbone
    if len(predictor.members) > 1 or not isinstance(backbone, So3krates):
        raise InputError(f"{predictor.name}: only single So3krates models have an attention to look at")
    if atoms.pbc.any():
        raise InputError(f"{structure_name(atoms)}: attention is shown for molecules, and the structure is periodic")
    if not 2 <= len(atoms) <= MOST_ATOMS:
        raise InputError(
            f"{structure_name(atoms)}: attention is shown for molecules of 2 to {MOST_ATOMS:,} atoms, and this one has "
            f"{len(atoms):,}"
        )
    predictor.check(atoms, ())
    predictor.warn(atoms)
    with torch.no_grad():
        cutoff, limit = backbone.config.cutoff, backbone.config.max_neighbors
        graph = graphs_from_many([predictor.placed(atoms)], cutoff, limit, predictor.dtype).to(predictor.device)
        first, *states = backbone.states(graph)

    def matrices(kind: str, neighbourhood: str) -> Float[np.ndarray, "layers atoms atoms"]:
        return np.stack([_matrix(getattr(state, kind), getattr(state, neighbourhood), len(atoms)) for state in states])

    return Attention(
        atoms,
        {"model": predictor.name, "model_hash": predictor.hash, "equispec_version": __version__},
        matrices("attention", "near"),
        matrices("geometric", "among"),
        matrices("non_local", "among"),
        np.stack([state.chi.cpu().double().numpy() for state in (first, *states)]),
    )


def attended(found: Attention, atom: int, layer: int) -> list[tuple[int, list[float]]]:
    """The other atoms, by falling attention: number, distance (Å), attention on features and SPHCs, φ~, SPHC distance.

    The SPHC distance is that before the layer, which the attention was made from.
    """
    distance = found.atoms.get_distances(atom, range(len(found.atoms)))
    columns = (
        *(distance, found.features[layer, atom], found.geometric[layer, atom], found.non_local[layer, atom]),
        found.sphc_distance(layer)[atom],
    )
    order = np.lexsort((distance, -columns[1] - columns[2]))
    return [(int(j), [float(column[j]) for column in columns]) for j in order if j != atom]


def _matrix(values: Tensor | None, neighbourhood: Neighbourhood, n: int) -> Float[np.ndarray, "atoms atoms"]:
    found = np.zeros((n, n))
    if values is not None:
        values = values.double().square().mean(-1).sqrt() if values.ndim == 3 else values.double()
        index = neighbourhood.index
        np.add.at(found, (index.receiver.cpu().numpy(), index.sender.cpu().numpy()), values.cpu().numpy())
    return found


@styled
def plot_attention(found: Attention, path: str | Path, atom: int = 0, layer: int = -1) -> "Figure":
    """Matrices of one layer, the molecule with what `atom` attends to there, and SPHCs at the start and at the end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 7.0), layout="constrained")
    grid = figure.add_gridspec(2, 3)
    number = range(len(found.features))[layer] + 1
    titles = {"features": "features", "geometric": "SPHCs", "non_local": "non-local weight φ~"}
    kinds = [kind for kind in titles if getattr(found, kind).any()]
    for k, kind in enumerate(kinds):
        _draw_matrix(figure.add_subplot(grid[0, k]), getattr(found, kind)[layer], found.atoms, titles[kind])
    _draw_molecule(figure.add_subplot(grid[1, 0], projection="3d"), found, atom, layer)
    for k, (state, title) in enumerate(((0, "SPHCs at the start"), (-1, "SPHCs after the last layer"))):
        _draw_map(figure.add_subplot(grid[1, k + 1]), found, state, title)
    model = f"{found.meta['model']} ({found.meta['model_hash']})"
    figure.suptitle(f"{structure_name(found.atoms)}: attention in layer {number} of {len(found.features)}, {model}")
    write_figure(figure, Path(path))
    return figure


def _draw_matrix(axis: "Axes", matrix: Float[np.ndarray, "atoms atoms"], atoms: Atoms, title: str) -> None:
    top = np.abs(matrix).max()
    image = axis.imshow(matrix, cmap="viridis", vmin=0, vmax=top or 1)
    assert axis.figure is not None
    axis.figure.colorbar(image, ax=axis, shrink=0.8)
    labels = [f"{symbol}{i}" for i, symbol in enumerate(atoms.get_chemical_symbols())]
    step = max(1, len(labels) // 20)
    axis.set_xticks(range(0, len(labels), step), labels[::step], rotation=90, fontsize=7)
    axis.set_yticks(range(0, len(labels), step), labels[::step], fontsize=7)
    axis.minorticks_off()
    axis.set_title(title, loc="left")
    axis.set_xlabel("attended to")
    axis.set_ylabel("atom")


def _draw_molecule(axis: Any, found: Attention, atom: int, layer: int) -> None:
    z, centred = found.atoms.numbers, found.atoms.positions - found.atoms.positions.mean(0)
    axes = np.linalg.svd(centred)[2]  # principal axes: the molecule lies in the plane that is looked upon
    axes[2] *= np.linalg.det(axes)  # and is not mirrored
    pos = centred @ axes.T
    for i, j in zip(*np.nonzero(np.triu(bond_matrix(z, pos))), strict=True):
        axis.plot(*pos[[i, j]].T, color="#BBBBBB", linewidth=3, zorder=1)
    row = found.geometric[layer, atom]
    for j in np.flatnonzero(row > SHOWN * row.max()) if row.any() else ():
        axis.plot(*pos[[atom, j]].T, color="#D55E00", linewidth=0.5 + 4 * row[j] / row.max(), alpha=0.7, zorder=2)
    axis.scatter(*pos.T, c=jmol_colors[z], s=220 * covalent_radii[z], edgecolors="black", depthshade=False, zorder=3)
    for i, point in enumerate(pos):
        axis.text(*point, str(i), fontsize=6, ha="center", va="center", zorder=4)
    axis.view_init(elev=60, azim=-90)
    axis.set_aspect("equal")
    axis.set_axis_off()
    axis.set_title(f"what atom {atom} attends to (SPHCs)", loc="left")


def _draw_map(axis: "Axes", found: Attention, state: int, title: str) -> None:
    points = found.sphc_map(state)
    axis.scatter(*points.T, c=jmol_colors[found.atoms.numbers], edgecolors="black", s=60)
    for i, (x, y) in enumerate(points):
        axis.annotate(str(i), (x, y), (4, 4), textcoords="offset points", fontsize=6)
    axis.set_title(title, loc="left")
    axis.set_xlabel("first principal component")
    axis.set_ylabel("second")
