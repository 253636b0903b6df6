"""The property store: structures with energies, forces, dipoles and the like in one HDF5 file, ragged with offsets.

Properties are those of `equispec.quantities.QUANTITIES`, in its units and shapes. A property that a molecule lacks is
absent, never zero: the file holds the rows of those molecules only that have it, and says which. Molecules are sorted
by id and strings have a fixed width: the same samples give the same bytes. The file holds, with a hash of it all (see
`equispec.data.hdf5`),

    /molecules/{id, smiles, charge, multiplicity, atom_offset [molecules+1]}
    /atoms/{z, pos}
    /properties/{energy [molecules], dipole [molecules, 3], forces [atoms, 3], ...}
    /failures/{molecule, reason}     molecules that were calculated and have no label
    /present/{energy, ...} [molecules]     format 2: which molecules have a property that not all of them have
    /cells/{row, cell [n, 3, 3], pbc [n, 3]}     format 2: periodic structures, by their place among the molecules
    /atoms/tags [atoms]                          format 2: see TAGS; -1 for atoms of structures without
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int

from equispec.data.hdf5 import content_hash, joined, load_hdf5, offsets, texts, write_hdf5
from equispec.errors import InputError
from equispec.quantities import QUANTITIES

FORMAT = "equispec-properties"
FORMAT_VERSIONS = (1, 2)  # molecules that all have all properties are the first, which older programs read
REQUIRED_ATTRIBUTES = ("method", "units", "protocol", "source", "licence", "citation")
TAGS = ("below the surface", "surface", "adsorbate")  # 0, 1, 2, as in OC20
UNTAGGED = -1
HEAVIEST = 118
STORABLE = tuple(name for name, quantity in QUANTITIES.items() if quantity.scope != "site")


@dataclass(frozen=True, eq=False)
class PropertySample:
    """A structure with its properties.

    `smiles` may be empty; `z` [atoms]; `pos` [atoms, 3] Å; `charge` e; `multiplicity` of the spin (1: closed shell);
    `properties`: names, units and shapes of QUANTITIES, a property of atoms with a leading axis of the atoms;
    `cell` [3, 3] Å, rows are the vectors, and `pbc` [3]: both, with some periodic direction, or none (a molecule);
    `tags`: what the atoms of a slab are, places in TAGS.
    """

    id: int
    smiles: str
    z: Int[np.ndarray, "atoms"]
    pos: Float[np.ndarray, "atoms 3"]
    charge: int
    multiplicity: int
    properties: Mapping[str, np.ndarray]
    cell: Float[np.ndarray, "3 3"] | None = None
    pbc: Bool[np.ndarray, "3"] | None = None
    tags: Int[np.ndarray, "atoms"] | None = None


def write_properties(
    path: str | Path,
    samples: Iterable[PropertySample],
    attributes: Mapping[str, str | float],
    failures: Iterable[tuple[int, str]] = (),
) -> None:
    """Write samples, sorted by id, as a property store; nothing is left behind if that fails.

    `attributes` must name method, units, protocol, source, licence, citation; `failures`: ids of molecules that were
    calculated and have no label, with the reason. Raises InputError for missing attributes, molecules without or with
    unknown properties, wrong shapes, numbers that are not finite, repeated ids and an unwritable path.
    """
    arrays, version = _checked(Path(path), samples, attributes, failures)
    write_hdf5(path, arrays, attributes, FORMAT, version)


def _checked(
    path: Path,
    samples: Iterable[PropertySample],
    attributes: Mapping[str, str | float],
    failures: Iterable[tuple[int, str]],
) -> tuple[dict[str, np.ndarray], int]:
    """The arrays of a store, and the format that can hold them."""
    if missing := [name for name in REQUIRED_ATTRIBUTES if name not in attributes]:
        raise InputError(f"{path}: the store lacks the attributes {', '.join(missing)}")
    ordered, failed = sorted(samples, key=lambda sample: sample.id), sorted(failures)
    ids = sorted([*(sample.id for sample in ordered), *(molecule for molecule, _ in failed)])
    for before, after in itertools.pairwise(ids):
        if before == after:
            raise InputError(f"{path}: molecule {after} appears more than once")
    for sample in ordered:
        _check(sample)
    arrays = {
        "molecules/id": np.array([sample.id for sample in ordered], "<i8"),
        "molecules/smiles": texts([sample.smiles for sample in ordered]),
        "molecules/charge": np.array([sample.charge for sample in ordered], "<i4"),
        "molecules/multiplicity": np.array([sample.multiplicity for sample in ordered], "<i4"),
        "molecules/atom_offset": offsets([len(sample.z) for sample in ordered]),
        "atoms/z": joined([sample.z for sample in ordered], "|u1"),
        "atoms/pos": joined([sample.pos for sample in ordered], "<f8", 3),
        "failures/molecule": np.array([molecule for molecule, _ in failed], "<i8"),
        "failures/reason": texts([reason for _, reason in failed]),
    }
    later = _later_arrays(ordered)
    for name in sorted({name for sample in ordered for name in sample.properties}):
        values = [sample.properties[name] for sample in ordered if name in sample.properties]
        parts = values if QUANTITIES[name].scope == "atom" else [np.asarray(value)[None] for value in values]
        arrays[f"properties/{name}"] = joined(parts, "<f8", *map(int, QUANTITIES[name].shape))
    return {**arrays, **later}, FORMAT_VERSIONS[bool(later)]


def _later_arrays(samples: Sequence[PropertySample]) -> dict[str, np.ndarray]:
    """Arrays that format 1 does not know: empty if it can hold the samples."""
    arrays: dict[str, np.ndarray] = {}
    for name in sorted({name for sample in samples for name in sample.properties}):
        present = np.array([name in sample.properties for sample in samples])
        if not present.all():
            arrays[f"present/{name}"] = present.astype("|u1")
    if periodic := [(row, sample.cell, sample.pbc) for row, sample in enumerate(samples) if sample.cell is not None]:
        rows, cells, pbcs = zip(*periodic, strict=True)
        arrays["cells/row"] = np.array(rows, "<i8")
        arrays["cells/cell"], arrays["cells/pbc"] = np.array(cells, "<f8"), np.array(pbcs, "|u1")
    if any(sample.tags is not None for sample in samples):
        tags = [np.full(len(s.z), UNTAGGED) if s.tags is None else s.tags for s in samples]
        arrays["atoms/tags"] = joined(tags, "|i1")
    return arrays


def _check(sample: PropertySample) -> None:
    where = f"molecule {sample.id}"
    if len(sample.z) == 0:
        raise InputError(f"{where}: has no atoms")
    if unknown := [int(z) for z in sample.z if not 1 <= z <= HEAVIEST]:
        raise InputError(f"{where}: has an atomic number of {unknown[0]}; they go from 1 to {HEAVIEST}")
    if not np.isfinite(sample.pos).all():
        raise InputError(f"{where}: has a coordinate that is not a number")
    if not sample.properties:
        raise InputError(f"{where}: has no properties at all; a molecule without labels does not belong into a store")
    if unknown := [name for name in sample.properties if name not in STORABLE]:
        raise InputError(f"{where}: cannot hold {', '.join(unknown)}; known properties: {', '.join(STORABLE)}")
    for name, value in sample.properties.items():
        atoms = (len(sample.z),) if QUANTITIES[name].scope == "atom" else ()
        shape = (*atoms, *map(int, QUANTITIES[name].shape))
        if np.shape(value) != shape:
            raise InputError(f"{where}: {name} has the shape {np.shape(value)}; {shape} is needed")
        if not np.isfinite(value).all():
            raise InputError(f"{where}: {name} must be finite")
    if sample.tags is not None and (len(sample.tags) != len(sample.z) or not np.isin(sample.tags, range(3)).all()):
        told = ", ".join(f"{tag} ({name})" for tag, name in enumerate(TAGS))
        raise InputError(f"{where}: needs one tag for each of its {len(sample.z)} atoms, of {told}")
    if sample.cell is None and sample.pbc is None:
        return
    if sample.cell is None or sample.pbc is None or not sample.pbc.any():
        raise InputError(f"{where}: a periodic structure needs a cell and a periodic direction, a molecule neither")
    if not np.isfinite(sample.cell).all() or np.linalg.matrix_rank(sample.cell) < 3:
        raise InputError(f"{where}: the three vectors of the cell must be finite and independent")


def atoms_of(sample: PropertySample) -> Atoms:
    """The structure of a sample, its charge and spin included."""
    info = {"charge": sample.charge, "spin": sample.multiplicity}
    return Atoms(sample.z, sample.pos, cell=sample.cell, pbc=sample.pbc, tags=sample.tags, info=info)


class PropertyStore:
    """A property store in memory: `len(store)` molecules, `store[i]` the i-th PropertySample, `store.ids` their ids.

    Flat arrays, in the order of the store: `z` [atoms], `pos` [atoms, 3] Å, and `atom_offset` [molecules+1], where the
    atoms of each molecule begin; `cells` [molecules, 3, 3] Å (zeros: a molecule) and `pbc` [molecules, 3]; `values` and
    `present` of each property in `names`. `smiles`, `total_charges`, `multiplicities` per molecule; `failures`: id and
    reason of molecules without a label; `sha256`: hash of the file with its attributes. The arrays belong to the store:
    copy them before changing them.

    Raises InputError for a missing, truncated, altered or foreign file.
    """

    def __init__(self, path: str | Path) -> None:
        self._hold(Path(path), *load_hdf5(path, FORMAT, FORMAT_VERSIONS, "property store"))

    @classmethod
    def of(
        cls, path: str | Path, samples: Iterable[PropertySample], attributes: Mapping[str, str | float]
    ) -> "PropertyStore":
        """The store that `write_properties` would make of the samples, without the file; `path` names it in messages.

        Raises InputError as `write_properties` does.
        """
        arrays, version = _checked(Path(path), samples, attributes, ())
        store = cls.__new__(cls)
        stamped = {"format": FORMAT, "format_version": version, **attributes}
        store._hold(Path(path), arrays, stamped, content_hash(stamped, arrays))
        return store

    def _hold(self, path: Path, arrays: dict[str, np.ndarray], attributes: dict[str, Any], sha256: str) -> None:
        self.path, self.attributes, self.sha256 = path, attributes, sha256
        self._arrays = arrays
        self.ids: list[int] = arrays["molecules/id"].tolist()
        self.total_charges: list[int] = arrays["molecules/charge"].tolist()
        self.multiplicities: list[int] = arrays["molecules/multiplicity"].tolist()
        self.smiles = [text.decode() for text in arrays["molecules/smiles"].tolist()]
        reasons = (text.decode() for text in arrays["failures/reason"])
        self.failures = dict(zip(arrays["failures/molecule"].tolist(), reasons, strict=True))
        self.z: Int[np.ndarray, "atoms"] = arrays["atoms/z"].astype(np.int64)
        self.pos: Float[np.ndarray, "atoms 3"] = arrays["atoms/pos"]
        self.atom_offset: Int[np.ndarray, "molecules_1"] = arrays["molecules/atom_offset"]
        self.cells = np.zeros((len(self), 3, 3))
        self.pbc = np.zeros((len(self), 3), bool)
        if "cells/row" in arrays:
            self.cells[arrays["cells/row"]] = arrays["cells/cell"]
            self.pbc[arrays["cells/row"]] = arrays["cells/pbc"].astype(bool)
        self.names = tuple(name for name in STORABLE if f"properties/{name}" in arrays)
        self._values: dict[str, np.ndarray] = {}

    @cached_property
    def n_atoms(self) -> Int[np.ndarray, "molecules"]:
        """Atoms per molecule."""
        return np.diff(self.atom_offset)

    @property
    def tag_counts(self) -> dict[str, int]:
        """Atoms of slabs per tag, by the names of TAGS."""
        tags = self._arrays.get("atoms/tags", np.empty(0, int))
        return {name: int((tags == tag).sum()) for tag, name in enumerate(TAGS)} if len(tags) else {}

    @property
    def sizes(self) -> list[int]:
        """Atoms other than hydrogen, per molecule."""
        heavy = np.concatenate([[0], np.cumsum(self.z != 1)])
        return np.diff(heavy[self.atom_offset]).tolist()

    @cached_property
    def content_sha256(self) -> str:
        """Hash of the structures and their labels alone, whatever the attributes say of them."""
        content = {name: array for name, array in self._arrays.items() if not name.startswith("failures/")}
        return content_hash({}, content)

    def goes_by(self, sha256: str | None) -> bool:
        """Whether a hash is that of the store, or that of its structures and labels."""
        return sha256 in (self.sha256, self.content_sha256)

    def present(self, name: str) -> Bool[np.ndarray, "molecules"]:
        """Which molecules have the property; none for one that the store does not have."""
        if name not in self.names:
            return np.zeros(len(self), bool)
        if f"present/{name}" in self._arrays:
            return self._arrays[f"present/{name}"].astype(bool)
        return np.ones(len(self), bool)

    def values(self, name: str) -> np.ndarray:
        """A property of all molecules [molecules, ...], or of all their atoms [atoms, ...], in the order of the store.

        Rows of molecules that lack it (see `present`) are NaN, so that their use cannot go unnoticed. Raises InputError
        for a property that the store does not have.
        """
        if name not in self.names:
            raise InputError(f"{self.path}: has no {name}; it has {', '.join(self.names) or 'no properties'}")
        if name not in self._values:
            known = self._arrays[f"properties/{name}"]
            rows = self.present(name)
            if QUANTITIES[name].scope == "atom":
                rows = np.repeat(rows, self.n_atoms)
            if rows.all():
                self._values[name] = known
            else:
                self._values[name] = np.full((len(rows), *known.shape[1:]), np.nan)
                self._values[name][rows] = known
        return self._values[name]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[PropertySample]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> PropertySample:
        if not -len(self) <= i < len(self):
            raise IndexError(f"molecule {i} of a store of {len(self)}")
        i %= len(self)
        atoms = slice(*self.atom_offset[i : i + 2])
        periodic = bool(self.pbc[i].any())
        return PropertySample(
            id=self.ids[i],
            smiles=self.smiles[i],
            z=self.z[atoms].copy(),
            pos=self.pos[atoms].copy(),
            charge=self.total_charges[i],
            multiplicity=self.multiplicities[i],
            properties={
                name: np.array(self.values(name)[atoms if QUANTITIES[name].scope == "atom" else i])
                for name in self.names
                if self._has(name, i)
            },
            cell=self.cells[i].copy() if periodic else None,
            pbc=self.pbc[i].copy() if periodic else None,
            tags=self._tags(atoms),
        )

    def _tags(self, atoms: slice) -> Int[np.ndarray, "atoms"] | None:
        tags = self._arrays["atoms/tags"][atoms].astype(np.int64) if "atoms/tags" in self._arrays else None
        return None if tags is None or UNTAGGED in tags else tags

    def _has(self, name: str, i: int) -> bool:
        present = self._arrays.get(f"present/{name}")
        return present is None or bool(present[i])
