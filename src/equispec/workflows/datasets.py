"""Recipes on reference data that need no model."""

import json
from pathlib import Path
from typing import Any

from equispec.data.split import SplitConfig, split_ids
from equispec.data.store import StickStore
from equispec.spectra import write_bytes


def split_store(
    path: Path, settings: dict[str, Any], output: Path | None = None
) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Divide the molecules of a store as training with the same settings (those of SplitConfig) does.

    Returns the ids and the numbers of labelled sites by split; `output` (.json) gets both and the settings.
    """
    config = SplitConfig.parse(settings, "split")
    with StickStore(path) as store:
        parts = split_ids(store.ids, store.smiles, store.sizes, config)
        per_molecule = {sample.id: len(sample.sites) for sample in store}
        sha256 = store.sha256
    sites = {name: sum(per_molecule[i] for i in ids) for name, ids in parts.items()}
    if output is not None:
        content = {"split": config.model_dump(), "store_sha256": sha256, "sites": sites, **parts}
        write_bytes(output, (json.dumps(content) + "\n").encode())
    return parts, sites
