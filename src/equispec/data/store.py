"""The stick store: labelled molecules in HDF5 files, ragged arrays with offsets.

Grid, broadening and directions are chosen when the sticks are used, so the store keeps none of them. Molecules are
sorted by id and strings have a fixed width: the same samples give the same bytes. A file holds, with a hash of it all
(see `equispec.data.hdf5`),

    /molecules/{id, smiles, atom_offset [molecules+1], site_offset [molecules+1]}
    /atoms/{z, pos}
    /sites/{atom, ionization_potential, population_1s, gap, total_energy, stick_offset, equivalent_offset, equivalent}
    /sticks/{energy, dipole}
    /failures/{molecule, atom, reason}     format 2: sites that were calculated and are not to be trusted

Site scalars that the source does not tell are NaN. The attribute components="diagonal" (format 2) says that sticks are
right for xx, yy and zz of the tensors only.

A folder of such files, the shards, is a store as well: it grows by further files, none of which changes.
"""

import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from equispec.data.hdf5 import joined, offsets, read_hdf5, texts, write_hdf5
from equispec.data.sample import Failure, Sample, SiteSticks, check_sample
from equispec.errors import InputError
from equispec.spectra import EDGES

FORMAT = "equispec-sticks"
FORMAT_VERSIONS = (1, 2)  # a file of whole tensors without failures is the first, which older programs read
REQUIRED_ATTRIBUTES = ("edge", "energy_shift", "units", "protocol", "source", "licence", "citation")
COMMON_ATTRIBUTES = ("edge", "energy_shift", "units", "components")  # equal in all shards of a store
SITE_SCALARS = ("ionization_potential", "population_1s", "gap", "total_energy")


def write_store(
    path: str | Path,
    samples: Iterable[Sample],
    attributes: Mapping[str, str | float],
    failures: Iterable[Failure] = (),
) -> None:
    """Write samples, sorted by id, as a stick store of one file; nothing is left behind if that fails.

    `attributes` must name edge, energy_shift (eV, added to raw energies), units, protocol, source, licence, citation;
    `components`, if there, is "full" or "diagonal".
    `failures`: sites that were calculated and failed; their molecules need not be among the samples.
    Raises InputError for missing attributes, incomplete labels, repeated ids, failures that are labelled sites or no
    sites at all, and an unwritable path.
    """
    path = Path(path)
    if missing := [name for name in REQUIRED_ATTRIBUTES if name not in attributes]:
        raise InputError(f"{path}: the store lacks the attributes {', '.join(missing)}")
    ordered = sorted(samples, key=lambda sample: sample.id)
    for before, after in itertools.pairwise(ordered):
        if before.id == after.id:
            raise InputError(f"{path}: molecule {after.id} appears more than once")
    if (components := attributes.get("components", "full")) not in ("full", "diagonal"):
        raise InputError(f"{path}: the attribute components is full or diagonal, not {components!r}")
    if attributes["edge"] not in EDGES:
        raise InputError(f"{path}: unknown edge {attributes['edge']!r}; known edges: {', '.join(EDGES)}")
    core_z = EDGES[str(attributes["edge"])].z
    for sample in ordered:
        check_sample(sample, core_z)
    failed = sorted(failures, key=lambda failure: (failure.molecule, failure.atom))
    _check_failures(failed, ordered, core_z)
    version = FORMAT_VERSIONS[bool(failed) or components == "diagonal"]
    write_hdf5(path, _arrays(ordered, failed), attributes, FORMAT, version)


def _check_failures(failures: Sequence[Failure], samples: Sequence[Sample], core_z: int) -> None:
    for before, after in itertools.pairwise(failures):
        if (before.molecule, before.atom) == (after.molecule, after.atom):
            raise InputError(f"molecule {after.molecule}: site {after.atom} is recorded as failed more than once")
    known = {sample.id: sample for sample in samples}
    for failure in failures:
        where = f"molecule {failure.molecule}: failed site {failure.atom}"
        if not failure.reason.strip():
            raise InputError(f"{where} needs a reason")
        if failure.atom < 0:
            raise InputError(f"{where}: atoms are numbered from 0")
        if (sample := known.get(failure.molecule)) is None:
            continue
        if failure.atom >= len(sample.z) or sample.z[failure.atom] != core_z:
            raise InputError(f"{where} is not one of its atoms with Z = {core_z}")
        if failure.atom in {site.atom for site in sample.sites}:
            raise InputError(f"{where} is a labelled one, too")


def _arrays(samples: list[Sample], failures: list[Failure]) -> dict[str, np.ndarray]:
    sites = [site for sample in samples for site in sample.sites]
    arrays = {
        "molecules/id": np.array([sample.id for sample in samples], "<i8"),
        "molecules/smiles": texts([sample.smiles for sample in samples]),
        "molecules/atom_offset": offsets([len(sample.z) for sample in samples]),
        "molecules/site_offset": offsets([len(sample.sites) for sample in samples]),
        "atoms/z": joined([sample.z for sample in samples], "|u1"),
        "atoms/pos": joined([sample.pos for sample in samples], "<f8", 3),
        "sites/atom": np.array([site.atom for site in sites], "<i4"),
        **{f"sites/{name}": np.array([getattr(site, name) for site in sites], "<f8") for name in SITE_SCALARS},
        "sites/stick_offset": offsets([len(site.energy) for site in sites]),
        "sites/equivalent_offset": offsets([len(site.equivalent) for site in sites]),
        "sites/equivalent": joined([site.equivalent for site in sites], "<i4"),
        "sticks/energy": joined([site.energy for site in sites], "<f8"),
        "sticks/dipole": joined([site.dipole for site in sites], "<f4", 3),
    }
    if failures:
        arrays["failures/molecule"] = np.array([failure.molecule for failure in failures], "<i8")
        arrays["failures/atom"] = np.array([failure.atom for failure in failures], "<i4")
        arrays["failures/reason"] = texts([failure.reason for failure in failures])
    return arrays


class Shard:
    """One file of a stick store: structures and site scalars are held in memory, sticks are read on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = read_hdf5(path, FORMAT, FORMAT_VERSIONS, "stick store")
        self.attributes, self.sha256 = self._file.attributes, self._file.sha256
        self._index = {name: self._file[name][:] for name in self._file.names if not name.startswith("sticks/")}

    @cached_property
    def ids(self) -> list[int]:
        return self._index["molecules/id"].tolist()

    @cached_property
    def smiles(self) -> list[str]:
        return [text.decode() for text in self._index["molecules/smiles"]]

    @cached_property
    def sizes(self) -> list[int]:
        """Atoms other than hydrogen, per molecule."""
        heavy = np.concatenate([[0], np.cumsum(self._index["atoms/z"] != 1)])
        return np.diff(heavy[self._index["molecules/atom_offset"]]).tolist()

    @property
    def n_sites(self) -> int:
        return len(self._index["sites/atom"])

    @cached_property
    def failures(self) -> list[Failure]:
        if "failures/molecule" not in self._index:
            return []
        columns = [self._index[f"failures/{name}"].tolist() for name in ("molecule", "atom", "reason")]
        return [Failure(molecule, atom, text.decode()) for molecule, atom, text in zip(*columns, strict=True)]

    def sample(self, row: int) -> Sample:
        """The molecule of the given row of this file."""
        index = self._index
        atoms = slice(*index["molecules/atom_offset"][row : row + 2])
        first, last = index["molecules/site_offset"][row : row + 2]
        return Sample(
            id=self.ids[row],
            smiles=self.smiles[row],
            z=index["atoms/z"][atoms].astype(np.int64),
            pos=index["atoms/pos"][atoms].copy(),
            sites=self._sites(int(first), int(last)),
        )

    def _sites(self, first: int, last: int) -> tuple[SiteSticks, ...]:
        index = self._index
        offset = index["sites/stick_offset"][first : last + 1]
        # the sticks of a molecule lie together: one reading
        energy = self._file["sticks/energy"][offset[0] : offset[-1]]
        dipole = self._file["sticks/dipole"][offset[0] : offset[-1]]
        cuts = offset[1:-1] - offset[0]
        equivalent = index["sites/equivalent"], index["sites/equivalent_offset"]
        return tuple(
            SiteSticks(
                atom=int(index["sites/atom"][s]),
                energy=own_energy,
                dipole=own_dipole,
                **{name: _known(index[f"sites/{name}"][s]) for name in SITE_SCALARS},
                equivalent=tuple(equivalent[0][slice(*equivalent[1][s : s + 2])].tolist()),
            )
            for s, own_energy, own_dipole in zip(
                range(first, last), np.split(energy, cuts), np.split(dipole, cuts), strict=False
            )
        )

    def close(self) -> None:
        self._file.close()


def _known(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


class StickStore:
    """A stick store opened for reading: `len(store)` molecules, `store[i]` the i-th Sample, `store.ids` their ids.

    `path`: a file, or a folder whose files *.h5 (hidden ones and subfolders aside) are read as one store, sorted by id
    as well; `shards`: names of files of the folder, to read only these. Files are opened read-only and again in every
    process that unpickles the store. Use it as a context manager or let it close itself.

    `attributes`: those that all shards have in common; `sha256`: the hash of the contents, of several shards the hash
    of their hashes. Raises InputError for a missing, truncated, altered or foreign file, and for shards that differ in
    edge, energy shift or units, or share a molecule.
    """

    def __init__(self, path: str | Path, shards: Collection[str] | None = None) -> None:
        self.path = Path(path)
        self.shards = tuple(Shard(file) for file in _files(self.path, shards))
        first = self.shards[0].attributes
        self.attributes: dict[str, Any] = {
            name: value
            for name, value in first.items()
            if all(shard.attributes.get(name) == value for shard in self.shards)
        }
        self._check_shards()
        hashes = sorted(shard.sha256 for shard in self.shards)
        self.sha256 = hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
        places = ((identity, shard, row) for shard in self.shards for row, identity in enumerate(shard.ids))
        self._places = sorted(places, key=lambda place: place[0])

    def _check_shards(self) -> None:
        first = self.shards[0]
        for name in COMMON_ATTRIBUTES:
            for other in self.shards:
                if other.attributes.get(name) != first.attributes.get(name):
                    values = " and ".join(f"{s.attributes.get(name)!r} in {s.path.name}" for s in (first, other))
                    raise InputError(f"{self.path}: its files are no single store: {name} is {values}")
        if self.edge not in EDGES:
            raise InputError(f"{self.path}: unknown edge {self.edge!r}; known edges: {', '.join(EDGES)}")
        owner: dict[int, Shard] = {}
        for shard in self.shards:
            for molecule in {*shard.ids, *(failure.molecule for failure in shard.failures)}:
                if (other := owner.setdefault(molecule, shard)) is not shard:
                    names = f"{other.path.name} and {shard.path.name}"
                    raise InputError(f"{self.path}: molecule {molecule} is in both {names}; it may be in one file only")

    @property
    def edge(self) -> str:
        """Name of the absorption edge, a key of `equispec.spectra.EDGES`."""
        return self.attributes["edge"]

    @property
    def diagonal(self) -> bool:
        """Whether only xx, yy and zz of the tensors are known; the others, then, are zero but mean nothing."""
        return self.attributes.get("components") == "diagonal"

    @property
    def ids(self) -> list[int]:
        return [identity for identity, _, _ in self._places]

    @property
    def smiles(self) -> list[str]:
        return [shard.smiles[row] for _, shard, row in self._places]

    @property
    def sizes(self) -> list[int]:
        """Atoms other than hydrogen, per molecule."""
        return [shard.sizes[row] for _, shard, row in self._places]

    @property
    def n_sites(self) -> int:
        return sum(shard.n_sites for shard in self.shards)

    @property
    def failures(self) -> list[Failure]:
        """Sites that were calculated and failed, sorted by molecule and atom; they are not among the samples' sites."""
        found = (failure for shard in self.shards for failure in shard.failures)
        return sorted(found, key=lambda failure: (failure.molecule, failure.atom))

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Sample:
        if not -len(self) <= i < len(self):
            raise IndexError(f"molecule {i} of a store of {len(self)}")
        _, shard, row = self._places[i]
        return shard.sample(row)

    def close(self) -> None:
        for shard in self.shards:
            shard.close()

    def __enter__(self) -> "StickStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _files(path: Path, shards: Collection[str] | None) -> list[Path]:
    """The files of a store, by name."""
    if not path.is_dir():
        if shards is not None:
            raise InputError(f"{path}: files can be chosen of a folder only")
        return [path]
    found = {file.name: file for file in path.glob("*.h5") if file.is_file() and not file.name.startswith(".")}
    chosen = set(found if shards is None else shards)
    if unknown := sorted(chosen - set(found)):
        raise InputError(f"{path}: there is no {unknown[0]} in this folder")
    if not chosen:
        raise InputError(f"{path}: a folder without a stick store (.h5)")
    return [found[name] for name in sorted(chosen)]
