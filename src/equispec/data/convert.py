"""Turn a foreign data set into a stick store."""

from pathlib import Path
from typing import Any

from equispec.data.readers import PROVENANCE, READERS
from equispec.data.store import write_store
from equispec.errors import InputError


def convert(reader: str, source: str | Path, target: str | Path, **options: Any) -> None:
    """Read `source` with the named reader and write it, with its provenance, as a stick store."""
    if reader not in READERS:
        raise InputError(f"unknown reader {reader!r}; known readers: {', '.join(READERS)}")
    write_store(target, READERS[reader](source, **options), PROVENANCE[reader])
