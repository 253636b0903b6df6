"""Backbones by name. To add one: a module with a config and a class `forward(graph) -> NodeFeatures`; a line here."""

from typing import Any

from equispec.config import Config
from equispec.models.dyad_painn import DyadPaiNN, DyadPaiNNConfig
from equispec.models.hdgnn import HDGNN, HDGNNConfig
from equispec.models.isd_painn import ISDPaiNN, ISDPaiNNConfig
from equispec.models.painn import PaiNN, PaiNNConfig
from equispec.models.so3krates import So3krates, So3kratesConfig

MODELS: dict[str, tuple[type[Config], Any]] = {
    "painn": (PaiNNConfig, PaiNN),
    "isd-painn": (ISDPaiNNConfig, ISDPaiNN),
    "dyad-painn": (DyadPaiNNConfig, DyadPaiNN),
    "so3krates": (So3kratesConfig, So3krates),
    "hdgnn": (HDGNNConfig, HDGNN),
}
