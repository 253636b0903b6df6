"""An append-only file of results that survives any kill: what was appended is there when it is opened again.

Layout: a line that names the format; then records, each the length of its payload (8 bytes), the sha256 of the payload
(32 bytes) and the payload. The first payload is the name of the plan the results belong to. A torn or damaged record is
left out on opening. One process writes; a lock (flock) keeps others away for as long as it lives.
"""

import fcntl
import hashlib
import io
import itertools
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equispec.errors import InputError

MAGIC = b"equispec journal 1\n"
HEAD = struct.Struct("<Q32s")


def pack(head: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> bytes:
    """A result as bytes: a line of JSON, and arrays (or what numpy makes arrays of) in the form of .npz."""
    buffer = io.BytesIO()
    buffer.write(json.dumps(head).encode() + b"\n")
    if arrays is not None:
        np.savez(buffer, **arrays)
    return buffer.getvalue()


def head_of(payload: bytes) -> dict[str, Any]:
    """The first argument of `pack`."""
    return json.loads(payload[: payload.index(b"\n")])


def arrays_of(payload: bytes) -> dict[str, np.ndarray]:
    """The second argument of `pack`, as arrays."""
    with np.load(io.BytesIO(payload[payload.index(b"\n") + 1 :]), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


class Journal:
    """The journal at `path`, open for appending and locked; a context manager.

    With `resume` an existing journal is continued, else it is refused. `offsets`: of the results that were there;
    `dropped`: bytes of a torn end that were cut off. Raises InputError where another process holds the lock, where
    `path` exists and `resume` is False, is no journal or cannot be written, and where its plan is not `plan`.
    """

    def __init__(self, path: Path, plan: str, resume: bool) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | (0 if resume else os.O_EXCL)
        try:
            self._file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
        except FileExistsError:
            with path.open("r+b") as file:
                _lock(file, path)
            raise InputError(f"{path} is left from an earlier run; continue it with --resume, or remove it") from None
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None
        try:
            _lock(self._file, path)
            self._open(plan)
        except BaseException:
            self._file.close()
            raise

    def _open(self, plan: str) -> None:
        records = list(_records(self._file, self.path))
        if records and self.read(records[0]) != plan.encode():
            raise InputError(
                f"{self.path} belongs to another run: its structures, its method or their settings differ from these"
            )
        self.offsets = tuple(records[1:])
        self._end = records[-1] + HEAD.size + len(self.read(records[-1])) if records else 0
        self.dropped = os.fstat(self._file.fileno()).st_size - self._end
        self._file.truncate(self._end)
        if not records:  # new, or killed while the first lines were written
            self._write(MAGIC)
            self.append([plan.encode()])
            _sync_folder(self.path)

    def append(self, payloads: Sequence[bytes]) -> list[int]:
        """Add results, wait until the disk has them, and return their offsets; InputError where that fails."""
        records = [HEAD.pack(len(payload), hashlib.sha256(payload).digest()) + payload for payload in payloads]
        ends = list(itertools.accumulate(map(len, records), initial=self._end))
        self._write(b"".join(records))
        return ends[:-1]

    def _write(self, content: bytes) -> None:
        try:
            self._file.seek(self._end)
            rest = memoryview(content)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from None
        self._end += len(content)

    def read(self, offset: int) -> bytes:
        """The result at an offset."""
        self._file.seek(offset)
        length, _ = HEAD.unpack(self._file.read(HEAD.size))
        return self._file.read(length)

    def remove(self) -> None:
        """Delete the file: its results are safe elsewhere."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def count_results(path: Path) -> int:
    """How many intact results the journal at `path` holds, 0 where there is none; InputError for another file.

    It takes no lock: a run may be writing there.
    """
    try:
        with path.open("rb") as file:
            return max(0, len(list(_records(file, path))) - 1)
    except FileNotFoundError:
        return 0


def _lock(file: Any, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InputError(f"{path} is in use: another `equispec label` is writing this output") from None


def _records(file: Any, path: Path) -> Iterator[int]:
    """Offsets of the intact records, the plan first; damaged ones are passed over, a torn one ends it."""
    if not MAGIC.startswith(file.read(len(MAGIC))):
        raise InputError(f"{path}: not a journal of `equispec label`")
    position, size = len(MAGIC), os.fstat(file.fileno()).st_size
    while position + HEAD.size <= size:
        file.seek(position)
        length, digest = HEAD.unpack(file.read(HEAD.size))
        if position + HEAD.size + length > size:
            return
        if hashlib.sha256(file.read(length)).digest() == digest:
            yield position
        position += HEAD.size + length


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
