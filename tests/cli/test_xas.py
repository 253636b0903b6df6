"""equispec xas: from a structure file to files of polarised spectra."""

import json
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

import equispec as package
from equispec.errors import InputError
from equispec.predict import load
from equispec.spectra import Polarization, iterate_spectra, load_spectra, load_spectrum
from equispec.spectra_predictor import BATCH_ATOMS
from equispec.workflows.absorption import Outputs, Question, run

from .conftest import METADATA, TENSOR, Result, write_model

Run = Callable[..., Result]


def read_csv(path: Path) -> tuple[dict, list[str], np.ndarray]:
    header, names, *rows = path.read_text().splitlines()
    return json.loads(header.removeprefix("#")), names.split(","), np.array([row.split(",") for row in rows], float)


def test_hdf5_holds_the_tensors_as_documented(equispec: Run, tensor_model: Path, work: Path) -> None:
    result = equispec("xas", "ethanol.xyz", "-m", tensor_model, "-o", "a.h5")
    assert result.code == 0
    assert "first peak" in result.out
    assert result.errors == ["wrote a.h5"]
    with h5py.File("a.h5") as file:
        assert file["energy"].shape == (33,)
        assert file["sites/index"][:].tolist() == [0, 1]
        assert file["sites/tensor"].shape == (2, 33, 3, 3)
        np.testing.assert_allclose(file["molecule/tensor"][:], file["sites/tensor"][:].sum(0))
        assert file["structure/z"].shape == (9,)
        assert file["structure/pos"].shape == (9, 3)
        attributes = dict(file.attrs)
    assert attributes["model"] == "tensor"
    assert attributes["model_hash"] == load(tensor_model).members[0].hash
    assert attributes["equispec_version"] == package.__version__
    assert (attributes["edge"], attributes["energy_unit"], attributes["intensity_unit"]) == ("C-K", "eV", "1/eV")
    assert attributes["shift"] == -6.6
    assert json.loads(attributes["broadening"])["fwhm"] == 0.5
    assert json.loads(attributes["outside_domain"]) == []


@pytest.mark.parametrize("pol", ["x", "y", "z", "1,-2,0.5", "theta=55,phi=10"])
def test_a_polarisation_is_the_contraction_of_the_tensor(
    equispec: Run, tensor_model: Path, work: Path, pol: str
) -> None:
    equispec("xas", "ethanol.xyz", "-m", tensor_model, "-o", "a.h5")
    assert equispec("xas", "ethanol.xyz", "-m", tensor_model, "--pol", pol, "-o", "p.csv").code == 0
    n = np.array(Polarization.parse(pol).direction)
    expected = load_spectra("a.h5").molecule().tensor @ n @ n
    np.testing.assert_allclose(load_spectrum("p.csv").intensity, expected, rtol=0, atol=1e-6 * expected.max())
    assert read_csv(Path("p.csv"))[0]["polarization"] == {"kind": "direction", "vector": n.tolist()}


def test_isotropic_is_a_third_of_the_trace(equispec: Run, tensor_model: Path, work: Path) -> None:
    equispec("xas", "ethanol.xyz", "-m", tensor_model, "-o", "a.h5")
    equispec("xas", "ethanol.xyz", "-m", tensor_model, "--pol", "iso", "-o", "iso.csv")
    equispec("xas", "ethanol.xyz", "-m", tensor_model, "-o", "default.csv")
    trace = np.trace(load_spectra("a.h5").molecule().tensor, axis1=1, axis2=2)
    np.testing.assert_allclose(load_spectrum("iso.csv").intensity, trace / 3, rtol=1e-6)
    assert Path("iso.csv").read_bytes() == Path("default.csv").read_bytes()


@pytest.mark.parametrize("suffix", ["csv", "h5", "json"])
def test_opposite_directions_give_the_same_file(equispec: Run, tensor_model: Path, work: Path, suffix: str) -> None:
    for name, pol in (("plus", "1,2,3"), ("minus", "-1,-2,-3")):
        assert equispec("xas", "ethanol.xyz", "-m", tensor_model, "--pol", pol, "-o", f"{name}.{suffix}").code == 0
    assert Path(f"plus.{suffix}").read_bytes() == Path(f"minus.{suffix}").read_bytes()


def test_columns_of_sites(equispec: Run, tensor_model: Path, work: Path) -> None:
    equispec("xas", "ethanol.xyz", "-m", tensor_model, "--per-site", "-o", "all.csv")
    _, names, table = read_csv(Path("all.csv"))
    assert names == ["energy_eV", "total", "site_0_C", "site_1_C"]
    np.testing.assert_allclose(table[:, 1], table[:, 2:].sum(1), rtol=1e-8)
    equispec("xas", "ethanol.xyz", "-m", tensor_model, "--site", "1", "-o", "one.csv")
    meta, names, one = read_csv(Path("one.csv"))
    assert meta["sites"] == [1]
    assert names == ["energy_eV", "total"]
    np.testing.assert_allclose(one[:, 1], table[:, 3], rtol=1e-5)


def test_shift_and_width(equispec: Run, tensor_model: Path, work: Path) -> None:
    equispec("xas", "ethanol.xyz", "-m", tensor_model, "-o", "plain.csv")
    equispec("xas", "ethanol.xyz", "-m", tensor_model, "--shift", "-0.3", "--fwhm", "0.8", "-o", "changed.csv")
    plain, changed = load_spectrum("plain.csv"), load_spectrum("changed.csv")
    np.testing.assert_allclose(changed.energy, plain.energy - 0.3)
    np.testing.assert_allclose(changed.intensity, plain.broaden(fwhm=0.8).intensity, rtol=1e-7)
    assert changed.meta["shift"] == pytest.approx(-6.9)
    assert changed.meta["broadening"]["extra_fwhm"] == pytest.approx(0.8)


def test_json_is_one_object_with_everything(equispec: Run, tensor_model: Path, work: Path) -> None:
    result = equispec("xas", "ethanol.xyz", "-m", tensor_model, "--json", "--per-site", "-o", "a.json")
    found = json.loads(result.out)
    assert found == json.loads(Path("a.json").read_text())
    assert len(found["energy_eV"]) == len(found["total"]) == 33
    assert [site["index"] for site in found["sites"]] == [0, 1]
    assert found["meta"]["structure"] == "ethanol.xyz"


def test_several_structures_of_several_kinds(equispec: Run, tensor_model: Path, work: Path) -> None:
    write("frames.xyz", [molecule("CH4"), molecule("C2H6")])
    arguments = ("xas", "frames.xyz", "ethanol.xyz", "--smiles", "CC=O", "-m", tensor_model)
    result = equispec(*arguments, "-o", "all.h5")
    assert result.code == 0
    names = ["frames.xyz", "frames.xyz, frame 2", "ethanol.xyz", "CC=O"]
    assert [line.split("  ")[0].strip() for line in result.out.splitlines()[-4:]] == names
    found = list(iterate_spectra("all.h5"))
    assert [spectra.meta["structure"] for spectra in found] == names
    single = load(tensor_model).spectrum("ethanol.xyz")
    np.testing.assert_allclose(found[2].tensor, single.tensor, atol=1e-6)
    listed = json.loads(equispec(*arguments, "--json").out)["structures"]
    assert [each["meta"]["structure"] for each in listed] == names
    np.testing.assert_allclose(listed[2]["total"], single.isotropic().intensity, rtol=1e-4)


def test_an_ensemble_is_the_mean_of_its_members(equispec: Run, tensor_model: Path, work: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", TENSOR, seed=1)
    for options, name in ((["-m", tensor_model], "a"), (["-m", other], "b"), (["-m", tensor_model, "-m", other], "c")):
        assert equispec("xas", "ethanol.xyz", *options, "-o", f"{name}.h5").code == 0
    a, b, c = (load_spectra(f"{name}.h5") for name in "abc")
    np.testing.assert_allclose(c.tensor, (a.tensor + b.tensor) / 2, rtol=1e-5)
    assert c.meta["model"] == "tensor, other"


def test_a_directional_model_answers_for_the_very_direction(equispec: Run, directional_model: Path, work: Path) -> None:
    direction = [0.3, -0.5, 0.8]
    exact = load(directional_model).along("ethanol.xyz", direction)
    arguments = ("xas", "ethanol.xyz", "-m", directional_model, "--pol", "0.3,-0.5,0.8", "--per-site")
    assert equispec(*arguments, "-o", "a.csv", "--json").code == 0
    equispec(*arguments, "-o", "a.h5")
    np.testing.assert_allclose(read_csv(Path("a.csv"))[2][:, 2:].T, exact, atol=1e-8)
    stored, n = load_spectra("a.h5"), np.array(direction) / np.linalg.norm(direction)
    np.testing.assert_allclose(stored.tensor @ n @ n, exact, atol=1e-12)
    uncorrected = load(directional_model).spectrum("ethanol.xyz")
    assert np.abs(uncorrected.tensor @ n @ n - exact).max() > 1e-6


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
@pytest.mark.parametrize("options", [(), ("--pol", "1,1,0")])
def test_plots(
    equispec: Run, tensor_model: Path, work: Path, suffix: str, begins: bytes, options: tuple[str, ...]
) -> None:
    assert equispec("xas", "ethanol.xyz", "-m", tensor_model, "--plot", f"a.{suffix}", *options).code == 0
    assert Path(f"a.{suffix}").read_bytes().startswith(begins)


OUTSIDE = [
    (molecule("CH3CN"), {}, "the model has never seen the element N"),
    (molecule("C6H6"), {"max_heavy_atoms": 5}, "6 heavy atoms, more than the 5"),
]


@pytest.mark.parametrize(("atoms", "statistics", "expected"), OUTSIDE)
def test_what_lies_outside_the_domain_is_warned_of_or_refused(
    equispec: Run, work: Path, tmp_path: Path, atoms: Atoms, statistics: dict, expected: str
) -> None:
    narrow = write_model(tmp_path / "narrow", TENSOR, statistics={**METADATA["statistics"], **statistics})
    atoms.write("strange.xyz")
    warned = equispec("xas", "strange.xyz", "-m", narrow, "-o", "a.json")
    assert warned.code == 0
    assert len(warned.errors) == 2
    assert warned.errors[0].startswith(f"Warning: strange.xyz: {expected}")
    assert json.loads(Path("a.json").read_text())["meta"]["outside_domain"][0].startswith(expected)
    refused = equispec("xas", "strange.xyz", "-m", narrow, "-o", "b.h5", "--plot", "b.png", "--strict")
    assert refused.code == 3
    assert len(refused.errors) == 1
    assert refused.errors[0].startswith(f"Error: strange.xyz: {expected}")
    assert refused.out == ""
    assert not Path("b.h5").exists()
    assert not Path("b.png").exists()


def test_strict_lets_the_rest_through(equispec: Run, tensor_model: Path, work: Path) -> None:
    assert equispec("xas", "ethanol.xyz", "-m", tensor_model, "--strict").code == 0


def test_a_charge_in_the_file_is_a_concern(equispec: Run, tensor_model: Path, work: Path) -> None:
    atoms = molecule("CH4")
    atoms.info["charge"] = 1
    write("ion.xyz", atoms)
    result = equispec("xas", "ion.xyz", "-m", tensor_model)
    assert "total charge 1" in result.errors[0]


def test_a_molecule_far_from_the_origin_is_the_same_molecule(tensor_model: Path) -> None:
    here, there = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    there.translate([1e6, -2e5, 3e4])
    predictor = load(tensor_model)
    expected, found = predictor.spectrum(here), predictor.spectrum(there)
    np.testing.assert_allclose(found.tensor, expected.tensor, rtol=0, atol=1e-5 * np.abs(expected.tensor).max())
    np.testing.assert_array_equal(found.pos, there.positions)


@pytest.mark.parametrize("sites", [[], [0, 0]])
def test_sites_are_chosen_once(tensor_model: Path, sites: list[int]) -> None:
    with pytest.raises(InputError, match="at least one atom is needed, and each at most once"):
        load(tensor_model).spectrum(molecule("CH3CH2OH"), sites=sites)


def test_structures_stream_through(tensor_model: Path, tmp_path: Path) -> None:
    """The first spectra are written when no more than two batches of structures were read, whatever their number."""
    read = 0

    def endless() -> Iterator[Atoms]:
        nonlocal read
        for atoms in repeat(molecule("CH3CH2OH")):
            read += 1
            yield atoms

    path = tmp_path / "endless.h5"
    found = run(load(tensor_model), endless(), Question(), Outputs((path,)))
    for _ in range(3):
        assert next(found)[1]
    assert read <= 2 + 2 * BATCH_ATOMS // 9
    found.close()  # the user interrupts: nothing is left
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_of_the_program_shows_its_traceback(
    equispec: Run, tensor_model: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("equispec.workflows.absorption.run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        equispec("xas", "ethanol.xyz", "-m", tensor_model)
