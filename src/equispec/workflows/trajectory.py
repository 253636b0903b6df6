"""Trajectories of molecular dynamics: their files, what is measured along them, and pictures of them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from equispec.data.structures import read_structures
from equispec.errors import InputError
from equispec.quantities import QUANTITIES
from equispec.spectra.plot import CYCLE, check_suffix, styled, write_figure
from equispec.workflows.extxyz import frame_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".xyz", ".extxyz")


@dataclass(frozen=True)
class Sample:
    """One moment: step, time (fs), potential and kinetic energy (eV), and temperature (K)."""

    step: int
    time: float
    potential: float
    kinetic: float
    temperature: float

    @property
    def total(self) -> float:
        """Total energy, eV."""
        return self.potential + self.kinetic


@dataclass(frozen=True)
class Summary:
    """What a trajectory shows, from its frames.

    time in ps; temperature and its standard deviation in K; energy_std: standard deviation of the total energy, meV per
    atom; drift: slope of a straight line through the total energy, meV/ps per atom, None for fewer than three frames
    and where a thermostat exchanges energy.
    """

    steps: int
    time: float
    temperature: float
    temperature_std: float
    energy_std: float
    drift: float | None

    @classmethod
    def measure(cls, samples: Sequence[Sample], n_atoms: int, conserved: bool) -> "Summary":
        """`conserved`: whether the total energy should stay the same."""
        time = np.array([sample.time for sample in samples]) / 1000
        temperature = np.array([sample.temperature for sample in samples])
        total = 1000 * np.array([sample.total for sample in samples]) / n_atoms
        measurable = conserved and len(samples) > 2
        return cls(
            steps=samples[-1].step,
            time=float(time[-1]),
            temperature=float(temperature.mean()),
            temperature_std=float(temperature.std()),
            energy_std=float((total - total.mean()).std()),
            drift=float(np.polyfit(time, total - total.mean(), 1)[0]) if measurable else None,
        )


def check_trajectory(path: Path) -> None:
    """InputError for a suffix other than those of extended xyz."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: unknown suffix {path.suffix!r} of a trajectory; known ones are {', '.join(SUFFIXES)}"
        )


def trajectory_frame(atoms: Atoms, sample: Sample, info: dict[str, Any]) -> str:
    """The text of a frame with the results of the atoms' calculator, momenta, and the sample."""
    results = {} if atoms.calc is None else atoms.calc.results
    values = {name: np.asarray(value) for name, value in results.items() if name in QUANTITIES and name != "stress"}
    moment = {
        "step": sample.step,
        "time_fs": sample.time,
        "temperature_K": sample.temperature,
        "kinetic_energy": sample.kinetic,
    }
    return frame_text(atoms, values, moment | info)


def read_trajectory(path: Path, info: dict[str, Any]) -> tuple[list[Sample], Atoms]:
    """The samples of a trajectory and its last frame; what a killed run wrote of another frame is cut off.

    Raises InputError for a file without a whole frame, one that is no trajectory of ours, and one whose `info` differs.
    """
    _cut_last_frame(path)
    samples, last = [], None
    for last in read_structures(path):
        found = last.info
        try:
            different = [key for key in info if str(found[key]) != str(info[key])]
            numbers = [float(found[key]) for key in ("time_fs", "kinetic_energy", "temperature_K")]
            potential = float(last.get_potential_energy())
            samples.append(Sample(int(found["step"]), numbers[0], potential, *numbers[1:]))
        except (KeyError, TypeError, ValueError, RuntimeError):
            raise InputError(f"{path} is not a trajectory of equispec md; choose another file for the output") from None
        if different:
            key = different[0]
            raise InputError(f"{path} was begun with {key} = {found[key]}, not {info[key]}; choose another file")
    assert last is not None
    return samples, last


def _cut_last_frame(path: Path) -> None:
    """Take the end off a file that does not end with a whole frame, of as many lines as its first one says."""
    with path.open("rb+") as file:
        whole = 0
        while header := file.readline():
            lines = [file.readline() for _ in range(int(header) + 1)] if header.strip().isdigit() else [b""]
            if not lines[-1].endswith(b"\n"):
                break
            whole = file.tell()
        file.seek(0, os.SEEK_END)
        if 0 < whole < file.tell():
            file.truncate(whole)


@styled
def plot_trajectory(samples: Sequence[Sample], n_atoms: int, title: str, path: Path | None = None) -> "Figure":
    """Energies per atom about their means and the temperature, against time; `path` ends in .png or .svg."""
    from matplotlib.figure import Figure

    check_suffix(path)
    time = np.array([sample.time for sample in samples]) / 1000
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    energies, temperature = figure.subplots(2, 1, sharex=True)
    curves = (
        ("potential", [sample.potential for sample in samples], CYCLE[0], 1.0),
        ("kinetic", [sample.kinetic for sample in samples], CYCLE[1], 1.0),
        ("total", [sample.total for sample in samples], "black", 1.5),
    )
    for name, values, colour, width in curves:
        energy = 1000 * np.array(values) / n_atoms
        energies.plot(time, energy - energy.mean(), color=colour, linewidth=width, label=name)
    energies.set_ylabel("Energy − mean (meV/atom)")
    energies.legend(loc="upper right", ncols=3)
    energies.set_title(title, loc="left")
    kelvin = np.array([sample.temperature for sample in samples])
    temperature.plot(time, kelvin, color=CYCLE[2], linewidth=1.0)
    temperature.axhline(kelvin.mean(), color="black", linewidth=0.8, linestyle="--")
    temperature.set_ylabel("Temperature (K)")
    temperature.set_xlabel("Time (ps)")
    figure.align_ylabels()
    return write_figure(figure, path)
