"""Heads by name. To add one: a module with a config and a class `forward(features, graph) -> dict`, and a line here."""

from typing import Any

from equispec.config import Config
from equispec.heads.dipole import DipoleConfig, DipoleHead
from equispec.heads.direct_forces import DirectForcesConfig, DirectForcesHead
from equispec.heads.directional import DirectionalHead, DirectionalHeadConfig
from equispec.heads.extent import SpatialExtentConfig, SpatialExtentHead
from equispec.heads.polarizability import PolarizabilityConfig, PolarizabilityHead
from equispec.heads.scalar import EnergyConfig, EnergyHead, ScalarConfig, ScalarHead
from equispec.heads.tensor_spectrum import (
    DyadTensorConfig,
    DyadTensorHead,
    SquareTensorConfig,
    SquareTensorHead,
)

HEADS: dict[str, tuple[type[Config], Any]] = {
    "energy": (EnergyConfig, EnergyHead),
    "scalar": (ScalarConfig, ScalarHead),
    "dipole": (DipoleConfig, DipoleHead),
    "polarizability": (PolarizabilityConfig, PolarizabilityHead),
    "spatial-extent": (SpatialExtentConfig, SpatialExtentHead),
    "direct-forces": (DirectForcesConfig, DirectForcesHead),
    "directional-spectrum": (DirectionalHeadConfig, DirectionalHead),
    "dyad-tensor": (DyadTensorConfig, DyadTensorHead),
    "square-tensor": (SquareTensorConfig, SquareTensorHead),
}
