"""Molecular dynamics with a model: the recipe behind `equispec md`."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from jaxtyping import Float

from equispec.data.structures import read_structures
from equispec.ensemble import structure_name
from equispec.errors import EquispecError, InputError
from equispec.predict import Predictor
from equispec.spectra.io import check_writable
from equispec.workflows.extxyz import provenance
from equispec.workflows.relaxation import energy_model, refuse_outside
from equispec.workflows.trajectory import Sample, check_trajectory, read_trajectory, trajectory_frame

ENSEMBLES = ("nve", "langevin")
TEMPERATURE = 300.0  # K, where neither the user nor the structure says how fast the atoms are
NEAR_MINIMUM = 0.05  # eV/Å, the largest force of a structure that was relaxed
MAX_FORCE = 100.0  # eV/Å; no molecule that is still one has stronger forces
MAX_HEAT, MIN_LIMIT = 10.0, 5000.0  # times the temperature, but at least so many K: hotter is no simulation any more
TIME_UNITS = {"fs": 1.0, "ps": 1e3, "ns": 1e6}  # fs


class SimulationStopped(EquispecError):
    """A simulation blew up; its last frame was saved."""

    exit_code = 1


@dataclass(frozen=True)
class Dynamics:
    """How to simulate: `steps` of `timestep` fs, a frame every `every` steps.

    temperature in K: of the first velocities, drawn with `seed` (None: the structure's own, else 300 K), and of the
    thermostat; friction of the thermostat in 1/ps. Raises InputError for values that make no sense.
    """

    steps: int
    ensemble: str = "nve"
    temperature: float | None = None
    timestep: float = 0.5
    friction: float = 10.0
    seed: int = 0
    every: int = 10

    def __post_init__(self) -> None:
        if self.ensemble not in ENSEMBLES:
            raise InputError(f"unknown ensemble {self.ensemble!r}; known ones: {', '.join(ENSEMBLES)}")
        for name, value, unit in (
            ("dt", self.timestep, " fs"),
            ("friction", self.friction, " 1/ps"),
            ("steps", self.steps, ""),
            ("every", self.every, ""),
        ):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} = {value}{unit}: a positive number is needed")
        if self.temperature is not None and not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(f"temperature = {self.temperature} K: a number of at least 0 is needed")
        if self.seed < 0:
            raise InputError(f"seed = {self.seed}: a number of at least 0 is needed")

    @property
    def drawn(self) -> float:
        """The temperature of velocities that are drawn, and of the thermostat, K."""
        return TEMPERATURE if self.temperature is None else self.temperature

    @property
    def words(self) -> str:
        """What must be the same where a trajectory is continued, in words."""
        temperature = "" if self.temperature is None else f" {self.temperature:g} K"
        thermostat = f" friction {self.friction:g} 1/ps" if self.ensemble == "langevin" else ""
        return f"{self.ensemble}{temperature}{thermostat} dt {self.timestep:g} fs seed {self.seed}"


Report = Callable[[Sample], None]


def parse_time(text: str) -> float:
    """Femtoseconds from "10ps", "500 fs" or "1ns"; InputError for anything else."""
    number, unit = text.strip()[:-2], text.strip()[-2:]
    try:
        time = float(number) * TIME_UNITS[unit]
    except (ValueError, KeyError):
        raise InputError(f"time {text!r}: a number and one of {', '.join(TIME_UNITS)} are needed, as in 10ps") from None
    if not (math.isfinite(time) and time > 0):
        raise InputError(f"time {text!r}: it must be positive and finite")
    return time


def one_structure(path: Path, output: Path) -> Atoms:
    """The only structure of a file; InputError for several, and where the output is this very file."""
    if path.resolve() == output.resolve():
        raise InputError(f"{path} is the structure file; choose another file for the output")
    frames = list(itertools.islice(read_structures(path), 2))
    if len(frames) > 1:
        raise InputError(f"{path} holds several structures; a simulation begins with one")
    return frames[0]


def simulate(
    predictor: Predictor,
    atoms: Atoms,
    how: Dynamics,
    output: Path,
    resume: bool = False,
    strict: bool = False,
    report: Report = lambda _: None,
    remark: Callable[[str], None] = lambda _: None,
) -> list[Sample]:
    """Run and write a trajectory; `report` is told of every step; returns the samples of all its frames.

    `remark` is told, in a sentence, where the run cannot stay at the temperature of its first velocities.

    Frames are extended xyz with the model's properties, momenta, temperature and time. With `resume` a trajectory goes
    on from its last frame, or begins where there is none. Warns with DomainWarning as the calculator does.
    Raises SimulationStopped, with the frame saved beside the output, when numbers stop being numbers, atoms come too
    close, or forces or temperature leave all bounds; DomainError, if strict, for a structure outside the model's
    domain; InputError for a model without energies, a structure that cannot be used, and an output that is there
    already (without `resume`) or was begun in another way.
    """
    energy_model(predictor)
    _check_output(output, resume)
    info = {**_origin(predictor), "md": how.words}
    atoms = atoms.copy()
    samples: list[Sample] = []
    if resume and output.exists():
        samples, last = read_trajectory(output, info)
        _continue_from(atoms, last, output)
        drawn = False
    else:
        drawn = how.temperature is not None or not atoms.has("momenta")
        set_velocities(atoms, how)
    freedom = degrees_of_freedom(atoms, how.ensemble)
    predictor.check(atoms, ())
    if strict:
        refuse_outside(predictor, atoms)
    atoms.calc = predictor.calculator()
    first = samples[-1].step if samples else 0
    dynamics = _integrator(atoms, how, first)
    concerns = predictor.concerns(atoms)
    run = _Run(atoms, how, freedom, output, info | ({"outside_domain": "; ".join(concerns)} if concerns else {}))
    sample = run.advance(atoms.get_forces, first)
    if not samples:
        run.write(sample)
        samples.append(sample)
    if drawn and (text := _from_a_minimum(atoms, how)):
        remark(text)
    for step in range(first + 1, how.steps + 1):
        sample = run.advance(dynamics.step, step)
        report(sample)
        if step % how.every == 0 or step == how.steps:
            run.write(sample)
            samples.append(sample)
    return samples


def _from_a_minimum(atoms: Atoms, how: Dynamics) -> str | None:
    """What becomes of the temperature of velocities that were given to a relaxed structure, in a sentence."""
    if how.ensemble != "nve" or how.drawn == 0 or _strongest(atoms) >= NEAR_MINIMUM:
        return None
    return (
        f"the first structure is near a minimum (largest force {_strongest(atoms):.3f} eV/Å), so that without a "
        f"thermostat half of its {how.drawn:g} K goes into the potential energy: for {how.drawn:g} K on average take "
        f"--temperature {2 * how.drawn:g} or --ensemble langevin"
    )


def _strongest(atoms: Atoms) -> float:
    """The largest force, eV/Å."""
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


class _Run:
    """A simulation under way: what it measures and writes, and when it stops."""

    def __init__(self, atoms: Atoms, how: Dynamics, freedom: int, output: Path, info: dict[str, str]) -> None:
        self.atoms = atoms
        self.timestep = how.timestep
        self.freedom = freedom
        self.output = output
        self.info = info
        self.hottest = max(MAX_HEAT * (how.temperature or TEMPERATURE), MIN_LIMIT)

    def advance(self, move: Callable[[], Any], step: int) -> Sample:
        """Make a move; a structure that the model refuses and numbers out of all bounds stop the simulation."""
        try:
            move()
        except InputError as error:
            raise self._stopped(step, str(error)) from None
        strongest = _strongest(self.atoms)
        if not strongest <= MAX_FORCE:
            raise self._stopped(step, f"a force of {strongest:.3g} eV/Å exceeds {MAX_FORCE:g} eV/Å")
        sample = self._sample(self.atoms, step, float(self.atoms.get_potential_energy()))
        if not sample.temperature <= self.hottest:
            raise self._stopped(step, f"a temperature of {sample.temperature:.3g} K exceeds {self.hottest:g} K")
        return sample

    def write(self, sample: Sample) -> None:
        """Add a frame to the file."""
        text = trajectory_frame(self.atoms, sample, self.info)
        try:
            with self.output.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise InputError(
                f"{self.output}: cannot be written ({error.strerror or error}); --resume goes on from its last frame"
            ) from None

    def _sample(self, atoms: Atoms, step: int, potential: float) -> Sample:
        kinetic = float(atoms.get_kinetic_energy())
        return Sample(step, step * self.timestep, potential, kinetic, 2 * kinetic / (self.freedom * units.kB))

    def _stopped(self, step: int, reason: str) -> SimulationStopped:
        """Save the frame, without results, which may not exist."""
        place = self.output.with_name(f"{self.output.stem}-stopped{self.output.suffix}")
        frame = self.atoms.copy()
        sample = self._sample(frame, step, math.nan)
        place.write_text(trajectory_frame(frame, sample, self.info), encoding="utf-8")
        before = f", those before it are in {self.output}" if self.output.exists() else ""
        return SimulationStopped(
            f"the simulation stopped at step {step} ({sample.time:g} fs): {reason}; this frame is in {place}{before}"
        )


def set_velocities(atoms: Atoms, how: Dynamics) -> None:
    """Give the atoms Maxwell-Boltzmann velocities, or leave the structure's own where no temperature is asked for.

    Without a thermostat and constraints, the centre of mass rests, a molecule does not turn, and the velocities are
    scaled to exactly the temperature.
    """
    if how.temperature is None and atoms.has("momenta"):
        return
    kT = units.kB * how.drawn
    masses = atoms.get_masses()[:, None]
    momenta = np.random.default_rng(how.seed).normal(size=(len(atoms), 3)) * np.sqrt(masses * kT)
    if how.ensemble == "nve" and not atoms.constraints:
        momenta = masses * _without_rigid_motion(momenta / masses, atoms)
        kinetic = float((momenta**2 / (2 * masses)).sum())
        if kinetic > 0:
            momenta *= math.sqrt(degrees_of_freedom(atoms, how.ensemble) * kT / 2 / kinetic)
    atoms.set_momenta(momenta)


def _without_rigid_motion(velocities: Float[np.ndarray, "atoms 3"], atoms: Atoms) -> Float[np.ndarray, "atoms 3"]:
    masses = atoms.get_masses()[:, None]
    velocities = velocities - (masses * velocities).sum(0) / masses.sum()
    if atoms.pbc.any():
        return velocities
    r = atoms.positions - atoms.get_center_of_mass()
    angular = (masses * np.cross(r, velocities)).sum(0)
    return velocities - np.cross(np.linalg.pinv(_inertia(atoms), rcond=1e-6, hermitian=True) @ angular, r)


def _inertia(atoms: Atoms) -> Float[np.ndarray, "3 3"]:
    """Tensor of inertia about the centre of mass, amu Å²."""
    masses, r = atoms.get_masses(), atoms.positions - atoms.get_center_of_mass()
    return np.eye(3) * (masses * (r**2).sum(1)).sum() - (r.T * masses) @ r


def degrees_of_freedom(atoms: Atoms, ensemble: str) -> int:
    """What the kinetic energy is shared by: all coordinates but those that constraints or conservation laws hold.

    Raises InputError where nothing can move.
    """
    if atoms.constraints:
        freedom = int(atoms.get_number_of_degrees_of_freedom())
    elif ensemble == "langevin":
        freedom = 3 * len(atoms)
    else:
        turns = 0 if atoms.pbc.any() else int(np.linalg.matrix_rank(_inertia(atoms), tol=1e-3))
        freedom = 3 * len(atoms) - 3 - turns
    if freedom < 1:
        raise InputError(f"{structure_name(atoms)}: nothing can move in the ensemble {ensemble}")
    return freedom


def _integrator(atoms: Atoms, how: Dynamics, first: int) -> VelocityVerlet | Langevin:
    timestep = how.timestep * units.fs
    if how.ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    random = np.random.default_rng([how.seed, first])  # a continued run must not draw the same numbers again
    friction = how.friction / (1000 * units.fs)
    return Langevin(atoms, timestep, temperature_K=how.drawn, friction=friction, fixcm=False, rng=random)


def _origin(predictor: Predictor) -> dict[str, str]:
    names = [name for name in predictor.quantities if name != "stress"]
    origin = provenance(predictor.properties_meta(names))
    return {**origin, "units": f"{origin['units']}, momenta sqrt(amu*eV), time_fs fs, temperature_K K"}


def _check_output(output: Path, resume: bool) -> None:
    check_trajectory(output)
    check_writable(output)
    if output.exists() and not resume:
        raise InputError(f"{output} is there already; --resume goes on with it, or choose another file")


def _continue_from(atoms: Atoms, last: Atoms, output: Path) -> None:
    """Put the atoms where a trajectory ends, and as fast."""
    if not (np.array_equal(atoms.numbers, last.numbers) and np.array_equal(atoms.pbc, last.pbc)):
        raise InputError(f"{output} is a trajectory of {last.symbols}, not of {atoms.symbols}; choose another file")
    atoms.set_positions(last.positions, apply_constraint=False)
    atoms.set_momenta(last.get_momenta(), apply_constraint=False)
