"""Checkpoints of the published ISD-PaiNN code (github.com/nmdl-mizo/isdpainn) become equispec model folders."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from equispec.checkpoint import save_model
from equispec.config import Config
from equispec.data.published import PUBLISHED_INTENSITY, PUBLISHED_SIGMA
from equispec.errors import InputError
from equispec.importers.state_dict import (
    Weights,
    check_matrix,
    check_names,
    imported_from,
    load_into,
    read_state_dict,
)
from equispec.model import Model, ModelConfig, build, parameter_count
from equispec.models.isd_painn import ISDPaiNN, ISDPaiNNConfig
from equispec.spectra import PUBLISHED_C_K_GRID
from equispec.spectra.broaden import FWHM_PER_SIGMA

EMBEDDING = "invariant_atom_emb.embeddings.weight"
VECTOR_EMBEDDING = "equivariant_atom_emb.embeddings.weight"
CENTRES = "radial_basis.rbf.offset"
# names in block l: the checkpoint's -> ours
BLOCK_NAMES = {
    "message_layers.{}.x_layernorm.weight": "messages.{}.norm.weight",
    "message_layers.{}.x_layernorm.bias": "messages.{}.norm.bias",
    "message_layers.{}.x_proj.0.weight": "messages.{}.phi.0.weight",
    "message_layers.{}.x_proj.0.bias": "messages.{}.phi.0.bias",
    "message_layers.{}.x_proj.2.weight": "messages.{}.phi.2.weight",
    "message_layers.{}.x_proj.2.bias": "messages.{}.phi.2.bias",
    "message_layers.{}.rbf_proj.weight": "messages.{}.filter.weight",
    "message_layers.{}.rbf_proj.bias": "messages.{}.filter.bias",
    "update_layers.{}.vec_proj.weight": "updates.{}.mix.weight",
    "update_layers.{}.xvec_proj.0.weight": "updates.{}.gate.0.weight",
    "update_layers.{}.xvec_proj.0.bias": "updates.{}.gate.0.bias",
    "update_layers.{}.xvec_proj.2.weight": "updates.{}.gate.2.weight",
    "update_layers.{}.xvec_proj.2.bias": "updates.{}.gate.2.bias",
    "upd_out_scalar_scale_{}.scale_factor": "updates.{}.scale",
}


class ISDPaiNNOptions(Config):
    """What the weights of an ISD-PaiNN checkpoint do not show; the defaults are those of the published weights."""

    cutoff: PositiveFloat = Field(8.0, le=100)  # Å
    max_neighbors: PositiveInt | None = 50
    grid: tuple[float, float] = (PUBLISHED_C_K_GRID.start, PUBLISHED_C_K_GRID.stop)  # first and last energy, eV
    # raw intensity of a normalised 1: what the published spectra were divided by
    intensity_scale: PositiveFloat = PUBLISHED_INTENSITY
    symmetric_message: bool = True
    sign_only: bool = False
    # of the molecules it was trained on
    elements: tuple[PositiveInt, ...] = (1, 6, 7, 8, 9)
    max_heavy_atoms: PositiveInt = 8


@dataclass(frozen=True)
class _Sizes:
    """What the names and shapes of the weights show."""

    features: int
    blocks: int
    n_radial: int
    n_elements: int
    energies: int
    layers: int
    directional_embedding: bool


def import_isd_painn(file: str | Path, folder: str | Path, options: Mapping[str, Any] | None = None) -> str:
    """Turn a checkpoint of the published ISD-PaiNN code into a model folder; returns the hash of the weights.

    `file`: written by torch.save, a dict with `model_state_dict` or a bare state dict (Shibata & Mizoguchi, Digital
    Discovery 3, 649 (2024), github.com/nmdl-mizo/isdpainn). Widths, depths, the numbers of energies and of elements,
    the output layers and the directional embedding are read from the weights; `options` are those of ISDPaiNNOptions.

    Raises InputError for a file that is not a checkpoint, would run code when read, or lacks or has surplus weights.
    """
    file = Path(file)
    given = ISDPaiNNOptions.parse(dict(options or {}), "options of the isd-painn import")
    weights = read_state_dict(file)
    sizes = _sizes(weights, file)
    backbone = ISDPaiNNConfig.published(
        **given.model_dump(include={"cutoff", "max_neighbors", "symmetric_message", "sign_only"}),
        features=sizes.features,
        blocks=sizes.blocks,
        n_radial=sizes.n_radial,
        n_elements=sizes.n_elements,
        directional_embedding=sizes.directional_embedding,
    )
    head = {
        "name": "directional-spectrum",
        "grid": {"start": given.grid[0], "stop": given.grid[1], "n": sizes.energies},
        "layers": sizes.layers,
        "activation": "scaled-silu",
    }
    config = ModelConfig.parse({"backbone": backbone, "heads": [head]}, "options of the isd-painn import")
    double = weights[EMBEDDING].dtype == torch.float64
    model = build(config, torch.float64 if double else torch.float32)
    load_into(model, _our_weights(weights, sizes, given.intensity_scale), file)
    return save_model(Path(folder), model, _metadata(model, file, given))


def _sizes(weights: Weights, file: Path) -> _Sizes:
    """Read sizes and switches off the weights; every name must then be one that such a network has."""
    blocks = {int(m[1]) for name in weights if (m := re.match(r"message_layers\.(\d+)\.", name))}
    layers = 2 if any(name.startswith("out_invariant.2.") for name in weights) else 1
    outputs = [f"out_invariant.{2 * k}.{kind}" for k in range(layers) for kind in ("weight", "bias")]
    expected = {EMBEDDING, CENTRES, *outputs}
    expected |= {name.format(b) for name in BLOCK_NAMES for b in range(max(blocks, default=0) + 1)}
    check_names(weights, expected, {VECTOR_EMBEDDING}, "an ISD-PaiNN checkpoint", file)
    for name in (EMBEDDING, f"out_invariant.{2 * layers - 2}.weight"):
        check_matrix(weights, name, file)
    centres = weights[CENTRES]
    if centres.ndim != 1 or not torch.allclose(
        centres.double(), torch.linspace(0, 1, len(centres)).double(), atol=1e-6
    ):
        raise InputError(f"{file}: {CENTRES} must be evenly spaced from 0 to 1; another radial basis is not supported")
    n_elements, features = weights[EMBEDDING].shape
    return _Sizes(
        features=features,
        blocks=len(blocks),
        n_radial=len(centres),
        n_elements=n_elements,
        energies=weights[outputs[-2]].shape[0],
        layers=layers,
        directional_embedding=VECTOR_EMBEDDING in weights,
    )


def _our_weights(weights: Weights, sizes: _Sizes, intensity_scale: float) -> Weights:
    """The checkpoint's weights under our names; messages go from the order [s, vv, vs] to [s, vs, vv]."""
    ours = {"backbone.scalar_embedding.weight": weights[EMBEDDING]}
    if sizes.directional_embedding:
        ours["backbone.vector_embedding.weight"] = weights[VECTOR_EMBEDDING]
    for block in range(sizes.blocks):
        for theirs, mine in BLOCK_NAMES.items():
            value = weights[theirs.format(block)]
            if ".x_proj.2." in theirs or ".rbf_proj." in theirs:
                value = _swap_vector_parts(value)
            if mine.endswith(".scale") and not value.any():
                value = torch.ones_like(value)  # 0 stands for "never fitted"
            ours["backbone." + mine.format(block)] = value
    for layer in range(sizes.layers):
        for kind in ("weight", "bias"):
            name = f"{2 * layer}.{kind}"
            ours[f"heads.directional-spectrum.layers.{name}"] = weights[f"out_invariant.{name}"]
    ours["heads.directional-spectrum.intensity_scale"] = torch.tensor(intensity_scale, dtype=torch.float64)
    return ours


def _swap_vector_parts(value: Tensor) -> Tensor:
    if value.ndim == 0 or len(value) % 3:
        return value  # a wrong shape, which is reported when the weights are loaded
    s, vv, vs = value.chunk(3)
    return torch.cat([s, vs, vv])


def _metadata(model: Model, file: Path, options: ISDPaiNNOptions) -> dict[str, Any]:
    fwhm = PUBLISHED_SIGMA * FWHM_PER_SIGMA
    return {
        "edge": model.config.heads[0].edge,  # type: ignore[attr-defined]
        "shift_eV": 0.0,
        "broadening": {"fwhm": fwhm, "fwhm_high": fwhm, "ramp": 10.0},
        "intensity_unit": "1/eV; times intensity_scale: the unit of the training data",
        "intensity_scale": options.intensity_scale,
        "statistics": {
            "elements": list(options.elements),
            "max_heavy_atoms": options.max_heavy_atoms,
            "charges": [0],
        },
        "parameters": parameter_count(model),
        "imported_from": imported_from(file),
        "licence": "that of the imported weights",
        "citation": ISDPaiNN.citation,
    }
