"""Radial basis functions: a distance becomes a vector of numbers.

Their constants are computed; `stored` ones are part of a model's weights, as those of imported models are, which may be
rounded or spaced in another way.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class BesselBasis(nn.Module):
    """sin(n π d / r_cut) / d for n = 1..n_radial, not trainable; n π / r_cut at d = 0 (PaiNN, section 3)."""

    frequencies: Tensor

    def __init__(self, n_radial: int, cutoff: float, stored: bool = False) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.arange(1, n_radial + 1) * (torch.pi / cutoff), persistent=stored)

    def forward(self, d: Float[Tensor, "edges"]) -> Float[Tensor, "edges n_radial"]:
        d = torch.where(d == 0, 1e-9, d)  # so small that the quotient is its limit, n π / r_cut
        return (torch.sin(d * self.frequencies[:, None]) * (1 / d)).T  # rows of edges are long: faster than columns


class GaussianBasis(nn.Module):
    """exp(-½ ((d - μ_k) / Δ)²) with n_radial centres μ_k equally spaced on [0, r_cut] and Δ their spacing."""

    centres: Tensor
    widths: Tensor

    def __init__(self, n_radial: int, cutoff: float, stored: bool = False) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, cutoff, n_radial), persistent=stored)
        self.register_buffer("widths", torch.full((n_radial,), cutoff / (n_radial - 1)), persistent=stored)

    def forward(self, d: Float[Tensor, "edges"]) -> Float[Tensor, "edges n_radial"]:
        return torch.exp(-0.5 * ((d[:, None] - self.centres) / self.widths) ** 2)


class PhysNetBasis(nn.Module):
    """exp(-β (e^-d - μ_k)²) with n_radial centres μ_k equally spaced on [e^-r_cut, 1], d in Å.

    β = [(2 / n_radial) (1 - e^-r_cut)]^-2 (Unke & Meuwly, J. Chem. Theory Comput. 15, 3678 (2019), eq 7).
    """

    centres: Tensor
    beta: Tensor

    def __init__(self, n_radial: int, cutoff: float, stored: bool = False) -> None:
        super().__init__()
        last = math.exp(-cutoff)
        self.register_buffer("centres", torch.linspace(last, 1, n_radial), persistent=stored)
        self.register_buffer("beta", torch.tensor((2 / n_radial * (1 - last)) ** -2), persistent=stored)

    def forward(self, d: Float[Tensor, "edges"]) -> Float[Tensor, "edges n_radial"]:
        return torch.exp(-self.beta * (torch.exp(-d)[:, None] - self.centres) ** 2)


RADIAL_BASES: dict[str, type[BesselBasis] | type[GaussianBasis] | type[PhysNetBasis]] = {
    "bessel": BesselBasis,
    "gaussian": GaussianBasis,
    "physnet": PhysNetBasis,
}
