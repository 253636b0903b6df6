"""Electric dipole moment: partial charges at the atoms and, in the full form, a dipole of each atom.

Schütt, Unke & Gastegger, ICML 2021 (arXiv:2102.03150):

    charges only  (eq 12)    μ = Σ_i q_i (r_i - r_0),             q_i = dense(SiLU(dense(s_i)))
    full          (eq 13)    μ = Σ_i μ_i + q_i (r_i - r_0),       (q_i, μ_i) from two gated equivariant blocks
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from equispec.config import Config
from equispec.data.statistics import PropertyStatistics
from equispec.errors import ConfigError
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph, sum_per_system
from equispec.heads.origin import Origin, RelativePositions
from equispec.nn.gated import ScalarAndVector
from equispec.nn.mlp import mlp
from equispec.nn.norms import exact_norm


class DipoleConfig(Config):
    """Configuration of DipoleHead."""

    name: Literal["dipole"] = "dipole"
    atomic_dipoles: bool = Field(True, description="False: charges only (eq 12)")
    charge_correction: bool = Field(
        True, description="shift the charges of each molecule by one number, so that they sum to its total charge"
    )
    origin: Origin = Field("center-of-mass", description="r_0; it matters where the charges do not sum to zero")


class DipoleHead(nn.Module):
    """The dipole moment, its length and the partial charges.

    Charges sum to `system_data["charge"]` [systems] in e, to 0 for a batch without it. The dipole of a neutral molecule
    then depends on no origin; that of an ion is the one about r_0.
    """

    needs = ("scalar",)  # and vectors, for atomic dipoles: see the constructor
    outputs = ("dipole", "dipole_magnitude", "charges")
    molecular = True

    def __init__(self, config: DipoleConfig, widths: FeatureWidths) -> None:
        """Raises ConfigError for atomic dipoles from features without vectors."""
        super().__init__()
        self.config = config
        self.positions = RelativePositions(config.origin)
        if not config.atomic_dipoles:
            self.readout = mlp(widths.scalar, max(1, widths.scalar // 2), 1)
        elif widths.vector is None:
            raise ConfigError(
                "model: head 'dipole' needs vector features for its atomic dipoles, which this backbone does not "
                "provide with these options; set its atomic_dipoles to false for charges only"
            )
        else:
            self.readout = ScalarAndVector(widths.scalar, widths.vector)

    def initialise(self, statistics: PropertyStatistics) -> None:
        """Nothing to take over: charges in e and dipoles in e·Å are of order one."""

    def forward(self, features: NodeFeatures, graph: AtomGraph) -> dict[str, Tensor]:
        """{"dipole": [systems, 3] e·Å, "dipole_magnitude": [systems] e·Å, "charges": [atoms] e}."""
        charges, atomic_dipoles = self.atomic_terms(features)
        if self.config.charge_correction:
            charges = with_total_charge(charges, graph)
        terms = charges[:, None] * self.positions(graph)
        if atomic_dipoles is not None:
            terms = terms + atomic_dipoles
        dipole = sum_per_system(terms, graph)
        return {"dipole": dipole, "dipole_magnitude": exact_norm(dipole, dim=1), "charges": charges}

    def atomic_terms(self, features: NodeFeatures) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms 3"] | None]:
        """Charges before the correction (e) and atomic dipoles (e·Å; None for charges only)."""
        if not self.config.atomic_dipoles:
            return self.readout(features.scalar)[:, 0], None
        return self.readout(features.scalar, features.vector)


def with_total_charge(charges: Float[Tensor, "atoms"], graph: AtomGraph) -> Float[Tensor, "atoms"]:
    """Charges shifted by one number per structure, so that they sum to `system_data["charge"]`, or to 0 without it."""
    excess = sum_per_system(charges, graph)
    if (total := graph.system_data.get("charge")) is not None:
        excess = excess - total.to(excess.dtype)
    shift = excess / sum_per_system(torch.ones_like(charges), graph)
    return charges - shift[graph.system]
