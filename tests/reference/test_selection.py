"""Which molecules come next."""

from ase.build import molecule

from equispec.reference.selection import order_by_chance, order_by_gain, site_classes


def classes(name: str) -> list[tuple[str, str]]:
    atoms = molecule(name)
    return site_classes(atoms.numbers, atoms.positions)


def test_classes_tell_surroundings_apart():
    assert classes("CH4") == [("H H H H", "H(C) H(C) H(C) H(C)")]
    assert len(set(classes("C6H6"))) == 1
    assert len(set(classes("CH3CH2OH"))) == 2
    (ring,) = set(classes("C3H6_D3h"))
    assert ring[0] == "C C H H /3"
    assert all(name[0].endswith("/4") for name in classes("cyclobutene"))
    assert not any("/" in name[0] for name in classes("C6H6"))
    assert classes("CH3OH") == site_classes(molecule("CH3OH").numbers, molecule("CH3OH").positions, element=6)
    assert len(site_classes(molecule("CH3OH").numbers, molecule("CH3OH").positions, element=8)) == 1


def test_common_and_unlabelled_classes_come_first():
    common, rare, known = [("a", "aa")], [("b", "bb")], [("c", "cc")]
    candidates = {1: rare, 2: common, 3: common, 4: common, 5: known, 6: known, 7: known}
    sizes = dict.fromkeys(candidates, 6)
    order = order_by_gain(candidates, sizes, [known] * 20, 7)
    assert order[0] == 2
    assert set(order[-3:]) == {5, 6, 7}
    assert sorted(order) == sorted(candidates)
    assert order_by_gain(candidates, sizes, [known] * 20, 2) == order[:2]


def test_gain_falls_as_a_class_fills():
    """After some of the commoner class, the rarer one is worth more."""
    candidates = {i: [("a", "aa")] for i in range(8)} | {10 + i: [("b", "bb")] for i in range(4)}
    order = order_by_gain(candidates, dict.fromkeys(candidates, 6), [], 12)
    assert any(i >= 10 for i in order[:4])


def test_cheaper_molecules_and_larger_errors_are_preferred():
    candidates = {1: [("a", "aa")], 2: [("b", "bb")]}
    assert order_by_gain(candidates, {1: 8, 2: 5}, [], 1) == [2]
    assert order_by_gain(candidates, {1: 6, 2: 6}, [], 1, error=lambda name: 2.0 if "b" in name else 1.0) == [2]


def test_molecules_without_sites_are_left_out():
    assert order_by_gain({1: [], 2: [("a", "aa")]}, {1: 2, 2: 2}, [], 5) == [2]


def test_a_sample_by_chance_does_not_depend_on_what_else_there_is():
    some = order_by_chance(range(100), "x")
    assert some != sorted(some)
    assert [i for i in order_by_chance(range(200), "x") if i < 100] == some
    assert order_by_chance(range(100), "y") != some
