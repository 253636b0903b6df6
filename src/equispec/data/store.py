"""The stick store: labelled molecules in one HDF5 file, ragged arrays with offsets.

Grid, broadening and directions are chosen when the sticks are used, so the store keeps none of them. Molecules are
sorted by id, times are not recorded and strings have a fixed width: the same samples give the same bytes. The
attribute `sha256` covers every array and every other attribute and is compared on opening.

    /molecules/{id, smiles, atom_offset [molecules+1], site_offset [molecules+1]}
    /atoms/{z, pos}
    /sites/{atom, ionization_potential, population_1s, gap, total_energy, stick_offset, equivalent_offset, equivalent}
    /sticks/{energy, dipole}
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from equispec.data.hdf5 import read_hdf5, write_hdf5
from equispec.data.sample import Sample, SiteSticks, check_sample
from equispec.errors import InputError
from equispec.spectra import EDGES

FORMAT = "equispec-sticks"
FORMAT_VERSION = 1
REQUIRED_ATTRIBUTES = ("edge", "energy_shift", "units", "protocol", "source", "licence", "citation")
SITE_SCALARS = ("ionization_potential", "population_1s", "gap", "total_energy")


def write_store(path: str | Path, samples: Iterable[Sample], attributes: Mapping[str, str | float]) -> None:
    """Write samples, sorted by id, as a stick store; nothing is left behind if that fails.

    `attributes` must name edge, energy_shift (eV, added to raw energies), units, protocol, source, licence, citation.
    Raises InputError for missing attributes, incomplete labels, repeated ids and an unwritable path.
    """
    path = Path(path)
    if missing := [name for name in REQUIRED_ATTRIBUTES if name not in attributes]:
        raise InputError(f"{path}: the store lacks the attributes {', '.join(missing)}")
    ordered = sorted(samples, key=lambda sample: sample.id)
    for before, after in itertools.pairwise(ordered):
        if before.id == after.id:
            raise InputError(f"{path}: molecule {after.id} appears more than once")
    if attributes["edge"] not in EDGES:
        raise InputError(f"{path}: unknown edge {attributes['edge']!r}; known edges: {', '.join(EDGES)}")
    for sample in ordered:
        check_sample(sample, EDGES[str(attributes["edge"])].z)
    write_hdf5(path, _arrays(ordered), attributes, FORMAT, FORMAT_VERSION)


def _arrays(samples: list[Sample]) -> dict[str, np.ndarray]:
    sites = [site for sample in samples for site in sample.sites]

    def joined(parts: list[Any], dtype: str, *shape: int) -> np.ndarray:
        return np.concatenate([np.zeros((0, *shape), dtype), *(np.asarray(part, dtype) for part in parts)])

    def offsets(sizes: list[int]) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(sizes, dtype="<i8")]).astype("<i8")

    smiles = [sample.smiles.encode() for sample in samples]
    return {
        "molecules/id": np.array([sample.id for sample in samples], "<i8"),
        "molecules/smiles": np.array(smiles, f"S{max(map(len, smiles), default=1) or 1}"),
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


class StickStore:
    """A stick store opened for reading: `len(store)` molecules, `store[i]` the i-th Sample, `store.ids` their ids.

    Structures and site scalars are held in memory, sticks are read on demand. The file is opened read-only and
    again in every process that unpickles the store. Use it as a context manager or let it close itself.
    Raises InputError for a missing, truncated, altered or foreign file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = read_hdf5(path, FORMAT, (FORMAT_VERSION,), "stick store")
        self.attributes, self.sha256 = self._file.attributes, self._file.sha256
        self._index = {name: self._file[name][:] for name in self._file.names if not name.startswith("sticks/")}

    @property
    def edge(self) -> str:
        """Name of the absorption edge, a key of `equispec.spectra.EDGES`."""
        return self.attributes["edge"]

    @property
    def ids(self) -> list[int]:
        return self._index["molecules/id"].tolist()

    @property
    def smiles(self) -> list[str]:
        return [text.decode() for text in self._index["molecules/smiles"]]

    @property
    def sizes(self) -> list[int]:
        """Atoms other than hydrogen, per molecule."""
        heavy = np.concatenate([[0], np.cumsum(self._index["atoms/z"] != 1)])
        return np.diff(heavy[self._index["molecules/atom_offset"]]).tolist()

    @property
    def n_sites(self) -> int:
        return len(self._index["sites/atom"])

    def __len__(self) -> int:
        return len(self._index["molecules/id"])

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Sample:
        if not -len(self) <= i < len(self):
            raise IndexError(f"molecule {i} of a store of {len(self)}")
        i %= len(self)
        index = self._index
        atoms = slice(*index["molecules/atom_offset"][i : i + 2])
        first, last = index["molecules/site_offset"][i : i + 2]
        return Sample(
            id=int(index["molecules/id"][i]),
            smiles=index["molecules/smiles"][i].decode(),
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
                **{name: float(index[f"sites/{name}"][s]) for name in SITE_SCALARS},
                equivalent=tuple(equivalent[0][slice(*equivalent[1][s : s + 2])].tolist()),
            )
            for s, own_energy, own_dipole in zip(
                range(first, last), np.split(energy, cuts), np.split(dipole, cuts), strict=False
            )
        )

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "StickStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
