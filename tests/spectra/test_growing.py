"""HDF5 files that grow, on disks with and without room for them."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import h5py
import numpy as np
import pytest

from equispec.errors import InputError
from equispec.spectra import SiteSpectra, SpectraWriter
from equispec.spectra.growing import GrowingFile

NOISE = np.random.default_rng(0).normal(size=(50, 1000))

Room = Callable[[int], AbstractContextManager[None]]


def grow(path: Path) -> None:
    file = GrowingFile(path)
    with file.changed() as content:
        noise = content.create_dataset("noise", (0, NOISE.shape[1]), "f8", maxshape=(None, NOISE.shape[1]))
    for k, row in enumerate(NOISE, start=1):
        with file.changed():
            noise.resize(k, axis=0)
            noise[-1] = row
    file.close()


def test_what_was_written_is_there(tmp_path: Path) -> None:
    grow(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["noise"], NOISE)


@pytest.mark.parametrize("size", [0, 10, 2000, 50_000, 300_000])
def test_no_room_is_an_error_like_that_of_any_file(tmp_path: Path, room: Room, size: int) -> None:
    with room(size), pytest.raises(OSError, match="File too large"):
        grow(tmp_path / "x.h5")
    grow(tmp_path / "x.h5")  # the library has not lost its head


@pytest.mark.parametrize("size", [0, 5_000])
def test_no_room_for_spectra_is_one_sentence_and_leaves_nothing(
    spectra: SiteSpectra, tmp_path: Path, room: Room, size: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def write() -> None:
        with SpectraWriter(tmp_path / "many.h5", several=True) as writer:
            for _ in range(20):
                writer.write(spectra)

    with room(size), pytest.raises(InputError, match=r"cannot write .*many.h5: File too large"):
        write()
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr().err == ""
