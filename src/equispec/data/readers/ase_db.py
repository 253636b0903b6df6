"""Reader of databases of ASE (.db): rows with a calculator's results, key-value pairs, or data as SchNetPack writes it.

SchNetPack keeps its labels in the data of every row, under any name, and their units in the metadata of the database
(`_property_unit_dict`, `_distance_unit`); those are used unless other units are told.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ase.db

from equispec.data.properties import STORABLE, PropertySample
from equispec.data.readers.extxyz import available, sample_of
from equispec.data.readers.labels import LabelReader, unit_named
from equispec.errors import InputError
from equispec.units import conversion

STRUCTURE = {f"_{name}" for name in ("atomic_numbers", "positions", "cell", "pbc")}  # SchNetPack stores them once more
PROVENANCE: dict[str, str | float] = {
    "name": "ase-db",
    "method": "not stated",
    "protocol": "not stated",
    "source": "a database of ASE",
    "licence": "not stated",
    "citation": "not stated",
}


def read_ase_db(
    path: str | Path,
    keys: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    length: str | None = None,
) -> Iterator[PropertySample]:
    """Yield the rows of a database with their labels, in the order of their ids, which they keep.

    `keys`, `units`, `length` and errors as for `read_extxyz`; keys are sought in the data of a row, its key-value pairs
    and the results of its calculator.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; a database of ASE (.db) is needed")
    try:
        database: Any = ase.db.connect(path, type="db")
        metadata, rows = database.metadata, database.count()
    except Exception as error:  # of SQLite and of ASE
        raise InputError(f"{path}: not a readable database of ASE ({error})") from None
    if rows == 0:
        raise InputError(f"{path}: the database is empty")
    reader = LabelReader(path, keys or {}, {**_units(metadata, keys or {}), **(units or {})})
    scale = conversion(unit_named(length or metadata.get("_distance_unit", "Å")), "Å")
    for row in database.select(sort="id"):
        where = f"{path}, row {row.id}"
        atoms = row.toatoms()
        if len(atoms) == 0:
            raise InputError(f"{where}: the row has no atoms; take it out of the database")
        told = {**available(atoms), **row.key_value_pairs, **row.data}
        atoms.info.update({key: told.pop(key) for key in ("charge", "spin", "smiles") if key in told})
        told = {key: value for key, value in told.items() if key not in STRUCTURE}
        if labels := reader.labels(told, len(atoms), where):
            yield sample_of(atoms, int(row.id), labels, scale, where)
    reader.finish()


def _units(metadata: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, str]:
    """Units that the database tells of the keys that are read, by property."""
    told = metadata.get("_property_unit_dict", {})
    return {name: told[key] for name, key in (keys or {name: name for name in STORABLE}).items() if key in told}
