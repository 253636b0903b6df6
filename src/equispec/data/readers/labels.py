"""Labels of frames that name and measure them as they like: which key holds which property, in which unit."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from equispec.data.properties import STORABLE
from equispec.errors import DataWarning, InputError
from equispec.quantities import QUANTITIES, Quantity
from equispec.units import UNITS, conversion

VIRIAL = Quantity("virial", "eV", "system", ("3", "3"), 2, 1, "minus the stress times the volume of the cell")
READABLE = {**{name: QUANTITIES[name] for name in STORABLE}, "virial": VIRIAL}

SPELLINGS = {  # words for units as keyboards and other programs have them, and ours
    "Angstrom": "Å",
    "Ang": "Å",
    "A": "Å",
    "Hartree": "Ha",
    "hartree": "Ha",
    "Eh": "Ha",
    "Bohr": "bohr",
    "a0": "bohr",
    "Debye": "D",
    "kB": "kbar",
}
POWERS = {"^2": "²", "**2": "²", "^3": "³", "**3": "³"}


def unit_named(text: str) -> str:
    """The unit of `equispec.units.UNITS` that is meant: e·Å may be written e*Ang or e*A, bohr³ a0^3 or Bohr**3.

    >>> unit_named("eV/Ang"), unit_named("a0 a0 a0"), unit_named("kcal/mol/A")
    ('eV/Å', 'bohr³', 'kcal/mol/Å')

    Raises InputError for a unit that is not known.
    """
    found = text.strip()
    for written, power in POWERS.items():
        found = found.replace(written, power)
    found = re.sub(r"[A-Za-z][A-Za-z0-9]*", lambda word: SPELLINGS.get(word[0], word[0]), found)
    words = found.split()
    if 1 < len(words) <= 3 and len(set(words)) == 1:  # "a0 a0 a0"
        found = words[0] + "²³"[len(words) - 2]
    found = re.sub(r"\s*\*\s*|\s+", "·", found)
    if found not in UNITS:
        raise InputError(f"unknown unit {text!r}; known units: {', '.join(UNITS)}")
    return found


class LabelReader:
    """Takes the labels of one frame after the other out of what its file holds, in equispec's units and shapes.

    `keys`: property -> key, for the properties that are wanted; none: every property of QUANTITIES under its own name,
    which are ASE's names, too. One may be the virial, in place of the stress. `units`: property -> unit, where it is
    not equispec's. A wanted label may be missing in some frames, but not in all. Raises InputError for unknown
    properties and units that cannot be.
    """

    def __init__(self, path: Path, keys: Mapping[str, str], units: Mapping[str, str]) -> None:
        for name in (*keys, *units):
            if name not in READABLE:
                raise InputError(f"unknown property {name!r}; known properties: {', '.join(READABLE)}")
        if {"stress", "virial"} <= keys.keys():
            raise InputError(f"{path}: stress and virial say the same: give the key of one of them")
        if loose := [name for name in units if keys and name not in keys]:
            raise InputError(f"{path}: a unit of {loose[0]} is given, but no key: give both (--{option(loose[0])}-key)")
        self.path, self.wanted = path, {*keys, *units}
        self.keys = dict(keys) or {name: name for name in STORABLE}
        self.factors = {name: conversion(unit_named(unit), READABLE[name].unit) for name, unit in units.items()}
        self.found: set[str] = set()
        self.others: set[str] = set()
        self.frames = self.empty = 0

    def labels(self, available: Mapping[str, Any], n_atoms: int, where: str) -> dict[str, np.ndarray]:
        """The labels of a frame by property; `available`: everything that its file tells, by key.

        Raises InputError, which begins with `where`, for a wrong shape and for what is not a finite number.
        """
        labels = {
            name: np.asarray(_label(available[key], name, key, n_atoms, where) * self.factors.get(name, 1.0))
            for name, key in self.keys.items()
            if available.get(key) is not None
        }
        self.frames += 1
        self.empty += not labels
        self.found |= labels.keys()
        self.others |= available.keys()
        return labels

    def finish(self) -> None:
        """After the last frame: InputError if a wanted label was nowhere; DataWarning if frames had none at all."""
        there = f"the frames hold {', '.join(sorted(self.others)) or 'nothing but structures'}"
        if missing := sorted(self.wanted - self.found):
            raise InputError(f"{self.path}: no frame has {missing[0]} as {self.keys[missing[0]]!r}; {there}")
        if not self.found:
            raise InputError(f"{self.path}: no frame has a label under a name of ASE's (energy, forces, ...); {there}")
        if self.empty:
            warnings.warn(
                f"{self.path}: left out {self.empty} of {self.frames} frames, which have none of the labels",
                DataWarning,
                stacklevel=2,
            )


def option(name: str) -> str:
    """A property as it is written in options of the command line."""
    return name.replace("_", "-")


def _label(value: Any, name: str, key: str, n_atoms: int, where: str) -> np.ndarray:
    quantity = READABLE[name]
    shape = (*((n_atoms,) if quantity.scope == "atom" else ()), *map(int, quantity.shape))
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{where}: {name} ({key!r}) is not made of numbers: {str(value)[:60]}") from None
    if name in ("stress", "virial") and array.shape == (6,):
        array = np.asarray(voigt_6_to_full_3x3_stress(array))
    # one number in a list, nine numbers for a matrix: the same numbers in the same order
    if array.shape != shape and (array.ndim == 1 or array.shape == (*shape, 1)) and array.size == np.prod(shape):
        array = array.reshape(shape)
    if array.shape != shape:
        raise InputError(f"{where}: {name} ({key!r}) has the shape {array.shape}; {shape} is needed")
    if not np.isfinite(array).all():
        raise InputError(f"{where}: {name} ({key!r}) must be finite; leave a label out where it is missing")
    return array
