"""Files of predictions in every format, and folders of files that survive a killed run."""

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

import equispec
from equispec.errors import DomainError, DomainWarning, InputError
from equispec.predict import Predictor
from equispec.property_predictor import Properties
from equispec.workflows import prediction_files
from equispec.workflows.prediction import MANIFEST, Question, Shards, fingerprint, run, run_shards
from property_models import ALL, STATISTICS, saved

NAMES = ("CH4", "C6H6", "CH3CH2OH", "CO2", "HCN", "H2O", "NH3")


def molecules() -> list[Atoms]:
    return [molecule(name) for name in NAMES]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return equispec.load(saved(tmp_path_factory.mktemp("models") / "all", ALL, statistics=STATISTICS))


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("ensemble")
    return equispec.load([saved(folder / str(k), ALL, seed=k) for k in range(2)])


def written(predictor: Predictor, path: Path, structures: list[Atoms], *names: str) -> list[Properties]:
    return list(run(predictor, structures, Question(names or None), [path]))


def test_ase_reads_the_results_back(predictor: Predictor, tmp_path: Path) -> None:
    frames = molecules()
    frames[0].info |= {"charge": 1, "label": 'a "quoted"\nname', "vector": np.arange(3)}
    frames[0].info |= {"odd": {"not": print}, "empty": " ", "nothing": None, "none": np.zeros(0)}
    odd = {"two words": np.ones(5), "words": np.array(["a b"] * 5), "tensors": np.ones((5, 2, 2))}
    for name, array in odd.items():
        frames[0].new_array(name, array)
    frames[1].set_momenta(np.full((12, 3), 0.5))
    found = written(predictor, tmp_path / "a.xyz", frames)
    read = list(ase.io.iread(tmp_path / "a.xyz"))
    for atoms, one, frame in zip(read, found, frames, strict=True):
        values = one.values
        np.testing.assert_array_equal(atoms.numbers, frame.numbers)
        assert atoms.get_potential_energy() == values["energy"]
        np.testing.assert_allclose(atoms.get_forces(), values["forces"], atol=1e-8)
        np.testing.assert_allclose(atoms.get_dipole_moment(), values["dipole"], atol=1e-15)
        np.testing.assert_allclose(atoms.get_charges(), values["charges"], atol=1e-8)
        np.testing.assert_allclose(atoms.info["polarizability"], values["polarizability"], atol=1e-15)
        assert atoms.info["homo"] == values["homo"]
        assert (atoms.info["model"], atoms.info["model_hash"]) == ("all", predictor.hash)
        assert atoms.info["equispec_version"] == equispec.__version__
        assert "forces eV/Ang" in atoms.info["units"]
    assert read[0].info["charge"] == 1
    assert read[0].info["vector"].tolist() == [0, 1, 2]
    assert not {"odd", "empty", "nothing", "none", *odd} & {*read[0].info, *read[0].arrays}
    np.testing.assert_allclose(read[1].get_momenta(), 0.5)


def test_the_stress_of_a_file_is_that_of_the_calculator(predictor: Predictor, tmp_path: Path) -> None:
    crystal = bulk("C", "diamond", 3.567)
    crystal.rattle(0.1, seed=1)
    crystal.calc = predictor.calculator()
    with pytest.warns(DomainWarning):
        expected = crystal.get_stress()
    with pytest.warns(DomainWarning):
        written(predictor, tmp_path / "a.extxyz", [crystal], "energy", "forces", "stress")
    np.testing.assert_allclose(ase.io.read(tmp_path / "a.extxyz").get_stress(), expected, atol=1e-15)


def test_a_table(ensemble: Predictor, tmp_path: Path) -> None:
    found = written(ensemble, tmp_path / "a.csv", molecules(), "energy", "dipole", "polarizability")
    header, *lines = (tmp_path / "a.csv").read_text().splitlines()
    meta = json.loads(header.removeprefix("# "))
    assert meta["units"] == {"energy": "eV", "dipole": "e·Å", "polarizability": "Å³"}
    assert meta["model_hash"] == ensemble.hash
    rows = list(csv.DictReader(lines))
    assert [row["formula"] for row in rows] == ["CH4", "C6H6", "C2H6O", "CO2", "CHN", "H2O", "H3N"]
    for row, one in zip(rows, found, strict=True):
        assert float(row["energy"]) == pytest.approx(float(one.values["energy"]), rel=1e-9)
        assert float(row["dipole_z"]) == pytest.approx(one.values["dipole"][2], rel=1e-9)
        assert float(row["polarizability_xz"]) == pytest.approx(one.values["polarizability"][0, 2], rel=1e-9)
        assert float(row["energy_std"]) == pytest.approx(float(one.spread["energy"]), rel=1e-9)
        assert float(row["dipole_z_std"]) == pytest.approx(one.spread["dipole"][2], rel=1e-9)
    with pytest.raises(InputError, match="a table has one row per structure and no place for forces"):
        written(ensemble, tmp_path / "b.csv", molecules(), "energy", "forces")
    written(ensemble, tmp_path / "c.csv", molecules())  # without names: what a table can hold
    assert "homo" in (tmp_path / "c.csv").read_text()


def test_arrays(ensemble: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_files, "H5_BUFFER", 3)
    found = written(ensemble, tmp_path / "a.h5", molecules())
    with h5py.File(tmp_path / "a.h5") as file:
        offsets = file["offsets"][:]
        assert file.attrs["model_hash"] == ensemble.hash
        assert file["properties/dipole"].attrs["unit"] == "e·Å"
        for i, (one, atoms) in enumerate(zip(found, molecules(), strict=True)):
            rows = slice(offsets[i], offsets[i + 1])
            np.testing.assert_array_equal(file["structure/z"][rows], atoms.numbers)
            np.testing.assert_array_equal(file["structure/pos"][rows], atoms.positions)
            np.testing.assert_array_equal(file["properties/forces"][rows], one.values["forces"])
            np.testing.assert_array_equal(file["properties/polarizability"][i], one.values["polarizability"])
            np.testing.assert_array_equal(file["spread/charges"][rows], one.spread["charges"])
            assert file["properties/energy"][i] == one.values["energy"]
            assert file["structure/name"].asstr()[i] == str(atoms.symbols)
        assert len(file["properties/energy"]) == len(NAMES)


def test_one_json_object(ensemble: Predictor, tmp_path: Path) -> None:
    found = written(ensemble, tmp_path / "a.json", molecules(), "energy", "forces")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["meta"]["units"]["forces"] == "eV/Å"
    for entry, one in zip(content["structures"], found, strict=True):
        assert entry["properties"]["forces"] == one.values["forces"].tolist()
        assert entry["spread"]["energy"] == float(one.spread["energy"])


@pytest.mark.parametrize("suffix", [".xyz", ".csv", ".h5", ".json"])
def test_equal_predictions_give_equal_bytes_and_failures_no_file(
    predictor: Predictor, tmp_path: Path, suffix: str
) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        written(predictor, path, molecules())
    assert paths[0].read_bytes() == paths[1].read_bytes()
    before = sorted(tmp_path.iterdir())
    for wrong, error in ((Atoms(), InputError), (molecule("CH3Cl"), DomainError)):
        question = Question(batch_atoms=1, strict=True)
        with pytest.raises(error):
            list(run(predictor, [*molecules(), wrong], question, [tmp_path / f"c{suffix}"]))
    assert sorted(tmp_path.iterdir()) == before


def test_what_lies_outside_the_domain_is_marked_in_every_file(predictor: Predictor, tmp_path: Path) -> None:
    paths = [tmp_path / f"a{suffix}" for suffix in (".xyz", ".csv", ".h5", ".json")]
    with pytest.warns(DomainWarning):
        list(run(predictor, [molecule("CH4"), molecule("CH3Cl")], Question(("energy",)), paths))
    sentence = "the model has never seen the element Cl"
    first, second = ase.io.iread(paths[0])
    assert "outside_domain" not in first.info
    assert second.info["outside_domain"] == sentence
    assert [row["outside_domain"] for row in csv.DictReader(paths[1].read_text().splitlines()[1:])] == ["", sentence]
    with h5py.File(paths[2]) as file:
        assert file["outside_domain"].asstr()[:].tolist() == ["", sentence]
    entries = json.loads(paths[3].read_text())["structures"]
    assert [entry["outside_domain"] for entry in entries] == [[], [sentence]]


class Killed(BaseException):
    pass


def interrupted(structures: list[Atoms], after: int) -> Iterator[Atoms]:
    yield from structures[:after]
    raise Killed


def counted(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of structures that the model is called for."""
    counts: list[int] = []
    evaluate = predictor.evaluate

    def count(graph: Any, names: Any) -> Any:
        counts.append(graph.n_systems)
        return evaluate(graph, names)

    monkeypatch.setattr(predictor, "evaluate", count)
    return counts


@pytest.mark.parametrize("suffix", [".xyz", ".h5"])
def test_a_killed_run_goes_on_without_repeating_itself(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    frames = molecules() * 2  # 14
    whole, folder = Shards(tmp_path / "whole", 4, suffix), Shards(tmp_path / "parts", 4, suffix)
    assert list(run_shards(predictor, iter(frames), "x", Question(), whole)) == [4, 8, 12, 14]
    with pytest.raises(Killed):
        list(run_shards(predictor, interrupted(frames, 10), "x", Question(), folder))
    begun = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.folder.glob(f"*{suffix}")}
    assert len(begun) == 2
    (folder.folder / f".000002{suffix}.99.part").write_text("what a killed process leaves")
    counts = counted(predictor, monkeypatch)
    again = Shards(folder.folder, 4, suffix, resume=True)
    assert list(run_shards(predictor, iter(frames), "x", Question(), again)) == [4, 8, 12, 14]
    assert sum(counts) == 6
    for path, (content, time) in begun.items():
        assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, time)
    assert {path.name: path.read_bytes() for path in whole.folder.iterdir()} == {
        path.name: path.read_bytes() for path in folder.folder.iterdir()
    }
    assert list(run_shards(predictor, iter(frames), "x", Question(), again)) == [14]
    assert sum(counts) == 6


@pytest.mark.parametrize("numbers", [[0], [1, 3], [3], [0, 1, 2, 3]])
def test_files_removed_from_a_complete_folder_are_made_again(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: list[int]
) -> None:
    frames, folder = molecules() * 2, tmp_path / "parts"
    list(run_shards(predictor, iter(frames), "x", Question(), Shards(folder, 4, ".xyz")))
    complete = {path.name: path.read_bytes() for path in folder.iterdir()}
    for number in numbers:
        (folder / f"{number:06d}.xyz").unlink()
    counts = counted(predictor, monkeypatch)
    done = list(run_shards(predictor, iter(frames), "x", Question(), Shards(folder, 4, ".xyz", resume=True)))
    assert done[-1] == 14
    assert sum(counts) == sum(2 if number == 3 else 4 for number in numbers)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == complete


def test_folders_that_are_not_gone_on_with(predictor: Predictor, ensemble: Predictor, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    list(run_shards(predictor, iter(molecules()), "x", Question(), Shards(folder, 4, ".xyz")))

    def attempt(model: Predictor = predictor, source: str = "x", names: Any = None, **changes: Any) -> None:
        options = {"folder": folder, "size": 4, "suffix": ".xyz", "resume": True, **changes}
        list(run_shards(model, iter(molecules()), source, Question(names), Shards(**options)))

    attempt()
    for changes, message in (
        ({"resume": False}, "--resume goes on"),
        ({"model": ensemble}, "was begun with model = all, not 0, 1"),
        ({"source": "y"}, "was begun with structures_sha256 = x, not y"),
        ({"names": ("energy",)}, "was begun with properties"),
        ({"size": 5}, "was begun with structures_per_file = 4, not 5"),
        ({"suffix": ".h5"}, "was begun with suffix"),
    ):
        with pytest.raises(InputError, match=message):
            attempt(**changes)
    (folder / MANIFEST).write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        attempt()
    (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match="is not empty and no folder of predictions"):
        attempt()
    with pytest.raises(InputError, match="cannot make the folder"):
        attempt(folder=folder / "000000.xyz")


def test_the_fingerprint_is_of_contents(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_text("one")
    first = fingerprint(paths[:1], ["C"])
    assert first == fingerprint(paths[1:], ["C"])
    assert len({first, fingerprint(paths, ["C"]), fingerprint(paths[:1], []), fingerprint([], ["C"])}) == 4
    paths[0].write_text("two")
    assert fingerprint(paths[:1], ["C"]) != first
    with pytest.raises(InputError, match="cannot read"):
        fingerprint([tmp_path / "nothing"], [])


def test_numbers_that_are_none_are_refused(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = predictor.evaluate

    def broken(graph: Any, names: Any) -> Any:
        values, spread = evaluate(graph, names)
        values["energy"][1] = np.nan
        return values, spread

    monkeypatch.setattr(predictor, "evaluate", broken)
    with pytest.raises(InputError, match="C6H6: the energy that the model gives is not a finite number"):
        written(predictor, tmp_path / "a.json", molecules())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".xyz", ".csv", ".h5", ".json"])
@pytest.mark.parametrize("size", [0, 2_000])
def test_no_room_is_one_sentence_and_leaves_nothing(
    predictor: Predictor,
    tmp_path: Path,
    room: Callable[[int], AbstractContextManager[None]],
    suffix: str,
    size: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / f"a{suffix}"
    with room(size), pytest.raises(InputError, match=rf"cannot write .*a{suffix}: File too large"):
        list(run(predictor, 10 * molecules(), Question(("energy", "homo")), [path]))
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr().err == ""
