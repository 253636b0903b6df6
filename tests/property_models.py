"""Small models of properties with fresh weights, in double precision unless stated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from equispec.checkpoint import save_model
from equispec.model import Model, ModelConfig, build

BACKBONE = {"name": "painn", "features": 8, "blocks": 2, "n_radial": 8, "cutoff": 4.0}
ENERGY = ({"name": "energy"},)
ALL = ({"name": "energy"}, {"name": "dipole"}, {"name": "polarizability"}, {"name": "scalar", "targets": ["homo"]})
STATISTICS = {
    "elements": [1, 6, 7, 8],
    "max_heavy_atoms": 9,
    "charges": [0, 1],
    "multiplicities": [1, 2],
    "periodic": False,
}


def property_model(
    heads: Sequence[dict[str, Any]] = ENERGY, seed: int = 0, dtype: torch.dtype = torch.float64, **backbone: Any
) -> Model:
    torch.manual_seed(seed)
    model = build(ModelConfig.parse({"backbone": {**BACKBONE, **backbone}, "heads": list(heads)}), dtype)
    with torch.no_grad():  # zero biases would hide mistakes
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return model


def saved(
    folder: Path,
    heads: Sequence[dict[str, Any]] = ENERGY,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    backbone: dict[str, Any] | None = None,
    **metadata: Any,
) -> Path:
    """The folder of such a model."""
    save_model(folder, property_model(heads, seed, dtype, **(backbone or {})), metadata)
    return folder
