"""The property store: molecules with energies, forces, dipoles and the like in one HDF5 file, ragged with offsets.

Properties are those of `equispec.quantities.QUANTITIES`, in its units and shapes. Every molecule has all properties of
the store; what is missing is absent altogether. Molecules are sorted by id and strings have a fixed width: the same
samples give the same bytes. The file holds, with a hash of it all (see `equispec.data.hdf5`),

    /molecules/{id, smiles, charge, multiplicity, atom_offset [molecules+1]}
    /atoms/{z, pos}
    /properties/{energy [molecules], dipole [molecules, 3], forces [atoms, 3], ...}
    /failures/{molecule, reason}     molecules that were calculated and have no label
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from equispec.data.hdf5 import joined, offsets, read_hdf5, texts, write_hdf5
from equispec.errors import InputError
from equispec.quantities import QUANTITIES

FORMAT = "equispec-properties"
FORMAT_VERSION = 1
REQUIRED_ATTRIBUTES = ("method", "units", "protocol", "source", "licence", "citation")
STORABLE = tuple(name for name, quantity in QUANTITIES.items() if quantity.scope != "site")


@dataclass(frozen=True, eq=False)
class PropertySample:
    """A molecule with its properties.

    `smiles` may be empty; `z` [atoms]; `pos` [atoms, 3] Å; `charge` e; `multiplicity` of the spin (1: closed shell);
    `properties`: names, units and shapes of QUANTITIES, a property of atoms with a leading axis of the atoms.
    """

    id: int
    smiles: str
    z: Int[np.ndarray, "atoms"]
    pos: Float[np.ndarray, "atoms 3"]
    charge: int
    multiplicity: int
    properties: Mapping[str, np.ndarray]


def write_properties(
    path: str | Path,
    samples: Iterable[PropertySample],
    attributes: Mapping[str, str | float],
    failures: Iterable[tuple[int, str]] = (),
) -> None:
    """Write samples, sorted by id, as a property store; nothing is left behind if that fails.

    `attributes` must name method, units, protocol, source, licence, citation; `failures`: ids of molecules that were
    calculated and have no label, with the reason. Raises InputError for missing attributes, molecules with different or
    unknown properties, wrong shapes, numbers that are not finite, repeated ids and an unwritable path.
    """
    path = Path(path)
    if missing := [name for name in REQUIRED_ATTRIBUTES if name not in attributes]:
        raise InputError(f"{path}: the store lacks the attributes {', '.join(missing)}")
    ordered, failed = sorted(samples, key=lambda sample: sample.id), sorted(failures)
    ids = sorted([*(sample.id for sample in ordered), *(molecule for molecule, _ in failed)])
    for before, after in itertools.pairwise(ids):
        if before == after:
            raise InputError(f"{path}: molecule {after} appears more than once")
    names = sorted(ordered[0].properties) if ordered else []
    if unknown := [name for name in names if name not in STORABLE]:
        raise InputError(f"{path}: cannot hold {', '.join(unknown)}; known properties: {', '.join(STORABLE)}")
    for sample in ordered:
        _check(sample, names)
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
    for name in names:
        values = [sample.properties[name] for sample in ordered]
        parts = values if QUANTITIES[name].scope == "atom" else [np.asarray(value)[None] for value in values]
        arrays[f"properties/{name}"] = joined(parts, "<f8", *map(int, QUANTITIES[name].shape))
    write_hdf5(path, arrays, attributes, FORMAT, FORMAT_VERSION)


def _check(sample: PropertySample, names: list[str]) -> None:
    where = f"molecule {sample.id}"
    if len(sample.z) == 0 or not np.isfinite(sample.pos).all() or (sample.z < 1).any():
        raise InputError(f"{where}: needs at least one atom, positive atomic numbers and finite coordinates")
    if (found := sorted(sample.properties)) != names:
        raise InputError(f"{where}: has {', '.join(found) or 'no properties'} where others have {', '.join(names)}")
    for name, value in sample.properties.items():
        atoms = (len(sample.z),) if QUANTITIES[name].scope == "atom" else ()
        shape = (*atoms, *map(int, QUANTITIES[name].shape))
        if np.shape(value) != shape:
            raise InputError(f"{where}: {name} has the shape {np.shape(value)}; {shape} is needed")
        if not np.isfinite(value).all():
            raise InputError(f"{where}: {name} must be finite")


class PropertyStore:
    """A property store in memory: `len(store)` molecules, `store[i]` the i-th PropertySample, `store.ids` their ids.

    `names`: the properties that every molecule has; `values(name)` one of them for the whole store; `z` [atoms] of the
    whole store; `smiles`, `total_charges`, `multiplicities` per molecule; `failures`: id and reason of molecules
    without a label. Raises InputError for a missing, truncated, altered or foreign file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        file = read_hdf5(path, FORMAT, (FORMAT_VERSION,), "property store")
        self.attributes, self.sha256 = file.attributes, file.sha256
        self._arrays = {name: file[name][:] for name in file.names}
        file.close()
        self.ids: list[int] = self._arrays["molecules/id"].tolist()
        self.total_charges: list[int] = self._arrays["molecules/charge"].tolist()
        self.multiplicities: list[int] = self._arrays["molecules/multiplicity"].tolist()
        self.smiles = [text.decode() for text in self._arrays["molecules/smiles"]]
        reasons = (text.decode() for text in self._arrays["failures/reason"])
        self.failures = dict(zip(self._arrays["failures/molecule"].tolist(), reasons, strict=True))
        self.z = self._arrays["atoms/z"].astype(np.int64)
        self.names = tuple(name for name in STORABLE if f"properties/{name}" in self._arrays)

    @property
    def sizes(self) -> list[int]:
        """Atoms other than hydrogen, per molecule."""
        heavy = np.concatenate([[0], np.cumsum(self.z != 1)])
        return np.diff(heavy[self._arrays["molecules/atom_offset"]]).tolist()

    def values(self, name: str) -> np.ndarray:
        """A property of all molecules [molecules, ...], or of all their atoms [atoms, ...], in the order of the store.

        Raises InputError for a property that the store does not have.
        """
        if name not in self.names:
            raise InputError(f"{self.path}: has no {name}; it has {', '.join(self.names) or 'no properties'}")
        return self._arrays[f"properties/{name}"]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[PropertySample]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> PropertySample:
        if not -len(self) <= i < len(self):
            raise IndexError(f"molecule {i} of a store of {len(self)}")
        i %= len(self)
        atoms = slice(*self._arrays["molecules/atom_offset"][i : i + 2])
        return PropertySample(
            id=self.ids[i],
            smiles=self.smiles[i],
            z=self.z[atoms].copy(),
            pos=self._arrays["atoms/pos"][atoms].copy(),
            charge=self.total_charges[i],
            multiplicity=self.multiplicities[i],
            properties={
                name: np.array(self.values(name)[atoms if QUANTITIES[name].scope == "atom" else i])
                for name in self.names
            },
        )
