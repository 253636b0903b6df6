"""Equivalent atoms of a molecule by its geometry, and the rotations that carry one atom's tensors to the others.

Topology is not enough: the two methyl groups of dimethylformamide are alike on paper and 0.4 eV apart. Here atoms are
equivalent if an orthogonal transformation, proper or not, maps the molecule onto itself and one atom onto the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from equispec.data.sample import SiteSticks

TOLERANCE = 0.01  # Å; moves a π* line by a few hundredths of an eV


@dataclass(frozen=True, eq=False)
class Orbit:
    """Equivalent atoms in ascending order; `rotations[i]` [3, 3] (det ±1) carries the first atom to the i-th."""

    atoms: tuple[int, ...]
    rotations: Float[np.ndarray, "atoms 3 3"]


def site_orbits(
    z: Int[np.ndarray, "atoms"],
    pos: Float[np.ndarray, "atoms 3"],
    atoms: Sequence[int],
    tolerance: float = TOLERANCE,
) -> list[Orbit]:
    """The given atoms (complete kinds: all of an element) in orbits, in the order of their first atoms.

    `pos` and `tolerance` in Å: no atom may miss its image by more. Every atom is in exactly one orbit, and the first of
    an orbit is the one that the rotations begin at.
    """
    image = {atom: {atom: np.eye(3)} for atom in atoms}  # first atom -> its images and how they are reached
    for rotation, permutation in symmetry_operations(z, pos, tolerance):
        for atom in atoms:
            image[atom].setdefault(int(permutation[atom]), rotation)
    orbits, seen = [], set()
    for atom in sorted(atoms):
        if atom not in seen:
            members = tuple(sorted(image[atom].keys() - seen))  # near the tolerance, being alike is not transitive
            seen.update(members)
            orbits.append(Orbit(members, np.stack([image[atom][member] for member in members])))
    return orbits


def copies(site: SiteSticks, orbit: Orbit) -> list[SiteSticks]:
    """The sticks of all atoms of an orbit from those of its first one: the same energies, dipoles rotated."""
    return [
        replace(site, atom=atom, dipole=(site.dipole @ rotation.T).astype(site.dipole.dtype), equivalent=orbit.atoms)
        for atom, rotation in zip(orbit.atoms, orbit.rotations, strict=True)
    ]


def symmetry_operations(
    z: Int[np.ndarray, "atoms"], pos: Float[np.ndarray, "atoms 3"], tolerance: float = TOLERANCE
) -> Iterator[tuple[Float[np.ndarray, "3 3"], Int[np.ndarray, "atoms"]]]:
    """Orthogonal transformations about the centroid that map the molecule onto itself, and where each atom goes.

    Two atoms span a frame; every pair of like atoms at like distances may be its image. Of a linear molecule, whose
    group is infinite, only the identity and the turn of its ends.
    """
    centred = np.asarray(pos, np.float64) - np.mean(pos, axis=0)
    radius = np.linalg.norm(centred, axis=1)
    frame_atoms = _frame_atoms(z, centred, radius, tolerance)
    if frame_atoms is None:
        for turn in (np.eye(3), -np.eye(3)):
            if (found := _permutation(z, centred, turn, tolerance)) is not None:
                yield turn, found
        return
    p, q = frame_atoms
    frame = _frame(centred[p], centred[q])
    apart = np.linalg.norm(centred[p] - centred[q])
    for p2 in np.flatnonzero((z == z[p]) & (np.abs(radius - radius[p]) < 2 * tolerance)):
        gap = np.linalg.norm(centred - centred[p2], axis=1)
        like = (z == z[q]) & (np.abs(radius - radius[q]) < 2 * tolerance) & (np.abs(gap - apart) < 4 * tolerance)
        for q2 in np.flatnonzero(like):
            image = _frame(centred[p2], centred[q2])
            for handedness in (1.0, -1.0):
                rotation = (image * [1.0, 1.0, handedness]) @ frame.T
                if (found := _refined(z, centred, rotation, tolerance)) is not None:
                    yield found


def _frame_atoms(z: np.ndarray, centred: np.ndarray, radius: np.ndarray, tolerance: float) -> tuple[int, int] | None:
    """Two atoms that are not in line with the centroid, of kinds with few members; None for a linear molecule."""
    kind = [int(np.sum((z == z[i]) & (np.abs(radius - radius[i]) < 2 * tolerance))) for i in range(len(z))]
    off_centre = [i for i in range(len(z)) if radius[i] > max(0.3, 10 * tolerance)]
    for p in sorted(off_centre, key=lambda i: (kind[i], -radius[i])):
        height = np.linalg.norm(np.cross(centred, centred[p] / radius[p]), axis=1)
        if (far := np.flatnonzero(height > max(0.3, 10 * tolerance))).size:
            return p, int(min(far, key=lambda i: (kind[i], -height[i])))
    return None


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Orthonormal columns: along the first vector, in the plane of both, normal to it."""
    x = first / np.linalg.norm(first)
    y = second - (second @ x) * x
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _permutation(z: np.ndarray, centred: np.ndarray, rotation: np.ndarray, reach: float) -> np.ndarray | None:
    """Where the atoms go; None if one goes nowhere within `reach` or two meet."""
    distance = np.linalg.norm(centred @ rotation.T - centred[:, None], axis=2)  # [image, atom]
    distance[z[:, None] != z] = np.inf
    nearest = distance.argmin(axis=0)
    if distance.min(axis=0).max() > reach or len(set(nearest.tolist())) < len(z):
        return None
    return nearest


def _refined(
    z: np.ndarray, centred: np.ndarray, rotation: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """The best transformation (Kabsch) for the permutation that a rough one suggests, if it holds."""
    if (rough := _permutation(z, centred, rotation, 10 * tolerance)) is None:
        return None
    u, _, vt = np.linalg.svd(centred[rough].T @ centred)
    sign = np.sign(np.linalg.det(rotation)) * np.sign(np.linalg.det(u @ vt))
    best = (u * [1.0, 1.0, sign]) @ vt
    found = _permutation(z, centred, best, tolerance)
    return None if found is None else (best, found)
