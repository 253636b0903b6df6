"""Core-hole labels, calculated here and now: checks, physics, and the reference data they must reproduce."""

import sys

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from equispec.data.store import StickStore
from equispec.errors import InputError
from equispec.reference.core_hole import LEAST_POPULATION, SiteFailed, check_molecule, core_hole_provenance, label_site
from equispec.reference.effective_core import effective_core_matrix
from equispec.reference.protocol import LEVELS, settings_hash
from equispec.spectra import EDGES, Broadening, broaden_sticks

pytest.importorskip("pyscf")
pytestmark = [pytest.mark.qm, pytest.mark.filterwarnings("ignore:.*:UserWarning:pyscf")]

STORE = "data/ck-tp-pbe/ck-tp-pbe.h5"


def tensor(site) -> np.ndarray:
    """[E, 3, 3] on the grid of the edge, broadened."""
    edge = EDGES["C-K"]
    return broaden_sticks(site.energy, site.dipole, edge.grid, Broadening(), site.ionization_potential, edge.shift)


@pytest.fixture(scope="module")
def ethylene():
    atoms = molecule("C2H4")
    turn = Rotation.random(rng=1).as_matrix()
    pos = atoms.positions @ turn.T
    return atoms.numbers, pos, turn, label_site(atoms.numbers, pos, 0)


def test_methane_is_isotropic():
    atoms = molecule("CH4")
    site = label_site(atoms.numbers, atoms.positions, 0)
    total = tensor(site)
    mean = np.trace(total, axis1=1, axis2=2) / 3
    assert np.abs(total - mean[:, None, None] * np.eye(3)).max() < 5e-3 * mean.max()
    assert site.population_1s > LEAST_POPULATION
    assert site.ionization_potential == pytest.approx(296.96, abs=0.05)


def test_ethylene_is_polarised(ethylene):
    """The π* line is normal to the plane alone, at the energy of the reference table (raw 291.54 eV)."""
    _, _, turn, site = ethylene
    own = site.dipole @ turn  # the molecule of ASE lies in the yz plane
    strength = (own.astype(float) ** 2)[(own**2).sum(axis=1) > 1e-3]
    energy = site.energy[(own**2).sum(axis=1) > 1e-3]
    assert energy[0] == pytest.approx(291.54, abs=0.05)
    assert strength[0, 1:].max() < 1e-6 * strength[0, 0]


def test_tensors_turn_with_the_molecule(ethylene):
    z, pos, turn, site = ethylene
    unturned = tensor(label_site(z, pos @ turn, 0))
    turned = tensor(site)
    difference = np.abs(turned - turn @ unturned @ turn.T).max()
    assert difference < 5e-3 * np.abs(turned).max()
    assert np.linalg.eigvalsh(turned).min() > -1e-9


@pytest.mark.parametrize("molecule_id", [1, 21])
def test_the_shipped_labels_are_reproduced(molecule_id):
    with StickStore(STORE) as store:
        sample = store[store.ids.index(molecule_id)]
    for reference in sample.sites[:1]:
        site = label_site(sample.z, sample.pos, reference.atom)
        strength = (reference.dipole.astype(float) ** 2).sum(axis=1)
        strong = reference.energy[(strength > 1e-3) & (reference.energy < reference.ionization_potential)]
        assert all(np.abs(site.energy - energy).min() < 1e-4 for energy in strong)
        one, other = tensor(site), tensor(reference)
        assert np.sum(one * other) / np.sqrt(np.sum(one**2) * np.sum(other**2)) > 1 - 1e-8


def test_pseudopotentials_by_quadrature():
    """Against the recursion of PySCF."""
    from pyscf import gto

    mol = gto.M(
        atom="C 0 0 0; N 0 0 1.16; H 0 0 -1.06",
        basis={"C": "ccecp-cc-pvdz", "N": "ccecp-cc-pvdz", "H": "cc-pvdz"},
        ecp={"C": "ccecp", "N": "ccecp"},
        verbose=0,
    )
    np.testing.assert_allclose(effective_core_matrix(mol), mol.intor("ECPscalar"), atol=1e-8)


def test_what_the_protocol_does_not_cover():
    with pytest.raises(InputError, match=r"toluene: atomic numbers \[17\]"):
        check_molecule(np.array([6, 17, 1, 1, 1]), 0, "C-K", "toluene")
    with pytest.raises(InputError, match="atom 1 is not one of its C atoms"):
        check_molecule(np.array([6, 1, 1, 1, 1]), 1, "C-K")
    with pytest.raises(InputError, match="odd number of electrons"):
        check_molecule(np.array([6, 1, 1, 1]), 0, "C-K")
    with pytest.raises(InputError, match="unknown edge 'S-K'"):
        check_molecule(np.array([6]), 0, "S-K")
    with pytest.raises(InputError, match="unknown level 'best'"):
        label_site(np.array([6, 1, 1, 1, 1]), np.zeros((5, 3)), 0, level="best")


def test_a_site_that_fails_its_checks_is_no_data():
    """Two carbons without anything else, far apart: no gap, or no convergence."""
    with pytest.raises(SiteFailed):
        label_site(np.array([6, 6]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 6.0]]), 0)


def test_other_edges():
    """Shifted energies of strong first lines against gas-phase values (eV)."""
    for name, index, edge, energy in [("N2", 0, "N-K", 400.9), ("H2CO", 0, "O-K", 530.8), ("HF", None, "F-K", 687.4)]:
        atoms = molecule(name)
        atom = int(np.flatnonzero(atoms.numbers == EDGES[edge].z)[0]) if index is None else index
        site = label_site(atoms.numbers, atoms.positions, atom, edge)
        strength = (site.dipole.astype(float) ** 2).sum(axis=1)
        first = site.energy[strength > 5e-4][0] + EDGES[edge].shift
        assert first == pytest.approx(energy, abs=0.6)  # the geometries differ from those of the fit


def test_provenance_changes_with_the_settings():
    assert {settings_hash(edge, level) for edge in EDGES for level in LEVELS}.__len__() == len(EDGES) * len(LEVELS)
    found = core_hole_provenance("N-K", "accurate")
    assert found["edge"] == "N-K"
    assert "PySCF" in str(found["program"])
    assert "ccecp-cc-pvtz" in str(found["protocol"])


def test_without_pyscf_it_says_how_to_get_it(monkeypatch):
    """Also where the plan of a run asks for the provenance, before any calculation."""
    monkeypatch.setitem(sys.modules, "pyscf", None)
    for function in (core_hole_provenance, lambda: label_site(np.array([6, 1, 1, 1, 1]), np.zeros((5, 3)), 0)):
        with pytest.raises(InputError, match=r"pip install 'equispec\[qm\]'"):
            function()


def test_copies_equal_calculations(tmp_path, ethylene):
    """Both carbons of ethylene: one calculated and the other its rotated copy, or both calculated."""
    from equispec.reference.campaign import label
    from equispec.reference.journal import arrays_of
    from equispec.reference.methods import CoreHole, Molecule

    z, pos, *_ = ethylene
    tensors = {}
    for sites in ("copied", "all"):
        method, molecule_ = CoreHole(sites=sites), Molecule(1, "ethylene", "C=C", z, pos)
        tasks = method.tasks(molecule_)
        assert len(tasks) == {"copied": 1, "all": 2}[sites]
        results = {task.atom: arrays_of(label(method, method.provenance(), task)) for task in tasks}
        method.write(tmp_path / f"{sites}.h5", [(molecule_, results, {})], method.provenance())
        with StickStore(tmp_path / f"{sites}.h5") as store:
            tensors[sites] = np.stack([tensor(site) for site in store[0].sites])
    assert tensors["copied"].shape == (2, 301, 3, 3)
    assert np.abs(tensors["copied"] - tensors["all"]).max() < 5e-3 * tensors["all"].max()
