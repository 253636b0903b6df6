"""Turn a foreign data set into a stick store."""

from pathlib import Path

from equispec.data.readers import PROVENANCE, READERS, WITHOUT_STRUCTURES
from equispec.data.store import write_store
from equispec.errors import InputError


def convert(reader: str, source: str | Path, target: str | Path, structures: str | Path | None = None) -> None:
    """Read `source` with the named reader and write it, with its provenance, as a stick store.

    `structures`: a file of structures, for sources that have none.
    """
    if reader not in READERS:
        raise InputError(f"unknown reader {reader!r}; known readers: {', '.join(READERS)}")
    if (structures is not None) != (reader in WITHOUT_STRUCTURES):
        needs = "has no structures: give a file of them" if structures is None else "has structures: give no others"
        raise InputError(f"the form {reader} {needs} (--structures)")
    options = {} if structures is None else {"structures": structures}
    write_store(target, READERS[reader](source, **options), PROVENANCE[reader])
