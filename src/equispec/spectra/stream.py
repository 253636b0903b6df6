"""Files of many structures' spectra, written as they come: memory does not grow with their number.

.h5: `/structures/0`, `/structures/1`, ... in their order, each laid out as the file of a single structure (io.py), but
for the metadata that the structures have in common: these are attributes of the file.
.json: {"structures": [...]}, each entry as the file of a single structure. A .csv holds one structure.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, cast

from equispec.errors import InputError
from equispec.spectra.growing import GrowingFile
from equispec.spectra.io import (
    damage_named,
    neighbour,
    read_attributes,
    read_group,
    save_spectra,
    spectra_to_dict,
    write_attributes,
    write_group,
)
from equispec.spectra.polarization import Polarization, PolarizationLike
from equispec.spectra.sites import SiteSpectra

GROUP = "structures"
OWN = ("structure", "outside_domain", "flagged_sites")  # metadata of one structure


class SpectraWriter:
    """Context manager that writes one structure (several=False) or many; the file is there at its end, or not at all.

    path: .h5, .hdf5 or .json, and .csv for one structure; polarization and per_site as in `save_spectra`.
    Raises InputError for another suffix and for a place that cannot be written, both before the first spectrum.
    """

    def __init__(
        self, path: str | Path, several: bool, polarization: PolarizationLike = None, per_site: bool = False
    ) -> None:
        self.path = Path(path)
        self.several = several
        self.polarization = None if polarization is None else Polarization.parse(polarization)
        self.per_site = per_site
        self._sink: _Sink | None = None
        if several and self.path.suffix.lower() not in _SINKS:
            raise InputError(f"{path}: such a file holds one structure; several go into one of {', '.join(_SINKS)}")

    def __enter__(self) -> "SpectraWriter":
        with neighbour(self.path) as partial:
            self._partial = partial
            if self.several:
                self._sink = _SINKS[self.path.suffix.lower()](partial)
        return self

    def write(self, spectra: SiteSpectra) -> None:
        """Write the spectra of the next structure."""
        if self._sink is None:
            save_spectra(spectra, self.path, polarization=self.polarization, per_site=self.per_site)
            return
        with neighbour(self.path):
            self._sink.write(spectra, self.polarization, self.per_site)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._sink is None:
            return
        try:
            with neighbour(self.path):
                self._sink.close()
                if kind is None:
                    os.replace(self._partial, self.path)
        finally:
            self._partial.unlink(missing_ok=True)


def iterate_spectra(path: str | Path) -> Iterator[SiteSpectra]:
    """Read the .h5 file of one structure or of many, one structure at a time; InputError as `load_spectra`."""
    import h5py

    with damage_named(path), h5py.File(path, "r") as file:
        if GROUP not in file:
            yield read_group(file)
            return
        common, groups = read_attributes(file), cast(h5py.Group, file[GROUP])
        for number in range(len(groups)):
            yield read_group(groups[str(number)], common)


class _Sink(Protocol):
    def __init__(self, path: Path) -> None: ...
    def write(self, spectra: SiteSpectra, polarization: Polarization | None, per_site: bool) -> None: ...
    def close(self) -> None: ...


class _H5Sink:
    def __init__(self, path: Path) -> None:
        self.file = GrowingFile(path)
        with self.file.changed() as file:
            file.create_group(GROUP)
        self.common: dict[str, Any] = {}
        self.n = 0

    def write(self, spectra: SiteSpectra, polarization: Polarization | None, per_site: bool) -> None:
        with self.file.changed() as file:
            if self.n == 0:
                self.common = {key: value for key, value in spectra.meta.items() if key not in OWN}
                write_attributes(file, self.common)
            if missing := [key for key in self.common if key not in spectra.meta]:
                absent = ", ".join(missing)
                raise InputError(f"structure {self.n} of the file lacks the metadata {absent} of the first one")
            write_group(file.create_group(f"{GROUP}/{self.n}"), spectra, polarization, self.common)
        self.n += 1

    def close(self) -> None:
        self.file.close()


class _JsonSink:
    def __init__(self, path: Path) -> None:
        self.file = path.open("w", encoding="utf-8")
        self.separator = f'{{"{GROUP}": [\n'

    def write(self, spectra: SiteSpectra, polarization: Polarization | None, per_site: bool) -> None:
        content = spectra_to_dict(spectra, polarization, per_site)
        self.file.write(self.separator + json.dumps(content, ensure_ascii=False, allow_nan=False))
        self.separator = ",\n"

    def close(self) -> None:
        self.file.write("\n]}\n")
        self.file.close()


_SINKS: dict[str, type[_Sink]] = {".h5": _H5Sink, ".hdf5": _H5Sink, ".json": _JsonSink}
