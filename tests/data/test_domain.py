"""What a training set holds: environments, bonds, angles, and how a structure without them is spoken of."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from equispec.data.domain import Bonds, Domain, bonded_elements

NAMES = ("CH4", "CH3CH2OH", "C6H6", "CH3CN", "C2H2", "C2H4", "H2CO", "HCOOH", "CH3OH")
KNOWN = Domain.measure(molecule(name) for name in NAMES)


def carbons(atoms: Atoms) -> np.ndarray:
    return np.flatnonzero(atoms.numbers == 6)


def test_counts_and_ranges() -> None:
    domain = Domain.measure([molecule("CH4"), molecule("C2H4"), molecule("C2H4")])
    assert domain.environments == {"C": {"C H H": 4, "H H H H": 1}, "H": {"C": 12}}
    assert domain.bonds.keys() == {"C-C", "C-H"}
    assert domain.bonds["C-C"] == pytest.approx((1.327, 1.327), abs=0.01)
    assert domain.angles.keys() == {"C 3", "C 4"}
    assert domain.angles["C 4"] == pytest.approx((109.47, 109.47), abs=0.01)
    assert Domain.parse(domain.model_dump(mode="json")) == domain


@pytest.mark.parametrize("name", NAMES)
def test_what_was_seen_is_not_spoken_of(name: str) -> None:
    atoms = molecule(name)
    for moved in (atoms, Atoms(atoms.numbers, atoms.positions[:, [2, 0, 1]] + 100.0)):
        remarks = KNOWN.remarks(moved, carbons(moved))
        assert remarks.sentences == ()
        assert remarks.sites == ()


def test_unseen_bonded_elements() -> None:
    atoms = molecule("CH3NO2")
    found = KNOWN.remarks(atoms, carbons(atoms))
    assert "site 0: carbon bonded to H H H N, seen 0 times in training" in found.sentences
    assert "atom 1: nitrogen bonded to C O O, seen 0 times in training" in found.sentences
    assert found.sites == (0,)


@pytest.mark.parametrize("name", ["CH3", "CH2_s1A1d", "CN", "CO2", "CH3Cl", "CH3SH", "CF4", "H2CCHF"])
def test_radicals_carbenes_and_foreign_elements(name: str) -> None:
    atoms = molecule(name)
    assert KNOWN.remarks(atoms, carbons(atoms)).sites == tuple(carbons(atoms))


def test_stretched_bonds_and_bent_chains() -> None:
    stretched = molecule("CH3CN")
    stretched.positions[2] += 0.1 * (stretched.positions[2] - stretched.positions[1])  # the C≡N bond
    low, high = KNOWN.bonds["C-N"]
    (sentence,) = KNOWN.remarks(stretched, carbons(stretched)).sentences
    assert sentence == f"atoms 1, 2: C-N bond outside the {low:.2f} to {high:.2f} Å of training"
    bent = Atoms("HCN", [[0.0, 0.0, -1.07], [0, 0, 0], [0, 1.15, 0]])
    domain = Domain.measure([molecule("HCN")])
    (sentence,) = domain.remarks(bent, carbons(bent)).sentences
    assert sentence == "site 1: C with 2 bonds at an angle of 90°, 180° to 180° in training"


def test_only_absorbers_near_an_unknown_atom_are_concerned() -> None:
    """Fluorine at the end of a chain makes the carbon beside it unknown; two bonds from that one is near enough."""
    chain = Atoms("CCCCF", [[1.5 * k, 0, 0] for k in range(5)])
    domain = Domain.measure([Atoms("CCCCCC", [[1.5 * k, 0, 0] for k in range(6)])])
    found = domain.remarks(chain, np.array([0, 1, 2, 3]))
    assert found.sites == (1, 2, 3)
    assert found.sentences == (
        "site 3: carbon bonded to C F, seen 0 times in training",
        "atom 4: fluorine bonded to C, seen 0 times in training",
    )
    assert domain.remarks(chain, np.array([0])).sites == ()


def test_many_atoms_are_counted_rather_than_named() -> None:
    atoms = molecule("C60")
    (sentence,) = Domain.measure([molecule("CH4")]).remarks(atoms, carbons(atoms)).sentences
    assert sentence == "sites 0, 1, 2, 3, 4, 5 and 54 more: carbon bonded to C C C, seen 0 times in training"


def test_bonds_across_periodic_boundaries_and_in_large_structures() -> None:
    diamond = Bonds(bulk("C", "diamond", a=3.57))
    assert diamond.environments == ["C C C C"] * 2
    assert all(length == pytest.approx(1.546, abs=0.001) for _, length in diamond.lengths(0))
    assert diamond.angles(0) == pytest.approx([109.47] * 6, abs=0.01)
    benzene = molecule("C6H6")
    many = Atoms()
    for k in range(12):  # more than are searched pair by pair
        copy = benzene.copy()
        copy.positions += [20.0 * k, 0, 0]
        many += copy
    assert Bonds(many).environments == Bonds(benzene).environments * 12


def test_pairs_of_elements_that_are_bonded() -> None:
    assert bonded_elements(molecule("CH3CH2OH")) == {"C-C", "C-H", "C-O", "H-O"}
    assert bonded_elements(Atoms("Ar")) == set()
    assert bonded_elements(bulk("NaCl", "rocksalt", a=5.64)) == {"Cl-Na"}
    away = Atoms("CO", [[0, 0, 0.2], [0, 0, 9.2]], cell=[8, 8, 9.9])
    for pbc, found in ((False, set()), ((True, True, False), set()), (True, {"C-O"})):  # over the boundary along z
        away.pbc = pbc
        assert bonded_elements(away) == found
