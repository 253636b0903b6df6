"""Files of many structures, written and read one structure at a time."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from equispec.errors import InputError
from equispec.spectra import SiteSpectra, SpectraWriter, iterate_spectra, load_spectra, save_spectra


def three(spectra: SiteSpectra) -> list[SiteSpectra]:
    return [spectra, spectra.shift(0.5), spectra.select([1])]


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_hdf5_round_trip_in_order(spectra: SiteSpectra, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"many{suffix}"
    with SpectraWriter(path, several=True) as writer:
        for each in three(spectra):
            writer.write(each)
        assert not path.exists()  # complete or absent
    for found, given in zip(iterate_spectra(path), three(spectra), strict=True):
        np.testing.assert_array_equal(found.tensor, given.tensor)
        np.testing.assert_array_equal(found.energy, given.energy)
        np.testing.assert_array_equal(found.sites, given.sites)
        assert found.meta == given.meta


def test_each_group_is_laid_out_as_a_file_of_one_structure(spectra: SiteSpectra, tmp_path: Path) -> None:
    save_spectra(spectra, tmp_path / "one.h5", polarization="x")
    with SpectraWriter(tmp_path / "many.h5", several=True, polarization="x") as writer:
        for _ in range(11):
            writer.write(spectra)
    with h5py.File(tmp_path / "one.h5") as one, h5py.File(tmp_path / "many.h5") as many:
        assert len(many["structures"]) == 11
        names: list[str] = []
        one.visit(names.append)
        others: list[str] = []
        many["structures/10"].visit(others.append)
        assert names == others
        assert dict(one.attrs) == {**many.attrs, **many["structures/10"].attrs}


def test_metadata_that_differ_are_kept(spectra: SiteSpectra, tmp_path: Path) -> None:
    other = replace(spectra, meta=spectra.meta | {"model": "another", "structure": "b.xyz"})
    with SpectraWriter(tmp_path / "many.h5", several=True) as writer:
        writer.write(spectra)
        writer.write(other)
    assert [found.meta for found in iterate_spectra(tmp_path / "many.h5")] == [spectra.meta, other.meta]
    bare = replace(spectra, meta={})
    with SpectraWriter(tmp_path / "b.h5", several=True) as writer:
        writer.write(spectra)
        with pytest.raises(InputError, match="lacks the metadata"):
            writer.write(bare)


def test_one_structure_is_read_by_the_same_function(spectra: SiteSpectra, tmp_path: Path) -> None:
    with SpectraWriter(tmp_path / "one.h5", several=False) as writer:
        writer.write(spectra)
    (found,) = iterate_spectra(tmp_path / "one.h5")
    np.testing.assert_array_equal(found.tensor, load_spectra(tmp_path / "one.h5").tensor)


def test_json_is_a_list_of_what_single_files_hold(spectra: SiteSpectra, tmp_path: Path) -> None:
    with SpectraWriter(tmp_path / "many.json", several=True, polarization="z", per_site=True) as writer:
        for each in three(spectra):
            writer.write(each)
    listed = json.loads((tmp_path / "many.json").read_text())["structures"]
    save_spectra(spectra, tmp_path / "one.json", polarization="z", per_site=True)
    assert listed[0] == json.loads((tmp_path / "one.json").read_text())
    assert [len(each["sites"]) for each in listed] == [3, 3, 1]


@pytest.mark.parametrize("suffix", [".h5", ".json"])
def test_a_failure_leaves_what_was_there(spectra: SiteSpectra, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"many{suffix}"
    path.write_text("old")

    def fail() -> None:
        with SpectraWriter(path, several=True) as writer:
            writer.write(spectra)
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_holds_one_structure(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"many.csv: such a file holds one structure; .* .h5, .hdf5, .json"):
        SpectraWriter(tmp_path / "many.csv", several=True)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"), SpectraWriter(tmp_path / "no" / "many.h5", True):
        pass


@pytest.mark.parametrize("content", [b"rubbish", b""])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.h5").write_bytes(content)
    with pytest.raises(InputError, match="not a file of site spectra"):
        next(iterate_spectra(tmp_path / "bad.h5"))
    with pytest.raises(InputError, match="not a file of site spectra"):
        next(iterate_spectra(tmp_path / "missing.h5"))
