"""Equivalent atoms by geometry."""

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from equispec.data.sample import SiteSticks
from equispec.reference.symmetry import copies, site_orbits, symmetry_operations


def orbits(name: str, element: int = 6, **options):
    atoms = molecule(name)
    pos = atoms.positions @ Rotation.random(rng=3).as_matrix().T + [1.0, -2.0, 0.5]
    found = site_orbits(atoms.numbers, pos, np.flatnonzero(atoms.numbers == element).tolist(), **options)
    return atoms.numbers, pos, found


@pytest.mark.parametrize(
    ("name", "element", "sizes"),
    [
        ("C6H6", 6, [6]),
        ("C6H6", 1, [6]),
        ("CH4", 1, [4]),
        ("C2H6", 1, [6]),
        ("C5H5N", 6, [1, 2, 2]),
        ("CH3CH2OH", 6, [1, 1]),
        ("C2H2", 6, [2]),
        ("CO2", 8, [2]),
        ("HCN", 6, [1]),
        ("C60", 6, [60]),
        ("bicyclobutane", 6, [2, 2]),
        ("trans-butane", 6, [2, 2]),
        ("isobutane", 6, [1, 3]),
    ],
)
def test_orbits_of_known_molecules(name, element, sizes):
    z, _pos, found = orbits(name, element)
    assert sorted(len(orbit.atoms) for orbit in found) == sorted(sizes)
    assert sorted(atom for orbit in found for atom in orbit.atoms) == np.flatnonzero(z == element).tolist()


@pytest.mark.parametrize("name", ["C6H6", "C2H6", "C5H5N", "trans-butane", "CO2", "bicyclobutane"])
def test_rotations_carry_the_molecule_and_the_atom(name):
    z, pos, found = orbits(name)
    centred = pos - pos.mean(axis=0)
    for orbit in found:
        for atom, rotation in zip(orbit.atoms, orbit.rotations, strict=True):
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
            np.testing.assert_allclose(rotation @ centred[orbit.atoms[0]], centred[atom], atol=0.01)
            distance = np.linalg.norm((centred @ rotation.T)[:, None] - centred, axis=2)
            assert (z[distance.argmin(axis=1)] == z).all()
            assert distance.min(axis=1).max() < 0.01


def test_a_displaced_atom_breaks_the_symmetry():
    atoms = molecule("C6H6")
    atoms.positions[6] += [0.0, 0.0, 0.05]
    found = site_orbits(atoms.numbers, atoms.positions, range(6))
    assert sorted(len(orbit.atoms) for orbit in found) == [1, 1, 2, 2]
    assert len(site_orbits(atoms.numbers, atoms.positions, range(6), tolerance=0.2)) == 1


@pytest.mark.parametrize("name", ["C2H6", "C6H6", "bicyclobutane"])
@pytest.mark.parametrize("seed", range(12))
def test_nearly_symmetric_molecules_are_cut_into_orbits_all_the_same(name, seed):
    """With noise of the size of the tolerance A may be like B and B like C, but not A like C."""
    atoms = molecule(name)
    pos = atoms.positions + np.random.default_rng(seed).normal(scale=0.004, size=(len(atoms), 3))
    for element in (1, 6):
        alike = np.flatnonzero(atoms.numbers == element).tolist()
        found = site_orbits(atoms.numbers, pos, alike)
        assert sorted(atom for orbit in found for atom in orbit.atoms) == alike
        centred = pos - pos.mean(axis=0)
        for orbit in found:
            np.testing.assert_allclose(orbit.rotations @ centred[orbit.atoms[0]], centred[list(orbit.atoms)], atol=0.01)


def test_chirality_is_an_improper_operation():
    """The two carbons of trans-butane's ends are images by inversion and by rotation: both kinds of operation count."""
    atoms = molecule("trans-butane")
    determinants = {round(float(np.linalg.det(r))) for r, _ in symmetry_operations(atoms.numbers, atoms.positions)}
    assert determinants == {1, -1}


def test_copies_rotate_the_dipoles():
    _z, pos, (orbit,) = orbits("C6H6")
    site = SiteSticks(orbit.atoms[0], np.array([291.0]), np.array([[0.1, 0.2, 0.3]], np.float32), 297.0, 1.0, 5.0, -1.0)
    made = copies(site, orbit)
    assert [copy.atom for copy in made] == list(orbit.atoms)
    outward = pos[list(orbit.atoms)] - pos.mean(axis=0)
    along = [abs(float(copy.dipole[0] @ r)) / np.linalg.norm(r) for copy, r in zip(made, outward, strict=True)]
    np.testing.assert_allclose(along, along[0], atol=1e-4)
    assert all(copy.equivalent == orbit.atoms for copy in made)
