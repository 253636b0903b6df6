"""A small molecule with made-up positive semidefinite tensors, and random rotations."""

import numpy as np
import pytest

from equispec.spectra import EDGES, Broadening, EnergyGrid, SiteSpectra, spectra_meta

GRID = EnergyGrid(280.0, 300.0, 81)


def random_tensors(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Symmetric positive semidefinite 3x3 tensors [*shape,3,3]."""
    root = rng.normal(size=(*shape, 3, 2))
    return root @ np.swapaxes(root, -1, -2)


def random_rotations(rng: np.random.Generator, n: int) -> np.ndarray:
    """Rotations [n,3,3], evenly distributed."""
    q, r = np.linalg.qr(rng.normal(size=(n, 3, 3)))
    q *= np.sign(np.einsum("naa->na", r))[:, None, :]
    q[np.linalg.det(q) < 0] *= -1.0
    return q


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def spectra(rng: np.random.Generator) -> SiteSpectra:
    """Acrolein's atoms (planar, in a tilted plane) with random tensors on its three carbons."""
    z = np.array([6, 6, 6, 8, 1, 1, 1, 1])
    flat = [[0, 0], [1.34, 0], [2.07, 1.28], [3.28, 1.34], [-0.55, 0.94], [-0.55, -0.94], [1.9, -0.93], [1.44, 2.18]]
    pos = np.column_stack([np.array(flat), np.zeros(8)]) @ random_rotations(rng, 1)[0].T
    meta = spectra_meta(
        EDGES["C-K"], "1/eV", model="made-up", model_hash="0123abcd", broadening=Broadening(), shift=-6.6
    )
    return SiteSpectra(GRID.energies, random_tensors(rng, 3, GRID.n), np.array([0, 1, 2]), z, pos, meta)
