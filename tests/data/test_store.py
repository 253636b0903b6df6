"""The stick store: what goes in comes out, the same bytes every time, and damage is noticed."""

import os
import pickle
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from equispec.data.sample import Failure, Sample
from equispec.data.store import SITE_SCALARS, StickStore, write_store
from equispec.errors import InputError


@pytest.fixture
def path(tmp_path, samples, attributes):
    path = tmp_path / "small.h5"
    write_store(path, samples, attributes)
    return path


def assert_same(a, b):
    assert (a.id, a.smiles, len(a.sites)) == (b.id, b.smiles, len(b.sites))
    np.testing.assert_array_equal(a.z, b.z)
    np.testing.assert_array_equal(a.pos, b.pos)
    for x, y in zip(a.sites, b.sites, strict=True):
        assert (x.atom, x.equivalent) == (y.atom, y.equivalent)
        assert [getattr(x, name) for name in SITE_SCALARS] == [getattr(y, name) for name in SITE_SCALARS]
        np.testing.assert_array_equal(x.energy, y.energy)
        np.testing.assert_array_equal(x.dipole, y.dipole)


def test_samples_come_back_exactly_and_sorted(path, samples, attributes):
    with StickStore(path) as store:
        assert store.ids == [3, 5, 8, 12]
        assert store.smiles == ["CO", "O", "C", "c1ccccc1"]
        assert store.sizes == [2, 1, 1, 6]
        assert (len(store), store.n_sites, store.edge) == (4, 8, "C-K")
        assert attributes.items() <= store.attributes.items()
        for found, sample in zip(store, sorted(samples, key=lambda s: s.id), strict=True):
            assert_same(found, sample)
        assert_same(store[-1], store[3])
        assert store[0].sites[0].energy.dtype == np.float64
        assert store[0].sites[0].dipole.dtype == np.float32
        with pytest.raises(IndexError):
            store[4]


def test_the_same_samples_give_the_same_bytes(path, tmp_path, samples, attributes):
    write_store(tmp_path / "again.h5", reversed(samples), attributes)
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_the_hash_covers_labels_and_attributes(path, tmp_path, samples, attributes):
    before = StickStore(path).sha256
    write_store(tmp_path / "a.h5", samples, {**attributes, "energy_shift": -6.5})
    samples[1].sites[0].dipole[0, 0] += 1e-6
    write_store(tmp_path / "b.h5", samples, attributes)
    assert len({before, StickStore(tmp_path / "a.h5").sha256, StickStore(tmp_path / "b.h5").sha256}) == 3


def test_a_store_can_be_sent_to_another_process_and_reopened(path):
    store = StickStore(path)
    copy = pickle.loads(pickle.dumps(store))
    assert_same(copy[3], store[3])
    store.close()
    assert_same(copy[3], store[3])


def test_an_empty_store_is_a_store(tmp_path, attributes):
    write_store(tmp_path / "empty.h5", [], attributes)
    with StickStore(tmp_path / "empty.h5") as store:
        assert (len(store), store.n_sites, list(store), store.sizes) == (0, 0, [], [])


def missing(path):
    path.unlink()


def truncated(path):
    path.write_bytes(path.read_bytes()[:-2000])


def garbled(path):
    path.write_bytes(b"not HDF5 at all" * 100)


def empty(path):
    path.write_bytes(b"")


def altered_energy(path):
    with h5py.File(path, "r+") as file:
        file["sticks/energy"][2] += 1e-9


def altered_attribute(path):
    with h5py.File(path, "r+") as file:
        file.attrs["energy_shift"] = -6.5


def altered_hash(path):
    with h5py.File(path, "r+") as file:
        file.attrs["sha256"] = "0" * 64


def without_hash(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["sha256"]


def without_array(path):
    with h5py.File(path, "r+") as file:
        del file["sites/atom"]


def foreign(path):
    path.unlink()
    with h5py.File(path, "w") as file:
        file["x"] = 1.0


def newer(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99


DAMAGES = {
    missing: "no such file",
    truncated: "not a readable stick store",
    garbled: "not a readable stick store",
    empty: "not a readable stick store",
    altered_energy: "sha256",
    altered_attribute: "sha256",
    altered_hash: "sha256",
    without_hash: "not a readable stick store",
    without_array: "sha256",
    foreign: "not a stick store",
    newer: "unknown stick store format 99; this version reads",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_refused_in_one_sentence(path, damage):
    damage(path)
    with pytest.raises(InputError, match=DAMAGES[damage]) as error:
        StickStore(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def broken(sample, **changes):
    return replace(sample, sites=(replace(sample.sites[0], **changes),))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: broken(s, energy=np.array([np.nan, 1, 2, 3])), "finite numbers"),
        (lambda s: broken(s, ionization_potential=float("inf")), "finite numbers"),
        (lambda s: broken(s, energy=np.zeros(0), dipole=np.zeros((0, 3), np.float32)), "at least one stick"),
        (lambda s: broken(s, atom=17), "not one of its 6 atoms"),
        (lambda s: broken(s, atom=1), "this edge needs Z = 6"),
        (lambda s: replace(s, sites=s.sites * 2), "distinct"),
        (lambda s: replace(s, pos=s.pos * np.nan), "finite coordinates"),
        (lambda s: Sample(1, "", s.z[:0], s.pos[:0]), "at least one atom"),
    ],
)
def test_incomplete_labels_are_not_written(tmp_path, sample, attributes, spoil, message):
    with pytest.raises(InputError, match=message):
        write_store(tmp_path / "bad.h5", [spoil(sample(1))], attributes)
    assert os.listdir(tmp_path) == []


def test_repeated_ids_and_missing_attributes_are_not_written(tmp_path, sample, attributes):
    with pytest.raises(InputError, match="molecule 4 appears more than once"):
        write_store(tmp_path / "bad.h5", [sample(4), sample(4)], attributes)
    del attributes["licence"]
    with pytest.raises(InputError, match="lacks the attributes licence"):
        write_store(tmp_path / "bad.h5", [sample(4)], attributes)
    assert os.listdir(tmp_path) == []


def test_an_unwritable_path_leaves_nothing(tmp_path, sample, attributes):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_store(tmp_path / "file" / "folder.h5", [sample(1)], attributes)
    (tmp_path / "file").unlink()
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_store(tmp_path / "folder.h5", [sample(1)], attributes)
    assert os.listdir(tmp_path) == ["folder.h5"]


def test_writing_replaces_an_older_store(path, sample, attributes):
    shutil.copy(path, path.with_suffix(".old"))
    write_store(path, [sample(99)], attributes)
    assert StickStore(path).ids == [99]
    assert StickStore(path.with_suffix(".old")).ids == [3, 5, 8, 12]


FAILURES = [Failure(12, 3, "gap 0.1 eV, less than 0.5 eV"), Failure(4, 0, "kein α-Orbital"), Failure(4, 2, "x" * 200)]


def test_failures_come_back_sorted_and_are_no_labels(tmp_path, samples, attributes):
    benzene = replace(samples[0], sites=tuple(site for site in samples[0].sites if site.atom != 3))
    write_store(tmp_path / "a.h5", [benzene, *samples[1:]], attributes, FAILURES)
    with StickStore(tmp_path / "a.h5") as store:
        assert store.attributes["format_version"] == 2
        assert store.failures == sorted(FAILURES, key=lambda failure: (failure.molecule, failure.atom))
        assert store.ids == [3, 5, 8, 12]
        assert [site.atom for site in store[3].sites] == [0, 1, 2, 4, 5]


def test_a_file_without_failures_is_of_the_first_format(path):
    with StickStore(path) as store:
        assert (store.attributes["format_version"], store.failures) == (1, [])
    with h5py.File(path) as file:
        assert "failures" not in file


def test_failures_alone_are_a_store(tmp_path, attributes):
    write_store(tmp_path / "a.h5", [], attributes, FAILURES)
    with StickStore(tmp_path / "a.h5") as store:
        assert (len(store), len(store.failures)) == (0, 3)


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([Failure(1, 0, "gap")], "molecule 1: failed site 0 is a labelled one, too"),
        ([Failure(1, 1, "gap")], "molecule 1: failed site 1 is not one of its atoms with Z = 6"),
        ([Failure(1, 6, "gap")], "molecule 1: failed site 6 is not one of its atoms"),
        ([Failure(2, -1, "gap")], "numbered from 0"),
        ([Failure(2, 1, " ")], "needs a reason"),
        ([Failure(2, 1, "gap"), Failure(2, 1, "other")], "molecule 2: site 1 is recorded as failed more than once"),
    ],
)
def test_failures_that_cannot_be_are_not_written(tmp_path, sample, attributes, failures, message):
    with pytest.raises(InputError, match=message):
        write_store(tmp_path / "bad.h5", [sample(1)], attributes, failures)
    assert os.listdir(tmp_path) == []
