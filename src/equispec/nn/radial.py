"""Radial basis functions: a distance becomes a vector of numbers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class BesselBasis(nn.Module):
    """sin(n π d / r_cut) / d for n = 1..n_radial, not trainable; n π / r_cut at d = 0 (PaiNN, section 3)."""

    frequencies: Tensor

    def __init__(self, n_radial: int, cutoff: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.arange(1, n_radial + 1) * (torch.pi / cutoff), persistent=False)

    def forward(self, d: Float[Tensor, "edges"]) -> Float[Tensor, "edges n_radial"]:
        d = torch.where(d == 0, 1e-9, d)[:, None]  # so small that the quotient is its limit, n π / r_cut
        return torch.sin(d * self.frequencies) * (1 / d)


class GaussianBasis(nn.Module):
    """exp(-½ ((d - μ_k) / Δ)²) with n_radial centres μ_k equally spaced on [0, r_cut] and Δ their spacing."""

    centres: Tensor

    def __init__(self, n_radial: int, cutoff: float) -> None:
        super().__init__()
        self.width = cutoff / (n_radial - 1)
        self.register_buffer("centres", torch.linspace(0, cutoff, n_radial), persistent=False)

    def forward(self, d: Float[Tensor, "edges"]) -> Float[Tensor, "edges n_radial"]:
        return torch.exp(-0.5 * ((d[:, None] - self.centres) / self.width) ** 2)


RADIAL_BASES: dict[str, type[BesselBasis] | type[GaussianBasis]] = {"bessel": BesselBasis, "gaussian": GaussianBasis}
