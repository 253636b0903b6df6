"""Reader of QM9 (R. Ramakrishnan et al., Sci. Data 1, 140022 (2014)) in both of its published layouts.

Raw: `dsgdb9nsd.xyz.tar.bz2`, or a folder of its files `dsgdb9nsd_000001.xyz`. Lines of a file: number of atoms; "gdb",
the number in QM9 and 15 properties; an element, x, y, z (Å) and a Mulliken charge per atom; frequencies; two SMILES, of
GDB-17 and of the relaxed structure; two InChI. Small numbers are written 6.2*^-6.

SDF: `gdb9.sdf`, with its table `gdb9.sdf.csv` beside it (mol_id gdb_1, ...; in the order of the SDF).

In both: D, bohr³, Ha, bohr², cal/mol/K. `uncharacterized.txt` beside the data, a line per molecule that begins with its
number, names those whose relaxed structure is no longer that of their SMILES.
"""

import csv
import io
import itertools
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from equispec.data.properties import PropertySample
from equispec.data.sample import reserved_for_audit
from equispec.errors import DataWarning, InputError
from equispec.quantities import QUANTITIES
from equispec.units import conversion

COLUMNS = {  # of the SDF's table, in the order of the raw files -> property and unit
    "mu": ("dipole_magnitude", "D"),
    "alpha": ("isotropic_polarizability", "bohr³"),
    "homo": ("homo", "Ha"),
    "lumo": ("lumo", "Ha"),
    "gap": ("gap", "Ha"),
    "r2": ("spatial_extent", "bohr²"),
    "zpve": ("zero_point_energy", "Ha"),
    "u0": ("internal_energy_0K", "Ha"),
    "u298": ("internal_energy", "Ha"),
    "h298": ("enthalpy", "Ha"),
    "g298": ("gibbs_energy", "Ha"),
    "cv": ("heat_capacity", "cal/mol/K"),
}
FIRST_COLUMN = 5  # of the second line of a raw file: after "gdb", the number and three rotational constants
FACTORS = {column: conversion(unit, QUANTITIES[name].unit) for column, (name, unit) in COLUMNS.items()}
SDF_COUNTS = slice(0, 3)  # columns of the number of atoms in the fourth line of an entry
PROVENANCE: dict[str, str | float] = {
    "name": "qm9",
    "method": "B3LYP/6-31G(2df,p)",
    "protocol": "relaxed structures and their properties, as published; energies are totals, not of atomisation",
    "source": "QM9, figshare collection 978904 (dsgdb9nsd.xyz.tar.bz2), or gdb9.sdf with its table",
    "licence": "CC0",
    "citation": (
        "R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von Lilienfeld, Sci. Data 1, 140022 (2014), "
        "doi:10.1038/sdata.2014.22."
    ),
    "note": (
        "Molecule ids are QM9's serial numbers; molecules with id % 10 == 7 are reserved for an outside audit and none "
        "is inside."
    ),
}


def read_qm9(path: str | Path) -> Iterator[PropertySample]:
    """Yield the molecules of QM9, in the order of the source; the id is the number in QM9.

    `path`: the archive of raw files, a folder of them, `gdb9.sdf`, or the folder of the latter. Molecules of an
    `uncharacterized.txt` beside the data and those reserved for the audit are left out; a DataWarning at the end counts
    them. Raises InputError for a missing or damaged source.
    """
    path = Path(path)
    doubtful = _uncharacterized(path)
    left_out = {"uncharacterized": 0, "reserved": 0}
    for sample in _sdf(path) if _sdf_file(path) else _raw(path):
        if reserved_for_audit(sample.id):
            left_out["reserved"] += 1
        elif sample.id in doubtful:
            left_out["uncharacterized"] += 1
        else:
            yield sample
    if any(left_out.values()):
        warnings.warn(
            f"{path}: left out {left_out['uncharacterized']} uncharacterized molecules and {left_out['reserved']} "
            "reserved for the audit",
            DataWarning,
            stacklevel=2,
        )


def _properties(numbers: dict[str, float]) -> dict[str, np.ndarray]:
    return {name: np.asarray(numbers[column] * FACTORS[column]) for column, (name, _) in COLUMNS.items()}


def _uncharacterized(path: Path) -> set[int]:
    listed = (path if path.is_dir() else path.parent) / "uncharacterized.txt"
    if not listed.is_file():
        return set()
    rows = (line.split() for line in listed.read_text(encoding="utf-8", errors="replace").splitlines())
    return {int(row[0]) for row in rows if len(row) > 1 and row[0].isdigit()}


def _raw(path: Path) -> Iterator[PropertySample]:
    found = False
    for name, text in _raw_files(path):
        found = True
        try:
            yield _raw_sample(text)
        except (ValueError, IndexError, KeyError) as error:
            raise InputError(f"{path}, {name}: not a raw file of QM9 ({error})") from None
    if not found:
        raise InputError(f"{path}: neither gdb9.sdf nor raw files of QM9 (dsgdb9nsd_*.xyz) are in it")


def _raw_files(path: Path) -> Iterator[tuple[str, str]]:
    if path.is_dir():
        for file in sorted(path.glob("dsgdb9nsd_*.xyz")):
            yield file.name, file.read_text(encoding="utf-8")
        return
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.name.endswith(".xyz") and (file := archive.extractfile(member)) is not None:
                    yield member.name, file.read().decode("utf-8")
    except (OSError, EOFError, tarfile.TarError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: neither gdb9.sdf nor a readable archive of QM9's raw files ({error})") from None


def _raw_sample(text: str) -> PropertySample:
    lines = text.splitlines()
    n = int(lines[0])
    words = lines[1].split()
    numbers = dict(zip(COLUMNS, map(_number, words[FIRST_COLUMN:]), strict=True))
    atoms = [line.split() for line in lines[2 : 2 + n]]
    return PropertySample(
        int(words[1]),
        lines[3 + n].split()[1],  # of the relaxed structure, not of the entry of GDB-17
        np.array([atomic_numbers[row[0]] for row in atoms], dtype=np.int64),
        np.array([[_number(word) for word in row[1:4]] for row in atoms]),
        0,
        1,
        _properties(numbers),
    )


def _number(word: str) -> float:
    return float(word.replace("*^", "e"))


def _sdf_file(path: Path) -> Path | None:
    if path.is_dir():
        return path / "gdb9.sdf" if (path / "gdb9.sdf").is_file() else None
    return path if path.suffix == ".sdf" else None


def _sdf(path: Path) -> Iterator[PropertySample]:
    sdf = _sdf_file(path) or path
    table = sdf.with_name(f"{sdf.name}.csv")
    for file in (sdf, table):
        if not file.is_file():
            raise InputError(f"{file}: no such file; QM9 as SDF needs {sdf.name} and {table.name}")
    with sdf.open(encoding="utf-8") as entries, table.open(encoding="utf-8", newline="") as rows:
        reader = csv.DictReader(rows)
        if missing := [column for column in ("mol_id", *COLUMNS) if column not in (reader.fieldnames or ())]:
            raise InputError(f"{table}: not the table of QM9: it has no column {missing[0]!r}")
        place = 0
        try:
            for entry, row in itertools.zip_longest(_sdf_entries(entries), reader):
                place += 1
                if entry is None or row is None:
                    raise ValueError("the SDF and its table differ in length")
                yield _sdf_sample(entry, row)
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise InputError(f"{sdf}, entry {place}: not QM9's SDF with its table ({error})") from None


def _sdf_entries(file: io.TextIOBase) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in file:
        if line.startswith("$$$$"):
            yield lines
            lines = []
        else:
            lines.append(line.rstrip("\n"))
    if any(line.strip() for line in lines):
        raise ValueError("the SDF ends within an entry")


def _sdf_sample(lines: list[str], row: dict[str, str]) -> PropertySample:
    if lines[0].strip() != row["mol_id"]:
        raise ValueError(f"{lines[0].strip()!r} in the SDF, {row['mol_id']!r} in the table")
    atoms = [line.split()[:4] for line in lines[4 : 4 + int(lines[3][SDF_COUNTS])]]
    return PropertySample(
        int(row["mol_id"].removeprefix("gdb_")),
        "",
        np.array([atomic_numbers[symbol] for *_, symbol in atoms], dtype=np.int64),
        np.array([[float(word) for word in xyz] for *xyz, _ in atoms]),
        0,
        1,
        _properties({column: float(row[column]) for column in COLUMNS}),
    )
