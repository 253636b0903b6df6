"""HDF5 files of spectra that were damaged: one sentence that names the file and what is wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from equispec.errors import InputError
from equispec.spectra import Band, SiteSpectra, SpectraWriter, iterate_spectra, load_spectra, save_spectra


@pytest.fixture
def banded(spectra: SiteSpectra) -> SiteSpectra:
    """Three sites, 81 energies, eight atoms."""
    n = len(spectra.energy)
    return replace(spectra, band=Band(0.9, np.ones((3, n, 3, 3)), np.ones((3, n)), np.ones(n)))


def stored_as(name: str, *shape: int, value: float = 0.0) -> Callable[[h5py.Group], None]:
    def damage(group: h5py.Group) -> None:
        del group[name]
        group[name] = np.full(shape, value)

    return damage


def without(name: str) -> Callable[[h5py.Group], None]:
    return lambda group: group.__delitem__(name)


def without_level(group: h5py.Group) -> None:
    del group["band"].attrs["level"]


def no_group(group: h5py.Group) -> None:
    del group["band"]
    group["band"] = np.zeros(3)


def claims_too_much(group: h5py.Group) -> None:
    """A shape that no memory holds."""
    del group["sites/tensor"]
    group.create_dataset("sites/tensor", (3, 10**15, 3, 3), "f8", chunks=(1, 1, 3, 3))


DAMAGES = {
    "coherence too short": (stored_as("band/coherence", 80), "/band/coherence has the shape [80], not [81]"),
    "coherence of too many axes": (
        stored_as("band/coherence", 81, 1),
        "/band/coherence has the shape [81, 1], not [81]",
    ),
    "coherence a number": (stored_as("band/coherence"), "/band/coherence has the shape [], not [81]"),
    "half-widths of two sites": (
        stored_as("band/isotropic", 2, 81),
        "/band/isotropic has the shape [2, 81], not [3, 81]",
    ),
    "half-widths of one axis": (stored_as("band/isotropic", 81), "/band/isotropic has the shape [81], not [3, 81]"),
    "squares of vectors": (
        stored_as("band/squared", 3, 81, 3),
        "/band/squared has the shape [3, 81, 3], not [3, 81, 3, 3]",
    ),
    "squares of four axes": (stored_as("band/squared", 3, 81, 4, 4), "not [3, 81, 3, 3]"),
    "not finite": (stored_as("band/isotropic", 3, 81, value=np.nan), "Band: isotropic holds numbers that are not fin"),
    "no coherence": (without("band/coherence"), "coherence"),
    "no level": (without_level, "level"),
    "a band that is no group": (no_group, "damaged: "),
    "energies of two axes": (stored_as("energy", 81, 1), "/energy has the shape [81, 1], not [E]"),
    "atoms without a number": (stored_as("structure/z", 7), "/structure/pos has the shape [8, 3], not [7, 3]"),
    "beyond all memory": (claims_too_much, "Unable to allocate"),
}


def assert_named(read: Callable[[Path], object], path: Path, message: str) -> None:
    with pytest.raises(InputError) as error:
        read(path)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path} is not a file of site spectra, or is damaged: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", DAMAGES)
def test_what_does_not_fit_is_named(name: str, banded: SiteSpectra, tmp_path: Path) -> None:
    damage, message = DAMAGES[name]
    path = save_spectra(banded, tmp_path / "one.h5")
    assert load_spectra(path).band is not None
    with h5py.File(path, "r+") as file:
        damage(file)
    assert_named(load_spectra, path, message)
    assert_named(lambda path: list(iterate_spectra(path)), path, message)


def test_the_structures_before_the_damaged_one_are_read(banded: SiteSpectra, tmp_path: Path) -> None:
    path = tmp_path / "many.h5"
    with SpectraWriter(path, several=True) as writer:
        for _ in range(3):
            writer.write(banded)
    with h5py.File(path, "r+") as file:
        stored_as("structures/1/band/coherence", 80)(file)
    reading = iterate_spectra(path)
    np.testing.assert_array_equal(next(reading).tensor, banded.tensor)
    assert_named(lambda _: next(reading), path, "/structures/1/band/coherence has the shape [80], not [81]")


def test_what_hdf5_itself_cannot_read(banded: SiteSpectra, tmp_path: Path) -> None:
    """h5py says so with a RuntimeError."""
    path = save_spectra(banded, tmp_path / "one.h5")
    content = bytearray(path.read_bytes())
    version = content.index(b"intensity_unit\0") - 8  # the head of an attribute: its first byte is a version
    assert content[version] == 1
    content[version] = 255
    path.write_bytes(content)
    with h5py.File(path) as file, pytest.raises(RuntimeError):
        dict(file.attrs)
    assert_named(load_spectra, path, "bad version number")
    assert_named(lambda path: list(iterate_spectra(path)), path, "bad version number")


def test_a_compressed_block_that_is_damaged(banded: SiteSpectra, tmp_path: Path) -> None:
    """As in a file that another program has packed."""
    path = save_spectra(banded, tmp_path / "one.h5")
    with h5py.File(path, "r+") as file:
        del file["sites/tensor"]
        tensor = file.create_dataset("sites/tensor", data=banded.tensor, compression="gzip", chunks=(1, 81, 3, 3))
        first = tensor.id.get_chunk_info(0).byte_offset
    np.testing.assert_array_equal(load_spectra(path).tensor, banded.tensor)
    content = bytearray(path.read_bytes())
    content[first : first + 64] = bytes(64)
    path.write_bytes(content)
    assert_named(load_spectra, path, "damaged: ")
    path.write_bytes(content[:-100])
    assert_named(load_spectra, path, "truncated file")
