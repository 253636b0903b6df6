"""Files of predicted properties, written as they come: memory does not grow with the number of structures.

.xyz, .extxyz: one frame per structure; ASE finds energy, forces, stress, dipole and charges in `atoms.calc`, and other
properties, model, hash, version and units in `atoms.info`; NAME_mad holds MAD_roll, MAD_rot and MAD_both.
.csv: a `#`-prefixed JSON line (model, hash, version, units), a line of names, one row per structure; properties of
structures only.
.json: {"meta": {...}, "structures": [{"structure", "z", "pos", "properties": {...}, ...}]}.
.h5: `/properties/<name>` and, for ensembles, `/spread/<name>`, [structures, ...] or [atoms, ...] with the attribute
`unit`; `/structure/z` [atoms], `/structure/pos` [atoms, 3] Å, `/structure/cell` [structures, 3, 3] Å, `/structure/pbc`,
`/structure/name`, `/outside_domain` [structures]; the atoms of structure i are the rows offsets[i] to offsets[i+1] of
`/offsets`. Model, hash and version are attributes of the file.
What a structure does not have, as a crystal has no dipole, is absent in .xyz and .json, empty in .csv and nan in .h5.
Equal predictions give equal bytes. A file is complete or absent.
"""

import csv
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from equispec.ensemble import structure_name
from equispec.errors import InputError
from equispec.property_predictor import Properties
from equispec.quantities import QUANTITIES
from equispec.spectra.growing import GrowingFile
from equispec.spectra.io import neighbour, write_attributes
from equispec.workflows.extxyz import frame_text, provenance

if TYPE_CHECKING:
    import h5py

H5_BUFFER = 1000  # structures that are written at once


class PropertyWriter:
    """Context manager that writes the properties `names` of structures to a file in the format of its suffix.

    `meta`: see `PropertyPredictor.properties_meta`. The file is there at the end, or not at all. Raises InputError for
    an unknown suffix, for properties of atoms in a .csv, and for a place that cannot be written.
    """

    def __init__(self, path: str | Path, names: Sequence[str], meta: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.names = names
        self.meta = meta
        self._make = _SINKS[known_suffix(self.path)]

    def __enter__(self) -> "PropertyWriter":
        with neighbour(self.path) as partial:
            self._partial = partial
            self._sink = self._make(partial, self.names, self.meta)
        return self

    def write(self, found: Properties) -> None:
        """Write the next structure."""
        with neighbour(self.path):
            self._sink.write(found)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with neighbour(self.path):
                self._sink.close()
                if kind is None:
                    os.replace(self._partial, self.path)
        finally:
            self._partial.unlink(missing_ok=True)


def known_suffix(path: Path) -> str:
    """The suffix, in small letters; InputError unless properties can be written in its format."""
    suffix = path.suffix.lower()
    if suffix not in _SINKS:
        raise InputError(f"{path}: unknown suffix {path.suffix!r}; known ones are {', '.join(_SINKS)}")
    return suffix


def fitting(names: Sequence[str] | None, quantities: Sequence[str], path: Path) -> tuple[str, ...] | None:
    """The properties that go into a file: those asked for, or by default those that its format can hold.

    Raises InputError where properties of atoms are asked for by name and the file is a table.
    """
    if known_suffix(path) != ".csv":
        return None if names is None else tuple(names)
    if names is None:
        return tuple(name for name in quantities if name != "stress" and QUANTITIES[name].scope == "system")
    if per_atom := [name for name in names if QUANTITIES[name].scope == "atom"]:
        raise InputError(
            f"{path}: a table has one row per structure and no place for {', '.join(per_atom)}; "
            "use .xyz, .h5 or .json, or leave them out of --properties"
        )
    return tuple(names)


class _Sink(Protocol):
    def __init__(self, path: Path, names: Sequence[str], meta: Mapping[str, Any]) -> None: ...
    def write(self, found: Properties) -> None: ...
    def close(self) -> None: ...


class _XyzSink:
    def __init__(self, path: Path, names: Sequence[str], meta: Mapping[str, Any]) -> None:
        self.file = path.open("w", encoding="utf-8")
        self.info = provenance(meta)

    def write(self, found: Properties) -> None:
        spread = {f"{name}_std": value for name, value in found.spread.items()}
        info: dict[str, Any] = dict(self.info)
        if found.outside_domain:
            info["outside_domain"] = "; ".join(found.outside_domain)
        info |= {f"{name}_mad": value for name, value in found.deviation.items()}
        self.file.write(frame_text(found.atoms, {**found.values, **spread}, info))

    def close(self) -> None:
        self.file.close()


class _CsvSink:
    def __init__(self, path: Path, names: Sequence[str], meta: Mapping[str, Any]) -> None:
        self.file = path.open("w", encoding="utf-8", newline="")
        self.names, self.tables = names, _tables(meta)
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.file.write(f"# {_json(meta)}\n")
        columns = [column for name in names for column in _columns(name)]
        spread = [f"{column}_std" for column in columns if "spread" in self.tables]
        self.rows.writerow(["structure", "formula", "atoms", *columns, *spread, "outside_domain"])

    def write(self, found: Properties) -> None:
        atoms = found.atoms
        complete = [_complete(found, table, name) for table in self.tables for name in self.names]
        numbers = ["" if np.isnan(x) else f"{x:.10g}" for values in complete for x in values.ravel().tolist()]
        concerns = "; ".join(found.outside_domain)
        self.rows.writerow([structure_name(atoms), atoms.get_chemical_formula("hill"), len(atoms), *numbers, concerns])

    def close(self) -> None:
        self.file.close()


def _columns(name: str) -> list[str]:
    letters = itertools.product("xyz", repeat=len(QUANTITIES[name].shape))
    return ["_".join(part for part in (name, "".join(component)) if part) for component in letters]


def _tables(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Which tables of `Properties` a model fills."""
    return ("values", "spread") if meta["members"] > 1 else ("values",)


def _complete(found: Properties, table: str, name: str) -> np.ndarray:
    """A property of a structure, or its spread; nan where the structure has none."""
    quantity = QUANTITIES[name]
    atoms = (len(found.atoms),) if quantity.scope == "atom" else ()
    return getattr(found, table).get(name, np.full((*atoms, *map(int, quantity.shape)), np.nan))


class _JsonSink:
    def __init__(self, path: Path, names: Sequence[str], meta: Mapping[str, Any]) -> None:
        self.file = path.open("w", encoding="utf-8")
        self.separator = f'{{"meta": {_json(meta)}, "structures": [\n'

    def write(self, found: Properties) -> None:
        atoms = found.atoms
        content: dict[str, Any] = {
            "structure": structure_name(atoms),
            "z": atoms.numbers.tolist(),
            "pos": atoms.positions.tolist(),
        }
        if atoms.pbc.any():
            content |= {"cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist()}
        content["properties"] = {name: value.tolist() for name, value in found.values.items()}
        if found.spread:
            content["spread"] = {name: value.tolist() for name, value in found.spread.items()}
        if found.deviation:
            kinds = ("roll", "rotation", "both")
            content["deviation"] = {
                name: dict(zip(kinds, value.tolist(), strict=True)) for name, value in found.deviation.items()
            }
        content["outside_domain"] = list(found.outside_domain)
        self.file.write(self.separator + _json(content))
        self.separator = ",\n"

    def close(self) -> None:
        self.file.write("\n]}\n")
        self.file.close()


class _H5Sink:
    def __init__(self, path: Path, names: Sequence[str], meta: Mapping[str, Any]) -> None:
        self.file = GrowingFile(path)
        self.names, self.tables, self.units = names, _tables(meta), meta["units"]
        self.n_atoms = 0
        self.waiting: list[Properties] = []
        with self.file.changed() as file:
            write_attributes(file, meta)
            _append(file, "offsets", np.zeros(1, np.int64))

    def write(self, found: Properties) -> None:
        self.waiting.append(found)
        if len(self.waiting) >= H5_BUFFER:
            self._flush()

    def close(self) -> None:
        if self.waiting:
            self._flush()
        self.file.close()

    def _flush(self) -> None:
        waiting, self.waiting = self.waiting, []
        with self.file.changed() as file:
            self._add(file, waiting)

    def _add(self, file: "h5py.File", waiting: Sequence[Properties]) -> None:
        atoms = [found.atoms for found in waiting]
        ends = self.n_atoms + np.cumsum([len(one) for one in atoms])
        self.n_atoms = int(ends[-1])
        _append(file, "offsets", ends.astype(np.int64))
        _append(file, "structure/z", np.concatenate([one.numbers for one in atoms]).astype(np.int64))
        _append(file, "structure/pos", np.concatenate([one.positions for one in atoms]), "Å")
        _append(file, "structure/cell", np.stack([one.cell.array * one.pbc[:, None] for one in atoms]), "Å")
        _append(file, "structure/pbc", np.stack([one.pbc for one in atoms]))
        _append_text(file, "structure/name", [structure_name(one) for one in atoms])
        _append_text(file, "outside_domain", ["; ".join(found.outside_domain) for found in waiting])
        for group, table in zip(("properties", "spread"), self.tables, strict=False):
            for name in self.names:
                join = np.concatenate if QUANTITIES[name].scope == "atom" else np.stack
                values = join([_complete(found, table, name) for found in waiting])
                _append(file, f"{group}/{name}", values, self.units[name])


def _append(file: "h5py.File", name: str, values: np.ndarray, unit: str = "", dtype: Any = None) -> None:
    if name not in file:
        dataset = file.create_dataset(
            name, data=values, dtype=dtype, maxshape=(None, *values.shape[1:]), chunks=True, track_times=False
        )
        if unit:
            dataset.attrs["unit"] = unit
        return
    dataset: Any = file[name]
    start = len(dataset)
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values


def _append_text(file: "h5py.File", name: str, texts: Sequence[str]) -> None:
    import h5py

    _append(file, name, np.array(texts, dtype=object), dtype=h5py.string_dtype())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


_SINKS: dict[str, type[_Sink]] = {
    ".xyz": _XyzSink,
    ".extxyz": _XyzSink,
    ".csv": _CsvSink,
    ".h5": _H5Sink,
    ".hdf5": _H5Sink,
    ".json": _JsonSink,
}
