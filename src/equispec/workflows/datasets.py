"""Recipes on reference data that need no model."""

import json
from pathlib import Path
from typing import Any

from equispec.data.hdf5 import format_of
from equispec.data.leaks import warn_of_leaks
from equispec.data.properties import FORMAT, PropertyStore
from equispec.data.split import SplitConfig, split_ids
from equispec.data.store import StickStore
from equispec.errors import InputError
from equispec.spectra import write_bytes


def split_store(
    path: Path, settings: dict[str, Any], output: Path | None = None
) -> tuple[dict[str, list[int]], dict[str, int] | None]:
    """Divide the molecules of a store as training with the same settings (those of SplitConfig) does.

    Returns the ids and the numbers of labelled sites by split (None for a property store, which has none); `output`
    (.json) gets both and the settings. DataWarning where structures of a property store are known to two parts: see
    `equispec.data.leaks.warn_of_leaks`. Raises InputError for a store that is not there and another suffix.
    """
    config = SplitConfig.parse(settings, "split")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; a store of labelled data is needed")
    if output is not None and output.suffix.lower() != ".json":
        raise InputError(f"{output}: unknown suffix {output.suffix!r} of a split; it is written as .json")
    sites: dict[str, int] | None = None
    if format_of(path) == FORMAT:
        properties = PropertyStore(path)
        sha256 = properties.sha256
        parts = split_ids(properties.ids, properties.smiles, properties.sizes, config)
        warn_of_leaks(properties, parts)
    else:
        with StickStore(path) as store:
            parts = split_ids(store.ids, store.smiles, store.sizes, config)
            per_molecule = {sample.id: len(sample.sites) for sample in store}
            sha256 = store.sha256
        sites = {name: sum(per_molecule[i] for i in ids) for name, ids in parts.items()}
    if output is not None:
        counted = {} if sites is None else {"sites": sites}
        content = {"split": config.model_dump(), "store_sha256": sha256, **counted, **parts}
        write_bytes(output, (json.dumps(content) + "\n").encode())
    return parts, sites
