"""Weights of other programs become equispec model folders. To add a format: one module, and a line in FOREIGN."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from equispec.importers.isd_painn import import_isd_painn
from equispec.importers.schnetpack import import_schnetpack

# format name -> function(file, folder, options) that writes a model folder and returns the hash of its weights
FOREIGN: dict[str, Callable[[str | Path, str | Path, Mapping[str, Any] | None], str]] = {
    "isd-painn": import_isd_painn,
    "schnetpack": import_schnetpack,
}
