"""How far a model that is not strictly equivariant is from it: mean absolute deviations (MAD) of its predictions.

An et al., ICLR 2024, section 4: the mean over structures of |E(x) - E(Qx)|, Q uniform in SO(3), with frames drawn anew.
Here what comes from the frames and what comes from the rotation are told apart as well.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
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
    home = [atoms for atoms in structures for _ in range(rotations)]
    turns = Rotation.random(len(home), rng=np.random.default_rng(seed)).as_matrix()
    turned = [_turned(atoms, turn) for atoms, turn in zip(home, turns, strict=True)]

    def values(asked: Sequence[Atoms]) -> np.ndarray:
        return np.array([float(found.values[name]) for found in predictor.properties(asked, [name])])

    rotation = np.abs(values(turned) - values(home))
    with rolled(predictor, "random"):
        first, second, both = values(home), values(home), values(turned)
    return Deviation(*(float(np.mean(x)) for x in (np.abs(first - second), rotation, np.abs(both - first))))


def _turned(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    moved = atoms.copy()
    moved.set_cell(atoms.cell @ matrix.T)
    moved.positions = atoms.positions @ matrix.T
    return moved


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
