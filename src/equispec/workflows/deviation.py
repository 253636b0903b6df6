"""How far a model that is not strictly equivariant is from it: mean absolute deviations (MAD) of its predictions.

An et al., ICLR 2024, section 4: the mean over structures of |E(x) - E(Qx)|, Q uniform in SO(3), with frames drawn anew.
Here what comes from the frames and what comes from the rotation are told apart as well.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from equispec.nn.edge_frames import Roll
from equispec.predict import Predictor

ROTATIONS = 8  # of each structure


@dataclass(frozen=True)
class Deviation:
    """Mean absolute deviations, in the unit of the property.

    roll: of the same structure with two draws of frames; rotation: of a structure and a rotated one, each with the
    frames of evaluation; both: of these with frames drawn anew (the paper's).
    """

    roll: float
    rotation: float
    both: float


def deviation(
    predictor: Predictor, structures: Sequence[Atoms], name: str = "energy", rotations: int = ROTATIONS, seed: int = 0
) -> Deviation:
    """Deviations of a property of structures, one number each, by `rotations` of every structure."""
    return deviations(predictor, structures, [name], rotations, seed)[name]


def deviations(
    predictor: Predictor, structures: Sequence[Atoms], names: Sequence[str], rotations: int = ROTATIONS, seed: int = 0
) -> dict[str, Deviation]:
    """The same for several properties at once. `seed`: of the rotations and of the frames that are drawn anew."""
    home = [atoms for atoms in structures for _ in range(rotations)]
    turns = Rotation.random(len(home), rng=np.random.default_rng(seed)).as_matrix()
    turned = [_turned(atoms, turn) for atoms, turn in zip(home, turns, strict=True)]

    def values(asked: Sequence[Atoms]) -> np.ndarray:
        found = predictor.properties(asked, names)
        return np.array([[float(one.values[name]) for name in names] for one in found])

    rotation = np.abs(values(turned) - values(home))
    with rolled(predictor, "random"), torch.random.fork_rng():
        torch.manual_seed(seed)
        first, second, both = values(home), values(home), values(turned)
    means = [np.mean(x, axis=0) for x in (np.abs(first - second), rotation, np.abs(both - first))]
    return {name: Deviation(*(float(mean[k]) for mean in means)) for k, name in enumerate(names)}


def _turned(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    moved = atoms.copy()
    moved.set_cell(atoms.cell @ matrix.T)
    moved.positions = atoms.positions @ matrix.T
    return moved


@contextmanager
def settled(predictor: Predictor) -> Iterator[None]:
    """Frames that would be drawn anew at every evaluation are rolled by the axes for a while."""
    drawn = any(m.model.backbone.edges.eval_roll == "random" for m in predictor.members if m.model.approximate)  # type: ignore[union-attr]
    with rolled(predictor, "axis") if drawn else nullcontext():
        yield


@contextmanager
def rolled(predictor: Predictor, roll: Roll) -> Iterator[None]:
    """Frames rolled in another way for a while, in every member that has frames."""
    views = [member.model.backbone.edges for member in predictor.members if member.model.approximate]
    before = [view.eval_roll for view in views]  # type: ignore[union-attr]
    for view in views:
        view.eval_roll = roll  # type: ignore[union-attr]
    try:
        yield
    finally:
        for view, own in zip(views, before, strict=True):
            view.eval_roll = own  # type: ignore[union-attr]
