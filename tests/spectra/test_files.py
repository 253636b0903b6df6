"""CSV, JSON and HDF5: round trips, equal bytes, whole files or none."""

import json
import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from equispec.errors import InputError
from equispec.spectra import SiteSpectra, load_spectra, load_spectrum, spectra_to_dict, write_bytes


def test_hdf5_round_trip_and_layout(spectra: SiteSpectra, tmp_path: Path) -> None:
    path = spectra.save(tmp_path / "a.h5", polarization=[0, 1, 1])
    back = load_spectra(path)
    for name in ("energy", "tensor", "sites", "z", "pos"):
        np.testing.assert_array_equal(getattr(back, name), getattr(spectra, name))
    assert back.meta == spectra.meta
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["sites/index"][()], [0, 1, 2])
        np.testing.assert_allclose(file["molecule/tensor"][()], spectra.tensor.sum(axis=0))
        np.testing.assert_allclose(file["intensity"][()], spectra.along([0, 1, 1]).intensity, rtol=1e-13)
        n = np.array(json.loads(file["intensity"].attrs["polarization"])["vector"])
        np.testing.assert_allclose(
            np.einsum("eab,a,b->e", file["molecule/tensor"][()], n, n), file["intensity"][()], rtol=1e-12
        )
        assert file["energy"].attrs["unit"] == "eV"
        assert file["structure/pos"].attrs["unit"] == "Å"
        assert file.attrs["model"] == "made-up"
        assert file.attrs["shift"] == -6.6
        assert json.loads(file.attrs["broadening"])["fwhm"] == 0.5
        assert {"model_hash", "equispec_version", "edge", "energy_unit", "intensity_unit", "polarization"} <= set(
            file.attrs
        )


def test_hdf5_without_a_polarisation_holds_no_intensity(spectra: SiteSpectra, tmp_path: Path) -> None:
    with h5py.File(spectra.save(tmp_path / "a.h5", sites=[2])) as file:
        assert "intensity" not in file
        np.testing.assert_array_equal(file["sites/index"][()], [2])
        np.testing.assert_array_equal(file["molecule/tensor"][()], spectra.tensor[2])


@pytest.mark.parametrize("suffix", ["csv", "json"])
@pytest.mark.parametrize(("polarization", "sites"), [(None, None), ("y", None), ([1, 2, 2], [2, 1])])
def test_text_round_trip(
    spectra: SiteSpectra, tmp_path: Path, suffix: str, polarization: str | list[int] | None, sites: list[int] | None
) -> None:
    path = spectra.save(tmp_path / f"a.{suffix}", polarization=polarization, sites=sites)
    back = load_spectrum(path)
    chosen = spectra if sites is None else spectra.select(sites)
    expected = chosen.molecule().polarized(polarization)
    np.testing.assert_allclose(back.energy, expected.energy, rtol=1e-9)
    np.testing.assert_allclose(back.intensity, expected.intensity, rtol=1e-9)
    assert back.meta == expected.meta


def test_csv_layout(spectra: SiteSpectra, tmp_path: Path) -> None:
    header, names, *rows = spectra.save(tmp_path / "a.csv", per_site=True).read_text(encoding="utf-8").splitlines()
    assert header.startswith("# {")
    assert names == "energy_eV,total,site_0_C,site_1_C,site_2_C"
    assert len(rows) == len(spectra.energy)
    table = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=2)
    np.testing.assert_allclose(table[:, 1], table[:, 2:].sum(axis=1), rtol=1e-8)
    plain = spectra.save(tmp_path / "b.csv").read_text(encoding="utf-8")
    assert plain.splitlines()[1] == "energy_eV,total"


def test_json_layout(spectra: SiteSpectra, tmp_path: Path) -> None:
    path = spectra.save(tmp_path / "a.json", per_site=True, polarization="z")
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == json.loads(json.dumps(spectra_to_dict(spectra, "z", per_site=True)))
    assert [(site["index"], site["element"]) for site in content["sites"]] == [(0, "C"), (1, "C"), (2, "C")]
    assert content["structure"]["z"] == spectra.z.tolist()
    assert "sites" not in spectra_to_dict(spectra)


@pytest.mark.parametrize("suffix", ["csv", "json", "h5"])
def test_opposite_directions_and_repetitions_give_equal_bytes(
    spectra: SiteSpectra, tmp_path: Path, suffix: str
) -> None:
    n = [0.3, -0.4, 0.7]
    files = [
        spectra.save(tmp_path / f"{k}.{suffix}", polarization=[sign * c for c in n], per_site=True).read_bytes()
        for k, sign in enumerate((1, -1, 1))
    ]
    assert files[0] == files[1] == files[2]


def test_no_time_is_stored(spectra: SiteSpectra, tmp_path: Path) -> None:
    first = spectra.save(tmp_path / "a.h5").read_bytes()
    time.sleep(1.1)  # HDF5 counts whole seconds
    assert spectra.save(tmp_path / "b.h5").read_bytes() == first


def test_unknown_suffix_lists_the_known(spectra: SiteSpectra, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'\.xlsx'.*\.csv, \.h5, \.hdf5, \.json"):
        spectra.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="unknown suffix"):
        load_spectra(tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())


def test_unwritable_places_are_refused(spectra: SiteSpectra, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "file" / "a.csv", tmp_path / "missing" / "a.h5", tmp_path / "folder.csv"):
        with pytest.raises(InputError, match=f"cannot write {path}"):
            spectra.save(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_bad_polarisation_or_site_writes_nothing(spectra: SiteSpectra, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="zero vector"):
        spectra.save(tmp_path / "a.csv", polarization="0,0,0")
    with pytest.raises(InputError, match="atom 5"):
        spectra.save(tmp_path / "a.h5", sites=[5])
    assert not list(tmp_path.iterdir())


def test_garbled_files_are_refused(spectra: SiteSpectra, tmp_path: Path) -> None:
    whole = spectra.save(tmp_path / "a.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_group("energy")
    for name in ("cut.h5", "other.h5"):
        with pytest.raises(InputError, match="not a file of site spectra"):
            load_spectra(tmp_path / name)
    for name, content in (("a.csv", "x,y\n1,2\n"), ("b.csv", ""), ("a.json", "{"), ("b.json", "{}"), ("c.json", "[1]")):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="not a spectrum"):
            load_spectrum(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        load_spectrum(tmp_path / "nowhere.csv")
