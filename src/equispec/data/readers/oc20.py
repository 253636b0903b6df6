"""Reader of OC20's IS2RE records (L. Chanussot et al., ACS Catal. 11, 6059 (2021)): slabs, and energies of adsorption.

Published layout: LMDB files whose keys are numbers ("0", "1", ...; "length" may say how many) and whose values are
pickled `torch_geometric.data.Data`: `atomic_numbers` [atoms], `pos` [atoms, 3] Å before relaxation, `cell` [1, 3, 3] Å,
`tags` [atoms] (0 below the surface, 1 surface, 2 adsorbate), `y_relaxed` eV, the adsorption energy of the relaxed
structure, `sid`, the number of the system, and others. Test sets lack y_relaxed. Slabs are periodic in all directions.

A pickle may run any program when it is read. Here it may make tensors and the record, and nothing else.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._utils import _rebuild_tensor_v2

from equispec.data.properties import PropertySample
from equispec.errors import InputError

REQUIRED = ("atomic_numbers", "pos", "cell", "tags", "sid")
PROVENANCE: dict[str, str | float] = {
    "name": "oc20",
    "method": "RPBE (VASP), no spin polarisation",
    "protocol": "initial structures with the adsorption energies of the relaxed ones, as published",
    "source": "Open Catalyst 2020, IS2RE",
    "licence": "CC BY 4.0",
    "citation": "L. Chanussot et al., ACS Catal. 11, 6059 (2021), doi:10.1021/acscatal.0c04525.",
}


class _Record:
    """Stands for the classes of a record: it holds what they hold and can do nothing."""


def _storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


ALLOWED: dict[tuple[str, str], Any] = {
    ("torch_geometric.data.data", "Data"): _Record,
    ("torch_geometric.data.storage", "GlobalStorage"): _Record,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch.storage", "_load_from_bytes"): _storage,
}


class _Unpickler(pickle.Unpickler):
    """Finds what ALLOWED lists."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise InputError(f"asks for {module}.{name}; only tensors and records of PyTorch Geometric are read")
        return ALLOWED[module, name]


def read_oc20(path: str | Path) -> Iterator[PropertySample]:
    """Yield the records of an LMDB file, or of all in a folder, in the order of their numbers; ids are their `sid`.

    Needs the extra `oc20`. Raises InputError for a missing, foreign or damaged file, records of another task, those
    without energies (test sets) or tags, and pickles that ask for anything but tensors and the record.
    """
    path = Path(path)
    files = sorted(path.glob("*.lmdb")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: a folder without .lmdb files of OC20")
    for file in files:
        for key, value in _values(file):
            where = f"{file}, record {key}"
            try:
                yield _sample(_unpickled(value))
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            except Exception as error:  # whatever a damaged pickle or a foreign record leads to
                raise InputError(f"{where}: not a record of OC20's IS2RE ({error})") from None


def _values(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbers and pickles of a file."""
    try:
        import lmdb
    except ImportError:
        raise InputError("reading LMDB files needs the extra oc20: pip install 'equispec[oc20]'") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file; an LMDB file of OC20 (.lmdb) is needed")
    try:
        with (
            lmdb.open(str(path), subdir=False, readonly=True, lock=False, meminit=False) as database,
            database.begin() as transaction,
        ):
            keys = [key for key in transaction.cursor().iternext(values=False) if key != b"length"]
            if foreign := [key for key in keys if not key.isdigit()]:
                raise InputError(f"{path}: has the key {foreign[0][:40]!r}; those of OC20's IS2RE are numbers")
            if not keys:
                raise InputError(f"{path}: holds no records")
            for key in sorted(keys, key=int):
                yield int(key), transaction.get(key, b"")
    except lmdb.Error as error:
        raise InputError(f"{path}: not a readable LMDB file ({error})") from None


def _unpickled(data: bytes) -> dict[str, Any]:
    """The fields of a record, as PyTorch Geometric 1 or 2 writes it."""
    record = _Unpickler(io.BytesIO(data)).load()
    if not isinstance(record, _Record):
        raise InputError(f"is {type(record).__name__}, not a record of PyTorch Geometric")
    fields = vars(record)
    if isinstance(store := fields.get("_store"), _Record):
        fields = vars(store)["_mapping"]
    return fields


def _sample(fields: dict[str, Any]) -> PropertySample:
    if missing := [name for name in REQUIRED if fields.get(name) is None]:
        raise InputError(f"has no {missing[0]}; records of OC20's IS2RE have {', '.join(REQUIRED)}")
    if fields.get("y_relaxed") is None:
        raise InputError("has no y_relaxed: test sets of OC20 come without energies, other tasks without relaxed ones")
    z = _array(fields["atomic_numbers"]).astype(np.int64)
    return PropertySample(
        id=int(fields["sid"]),
        smiles="",
        z=z,
        pos=_array(fields["pos"]).reshape(len(z), 3),
        charge=0,
        multiplicity=1,
        properties={"adsorption_energy": np.asarray(float(fields["y_relaxed"]))},
        cell=_array(fields["cell"]).reshape(3, 3),
        pbc=np.ones(3, bool),
        tags=_array(fields["tags"]).astype(np.int64),
    )


def _array(values: torch.Tensor) -> np.ndarray:
    return values.detach().double().numpy()
