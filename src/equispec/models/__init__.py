"""Backbones by name. To add one: a module with a config and a class `forward(graph) -> NodeFeatures`; a line here."""

from typing import Any

from equispec.config import Config
from equispec.models.dyad_painn import DyadPaiNN, DyadPaiNNConfig
from equispec.models.isd_painn import ISDPaiNN, ISDPaiNNConfig
from equispec.models.painn import PaiNN, PaiNNConfig

MODELS: dict[str, tuple[type[Config], Any]] = {
    "painn": (PaiNNConfig, PaiNN),
    "isd-painn": (ISDPaiNNConfig, ISDPaiNN),
    "dyad-painn": (DyadPaiNNConfig, DyadPaiNN),
}
