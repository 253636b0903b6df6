"""Records of OC20's IS2RE, written here in the published layout, and files that only look like them."""

import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch

from equispec.data.describe import describe_properties
from equispec.data.properties import PropertyStore, atoms_of, write_properties
from equispec.data.readers import guess_form
from equispec.data.readers.oc20 import PROVENANCE, read_oc20
from equispec.errors import InputError


class Evil:
    """Runs a program when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def geometric(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Classes with the names of PyTorch Geometric's, as far as pickles know them."""
    modules = {}
    for name, kind in (("data", "Data"), ("storage", "GlobalStorage")):
        module = types.ModuleType(f"torch_geometric.data.{name}")
        modules[kind] = type(kind, (), {"__module__": module.__name__})
        setattr(module, kind, modules[kind])
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("torch_geometric", "torch_geometric.data"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    return types.SimpleNamespace(**modules)


def fields(number: int, **changes: Any) -> dict[str, Any]:
    """What a record holds; a slab of two layers with an adsorbed oxygen atom."""
    random = np.random.default_rng(number)
    pos = torch.as_tensor(random.normal(size=(5, 3)), dtype=torch.float32)
    values = {
        "pos": pos,
        "cell": torch.tensor([[[5.0, 0, 0], [1.0, 5, 0], [0, 0, 20.0]]]),
        "atomic_numbers": torch.tensor([29.0, 29, 29, 29, 8]),
        "natoms": 5,
        "tags": torch.tensor([0, 0, 1, 1, 2]),
        "fixed": torch.tensor([1.0, 1, 0, 0, 0]),
        "y_init": 1.5,
        "y_relaxed": -1.25 - number,
        "pos_relaxed": pos + 0.1,
        "cell_offsets": torch.zeros(4, 3, dtype=torch.int16),
        "edge_index": torch.zeros(2, 4, dtype=torch.int64),
        "edge_attr": None,
        "sid": number,
    }
    return {key: value for key, value in {**values, **changes}.items() if value is not ...}


def old(kinds: Any, values: dict[str, Any]) -> Any:
    """A record of PyTorch Geometric 1."""
    record = kinds.Data()
    record.__dict__.update(values)
    return record


def new(kinds: Any, values: dict[str, Any]) -> Any:
    """A record of PyTorch Geometric 2."""
    record, store = kinds.Data(), kinds.GlobalStorage()
    store.__dict__.update(_parent=record, _mapping=values, _key=None)
    record.__dict__["_store"] = store
    return record


def write(path: Path, values: dict[bytes, bytes]) -> Path:
    with (
        lmdb.open(str(path), subdir=False, map_size=1 << 22, lock=False) as database,
        database.begin(write=True) as transaction,
    ):
        for key, value in values.items():
            transaction.put(key, value)
    return path


def records(path: Path, found: list[Any]) -> Path:
    numbered = {str(i).encode(): pickle.dumps(record, -1) for i, record in enumerate(found)}
    return write(path, {**numbered, b"length": pickle.dumps(len(found), -1)})


@pytest.mark.parametrize("form", [old, new])
def test_records_are_read(form: Any, geometric: Any, tmp_path: Path) -> None:
    path = records(tmp_path / "data.lmdb", [form(geometric, fields(sid)) for sid in range(12)])
    assert guess_form(path) == guess_form(tmp_path) == "oc20"
    samples = list(read_oc20(path))
    assert [sample.id for sample in samples] == list(range(12))
    assert [float(sample.properties["adsorption_energy"]) for sample in samples] == [-1.25 - i for i in range(12)]
    for sample in samples:
        np.testing.assert_array_equal(sample.pos, fields(sample.id)["pos"].numpy().astype(float))
    write_properties(tmp_path / "store.h5", samples, {**PROVENANCE, "units": "eV, Å"})
    store = PropertyStore(tmp_path / "store.h5")
    atoms = atoms_of(store[3])
    assert atoms.get_chemical_formula() == "Cu4O"
    assert atoms.get_tags().tolist() == [0, 0, 1, 1, 2]
    assert atoms.pbc.all()
    np.testing.assert_array_equal(atoms.cell[1], [1, 5, 0])
    assert describe_properties(store)["tags"] == {"below the surface": 24, "surface": 24, "adsorbate": 12}


def test_a_folder_of_files(geometric: Any, tmp_path: Path) -> None:
    for part in range(2):
        records(tmp_path / f"data.000{part}.lmdb", [new(geometric, fields(10 * part + sid)) for sid in range(3)])
    assert [sample.id for sample in read_oc20(tmp_path)] == [0, 1, 2, 10, 11, 12]


def test_programs_are_not_run(geometric: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = records(tmp_path / "data.lmdb", [old(geometric, fields(0, extra=Evil(mark)))])
    with pytest.raises(InputError, match=r"record 0: asks for .*; only tensors and records"):
        list(read_oc20(path))
    inner = pickle.dumps(Evil(mark))
    for hidden in (
        b"\x80\x02ctorch.storage\n_load_from_bytes\n"
        + pickle.BINBYTES
        + len(inner).to_bytes(4, "little")
        + inner
        + b"\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\ncos\nsystem\n\x85R.",
        b"\x80\x04\x8c\x0btorch._utils\x8c\x1e_rebuild_tensor_v2.__globals__\x93.",
    ):
        with pytest.raises(InputError):
            list(read_oc20(write(tmp_path / f"{len(hidden)}.lmdb", {b"0": hidden})))
    assert not mark.exists()


def test_pickles_change_nothing_and_stay_small(tmp_path: Path) -> None:
    """Attributes set on what makes tensors, memory that is asked for, depth that ends the process."""
    set_defaults = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b."
    before = torch._utils._rebuild_tensor_v2.__defaults__
    for number, (data, message) in enumerate(
        {
            set_defaults: "not a record",
            b"\x80\x04Nr" + (1 << 27).to_bytes(4, "little") + b".": "more than 20,000 operations",
            b"\x80\x04)" + b"\x85" * 30_000 + b".": "more than 20,000 operations",
        }.items()
    ):
        with pytest.raises(InputError, match=message):
            list(read_oc20(write(tmp_path / f"{number}.lmdb", {b"0": data})))
    assert torch._utils._rebuild_tensor_v2.__defaults__ is before


def test_tensors_lie_within_their_numbers(geometric: Any, tmp_path: Path) -> None:
    numbers = torch.arange(4.0).untyped_storage()
    stored = torch.storage.TypedStorage(wrap_storage=numbers, dtype=torch.float32, _internal=True)
    for number, (size, stride, message) in enumerate(
        [((5, 3), (3, 1), "reaches beyond its numbers"), ((1 << 30, 3), (0, 0), "of the size")]
    ):

        class Reaching:
            def __reduce__(self, size: Any = size, stride: Any = stride) -> tuple[Any, ...]:
                return torch._utils._rebuild_tensor_v2, (stored, 0, size, stride, False, OrderedDict())

        path = records(tmp_path / f"{number}.lmdb", [old(geometric, fields(0, pos=Reaching()))])
        with pytest.raises(InputError, match=message):
            list(read_oc20(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tags": ...}, "record 0: has no tags; records of OC20's IS2RE have"),
        ({"sid": ...}, "record 0: has no sid"),
        ({"y_relaxed": None}, "has no y_relaxed: test sets of OC20 come without energies"),
        ({"y_relaxed": ..., "y": -1.0}, "has no y_relaxed"),
        ({"pos": torch.zeros(4, 3)}, "record 0: not a record of OC20's IS2RE"),
        ({"cell": 3}, "record 0: not a record of OC20's IS2RE"),
        ({"sid": 10**30}, "record 0: has sid that are not"),
        ({"sid": 3.7}, "record 0: has sid that are not"),
        ({"tags": torch.tensor([0, 0, 1, 1, 0.7])}, "record 0: has tags that are not a list of whole numbers"),
        ({"atomic_numbers": torch.ones(5, 1)}, "record 0: has atomic_numbers that are not a list"),
        ({"y_relaxed": "1.5"}, "record 0: has str where a number is needed"),
        ({"pos": torch.zeros(5, 3, dtype=torch.complex64)}, "record 0: has complex numbers"),
    ],
)
def test_foreign_records(changes: dict[str, Any], message: str, geometric: Any, tmp_path: Path) -> None:
    path = records(tmp_path / "data.lmdb", [new(geometric, fields(0, **changes))])
    with pytest.raises(InputError, match=message):
        list(read_oc20(path))


def test_foreign_files(geometric: Any, tmp_path: Path) -> None:
    for message, path in {
        "no such file": tmp_path / "absent.lmdb",
        "holds no records": write(tmp_path / "empty.lmdb", {}),
        "has the key b'train'": write(tmp_path / "named.lmdb", {b"train": b"1"}),
        "record 0: not a record": write(tmp_path / "text.lmdb", {b"0": b"hello"}),
        "record 0: is dict": write(tmp_path / "dict.lmdb", {b"0": pickle.dumps(fields(0))}),
    }.items():
        with pytest.raises(InputError, match=message):
            list(read_oc20(path))
    (tmp_path / "other.lmdb").write_bytes(b"x" * 8192)
    with pytest.raises(InputError, match="not a readable LMDB file"):
        list(read_oc20(tmp_path / "other.lmdb"))
    whole = records(tmp_path / "whole.lmdb", [new(geometric, fields(k)) for k in range(100)]).read_bytes()
    (tmp_path / "cut.lmdb").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="ends too early"):
        list(read_oc20(tmp_path / "cut.lmdb"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="a folder without"):
        list(read_oc20(tmp_path / "folder"))


def test_no_atomic_number_is_cut_off(geometric: Any, tmp_path: Path) -> None:
    z = torch.tensor([300.0, 29, 29, 29, 8])
    samples = list(read_oc20(records(tmp_path / "data.lmdb", [new(geometric, fields(0, atomic_numbers=z))])))
    with pytest.raises(InputError, match="has an atomic number of 300; they go from 1 to 118"):
        write_properties(tmp_path / "store.h5", samples, {**PROVENANCE, "units": "eV, Å"})
