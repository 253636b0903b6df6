"""Reader of OC20's IS2RE records (L. Chanussot et al., ACS Catal. 11, 6059 (2021)): slabs, and energies of adsorption.

Published layout: LMDB files whose keys are numbers ("0", "1", ...; "length" may say how many) and whose values are
pickled `torch_geometric.data.Data`: `atomic_numbers` [atoms], `pos` [atoms, 3] Å before relaxation, `cell` [1, 3, 3] Å,
`tags` [atoms] (0 below the surface, 1 surface, 2 adsorbate), `y_relaxed` eV, the adsorption energy of the relaxed
structure, `sid`, the number of the system, and others. Test sets lack y_relaxed. Slabs are periodic in all directions.

A pickle may run any program when it is read. Here it may make tensors and the record, of sizes that records have, and
nothing else.
"""

import io
import pickle
import pickletools
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


MOST_OPERATIONS = 20_000  # of a pickle; a record has some hundreds
MOST_ELEMENTS = 10_000_000  # of a tensor


class _Storage:
    """Makes the storage of a tensor. No attributes can be set on it, as pickles may try."""

    __slots__ = ()

    def __call__(self, data: bytes) -> Any:
        found = torch.load(io.BytesIO(data), weights_only=True)
        if not isinstance(found, torch.storage.TypedStorage):
            raise InputError(f"holds {type(found).__name__} where a tensor has its numbers")
        return found


class _Tensor:
    """Makes a tensor that lies within its storage."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
        if int(np.prod(size, dtype=object)) > MOST_ELEMENTS:
            raise InputError(f"has a tensor of the size {size}; records have less")
        held = storage._untyped_storage.nbytes() // storage.dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if min((offset, *size, *stride)) < 0 or (0 not in size and last >= held):
            raise InputError("has a tensor that reaches beyond its numbers")
        return _rebuild_tensor_v2(storage, offset, size, stride, False, OrderedDict())


class _Unpickler(pickle.Unpickler):
    """Finds the record, which is a class of this unpickler alone, and what makes tensors."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.record = type("Data", (), {})
        self.allowed = {
            ("torch_geometric.data.data", "Data"): self.record,
            ("torch_geometric.data.storage", "GlobalStorage"): self.record,
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _Tensor(),
            ("torch.storage", "_load_from_bytes"): _Storage(),
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise InputError(f"asks for {module}.{name}; only tensors and records of PyTorch Geometric are read")
        return self.allowed[module, name]


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
        with lmdb.open(str(path), subdir=False, readonly=True, lock=False, meminit=False) as database:
            if path.stat().st_size < (database.info()["last_pgno"] + 1) * database.stat()["psize"]:
                raise InputError(f"{path}: ends too early; fetch the file again")  # reading on would end the process
            yield from _numbered(path, database)
    except lmdb.Error as error:
        raise InputError(f"{path}: not a readable LMDB file ({error})") from None


def _numbered(path: Path, database: Any) -> Iterator[tuple[int, bytes]]:
    with database.begin() as transaction:
        keys = [key for key in transaction.cursor().iternext(values=False) if key != b"length"]
        if foreign := [key for key in keys if not key.isdigit()]:
            raise InputError(f"{path}: has the key {foreign[0][:40]!r}; those of OC20's IS2RE are numbers")
        if not keys:
            raise InputError(f"{path}: holds no records")
        for key in sorted(keys, key=int):
            yield int(key), transaction.get(key, b"")


def _unpickled(data: bytes) -> dict[str, Any]:
    """The fields of a record, as PyTorch Geometric 1 or 2 writes it."""
    for number, (operation, argument, _) in enumerate(pickletools.genops(data)):
        place = argument if "PUT" in operation.name and isinstance(argument, int) else 0
        if max(number, place) > MOST_OPERATIONS:
            raise InputError(f"is a pickle of more than {MOST_OPERATIONS:,} operations; records have hundreds")
    unpickler = _Unpickler(data)
    record = unpickler.load()
    if not isinstance(record, unpickler.record):
        raise InputError(f"is {type(record).__name__}, not a record of PyTorch Geometric")
    fields = vars(record)
    if isinstance(store := fields.get("_store"), unpickler.record):
        fields = vars(store)["_mapping"]
    return fields


def _sample(fields: dict[str, Any]) -> PropertySample:
    if missing := [name for name in REQUIRED if fields.get(name) is None]:
        raise InputError(f"has no {missing[0]}; records of OC20's IS2RE have {', '.join(REQUIRED)}")
    if fields.get("y_relaxed") is None:
        raise InputError("has no y_relaxed: test sets of OC20 come without energies, other tasks without relaxed ones")
    z = _whole_numbers("atomic_numbers", _array(fields["atomic_numbers"]))
    (sid,) = _whole_numbers("sid", np.array([_number(fields["sid"])]))
    return PropertySample(
        id=int(sid),
        smiles="",
        z=z,
        pos=_array(fields["pos"]).reshape(len(z), 3),
        charge=0,
        multiplicity=1,
        properties={"adsorption_energy": np.asarray(_number(fields["y_relaxed"]))},
        cell=_array(fields["cell"]).reshape(3, 3),
        pbc=np.ones(3, bool),
        tags=_whole_numbers("tags", _array(fields["tags"])),
    )


def _whole_numbers(name: str, values: np.ndarray) -> np.ndarray:
    if values.ndim != 1 or (values != np.round(values)).any() or np.abs(values).max(initial=0) > 2**53:
        raise InputError(f"has {name} that are not a list of whole numbers")
    return values.astype(np.int64)


def _number(value: Any) -> float:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(_array(value).reshape(()))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"has {type(value).__name__} where a number is needed")
    return float(value)


def _array(values: torch.Tensor) -> np.ndarray:
    if values.is_complex():
        raise InputError("has complex numbers")
    return values.detach().double().numpy()
