"""Reader of QM7-X (J. Hoja et al., Sci. Data 8, 43 (2021)): PBE0+MBD properties of small molecules out of equilibrium.

Published layout: files `1000.hdf5` ... `8000.hdf5` with groups /<molecule>/<conformation>/ (/1/Geom-m1-i1-c1-opt, for
one) and their datasets `atNUM` [atoms], `atXYZ` [atoms, 3] Å, `ePBE0+MBD` [1] eV, `totFOR` [atoms, 3] eV/Å, `vDIP` [3]
e·Å, `DIP` [1] e·Å, `hCHG` [atoms, 1] e (Hirshfeld charges), `mPOL` [1] bohr³, `mTPOL` [9] bohr³, `eH`, `eL`, `HLgap`
[1] eV, and others. `DupMols.dat` beside them names, one per line, the relaxed conformations that occur twice: they and
the displaced ones made of them are left out.

Two .npz forms are read as well: the same arrays with a leading axis of the frames, and `z` [frames, atoms] (filled up
with zeros), `R` Å, `E` eV, `F` eV/Å.

The dipoles of Hirshfeld charges are not `vDIP`: those of the atoms themselves are missing, and where the dipole is
small, as in hydrocarbons, the two may even point against one another. Both have the signs of GFN2-xTB.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from equispec.data.properties import PropertySample
from equispec.data.readers.npz import load_npz, npz_names
from equispec.errors import DataWarning, InputError
from equispec.quantities import QUANTITIES
from equispec.units import conversion

LABELS = {  # dataset -> property and unit
    "ePBE0+MBD": ("energy", "eV"),
    "totFOR": ("forces", "eV/Å"),
    "vDIP": ("dipole", "e·Å"),
    "DIP": ("dipole_magnitude", "e·Å"),
    "hCHG": ("charges", "e"),
    "mTPOL": ("polarizability", "bohr³"),
    "mPOL": ("isotropic_polarizability", "bohr³"),
    "eH": ("homo", "eV"),
    "eL": ("lumo", "eV"),
    "HLgap": ("gap", "eV"),
}
FACTORS = {key: conversion(unit, QUANTITIES[name].unit) for key, (name, unit) in LABELS.items()}
REQUIRED = ("atNUM", "atXYZ", "ePBE0+MBD", "totFOR")
ATOMWISE = ("atNUM", "atXYZ", "totFOR", "hCHG")
PADDED = {"atNUM": "z", "atXYZ": "R", "ePBE0+MBD": "E", "totFOR": "F"}
PROVENANCE: dict[str, str | float] = {
    "name": "qm7x",
    "method": "PBE0+MBD (FHI-aims, tight)",
    "protocol": "relaxed conformations and displacements along normal modes; polarizabilities by self-consistent "
    "screening, as published",
    "source": "QM7-X, doi:10.5281/zenodo.4288677",
    "licence": "that of the source",
    "citation": "J. Hoja et al., Sci. Data 8, 43 (2021), doi:10.1038/s41597-021-00812-2.",
}


def read_qm7x(path: str | Path) -> Iterator[PropertySample]:
    """Yield the conformations: molecule by molecule, in the order of the numbers in their names; ids count from 0.

    `path`: an .hdf5 file, a folder of them, or an .npz of either form. Molecules are neutral with closed shells. Raises
    InputError for a missing, damaged or foreign file and for arrays that do not match.
    """
    path = Path(path)
    for number, (where, arrays) in enumerate(_npz(path) if path.suffix == ".npz" else _hdf5(path)):
        try:
            yield _sample(number, arrays)
        except (ValueError, TypeError) as error:
            raise InputError(f"{where}: not a conformation of QM7-X ({error})") from None


def _sample(number: int, arrays: Mapping[str, np.ndarray]) -> PropertySample:
    numbers = np.asarray(arrays["atNUM"]).astype(np.int64)
    if numbers.ndim != 1:
        raise ValueError(f"atNUM has the shape {numbers.shape}; [atoms] is needed")
    positions = np.asarray(arrays["atXYZ"], dtype=np.float64).reshape(len(numbers), 3)
    properties = {}
    for key in LABELS.keys() & arrays.keys():
        name, _ = LABELS[key]
        quantity = QUANTITIES[name]
        shape = (*([len(numbers)] if quantity.scope == "atom" else []), *map(int, quantity.shape))
        properties[name] = np.asarray(np.asarray(arrays[key], dtype=np.float64).reshape(shape) * FACTORS[key])
    return PropertySample(number, "", numbers, positions, 0, 1, properties)


def _hdf5(path: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    files = sorted(path.glob("*.hdf5"), key=_numbers) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: a folder without .hdf5 files of QM7-X")
    twice = _duplicates(path if path.is_dir() else path.parent)
    left_out = 0
    for name in files:
        try:
            file: Any = h5py.File(name, "r")
        except OSError as error:
            raise InputError(f"{name}: not a readable HDF5 file ({error})") from None
        with file:
            place = ""
            try:
                for molecule in sorted(file, key=int):
                    for conformation in sorted(file[molecule], key=_numbers):
                        place = f", {molecule}/{conformation}"
                        if conformation.rpartition("-")[0] in twice:
                            left_out += 1
                            continue
                        group = file[molecule][conformation]
                        keys = (*REQUIRED, *(key for key in LABELS if key not in REQUIRED and key in group))
                        yield f"{name}{place}", {key: group[key][()] for key in keys}
            except (KeyError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:  # h5py: all
                raise InputError(f"{name}{place}: not a file of QM7-X ({error})") from None
    if left_out:
        message = f"{path}: left out {left_out} conformations that occur twice (DupMols.dat)"
        warnings.warn(message, DataWarning, stacklevel=3)


def _numbers(name: str | Path) -> tuple[int, ...]:
    """The numbers in a name: Geom-m1-i1-c2-d10 comes after Geom-m1-i1-c2-d9; the relaxed one (opt) first."""
    return tuple(map(int, re.findall(r"\d+", Path(name).stem)))


def _duplicates(folder: Path) -> set[str]:
    listed = folder / "DupMols.dat"
    if not listed.is_file():
        return set()
    return {line.strip().rpartition("-")[0] for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()}


def _npz(path: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    names = npz_names(path)
    if "atNUM" in names or "z" not in names:
        keys = (*REQUIRED, *(key for key in LABELS if key not in REQUIRED and key in names))
        arrays = load_npz(path, {key: (key,) for key in keys}, "a file of QM7-X")
    else:
        arrays = load_npz(path, {key: (name,) for key, name in PADDED.items()}, "a file of QM7-X")
    if arrays["atNUM"].ndim != 2:
        raise InputError(f"{path}: atNUM or z has the shape {arrays['atNUM'].shape}; [frames, atoms] is needed")
    if different := [key for key, values in arrays.items() if len(values) != len(arrays["atNUM"])]:
        raise InputError(f"{path}: {different[0]} has another number of frames than the atomic numbers")
    for frame, numbers in enumerate(arrays["atNUM"]):
        real = numbers > 0
        of_frame = {key: values[frame] for key, values in arrays.items()}
        for key in (key for key in ATOMWISE if key in of_frame):
            if of_frame[key].shape[:1] != real.shape:
                raise InputError(f"{path}: {key} and the atomic numbers differ in the number of atoms")
            of_frame[key] = of_frame[key][real]
        yield f"{path}, frame {frame + 1}", of_frame
