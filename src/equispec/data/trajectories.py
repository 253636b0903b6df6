"""Whether the structures of a store follow one another in time, and whether their forces then match their energies."""

import itertools
import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from equispec.data.properties import PropertyStore
from equispec.errors import DataWarning
from equispec.units import UNITS

MIN_FRAMES = 10  # of a run; fewer frames say nothing
CLOSE = 0.3  # a step of a run, as a fraction of the distance between frames far apart in it, if it is one motion
MAX_STEP = 0.5  # Å; farther frames are not the next ones, whatever the others are
SMALL_STEP = 0.1  # Å, root mean square; up to it, energies follow forces to second order, whatever moves
JUMP = 5.0  # times the usual step: a gap in the trajectory
MOSTLY = 0.8  # of the steps of a run are no jumps
MAX_STRAIN = 0.1  # of the cell from one frame to the next; at constant pressure it breathes
TOLERANCE = 0.1  # of the slope and of the correlation, from 1
UNIT_TOLERANCE = 0.03  # of a slope, from the ratio of two units


@dataclass(frozen=True)
class Motion:
    """The runs of structures of a store that follow one another.

    `follows` [molecules]: whether a structure is the next frame after the one before it in the store; `runs`: how many
    runs there are; `step` Å: root mean square displacement of an atom from one frame to the next.
    """

    follows: Bool[np.ndarray, "molecules"]
    runs: int
    step: float

    @property
    def frames(self) -> int:
        """Structures that belong to a run."""
        return int(self.follows.sum()) + self.runs


@dataclass(frozen=True)
class ForceSlope:
    """ΔE from frame to frame against -F·ΔR, F the mean of both frames.

    `slope` by least squares, 1 where forces are the negative gradient of the energies; `correlation`; `steps`, how many
    there were; `step` as in Motion.
    """

    slope: float
    correlation: float
    steps: int
    step: float


def find_motion(store: PropertyStore) -> Motion:
    """The runs of at least ten structures that follow one another: equal atoms in equal order, each near the last one.

    Near: the displacement is small beside that between frames half a run apart; scattered frames of the same trajectory
    do not follow one another. Where the cell changes, as at constant pressure, atoms that move with it stay in place.
    """
    follows = np.zeros(len(store), bool)
    same = _same_atoms(store)
    starts = np.flatnonzero(~same)
    lengths = np.diff(np.append(starts, len(store)))
    steps: list[np.ndarray] = []
    for start, length in zip(starts[lengths >= MIN_FRAMES], lengths[lengths >= MIN_FRAMES], strict=True):
        positions = store.pos[store.atom_offset[start] : store.atom_offset[start + length]].reshape(length, -1, 3)
        cells = store.cells[start : start + length]
        step = _distance(positions[1:], positions[:-1], cells[1:], cells[:-1])
        opposite = np.roll(np.arange(length), length // 2)
        far = _distance(positions[opposite], positions, cells[opposite], cells)
        usual = np.median(step)
        near = step < min(JUMP * usual, MAX_STEP)
        if 0 < usual < CLOSE * np.median(far) and near.mean() > MOSTLY:
            follows[start + 1 : start + length] = near
            steps.append(step[near])
    runs = int(np.count_nonzero(follows & ~np.roll(follows, 1)))
    return Motion(follows, runs, float(np.sqrt(np.mean(np.concatenate(steps) ** 2))) if steps else 0.0)


def _same_atoms(store: PropertyStore) -> Bool[np.ndarray, "molecules"]:
    """Whether a structure has the atoms of the one before it, in the same order, its directions and nearly its cell."""
    n = store.n_atoms
    same = np.zeros(len(store), bool)
    if len(store) < 2:
        return same
    same[1:] = (n[1:] == n[:-1]) & (store.pbc[1:] == store.pbc[:-1]).all(1)
    strain = np.linalg.solve(_boxes(store.cells[:-1]), _boxes(store.cells[1:])) - np.eye(3)
    same[1:] &= (np.abs(strain) < MAX_STRAIN).all((1, 2))
    atoms = np.repeat(same, n)  # of structures that may follow
    index = np.flatnonzero(atoms)
    differ = store.z[index] != store.z[index - np.repeat(n, n)[index]]
    owner = np.repeat(np.arange(len(store)), n)[index]
    same[np.unique(owner[differ])] = False
    return same


def _distance(
    a: Float[np.ndarray, "frames atoms 3"],
    b: Float[np.ndarray, "frames atoms 3"],
    cell_a: Float[np.ndarray, "frames 3 3"],
    cell_b: Float[np.ndarray, "frames 3 3"],
) -> Float[np.ndarray, "frames"]:
    """Root mean square distance of the atoms of two frames each, of periodic ones to the nearest image."""
    return np.sqrt((_displacement(a, b, cell_a, cell_b) ** 2).sum(-1).mean(-1))


def _displacement(a: np.ndarray, b: np.ndarray, cell_a: np.ndarray, cell_b: np.ndarray) -> np.ndarray:
    """a - b, [n, atoms, 3]; in cells [n, 3, 3] (zeros: none) relative to them, and to the nearest image."""
    periodic = cell_a.any((-2, -1), keepdims=True)
    box_a, box_b = _boxes(cell_a), _boxes(cell_b)
    relative = a @ np.linalg.inv(box_a) - b @ np.linalg.inv(box_b)
    relative -= np.round(relative) * periodic  # wrapped positions jump by vectors of the cell
    return relative @ (0.5 * (box_a + box_b))


def _boxes(cells: np.ndarray) -> np.ndarray:
    """Cells that have an inverse: for a molecule that of 1 Å."""
    return np.where(cells.any((-2, -1), keepdims=True), cells, np.eye(3))


def force_slope(store: PropertyStore, motion: Motion) -> ForceSlope | None:
    """How energies and forces match along the runs, where the cell stays the same and does no work.

    None without runs that have both, or with fewer than ten such steps.
    """
    has_both = store.present("energy") & store.present("forces")
    still = np.isclose(store.cells, np.roll(store.cells, 1, axis=0), rtol=0, atol=1e-6).all((1, 2))
    later = motion.follows & has_both & np.roll(has_both, 1) & still
    steps = int(later.sum())
    if steps < MIN_FRAMES:
        return None
    n = store.n_atoms
    after = np.flatnonzero(np.repeat(later, n))
    before = after - np.repeat(n, n)[after]
    cells = np.repeat(store.cells, n, axis=0)[after]
    vectors = _displacement(store.pos[after, None], store.pos[before, None], cells, cells)[:, 0]
    forces, energy = store.values("forces"), store.values("energy")
    along = -0.5 * ((forces[after] + forces[before]) * vectors).sum(-1)
    work = np.add.reduceat(along, np.concatenate([[0], np.cumsum(n[later])[:-1]]))
    change = (energy - np.roll(energy, 1))[later]
    if not (np.ptp(work) and np.ptp(change)):
        return ForceSlope(0.0, 0.0, steps, motion.step)
    slope = float(work @ change / (work @ work))
    return ForceSlope(slope, float(np.corrcoef(work, change)[0, 1]), steps, motion.step)


def mismatch(found: ForceSlope) -> str | None:
    """In one clause, how forces fail to be the gradient of the energies; None where they may be.

    Steps that are too large for energies to follow forces prove nothing, unless energies do follow them.
    """
    follow = abs(found.correlation) > 1 - TOLERANCE
    if (follow and abs(found.slope - 1) < TOLERANCE) or (not follow and found.step > SMALL_STEP):
        return None
    numbers = f"over {found.steps:,} steps ΔE is {found.slope:.4g} times -F·ΔR (correlation {found.correlation:.3f})"
    if not follow:
        return f"{numbers}: they do not belong together"
    sign = "; the negative sign is that of gradients instead of forces" if found.slope < 0 else ""
    if (name := _unit_ratio(abs(found.slope))) is not None:
        return f"{numbers}, as if one of them were in the wrong unit ({name}){sign}"
    return numbers + (sign or ": one of them is in the wrong unit, or they are of different methods")


def _unit_ratio(slope: float) -> str | None:
    """The two units of energy or force whose ratio the slope, or its inverse, is."""
    ratio = max(slope, 1 / slope) if slope else 0.0
    for dimension in ("energy", "force", "length"):
        units = {name: value for name, (of, value) in UNITS.items() if of == dimension}
        for (a, larger), (b, smaller) in itertools.permutations(units.items(), 2):
            if larger > 1.01 * smaller and abs(ratio * smaller / larger - 1) < UNIT_TOLERANCE:
                return f"{larger / smaller:.4g} {b} are 1 {a}"
    return None


def warn_of_forces(store: PropertyStore, motion: Motion | None = None) -> ForceSlope | None:
    """The slope of energies against forces where frames follow one another; DataWarning where it is not near 1.

    `motion`: that of the store, if it is known already.
    """
    found = force_slope(store, motion or find_motion(store))
    if found is not None and (text := mismatch(found)) is not None:
        warnings.warn(f"{store.path}: forces do not match energies: {text}", DataWarning, stacklevel=2)
    return found
