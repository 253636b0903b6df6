"""Relaxation and molecular dynamics: conservation laws, temperatures, resumed runs, and runs that blow up."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian

import equispec
from equispec.errors import DomainError, InputError
from equispec.predict import Predictor
from equispec.workflows.dynamics import (
    Dynamics,
    SimulationStopped,
    degrees_of_freedom,
    one_structure,
    parse_time,
    set_velocities,
    simulate,
)
from equispec.workflows.relaxation import Relaxation, relax, relax_file
from equispec.workflows.trajectory import Sample, Summary, plot_trajectory, read_trajectory
from property_models import ALL, ENERGY, STATISTICS, saved

NVE = Dynamics(steps=60, temperature=200.0, timestep=0.25, every=5)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return equispec.load(saved(tmp_path_factory.mktemp("models") / "all", ALL, seed=1))


@pytest.fixture(scope="module")
def water(predictor: Predictor) -> Atoms:
    """The minimum of the model's energy."""
    atoms = molecule("H2O")
    return relax(predictor, atoms, Relaxation(fmax=1e-3)).found.atoms


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


def test_velocities_are_those_of_the_temperature() -> None:
    for atoms, freedom in ((molecule("C6H6"), 30), (molecule("CO2"), 4), (bulk("Cu", cubic=True) * 2, 93)):
        set_velocities(atoms, Dynamics(1, temperature=400.0, seed=3))
        assert freedom == degrees_of_freedom(atoms, "nve")
        assert 2 * atoms.get_kinetic_energy() / freedom / units.kB == pytest.approx(400)
        np.testing.assert_allclose(atoms.get_momenta().sum(0), 0, atol=1e-12)
        if not atoms.pbc.any():
            np.testing.assert_allclose(atoms.get_angular_momentum(), 0, atol=1e-10)
        same, other, hot = atoms.copy(), atoms.copy(), atoms.copy()
        set_velocities(same, Dynamics(1, temperature=400.0, seed=3))
        set_velocities(other, Dynamics(1, temperature=400.0, seed=4))
        np.testing.assert_array_equal(same.get_momenta(), atoms.get_momenta())
        assert not np.allclose(other.get_momenta(), atoms.get_momenta())
        set_velocities(hot, Dynamics(1))  # no temperature: the structure's own velocities
        np.testing.assert_array_equal(hot.get_momenta(), atoms.get_momenta())
    with pytest.raises(InputError, match="nothing can move"):
        degrees_of_freedom(Atoms("H"), "nve")


def test_energy_and_momenta_are_conserved(predictor: Predictor, water: Atoms, tmp_path: Path) -> None:
    told: list[int] = []
    samples = simulate(predictor, water, NVE, tmp_path / "t.xyz", report=lambda sample: told.append(sample.step))
    assert told == list(range(1, 61))
    potential, total = (np.array([getattr(s, name) for s in samples]) for name in ("potential", "total"))
    assert np.ptp(potential) > 2e-3
    assert np.ptp(total) < 0.02 * np.ptp(potential)
    summary = Summary.measure(samples, 3, conserved=True)
    assert summary.drift is not None
    assert abs(summary.drift) < 5
    frames = ase.io.read(tmp_path / "t.xyz", ":")
    assert [frame.info["step"] for frame in frames] == list(range(0, 61, 5))
    for frame, sample in zip(frames, samples, strict=True):
        assert frame.info["time_fs"] == sample.time == 0.25 * sample.step
        assert frame.get_potential_energy() == sample.potential
        assert frame.info["temperature_K"] == sample.temperature
        assert 2 * frame.get_kinetic_energy() / 3 / units.kB == pytest.approx(sample.temperature, rel=1e-5)
        np.testing.assert_allclose(frame.get_momenta().sum(0), 0, atol=1e-6)
        np.testing.assert_allclose(frame.get_angular_momentum(), 0, atol=1e-6)
        frame.calc, expected = predictor.calculator(), frame.get_forces()
        np.testing.assert_allclose(frame.get_forces(), expected, atol=1e-6)
    assert frames[0].get_dipole_moment().shape == (3,)
    assert frames[0].info["model_hash"] == predictor.hash


def test_a_run_from_a_minimum_says_that_it_will_be_half_as_hot(
    predictor: Predictor, water: Atoms, tmp_path: Path
) -> None:
    told: list[str] = []

    def attempt(atoms: Atoms, **changes: Any) -> list[str]:
        told.clear()
        how = replace(NVE, **{"steps": 1, "every": 1, **changes})
        simulate(predictor, atoms, how, tmp_path / "t.xyz", resume=True, remark=told.append)
        (tmp_path / "t.xyz").unlink()
        return told

    (text,) = attempt(water)
    assert text.startswith("the first structure is near a minimum (largest force 0.0")
    assert text.endswith("for 200 K on average take --temperature 400 or --ensemble langevin")
    samples = simulate(predictor, water, replace(NVE, steps=400), tmp_path / "long.xyz")
    assert np.mean([s.temperature for s in samples]) == pytest.approx(100, rel=0.3)
    moving, strained = water.copy(), water.copy()
    moving.set_momenta(np.full((3, 3), 0.1))
    strained.rattle(0.05, seed=1)
    assert attempt(water, ensemble="langevin") == attempt(water, temperature=0.0) == attempt(strained) == []
    assert attempt(moving, temperature=None) == []
    assert len(attempt(moving)) == 1
    simulate(predictor, water, NVE, tmp_path / "t.xyz")
    assert attempt(water, steps=61, every=5) == []  # goes on


def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(predictor: Predictor, water: Atoms, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.xyz", tmp_path / "parts.xyz"
    expected = simulate(predictor, water, NVE, whole)
    simulate(predictor, water, replace(NVE, steps=32), parts, resume=True)  # nothing to go on with: a beginning
    text = parts.read_text()
    parts.write_text(text[:-150])  # killed while it wrote step 32
    found = simulate(predictor, water, NVE, parts, resume=True)
    assert [sample.step for sample in found] == [sample.step for sample in expected]
    np.testing.assert_allclose([s.total for s in found], [s.total for s in expected], atol=1e-6)
    np.testing.assert_allclose(ase.io.read(parts, -1).positions, ase.io.read(whole, -1).positions, atol=1e-5)
    before = parts.read_bytes()
    assert len(simulate(predictor, water, NVE, parts, resume=True)) == len(found)
    assert parts.read_bytes() == before


def test_runs_that_cannot_go_on(predictor: Predictor, water: Atoms, tmp_path: Path) -> None:
    path = tmp_path / "t.xyz"
    short = replace(NVE, steps=2)
    simulate(predictor, water, short, path)
    with pytest.raises(InputError, match="is there already; --resume goes on"):
        simulate(predictor, water, short, path)
    with pytest.raises(InputError, match=r"was begun with md = nve 200 K dt 0.25 fs seed 0, not nve 200 K dt 0.5 fs"):
        simulate(predictor, water, replace(short, timestep=0.5), path, resume=True)
    other = equispec.load(saved(tmp_path / "other", ALL, seed=5))
    with pytest.raises(InputError, match="was begun with model = all, not other"):
        simulate(other, water, short, path, resume=True)
    with pytest.raises(InputError, match="is a trajectory of OH2, not of NH3"):
        simulate(predictor, molecule("NH3"), short, path, resume=True)
    ase.io.write(tmp_path / "plain.xyz", water)
    with pytest.raises(InputError, match="is not a trajectory of equispec md"):
        simulate(predictor, water, short, tmp_path / "plain.xyz", resume=True)
    with pytest.raises(InputError, match=r"unknown suffix '.traj' of a trajectory"):
        simulate(predictor, water, short, tmp_path / "t.traj")


def test_the_thermostat_holds_its_temperature(tmp_path: Path) -> None:
    """Free atoms: the temperature depends on the thermostat alone."""
    folder = saved(tmp_path / "m", ENERGY)
    gas = Atoms("He64", 10 * np.stack(np.meshgrid(*3 * [range(4)]), -1).reshape(-1, 3))
    how = Dynamics(steps=250, ensemble="langevin", temperature=350.0, timestep=2.0, friction=50.0, every=10)
    samples = simulate(equispec.load(folder), gas, how, tmp_path / "t.xyz")
    assert samples[0].temperature == pytest.approx(350, rel=0.4)
    summary = Summary.measure(samples, 64, conserved=False)
    assert summary.drift is None
    assert summary.temperature == pytest.approx(350, abs=30)
    again = simulate(equispec.load(folder), gas, replace(how, steps=20), tmp_path / "same.xyz")
    assert again == samples[:3]
    other = simulate(equispec.load(folder), gas, replace(how, steps=20, seed=1), tmp_path / "other.xyz")
    assert other[2] != samples[2]


def failing(predictor: Predictor, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None], after: int) -> None:
    """A model whose forces change after some calls."""
    evaluate, calls = predictor.evaluate, 0

    def broken(graph: Any, names: Any) -> Any:
        nonlocal calls
        calls += 1
        values, spread = evaluate(graph, names)
        if calls > after:
            change(values["forces"])
        return values, spread

    monkeypatch.setattr(predictor, "evaluate", broken)


def refuse(_: Any) -> None:
    raise InputError("atoms 0 and 1 are too close")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (refuse, "atoms 0 and 1 are too close"),
        (lambda forces: forces.__setitem__(0, np.nan), "a force of nan eV/Å exceeds 100 eV/Å"),
        (lambda forces: forces.__imul__(1e4), "a force of .* eV/Å exceeds 100 eV/Å"),
    ],
)
def test_a_run_that_blows_up_stops_and_keeps_the_frame(
    predictor: Predictor, water: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, reason: str
) -> None:
    shaken = water.copy()
    shaken.rattle(0.1, seed=1)
    failing(predictor, monkeypatch, change, after=8)
    with pytest.raises(
        SimulationStopped, match=f"stopped at step 8 .*: {reason}; this frame is in .*t-stopped.xyz"
    ) as error:
        simulate(predictor, shaken, replace(NVE, every=2), tmp_path / "t.xyz")
    assert error.value.exit_code == 1
    assert [frame.info["step"] for frame in ase.io.iread(tmp_path / "t.xyz")] == [0, 2, 4, 6]
    stopped = ase.io.read(tmp_path / "t-stopped.xyz")
    assert stopped.info["step"] == 8
    assert stopped.info["model_hash"] == predictor.hash


def test_a_hot_run_stops(predictor: Predictor, water: Atoms, tmp_path: Path) -> None:
    hot = water.copy()
    hot.set_momenta([[0, 0, 0], [0, -60, 40], [0, 60, 40]])
    with pytest.raises(SimulationStopped, match=r"at step 0 .* a temperature of .* K exceeds 5000 K"):
        simulate(predictor, hot, Dynamics(steps=50), tmp_path / "hot.xyz")
    assert ase.io.read(tmp_path / "hot-stopped.xyz").info["temperature_K"] > 5000
    assert not (tmp_path / "hot.xyz").exists()


def test_structures_and_models_that_cannot_be_simulated(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "t.xyz"
    broken = molecule("H2O")
    broken.positions[1] = broken.positions[0] + 0.1
    with pytest.raises(InputError, match=r"at least 0.5 Å is needed"):
        simulate(predictor, broken, NVE, path)
    dipoles = equispec.load(saved(tmp_path / "d", ({"name": "dipole"},)))
    with pytest.raises(InputError, match="model 'd' predicts no energy and so no forces; it predicts dipole"):
        simulate(dipoles, molecule("H2O"), NVE, path)
    jumping = {"name": "hdgnn", "features": 4, "blocks": 1, "degree": 1, "product_degree": 1, "n_radial": 4}
    frames = equispec.load(saved(tmp_path / "h", backbone=jumping))
    for work in (
        lambda: simulate(frames, molecule("H2O"), NVE, path),
        lambda: relax(frames, molecule("H2O"), Relaxation()),
    ):
        with pytest.raises(InputError, match="model 'h' predicts no forces; it predicts energy"):
            work()
    direct = equispec.load(saved(tmp_path / "f", ({"name": "energy"}, {"name": "direct-forces"}), backbone=jumping))
    with pytest.raises(InputError, match="model 'f' predicts no stress"):
        relax(direct, molecule("H2O"), Relaxation(cell=True))
    with pytest.raises(InputError, match="predicts spectra only"):
        relax(equispec.load("ck-tensor"), molecule("H2O"), Relaxation())
    strict = equispec.load(saved(tmp_path / "m", statistics=STATISTICS))
    with pytest.raises(DomainError, match="never seen the element Cl"):
        simulate(strict, molecule("CH3Cl"), NVE, path, strict=True)
    assert not path.exists()
    ase.io.write(tmp_path / "two.xyz", [molecule("H2O")] * 2)
    with pytest.raises(InputError, match="holds several structures; a simulation begins with one"):
        one_structure(tmp_path / "two.xyz", path)
    with pytest.raises(InputError, match="choose another file for the output"):
        one_structure(tmp_path / "two.xyz", tmp_path / "two.xyz")


def test_settings_that_make_no_sense() -> None:
    for changes, message in (
        ({"ensemble": "npt"}, "unknown ensemble 'npt'; known ones: nve, langevin"),
        ({"timestep": 0.0}, "dt = 0.0 fs: a positive number"),
        ({"steps": 0}, "steps = 0"),
        ({"every": -1}, "every = -1"),
        ({"friction": float("nan")}, "friction = nan"),
        ({"temperature": -1.0}, "temperature = -1.0 K"),
        ({"seed": -1}, "seed = -1"),
    ):
        with pytest.raises(InputError, match=message):
            Dynamics(**{"steps": 10, **changes})
    with pytest.raises(InputError, match="unknown optimizer 'newton'; known ones: bfgs, fire"):
        Relaxation(optimizer="newton")
    with pytest.raises(InputError, match="both must be positive"):
        Relaxation(fmax=0.0)


def test_times() -> None:
    assert [parse_time(text) for text in ("10ps", "500 fs", "1ns", "0.5ps")] == [1e4, 500, 1e6, 500]
    for text in ("10", "ps", "ten ps", "-1ps", "0fs", "infps", "3 s"):
        with pytest.raises(InputError, match="time"):
            parse_time(text)


def test_the_drift_is_the_slope_per_atom() -> None:
    samples = [
        Sample(k, 10.0 * k, -5.0 + 0.2 * (-1) ** k, 1.0 + 2e-5 * k - 0.2 * (-1) ** k, 300.0 + k) for k in range(101)
    ]
    summary = Summary.measure(samples, 4, conserved=True)
    assert (summary.steps, summary.time) == (100, 1.0)
    assert summary.drift == pytest.approx(1000 * 2e-3 / 4)  # 2 meV in 1 ps, 4 atoms
    assert summary.temperature == pytest.approx(350)
    assert summary.temperature_std == pytest.approx(np.std(np.arange(101)))
    assert summary.energy_std == pytest.approx(0.5 * np.std(np.linspace(0, 1, 101)))
    assert Summary.measure(samples[:2], 4, conserved=True).drift is None


def test_equal_trajectories_give_equal_pictures(tmp_path: Path) -> None:
    samples = [Sample(k, 0.5 * k, np.sin(k), np.cos(k), 300.0 + k) for k in range(30)]
    for name in ("a.svg", "b.svg", "a.png"):
        plot_trajectory(samples, 3, "title", tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"Temperature (K)" in (tmp_path / "a.svg").read_bytes()
    with pytest.raises(InputError, match="unknown suffix"):
        plot_trajectory(samples, 3, "title", tmp_path / "a.gif")


def test_single_precision_trajectories_resume_too(tmp_path: Path) -> None:
    predictor = equispec.load(saved(tmp_path / "m", ENERGY, seed=1, dtype=torch.float32))
    simulate(predictor, molecule("H2O"), replace(NVE, steps=4, every=2), tmp_path / "t.xyz")
    samples, last = read_trajectory(tmp_path / "t.xyz", {"model": "m"})
    assert [sample.step for sample in samples] == [0, 2, 4]
    assert last.has("momenta")
