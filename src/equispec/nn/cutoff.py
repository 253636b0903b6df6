"""Functions that let a neighbour's influence vanish at the cutoff radius."""

import torch
from jaxtyping import Float
from torch import Tensor


def cosine_cutoff(d: Float[Tensor, "*batch"], cutoff: float) -> Float[Tensor, "*batch"]:
    """½ [cos(π d / r_cut) + 1] inside the cutoff, 0 outside; d in Å (PaiNN, section 3)."""
    return 0.5 * (torch.cos(d * (torch.pi / cutoff)) + 1) * (d < cutoff)


def polynomial_envelope(x: Float[Tensor, "*batch"], p: int = 5) -> Float[Tensor, "*batch"]:
    """1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2) for x = d / r_cut < 1, 0 outside.

    Value, first and second derivative vanish at x = 1 (DimeNet, arXiv:2003.03123, eq 8).
    """
    a, b, c = (p + 1) * (p + 2) / 2, p * (p + 2), p * (p + 1) / 2
    inside = x.clamp(max=1)  # powers of large numbers would overflow
    return (1 + inside**p * (-a + inside * (b - c * inside))) * (x < 1)
