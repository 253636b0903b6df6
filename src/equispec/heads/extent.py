"""Electronic spatial extent ⟨R²⟩ = Σ_i q(s_i) |r_i - r_0|², r_0 the centre of mass (Schütt et al., ICML 2021)."""

from typing import Literal

from torch import Tensor, nn

from equispec.config import Config
from equispec.data.statistics import PropertyStatistics
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph, sum_per_system
from equispec.heads.origin import RelativePositions
from equispec.nn.mlp import mlp


class SpatialExtentConfig(Config):
    """Configuration of SpatialExtentHead."""

    name: Literal["spatial-extent"] = "spatial-extent"


class SpatialExtentHead(nn.Module):
    """The electronic spatial extent from a weight q of every atom; q = dense(SiLU(dense(s))), F -> F/2 -> 1."""

    needs = ("scalar",)
    outputs = ("spatial_extent",)
    molecular = True

    def __init__(self, config: SpatialExtentConfig, widths: FeatureWidths) -> None:
        super().__init__()
        self.config = config
        self.positions = RelativePositions("center-of-mass")
        self.weight = mlp(widths.scalar, max(1, widths.scalar // 2), 1)

    def initialise(self, statistics: PropertyStatistics) -> None:
        """Nothing to take over: the weights are numbers of electrons, and the squared distances carry the size."""

    def forward(self, features: NodeFeatures, graph: AtomGraph) -> dict[str, Tensor]:
        """{"spatial_extent": [systems]} in Å²."""
        squares = self.positions(graph).square().sum(1)
        return {"spatial_extent": sum_per_system(self.weight(features.scalar)[:, 0] * squares, graph)}
