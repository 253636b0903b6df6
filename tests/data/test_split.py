"""Splits by molecule: disjoint, complete, reproducible, and of the kind they claim."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equispec.data.split import SplitConfig, hash_order, scaffold, split_ids
from equispec.errors import ConfigError, InputError

SMILES = ["C", "CC", "CCO", "c1ccccc1", "Cc1ccccc1", "C1CC1", "CC1CC1", "C1CCNC1", "c1ccncc1", "C1CO1", "CCC", "CCCC"]
SIZES = [1, 2, 3, 6, 7, 3, 4, 5, 6, 3, 3, 4]
IDS = list(range(100, 112))


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    kind=st.sampled_from(["random", "size"]),
    seed=st.integers(0, 99),
    valid=st.floats(0, 0.4),
    test=st.floats(0, 0.4),
)
def test_every_molecule_is_in_exactly_one_part(sizes, kind, seed, valid, test):
    config = SplitConfig(kind=kind, seed=seed, valid=valid, test=test)
    ids = [7 * i for i in range(len(sizes))]
    parts = split_ids(ids, ["C"] * len(ids), sizes, config)
    assert list(parts) == ["train", "valid", "test"]
    assert sorted(i for part in parts.values() for i in part) == ids
    assert all(part == sorted(part) for part in parts.values())
    assert parts == split_ids(ids[::-1], ["C"] * len(ids), sizes[::-1], config)


def test_random_fractions_and_seeds():
    ids = list(range(20000))
    parts = split_ids(ids, [""] * len(ids), [1] * len(ids), SplitConfig(valid=0.1, test=0.2))
    assert len(parts["valid"]) == pytest.approx(2000, abs=150)
    assert len(parts["test"]) == pytest.approx(4000, abs=200)
    other = split_ids(ids, [""] * len(ids), [1] * len(ids), SplitConfig(seed=1, valid=0.1, test=0.2))
    shared = set(parts["test"]) & set(other["test"])
    assert len(shared) == pytest.approx(800, abs=120)  # two seeds know nothing of each other


def test_a_growing_set_keeps_its_random_split():
    config = SplitConfig(seed=5)
    before = split_ids(range(500), [""] * 500, [1] * 500, config)
    after = split_ids(range(900), [""] * 900, [1] * 900, config)
    assert all(set(before[name]) <= set(after[name]) for name in before)


def test_the_random_split_is_the_documented_hash():
    """sha256("seed:id"), its first 48 bits as a fraction: fixed for ever, since published models depend on it."""
    parts = split_ids(range(1, 31), [""] * 30, [1] * 30, SplitConfig())
    assert parts["test"] == [15, 18, 20, 25]
    assert parts["valid"] == [4, 7]


def test_size_split_tests_on_molecules_larger_than_any_other():
    parts = split_ids(IDS, SMILES, SIZES, SplitConfig(kind="size", test=0.25, valid=0.2))
    size = dict(zip(IDS, SIZES, strict=True))
    assert [size[i] for i in parts["test"]] == [6, 7, 6]
    assert max(size[i] for i in parts["train"] + parts["valid"]) < 6
    uniform = split_ids(IDS, SMILES, [4] * 12, SplitConfig(kind="size"))
    assert uniform["test"] == []  # one size: nothing is larger


def test_scaffold_split_shares_no_scaffold_and_trains_on_the_commonest():
    parts = split_ids(IDS, SMILES, SIZES, SplitConfig(kind="scaffold", test=0.25, valid=0.15))
    smiles = dict(zip(IDS, SMILES, strict=True))
    scaffolds = {name: {scaffold(smiles[i]) for i in part} for name, part in parts.items()}
    assert not scaffolds["train"] & scaffolds["test"]
    assert not scaffolds["train"] & scaffolds["valid"]
    assert not scaffolds["valid"] & scaffolds["test"]
    assert "" in scaffolds["train"]  # acyclic: the largest group here
    assert len(parts["test"]) >= 1
    shuffled = split_ids(IDS[::-1], SMILES[::-1], SIZES[::-1], SplitConfig(kind="scaffold", test=0.25, valid=0.15))
    assert shuffled == parts


N = 2000


def parts_of(n=N, **values):
    return split_ids(range(n), [""] * n, [1] * n, SplitConfig.parse(values))


def counts(parts):
    return tuple(len(parts[name]) for name in ("train", "valid", "test"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"train": 950, "valid": 50}, (950, 50, 1000)),
        ({"train": 950, "valid": 50, "test": 200}, (950, 50, 200)),  # the others are not used
        ({"valid": 50, "test": 200}, (1750, 50, 200)),
        ({"train": 0.5, "valid": 50}, (1000, 50, 950)),
        ({"train": 0.8, "valid": 0.1}, (1600, 200, 200)),
        ({"train": 1990, "valid": 10}, (1990, 10, 0)),
        ({"kind": "blocks", "train": 950, "valid": 50, "gap": 5}, (950, 50, 990)),
        ({"kind": "blocks"}, (1400, 300, 300)),
    ],
)
def test_numbers_of_molecules(values, expected):
    parts = parts_of(**values)
    assert counts(parts) == expected
    chosen = [i for part in parts.values() for i in part]
    assert len(set(chosen)) == len(chosen)
    assert parts == parts_of(**values)


def test_numbers_follow_the_documented_hash():
    order = hash_order(range(N), 3)
    parts = parts_of(seed=3, train=5, valid=2, test=4)
    assert parts["test"] == sorted(order[:4])
    assert parts["valid"] == sorted(order[4:6])
    assert parts["train"] == sorted(order[6:11])
    assert parts_of(seed=3, train=5, valid=2)["train"] == sorted(order[2:7])


def test_smaller_training_sets_lie_in_larger_ones():
    few, many = (parts_of(train=n, valid=50, test=100) for n in (100, 800))
    assert set(few["train"]) < set(many["train"])
    assert (few["valid"], few["test"]) == (many["valid"], many["test"])


def test_blocks_follow_one_another_with_a_gap():
    parts = parts_of(kind="blocks", train=10, valid=5, gap=2)
    assert parts["train"] == list(range(10))
    assert parts["valid"] == list(range(12, 17))
    assert parts["test"] == list(range(19, N))


def test_numbers_for_the_other_kinds():
    by_size = split_ids(IDS, SMILES, SIZES, SplitConfig(kind="size", test=3, valid=2))
    assert counts(by_size) == (7, 2, 3)
    by_scaffold = split_ids(IDS, SMILES, SIZES, SplitConfig(kind="scaffold", test=3, valid=2))
    assert by_scaffold == split_ids(IDS, SMILES, SIZES, SplitConfig(kind="scaffold", test=3 / 12, valid=2 / 12))


def test_what_older_versions_know_is_written_as_they_wrote_it():
    """Published models carry the settings of their split."""
    old = {"kind": "random", "seed": 3, "valid": 0.15, "test": 0.15}
    assert SplitConfig(seed=3).model_dump() == old
    assert SplitConfig.parse({**old, "valid": 0}).model_dump() == {**old, "valid": 0.0}
    new = SplitConfig.parse({"train": 950, "valid": 50}).model_dump()
    assert new == {"kind": "random", "seed": 0, "train": 950, "valid": 50, "test": None}
    assert SplitConfig.parse(new).model_dump() == new


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": 1950, "valid": 60}, "1950 for train + 60 for valid are too many of 2000 molecules"),
        ({"valid": 1000, "test": 1000}, "1000 for valid + 1000 for test are too many of 2000"),
        (
            {"kind": "blocks", "train": 1990, "valid": 10, "gap": 1},
            "1990 for train + 10 for valid and 2 between the blocks are too many",
        ),
    ],
)
def test_more_than_there_are(values, message):
    with pytest.raises(InputError) as error:
        parts_of(**values)
    assert message in str(error.value)


def test_scaffolds_are_murcko():
    assert scaffold("CCc1ccccc1O") == "c1ccccc1"
    assert scaffold("CCO") == ""
    with pytest.raises(InputError, match="not a valid SMILES"):
        scaffold("C1CC")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"valid": 0.6, "test": 0.5}, "leaves nothing for training"),
        ({"test": -0.1}, "'test' = -0.1"),
        ({"kind": "alphabetical"}, "'kind' = 'alphabetical'"),
        ({"sede": 1}, "unknown key 'sede'"),
        ({"train": 2.0}, "'train' = 2.0: a number of molecules"),
        ({"valid": True}, "'valid' = True: a number of molecules"),
        ({"valid": None}, "'valid' = None: a number of molecules"),
        ({"test": None}, "train and test cannot both be the rest"),
        ({"train": 0}, "leaves nothing for training"),
        ({"train": 0.9, "test": 0.2}, "leaves nothing for training"),
        ({"kind": "size", "train": 5, "test": 5}, "leave train or test to the rest"),
        ({"gap": 3}, "a gap is for kind blocks"),
    ],
)
def test_impossible_configurations(values, message):
    with pytest.raises(ConfigError, match=message):
        SplitConfig.parse(values)


def test_lists_that_do_not_match():
    with pytest.raises(InputError, match="differ in number"):
        split_ids([1, 2], ["C"], [1, 2], SplitConfig())
    with pytest.raises(InputError, match="distinct"):
        split_ids([1, 1], ["C", "C"], [1, 1], SplitConfig())
