"""HDF5 files of arrays that are written whole or not at all and carry a hash of their contents.

Times are not recorded: the same arrays and attributes give the same bytes. The attribute `sha256` covers every array
and every other attribute and is compared on opening.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from equispec.errors import InputError


def write_hdf5(
    path: str | Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, str | float], format: str, version: int
) -> None:
    """Write arrays, named as "group/name", and attributes to an HDF5 file; nothing is left behind if that fails.

    The folder is made where there is none. `format` and `version` become the attributes format and format_version.
    Raises InputError for an unwritable path.
    """
    path = Path(path)
    stamped: dict[str, Any] = {"format": format, "format_version": version, **attributes}
    # made in memory: HDF5 cannot close a file on a full disk, and says so in its own many words
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        for name, array in arrays.items():
            options = {"compression": "gzip", "compression_opts": 9, "shuffle": True} if array.size > 64 else {}
            file.create_dataset(name, data=array, track_times=False, **options)
        for name, value in stamped.items():
            file.attrs[name] = value
        file.attrs["sha256"] = content_hash(stamped, arrays)
        file.flush()
        content = file.id.get_file_image()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())  # the name is given to a file that the disk has
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with suppress(OSError):  # where not even the folder could be made
            temporary.unlink(missing_ok=True)


class HashedFile:
    """A file of `write_hdf5`, found intact. Made by `read_hdf5`; `file["group/name"]` is an array, not yet read.

    `attributes`: as given to `write_hdf5`, with format and format_version, without the hash; `sha256`: the hash;
    `names`: the arrays. Reading opens the file anew where it is closed: after `close`, and in another process; it
    raises InputError if the file has been removed or replaced in between.
    """

    def __init__(self, path: Path, attributes: dict[str, Any], sha256: str, names: tuple[str, ...]) -> None:
        self.path, self.attributes, self.sha256, self.names = path, attributes, sha256, names
        self._file: h5py.File | None = None

    def __getitem__(self, name: str) -> h5py.Dataset:
        if self._file is None:
            try:
                self._file = h5py.File(self.path, "r")
            except OSError as error:
                raise InputError(f"{self.path}: not readable any more ({error})") from None
            if self._file.attrs.get("sha256") != self.sha256:
                self.close()
                raise InputError(f"{self.path}: was replaced while it was in use; open it again")
        array: Any = self._file[name]
        return array

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}  # file handles do not survive a process boundary


def read_hdf5(path: str | Path, format: str, versions: Collection[int], what: str = "file") -> HashedFile:
    """Open a file of `write_hdf5` read-only and compare its contents with its hash.

    `what` names the form in messages ("stick store"). Raises InputError for a missing, truncated, altered or foreign
    file and for a version that is not one of `versions`.
    """
    path = Path(path)
    with _opened(path, format, versions, what) as (datasets, attributes, sha256):
        _check_hash(path, attributes, datasets, sha256)
        return HashedFile(path, attributes, sha256, tuple(datasets))


def load_hdf5(
    path: str | Path, format: str, versions: Collection[int], what: str = "file"
) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """All arrays of a file of `write_hdf5`, its attributes and its hash; otherwise as `read_hdf5`."""
    path = Path(path)
    with _opened(path, format, versions, what) as (datasets, attributes, sha256):
        arrays = {name: dataset[()] for name, dataset in datasets.items()}
    _check_hash(path, attributes, arrays, sha256)
    return arrays, attributes, sha256


@contextmanager
def _opened(
    path: Path, format: str, versions: Collection[int], what: str
) -> Iterator[tuple[dict[str, h5py.Dataset], dict[str, Any], str]]:
    """The datasets of a file of the given format, its attributes without the hash, and the hash."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; a {what} (HDF5) is needed")
    try:
        with h5py.File(path, "r") as file:
            attributes = _plain(file.attrs)
            if attributes.get("format") != format:
                raise InputError(f"{path}: an HDF5 file, but not a {what} ({format})")
            if (version := attributes["format_version"]) not in versions:
                known = " and ".join(map(str, versions))
                raise InputError(f"{path}: unknown {what} format {version}; this version reads {known}")
            sha256 = str(attributes.pop("sha256"))
            datasets: dict[str, h5py.Dataset] = {}
            file.visititems(lambda name, item: datasets.update({name: item} if isinstance(item, h5py.Dataset) else {}))
            yield datasets, attributes, sha256
    except (OSError, KeyError) as error:
        raise InputError(f"{path}: not a readable {what} ({error})") from None


def _check_hash(
    path: Path, attributes: Mapping[str, Any], arrays: Mapping[str, np.ndarray | h5py.Dataset], sha256: str
) -> None:
    if content_hash(attributes, arrays) != sha256:
        raise InputError(f"{path}: contents differ from the stored sha256: damaged or altered")


def format_of(path: str | Path) -> str | None:
    """The format that a file of `write_hdf5` names; None for a folder and for files of other kinds."""
    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs["format"])
    except (OSError, KeyError):
        return None


def joined(parts: Sequence[Any], dtype: str, *shape: int) -> np.ndarray:
    """Ragged parts, each [n, *shape], one after the other."""
    return np.concatenate([np.zeros((0, *shape), dtype), *(np.asarray(part, dtype) for part in parts)])


def offsets(sizes: Sequence[int]) -> np.ndarray:
    """Where each of the parts of `joined` begins, and the end of the last one."""
    return np.concatenate([[0], np.cumsum(sizes, dtype="<i8")]).astype("<i8")


def texts(strings: Sequence[str]) -> np.ndarray:
    """Strings of a fixed width, UTF-8."""
    encoded = [string.encode() for string in strings]
    return np.array(encoded, f"S{max(map(len, encoded), default=1) or 1}")


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """HDF5 attributes as Python strings and numbers."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in attributes.items()}


def content_hash(attributes: Mapping[str, Any], arrays: Mapping[str, np.ndarray | h5py.Dataset]) -> str:
    """sha256 of the attributes (JSON, sorted) and of name, type, shape and values of every array (sorted by name)."""
    digest = hashlib.sha256(json.dumps(_plain(attributes), sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}|{array.dtype.str}|{array.shape}".encode())
        for start in range(0, len(array), 1 << 20):  # in blocks: a large store need not fit in memory
            digest.update(np.ascontiguousarray(array[start : start + (1 << 20)]).tobytes())
    return digest.hexdigest()
