"""Crude core-level sticks by GFN2-xTB: what of them must be right."""

import sys

import numpy as np
import pytest
from ase.build import molecule

from equispec.errors import InputError
from equispec.reference.equivalent_core import equivalent_core_provenance, equivalent_core_site

pytest.importorskip("tblite")
pytestmark = pytest.mark.qm


def first_line(name: str, atom: int = 0) -> tuple[float, np.ndarray]:
    """Aligned energy (eV) of the first line with intensity, and its dipole."""
    atoms = molecule(name)
    site = equivalent_core_site(atoms.numbers, atoms.positions, atom)
    strong = np.flatnonzero((site.dipole**2).sum(axis=1) > 1e-4)[0]
    return site.energy[strong] - 6.6, site.dipole[strong]


def test_the_first_line_of_benzene_is_normal_to_its_plane():
    energy, dipole = first_line("C6H6")
    assert energy == pytest.approx(285.2, abs=0.1)
    assert np.abs(dipole[:2]).max() < 1e-4 * abs(dipole[2])


def test_energies_follow_the_surroundings():
    """π* of ethylene, formaldehyde (carbon) and carbon dioxide: measured 284.7, 286.0 and 290.8 eV."""
    atoms = molecule("H2CO")
    carbon = int(np.flatnonzero(atoms.numbers == 6)[0])
    ethylene, formaldehyde, dioxide = first_line("C2H4")[0], first_line("H2CO", carbon)[0], first_line("CO2")[0]
    assert ethylene < formaldehyde < dioxide


def test_dipoles_turn_with_the_molecule():
    atoms = molecule("CH3CN")
    carbon = int(np.flatnonzero(atoms.numbers == 6)[0])
    turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    one = equivalent_core_site(atoms.numbers, atoms.positions, carbon)
    other = equivalent_core_site(atoms.numbers, atoms.positions @ turn.T, carbon)
    np.testing.assert_allclose(other.energy, one.energy, atol=1e-5)
    total = np.einsum("fa,fb->ab", one.dipole, one.dipole)
    np.testing.assert_allclose(np.einsum("fa,fb->ab", other.dipole, other.dipole), turn @ total @ turn.T, atol=1e-7)


def test_without_tblite_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite", None)
    monkeypatch.delitem(sys.modules, "tblite.library", raising=False)
    with pytest.raises(InputError, match=r"pip install 'equispec\[qm\]'"):
        equivalent_core_provenance()


def test_edges_without_an_origin_are_refused():
    with pytest.raises(InputError, match="edge 'O-K': equivalent cores are placed for C-K only"):
        equivalent_core_provenance("O-K")
