"""The head of the directional networks: the absorption S(E; n) of every site for the direction given."""

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from equispec.data.statistics import SpectrumStatistics
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph, absorber_sites
from equispec.heads.spectrum_config import SiteSpectrumConfig
from equispec.nn.mlp import ScaledSiLU, dense, mlp
from equispec.spectra import EDGES

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "scaled-silu": ScaledSiLU}


class DirectionalHeadConfig(SiteSpectrumConfig):
    """Configuration of DirectionalHead."""

    name: Literal["directional-spectrum"] = "directional-spectrum"
    layers: Literal[1, 2] = Field(2, description="dense layers; the published weights have 1, the paper's text says 2")
    hidden: PositiveInt | None = Field(None, description="width between two layers; default: that of the scalars")
    activation: Literal["silu", "scaled-silu"] = "scaled-silu"


class DirectionalHead(nn.Module):
    """S(E; n) as a dense network on the scalars (Shibata & Mizoguchi, section 2.2.4); its sign is not constrained."""

    needs = ("scalar",)
    outputs = ("absorption",)
    intensity_scale: Tensor

    def __init__(self, config: DirectionalHeadConfig, widths: FeatureWidths) -> None:
        super().__init__()
        self.config = config
        self.element = EDGES[config.edge].z
        n = config.energy_grid.n
        if config.layers == 1:
            self.layers = nn.Sequential(dense(widths.scalar, n))
        else:
            self.layers = mlp(
                widths.scalar, config.hidden or widths.scalar, n, ACTIVATIONS[config.activation], config.dropout
            )
        self.register_buffer("intensity_scale", torch.ones((), dtype=torch.float64))

    def initialise(self, statistics: SpectrumStatistics) -> None:
        """Start from the mean spectrum of the training set and remember its unit."""
        self.intensity_scale.fill_(statistics.intensity_scale)
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(torch.as_tensor(statistics.mean_spectrum))

    def forward(self, features: NodeFeatures, graph: AtomGraph) -> dict[str, Tensor]:
        """{"absorption": [sites, E]} in 1/eV for the absorbing sites of the batch."""
        return {"absorption": self.layers(features.scalar[absorber_sites(graph, self.element)])}
