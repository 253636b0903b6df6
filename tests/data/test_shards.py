"""A folder of stick stores reads as one store, and as its only file where it has one."""

import os
import pickle

import h5py
import pytest
from test_store import assert_same

from equispec.data.describe import describe
from equispec.data.sample import Failure
from equispec.data.store import StickStore, write_store
from equispec.errors import InputError


@pytest.fixture
def folder(tmp_path, samples, attributes):
    """Four molecules, whose ids interleave, in two shards; and what must not be taken for a shard."""
    folder = tmp_path / "set"
    (folder / "older.h5").mkdir(parents=True)
    write_store(folder / "b.h5", samples[:2], {**attributes, "protocol": "one"}, [Failure(4, 1, "gap 0.2 eV")])
    write_store(folder / "a.h5", samples[2:], {**attributes, "protocol": "two"}, [Failure(2, 0, "gap 0.3 eV")])
    write_store(folder / "older.h5" / "c.h5", samples, attributes)
    (folder / ".a.h5").write_bytes(b"hidden")
    (folder / ".a.h5.123.tmp").write_bytes(b"left by a killed process")
    (folder / "CARD.md").write_text("about the data")
    return folder


def test_shards_are_one_store_sorted_by_id(folder, samples, attributes):
    with StickStore(folder) as store:
        assert [shard.path.name for shard in store.shards] == ["a.h5", "b.h5"]
        assert store.ids == [3, 5, 8, 12]
        assert store.smiles == ["CO", "O", "C", "c1ccccc1"]
        assert store.sizes == [2, 1, 1, 6]
        assert (len(store), store.n_sites, store.edge) == (4, 8, "C-K")
        assert store.failures == [Failure(2, 0, "gap 0.3 eV"), Failure(4, 1, "gap 0.2 eV")]
        for found, sample in zip(store, sorted(samples, key=lambda s: s.id), strict=True):
            assert_same(found, sample)
        assert_same(store[-1], samples[0])
        del attributes["protocol"]
        assert store.attributes == {**attributes, "format": "equispec-sticks", "format_version": 2}


def test_a_folder_of_one_file_is_that_file(tmp_path, samples, attributes):
    write_store(tmp_path / "a.h5", samples, attributes)
    alone, only = StickStore(tmp_path / "a.h5"), StickStore(tmp_path)
    assert (only.sha256, only.attributes) == (alone.sha256, alone.attributes)
    assert describe(only) == describe(alone)
    for one, other in zip(only, alone, strict=True):
        assert_same(one, other)


def test_the_hash_is_that_of_the_contents_not_of_the_names(folder, sample, attributes):
    before = StickStore(folder).sha256
    os.rename(folder / "a.h5", folder / "z.h5")
    assert StickStore(folder).sha256 == before
    write_store(folder / "c.h5", [sample(99)], attributes)
    assert StickStore(folder).sha256 != before
    assert StickStore(folder, ["b.h5", "z.h5"]).sha256 == before


def test_shards_can_be_chosen(folder):
    assert StickStore(folder, ["b.h5"]).ids == [3, 12]
    for chosen, message in ((["c.h5", "b.h5"], "there is no c.h5 in this folder"), ([], "without a stick store")):
        with pytest.raises(InputError, match=message):
            StickStore(folder, chosen)
    with pytest.raises(InputError, match="of a folder only"):
        StickStore(folder / "b.h5", ["b.h5"])


def test_a_folder_can_be_sent_to_another_process(folder, samples):
    store = StickStore(folder)
    copy = pickle.loads(pickle.dumps(store))
    store.close()
    assert_same(copy[3], samples[0])
    assert_same(copy[1], samples[2])


def test_a_shard_that_is_replaced_while_in_use_is_noticed(folder, sample, attributes):
    store = pickle.loads(pickle.dumps(StickStore(folder)))
    write_store(folder / "b.h5", [sample(3, n_sticks=9)], attributes)
    with pytest.raises(InputError, match=r"b\.h5: was replaced while it was in use"):
        store[0]


def test_an_empty_folder_is_no_store(tmp_path):
    (tmp_path / ".hidden.h5").write_bytes(b"")
    with pytest.raises(InputError, match="a folder without a stick store"):
        StickStore(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("energy_shift", -6.5), ("units", "Rydberg")])
def test_shards_must_have_one_scale(folder, sample, attributes, name, value):
    write_store(folder / "c.h5", [sample(99)], {**attributes, name: value})
    with pytest.raises(InputError) as error:
        StickStore(folder)
    expected = f"its files are no single store: {name} is {attributes[name]!r} in a.h5 and {value!r} in c.h5"
    assert str(error.value) == f"{folder}: {expected}"


@pytest.mark.parametrize("identity", [12, 4], ids=["labelled in b", "failed in b"])
def test_a_molecule_is_in_one_shard_only(folder, sample, attributes, identity):
    write_store(folder / "c.h5", [sample(identity)], attributes)
    with pytest.raises(InputError, match=f"molecule {identity} is in both b.h5 and c.h5"):
        StickStore(folder)


def test_a_damaged_shard_is_named(folder):
    with h5py.File(folder / "a.h5", "r+") as file:
        file["sites/gap"][0] += 1
    with pytest.raises(InputError, match=r"a\.h5: contents differ"):
        StickStore(folder)


def test_description_of_shards(folder):
    found = describe(StickStore(folder))
    assert found["failures"] == {"gap … eV": 2}
    assert found["absorber"] == "C"
    assert found["bytes"] == sum((folder / name).stat().st_size for name in ("a.h5", "b.h5"))
    assert [(s["name"], s["molecules"], s["sites"], s["failures"]) for s in found["shards"]] == [
        ("a.h5", 2, 1, 1),
        ("b.h5", 2, 7, 1),
    ]
    assert [s["provenance"] for s in found["shards"]] == [{"protocol": "two"}, {"protocol": "one"}]
    assert found["groups"]["aromatic ring"] == found["groups"]["hydroxyl"] == 1
