"""Files of arrays: whole or absent, the same bytes every time, read one array at a time and in any process."""

import os
import pickle

import h5py
import numpy as np
import pytest

from equispec.data.hdf5 import format_of, read_hdf5, write_hdf5
from equispec.errors import InputError

ARRAYS = {"a/long": np.arange(300.0), "a/b/short": np.array([[1, 2]], "<i4"), "c": np.array([b"xy", b"z"])}
ATTRIBUTES = {"name": "ä", "shift": -6.6, "count": 3}


@pytest.fixture
def path(tmp_path):
    write_hdf5(tmp_path / "x.h5", ARRAYS, ATTRIBUTES, "equispec-test", 2)
    return tmp_path / "x.h5"


def test_arrays_and_attributes_come_back(path):
    file = read_hdf5(path, "equispec-test", (1, 2))
    assert file.attributes == {**ATTRIBUTES, "format": "equispec-test", "format_version": 2}
    assert set(file.names) == set(ARRAYS)
    for again in (file, pickle.loads(pickle.dumps(file))):
        for name, array in ARRAYS.items():
            assert again[name].dtype == array.dtype
            np.testing.assert_array_equal(again[name][:], array)
            again.close()  # and is opened again
    with h5py.File(path, "r+"):
        pass  # nothing holds it open


def test_the_same_contents_give_the_same_bytes(path, tmp_path):
    write_hdf5(tmp_path / "y.h5", ARRAYS, ATTRIBUTES, "equispec-test", 2)
    assert (tmp_path / "y.h5").read_bytes() == path.read_bytes()


def test_a_file_that_was_replaced_is_noticed(path):
    file = read_hdf5(path, "equispec-test", (2,))
    write_hdf5(path, {**ARRAYS, "c": np.arange(3)}, ATTRIBUTES, "equispec-test", 2)
    with pytest.raises(InputError, match="was replaced while it was in use"):
        file["c"]
    path.unlink()
    with pytest.raises(InputError, match="not readable any more"):
        file["c"]


def test_a_refused_file_is_not_held_open(path):
    with h5py.File(path, "r+") as file:
        file["a/long"][7] = 0
    with pytest.raises(InputError, match="contents differ from the stored sha256"):
        read_hdf5(path, "equispec-test", (2,))
    with h5py.File(path, "r+"):
        pass


def test_other_formats_and_versions_are_refused_by_name(path):
    with pytest.raises(InputError, match=r"x.h5: an HDF5 file, but not a table \(equispec-other\)"):
        read_hdf5(path, "equispec-other", (2,), "table")
    with pytest.raises(InputError, match="unknown table format 2; this version reads 3 and 4"):
        read_hdf5(path, "equispec-test", (3, 4), "table")


def test_a_writing_that_fails_leaves_what_was_there(path):
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_hdf5(path, {**ARRAYS, "bad": np.array([object()])}, ATTRIBUTES, "equispec-test", 2)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["x.h5"]


@pytest.mark.parametrize("size", [0, 5_000, 30_000])
def test_no_room_is_one_sentence_and_leaves_what_was_there(path, size, room, capfd):
    before = path.read_bytes()
    noise = np.random.default_rng(0).normal(size=5_000)
    with room(size), pytest.raises(InputError, match=r"x.h5: cannot be written \(File too large\)"):
        write_hdf5(path, {"noise": noise}, ATTRIBUTES, "equispec-test", 2)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["x.h5"]
    assert capfd.readouterr().err == ""


def test_the_format_of_a_file_is_known_before_it_is_read(tmp_path):
    write_hdf5(tmp_path / "a.h5", ARRAYS, {}, "some-format", 1)
    (tmp_path / "b.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "c.h5", "w"):
        pass
    found = [format_of(tmp_path / name) for name in ("a.h5", "b.h5", "c.h5", "missing.h5", "")]
    assert found == ["some-format", None, None, None, None]
