"""Relaxation: minima, cells, constraints, and what files of structures keep."""

import csv
import json
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian

import equispec
from equispec.errors import InputError
from equispec.predict import Predictor
from equispec.workflows.relaxation import Relaxation, relax, relax_file
from property_models import ALL, saved


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return equispec.load(saved(tmp_path_factory.mktemp("models") / "all", ALL, seed=1))


def test_relaxation_ends_in_a_minimum(predictor: Predictor) -> None:
    start = molecule("H2O")
    start.rattle(0.05, seed=1)
    told: list[float] = []
    for optimizer in ("bfgs", "fire"):
        result = relax(predictor, start, Relaxation(fmax=1e-3, optimizer=optimizer), lambda *now: told.append(now[2]))
        assert result.converged
        assert told.pop() == result.largest_force < 1e-3 < told[0]
        assert result.end < result.start == predictor.predict(start)["energy"][0]
        np.testing.assert_allclose(result.found.values["energy"], result.end, atol=1e-10)
        assert np.abs(result.found.values["forces"]).max() < 1e-3
    np.testing.assert_array_equal(start.positions, start.copy().positions)
    assert not relax(predictor, start, Relaxation(fmax=1e-3, steps=2)).converged
    pinned = start.copy()
    pinned.set_constraint(FixAtoms([0]))
    moved = relax(predictor, pinned, Relaxation(fmax=1e-3)).found.atoms.positions - start.positions
    assert np.abs(moved[0]).max() == 0 < np.abs(moved[1:]).max()


def test_relaxation_of_a_cell(predictor: Predictor) -> None:
    crystal = bulk("C", "diamond", 3.567)
    crystal.rattle(0.1, seed=3)
    fixed = relax(predictor, crystal, Relaxation(steps=3))
    free = relax(predictor, crystal, Relaxation(steps=3, cell=True))
    np.testing.assert_array_equal(fixed.found.atoms.cell, crystal.cell)
    assert np.abs(free.found.atoms.cell - crystal.cell).max() > 0.01
    assert "stress" in free.found.values
    assert "dipole" not in free.found.values
    with pytest.raises(InputError, match="three periodic directions only"):
        relax(predictor, molecule("H2O"), Relaxation(cell=True))


def test_files_of_structures_are_relaxed_one_by_one(predictor: Predictor, tmp_path: Path) -> None:
    frames = [molecule("H2O"), molecule("NH3")]
    ase.io.write(tmp_path / "in.xyz", frames)
    results = list(relax_file(predictor, tmp_path / "in.xyz", Relaxation(fmax=0.05), tmp_path / "out.xyz"))
    read = ase.io.read(tmp_path / "out.xyz", ":")
    for result, atoms in zip(results, read, strict=True):
        np.testing.assert_allclose(atoms.positions, result.found.atoms.positions, atol=1e-8)
        assert atoms.get_potential_energy() == result.found.values["energy"]
        assert atoms.info["model_hash"] == predictor.hash


def test_molecules_and_crystals_share_a_file(predictor: Predictor, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "in.xyz", [bulk("C", "diamond", 3.567), molecule("H2O"), molecule("NH3")])
    for suffix in (".h5", ".csv", ".xyz", ".json"):
        results = list(relax_file(predictor, tmp_path / "in.xyz", Relaxation(steps=1), tmp_path / f"out{suffix}"))
    with h5py.File(tmp_path / "out.h5") as file:
        dipoles, energies, forces = (file[f"properties/{name}"][:] for name in ("dipole", "energy", "forces"))
        assert np.isnan(dipoles[0]).all()
        assert np.isnan(file["properties/charges"][:2]).all()
        assert file["properties/charges"].shape == (9,)
    for k, result in enumerate(results):
        assert energies[k] == result.found.values["energy"]
        if k:
            np.testing.assert_array_equal(dipoles[k], result.found.values["dipole"])
    np.testing.assert_array_equal(forces, np.concatenate([result.found.values["forces"] for result in results]))
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()[1:]))
    assert rows[0]["dipole_x"] == "" != rows[0]["energy"]
    assert float(rows[2]["dipole_z"]) == pytest.approx(results[2].found.values["dipole"][2])
    frames = ase.io.read(tmp_path / "out.xyz", ":")
    assert ["dipole" in frame.calc.results for frame in frames] == [False, True, True]
    entries = json.loads((tmp_path / "out.json").read_text())["structures"]
    assert ["dipole" in entry["properties"] for entry in entries] == [False, True, True]


def test_what_a_file_says_of_its_atoms_stays_with_them(predictor: Predictor, tmp_path: Path) -> None:
    """Constraints, arrays and info survive; results of what came before do not."""
    water, crystal = molecule("H2O"), bulk("C", "diamond", 3.567)
    water.set_constraint(FixAtoms([1]))
    crystal.rattle(0.1, seed=3)
    crystal.set_constraint([FixCartesian(1, mask=[False, True, False])])
    for atoms in (water, crystal):
        n = len(atoms)
        atoms.set_tags(range(n))
        atoms.set_masses(np.linspace(2, 3, n))
        columns = {"group": np.arange(n) % 2 == 0, "site": np.array(["A1"] * n), "field": np.full((n, 2), 0.5)}
        for name, array in {**columns, "forces_std": np.ones((n, 3))}.items():
            atoms.new_array(name, array)
        atoms.info |= {"label": "two words", "matrix": np.arange(6).reshape(2, 3), "kept": {"as": [1, 2]}, "count": 7}
        atoms.info |= {"outside_domain": "of another model", "energy_std": 1.0}
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((n, 3)))
    for k, atoms in enumerate((water, crystal)):
        ase.io.write(tmp_path / "in.xyz", atoms)
        (result,) = relax_file(predictor, tmp_path / "in.xyz", Relaxation(steps=2), tmp_path / f"{k}.xyz")
        read = ase.io.read(tmp_path / f"{k}.xyz")
        assert np.abs(read.positions - atoms.positions).max() > 1e-4
        fixed = slice(None) if k == 0 else 1
        np.testing.assert_allclose(read.positions[1, fixed], atoms.positions[1, fixed], atol=1e-8)
        assert [type(one) for one in read.constraints][:1] == [type(atoms.constraints[0])]
        assert read.constraints[-1].index == atoms.constraints[0].index
        for name in ("tags", "masses", "group", "site", "field"):
            np.testing.assert_array_equal(read.arrays[name], atoms.arrays[name])
        assert "forces_std" not in read.arrays
        assert (read.info["label"], read.info["kept"], read.info["count"]) == ("two words", {"as": [1, 2]}, 7)
        np.testing.assert_array_equal(read.info["matrix"], atoms.info["matrix"])
        assert not {"outside_domain", "energy_std"} & read.info.keys()
        assert read.get_potential_energy() == result.found.values["energy"]
