"""Bonds by distance: the one rule for environments, and for whether a relaxation kept a molecule what it was."""

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Bool, Float, Int

BOND_FACTOR = 1.2  # bonded: closer than this many times the sum of the covalent radii


def bond_matrix(z: Int[np.ndarray, "atoms"], pos: Float[np.ndarray, "atoms 3"]) -> Bool[np.ndarray, "atoms atoms"]:
    """Which atoms of a molecule are bonded: closer than 1.2 times the sum of their covalent radii (`pos` in Å)."""
    near = np.linalg.norm(pos[:, None] - pos, axis=2) < BOND_FACTOR * (covalent_radii[z][:, None] + covalent_radii[z])
    np.fill_diagonal(near, False)
    return near
