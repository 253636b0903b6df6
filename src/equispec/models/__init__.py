"""Backbones by name. To add one: a module with a config and a class `forward(graph) -> NodeFeatures`, and a line here."""

from typing import Any

from equispec.config import Config
from equispec.models.dyad_painn import DyadPaiNN, DyadPaiNNConfig

MODELS: dict[str, tuple[type[Config], Any]] = {
    "dyad-painn": (DyadPaiNNConfig, DyadPaiNN),
}
