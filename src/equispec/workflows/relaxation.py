"""Geometry optimisation with a model: the recipe behind `equispec relax`."""

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE

from equispec.data.structures import read_structures
from equispec.ensemble import structure_name
from equispec.errors import DomainError, DomainWarning, InputError
from equispec.predict import Predictor
from equispec.property_predictor import Properties
from equispec.workflows.prediction_files import PropertyWriter, fitting

OPTIMIZERS: dict[str, Any] = {"bfgs": BFGS, "fire": FIRE}


@dataclass(frozen=True)
class Relaxation:
    """How to relax: until no force (with `cell`, and no stress times volume) exceeds `fmax` (eV/Å), in at most `steps`.

    Raises InputError for an unknown optimizer and a force or number of steps that is not positive.
    """

    fmax: float = 0.01
    steps: int = 500
    cell: bool = False
    optimizer: str = "bfgs"

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"unknown optimizer {self.optimizer!r}; known ones: {', '.join(OPTIMIZERS)}")
        if not (0 < self.fmax < np.inf and self.steps > 0):
            raise InputError(f"fmax = {self.fmax} eV/Å in {self.steps} steps: both must be positive numbers")


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A relaxed structure with its properties; `largest_force` in eV/Å; `start` and `end`: energies in eV."""

    found: Properties
    converged: bool
    steps: int
    largest_force: float
    start: float
    end: float


Report = Callable[[int, float, float], None]  # steps done, energy (eV), largest force (eV/Å)


def energy_model(predictor: Predictor, cell: bool = False) -> None:
    """InputError unless the model predicts energies and forces and, where a cell is to be relaxed, stress."""
    predictor.asked(None)
    known = ", ".join(predictor.quantities)
    if "energy" not in predictor.quantities:
        raise InputError(f"model {predictor.name!r} predicts no energy and so no forces; it predicts {known}")
    for name in ("forces", *(["stress"] if cell else [])):
        if name not in predictor.quantities:
            raise InputError(f"model {predictor.name!r} predicts no {name}; it predicts {known}")


def refuse_outside(predictor: Predictor, atoms: Atoms) -> None:
    """DomainError where the structure differs from all that the model was trained on."""
    predictor.check(atoms, ())
    if concerns := predictor.concerns(atoms):
        raise DomainError(f"{structure_name(atoms)}: {concerns[0]}")


def relaxed_properties(predictor: Predictor, atoms: Atoms, cell: bool = False) -> tuple[str, ...]:
    """Names of the properties that are told of a structure: all that the model has and that such a structure has."""
    absent = predictor.molecular if atoms.pbc.any() else ()
    return tuple(name for name in predictor.quantities if name not in absent and (name != "stress" or cell))


def relax(predictor: Predictor, atoms: Atoms, how: Relaxation, report: Report = lambda *_: None) -> Relaxed:
    """Relax a copy of a structure, with its constraints.

    Warns with DomainWarning as the calculator does. Raises InputError for a model without energies, forces or, where
    the cell is relaxed, stress, for a cell that is not periodic in three directions, and where the structure becomes
    one that cannot be used.
    """
    energy_model(predictor, how.cell)
    if how.cell and not atoms.pbc.all():
        raise InputError(f"{structure_name(atoms)}: a cell can be relaxed in three periodic directions only")
    atoms = atoms.copy()
    atoms.calc = predictor.calculator()
    start = atoms.get_potential_energy()
    target: Any = FrechetCellFilter(atoms) if how.cell else atoms
    optimizer = OPTIMIZERS[how.optimizer](target, logfile=None)
    optimizer.attach(lambda: report(optimizer.nsteps, atoms.get_potential_energy(), _largest(target)))
    try:
        converged = bool(optimizer.run(fmax=how.fmax, steps=how.steps))
    except InputError as error:
        raise InputError(
            f"{structure_name(atoms)}: stopped after {optimizer.nsteps} steps of the relaxation: {error}"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainWarning)  # was given at the beginning
        (found,) = predictor.properties([atoms], relaxed_properties(predictor, atoms, how.cell))
    return Relaxed(found, converged, optimizer.nsteps, _largest(atoms), start, atoms.get_potential_energy())


def relax_file(
    predictor: Predictor,
    path: Path,
    how: Relaxation,
    output: Path | None = None,
    strict: bool = False,
    report: Callable[[str, int, float, float], None] = lambda *_: None,
) -> Iterator[Relaxed]:
    """Relax all structures of a file, write them, and yield each; `report` is told their names, too.

    The output holds the properties of the relaxed structures; it is complete at the end, and absent after a failure.
    Raises DomainError, if strict, for a structure outside the model's domain; otherwise as `relax`.
    """
    energy_model(predictor, how.cell)
    with ExitStack() as stack:
        writer = None
        if output is not None:
            names = _columns(predictor, path, how.cell, output)
            writer = stack.enter_context(PropertyWriter(output, names, predictor.properties_meta(names)))
        for atoms in read_structures(path):
            if strict:
                refuse_outside(predictor, atoms)
            relaxed = relax(predictor, atoms, how, functools.partial(report, structure_name(atoms)))
            if writer is not None:
                writer.write(relaxed.found)
            yield relaxed


def _columns(predictor: Predictor, path: Path, cell: bool, output: Path) -> tuple[str, ...]:
    """What is written of the structures of a file: every property that one of them has and the output can hold."""
    told = {name for atoms in read_structures(path) for name in relaxed_properties(predictor, atoms, cell)}
    names = tuple(name for name in predictor.quantities if name in told)
    return fitting(None, names, output) or names


def _largest(target: Any) -> float:
    return float(np.linalg.norm(target.get_forces(), axis=1).max())
