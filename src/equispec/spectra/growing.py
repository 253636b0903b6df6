"""HDF5 files that grow as results come, also where the disk is full."""

import io
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py


class GrowingFile:
    """A new HDF5 file whose failures are those of any other file: an OSError, and the process lives on.

    The HDF5 library cannot close a file after a write that failed; it ends the process instead. So the library never
    learns of a failure: what comes after it is dropped, and `changed` and `close` raise the OSError.
    """

    def __init__(self, path: Path) -> None:
        import h5py

        self._disk = _Disk(path, "w+")
        self._file = h5py.File(self._disk, "w")

    @contextmanager
    def changed(self) -> "Iterator[h5py.File]":
        """The open file, to write to; OSError, and the file is closed, if something could not be written."""
        yield self._file
        if self._disk.failure is not None:
            self.close()

    def close(self) -> None:
        """Write what is left; OSError if something could not be written since the file was opened."""
        self._file.close()
        self._disk.close()
        if self._disk.failure is not None:
            raise self._disk.failure


class _Disk(io.FileIO):
    """A file that keeps its first failure to itself and pretends that everything was written."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        rest = whole = memoryview(data)
        while rest and self.failure is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.failure = error
        return whole.nbytes

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return self.tell() if size is None else size

    def readinto(self, buffer: Any, /) -> int:
        """What could not be written reads as zeros."""
        room = memoryview(buffer)
        found = super().readinto(room) or 0
        if self.failure is None:
            return found
        room[found:] = bytes(room.nbytes - found)
        return room.nbytes
