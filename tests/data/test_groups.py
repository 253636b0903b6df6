"""Functional groups of molecules whose groups everyone knows."""

import sys

import pytest

from equispec.data.groups import GROUPS, count_groups

KNOWN = {
    "C": set(),
    "C#CC": {"alkyne"},
    "CC#N": {"nitrile"},
    "C=CC": {"alkene"},
    "CC=N": {"imine"},
    "c1ccccc1": {"aromatic ring"},
    "C1=CC=CN1": {"aromatic ring"},  # pyrrole, written with bonds
    "CC=O": {"carbonyl"},
    "COC=O": {"carbonyl", "carboxylic acid or ester"},
    "CC(=O)O": {"carbonyl", "carboxylic acid or ester", "hydroxyl"},
    "CC(N)=O": {"carbonyl", "amide"},
    "CO": {"hydroxyl"},
    "COC": {"ether"},
    "CN": {"amine"},
    "C[N+](=O)[O-]": {"nitro"},
    "C1CO1": {"ether", "three-membered ring"},
    "C1CCC1": {"four-membered ring"},
    "CF": {"fluorine"},
}


@pytest.mark.parametrize("smiles", KNOWN)
def test_groups_of_a_molecule(smiles):
    counts = count_groups([smiles])
    assert {name for name, count in counts.items() if count} == KNOWN[smiles]


def test_every_group_is_known_and_molecules_are_counted_once():
    assert set().union(*KNOWN.values()) == set(GROUPS)
    counts = count_groups(["CCF", "FCCF", "no molecule", "C"])
    assert counts == {**dict.fromkeys(GROUPS, 0), "fluorine": 2}


def test_without_smiles_nothing_is_claimed():
    assert count_groups(["", ""]) is None
    assert count_groups(["", "CF"]) == count_groups(["CF"])


def test_without_rdkit_nothing_is_claimed(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    assert count_groups(["CF"]) is None
