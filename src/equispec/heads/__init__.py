"""Heads by name. To add one: a module with a config and a class `forward(features, graph) -> dict`, and a line here."""

from typing import Any

from equispec.config import Config
from equispec.heads.directional import DirectionalHead, DirectionalHeadConfig
from equispec.heads.tensor_spectrum import (
    DyadTensorConfig,
    DyadTensorHead,
    SquareTensorConfig,
    SquareTensorHead,
)

HEADS: dict[str, tuple[type[Config], Any]] = {
    "directional-spectrum": (DirectionalHeadConfig, DirectionalHead),
    "dyad-tensor": (DyadTensorConfig, DyadTensorHead),
    "square-tensor": (SquareTensorConfig, SquareTensorHead),
}
