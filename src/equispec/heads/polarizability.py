"""Static dipole polarizability from a scalar and a vector of every atom.

Schütt, Unke & Gastegger, ICML 2021 (arXiv:2102.03150), eq 14:

    α = Σ_i α0_i I + ν_i ⊗ (r_i - r_0) + (r_i - r_0) ⊗ ν_i,     (α0_i, ν_i) from two gated equivariant blocks
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from equispec.config import Config
from equispec.data.statistics import PropertyStatistics
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph, sum_per_system
from equispec.heads.origin import Origin, RelativePositions
from equispec.nn.gated import ScalarAndVector


class PolarizabilityConfig(Config):
    """Configuration of PolarizabilityHead."""

    name: Literal["polarizability"] = "polarizability"
    origin: Origin = Field(
        "center-of-mass", description='r_0; α depends on it unless centre_nu, for "zero" on the frame'
    )
    centre_nu: bool = Field(False, description="subtract the mean of ν in each molecule: α then depends on no origin")


class PolarizabilityHead(nn.Module):
    """The polarizability tensor, symmetric by construction (not positive definite), and a third of its trace."""

    needs = ("scalar", "vector")
    outputs = ("polarizability", "isotropic_polarizability")
    molecular = True

    def __init__(self, config: PolarizabilityConfig, widths: FeatureWidths) -> None:
        super().__init__()
        assert widths.vector is not None
        self.config = config
        self.positions = RelativePositions(config.origin)
        self.readout = ScalarAndVector(widths.scalar, widths.vector)

    def initialise(self, statistics: PropertyStatistics) -> None:
        """Nothing to take over: the contribution of an atom is of the order of 1 Å³."""

    def forward(self, features: NodeFeatures, graph: AtomGraph) -> dict[str, Tensor]:
        """{"polarizability": [systems, 3, 3] Å³, "isotropic_polarizability": [systems] Å³}."""
        alpha0, nu = self.atomic_terms(features)
        if self.config.centre_nu:
            n_atoms = sum_per_system(torch.ones_like(alpha0), graph)
            nu = nu - (sum_per_system(nu, graph) / n_atoms[:, None])[graph.system]
        half = nu[:, :, None] * self.positions(graph)[:, None, :]  # (N, 3, 3)
        identity = torch.eye(3, dtype=half.dtype, device=half.device)
        alpha = sum_per_system(alpha0[:, None, None] * identity + (half + half.mT), graph)
        return {"polarizability": alpha, "isotropic_polarizability": torch.einsum("saa->s", alpha) * (1 / 3)}

    def atomic_terms(self, features: NodeFeatures) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms 3"]]:
        """α0 in Å³ and ν in Å² of every atom."""
        return self.readout(features.scalar, features.vector)
