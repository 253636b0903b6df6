"""Molecular dynamics: conservation laws, temperatures, resumed runs, and runs that blow up."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule

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
from equispec.workflows.relaxation import Relaxation, relax
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
