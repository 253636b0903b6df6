"""Small molecules on which models are checked: symmetric ones built exactly, a chiral one, pairs, and a crystal."""

from collections.abc import Collection

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.neighborlist import neighbor_list

GAP = 5e-3  # Å from a radius, more than atoms are moved by in differences

# L-alanine in a conformation without symmetry (ETKDG and MMFF94), Å
_ALANINE = """
C -1.026 -0.941 -0.170
C -0.189  0.089  0.576
N -0.609  1.463  0.226
C  1.290 -0.131  0.249
O  2.045 -0.907  0.813
O  1.719  0.579 -0.821
H -0.920 -0.835 -1.256
H -0.711 -1.958  0.090
H -2.088 -0.844  0.080
H -0.313 -0.032  1.657
H -1.623  1.506  0.153
H -0.240  1.673 -0.705
H  2.666  0.338 -0.890
"""


def probe_molecules() -> dict[str, Atoms]:
    """Name -> molecule: benzene (D6h), acetone, alanine (chiral, no symmetry) and methane (Td)."""
    rows = [line.split() for line in _ALANINE.split("\n") if line]
    return {
        "benzene": benzene(),
        "acetone": molecule("CH3COCH3"),
        "alanine": Atoms([row[0] for row in rows], [[float(x) for x in row[1:]] for row in rows]),
        "methane": methane(),
    }


def benzene() -> Atoms:
    """Atoms 0 to 5 are carbon; carbon k stands at the angle k · 60° in the xy plane."""
    angle = np.pi / 3 * np.arange(6)
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    return Atoms("C6H6", np.concatenate([1.395 * ring, 2.482 * ring]))


def methane() -> Atoms:
    """Atom 0 is carbon, at the origin."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    return Atoms("CH4", np.concatenate([np.zeros((1, 3)), 1.089 * corners]))


def planar_carbonate() -> Atoms:
    """CO3 in the xy plane (D3h): carbon at the origin, oxygen k at the angle k · 120°."""
    angle = 2 * np.pi / 3 * np.arange(3)
    return Atoms("CO3", [[0, 0, 0], *(1.29 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1))])


def distant_pair(distance: float) -> tuple[tuple[Atoms, Atoms], Atoms]:
    """Acetone and benzene, each alone and both together, with `distance` (Å) between their origins."""
    first, second = molecule("CH3COCH3"), benzene()
    moved = second.copy()
    moved.translate([0.6 * distance, 0.0, 0.8 * distance])
    return (first, second), first + moved


def passing_atom(distance: float) -> Atoms:
    """Formaldehyde and a water molecule whose oxygen is `distance` (Å) away from the carbon, atom 0.

    All other atoms of the two are more than 0.05 Å farther or nearer, so that only that one pair passes a radius.
    """
    outward = np.array([0.36, 0.48, 0.8])
    formaldehyde = [[0, 0, 0], [0, 0, 1.21], [0.94, 0, -0.59], [-0.94, 0, -0.59]]
    oxygen = distance * outward
    side = np.array([0.8, -0.6, 0.0])
    hydrogens = [oxygen + 0.59 * outward + sign * 0.76 * side for sign in (1, -1)]
    return Atoms("COH2OH2", [*formaldehyde, oxygen, *hydrogens])


def molecular_crystal() -> Atoms:
    """Formaldehyde in a small triclinic cell, every atom with its images around it."""
    positions = [[0, 0, 0], [0, 0, 1.21], [0.94, 0, -0.59], [-0.94, 0, -0.59]]
    return Atoms("COH2", positions, cell=[[4.3, 0.2, 0.1], [0.6, 3.9, -0.3], [-0.4, 0.5, 4.6]], pbc=True)


def recoloured(atoms: Atoms, elements: Collection[int]) -> Atoms:
    """The same structure with those atomic numbers only: every atom takes the nearest of them."""
    made = atoms.copy()
    made.numbers = [min(elements, key=lambda z: abs(z - number)) for number in atoms.numbers]
    return made


def clear_of(atoms: Atoms, radius: float) -> Atoms:
    """The same structure, stretched a little where a pair of atoms or images is about to pass the radius (Å).

    Networks are twice differentiable but at the cutoff: differences across it say less about gradients.
    """
    for step in range(200):
        stretched = atoms.copy()
        stretched.set_cell((1 + 1e-3 * step) * np.asarray(atoms.cell))
        stretched.positions *= 1 + 1e-3 * step
        if (np.abs(neighbor_list("d", stretched, radius + GAP) - radius) > GAP).all():
            return stretched
    return atoms
