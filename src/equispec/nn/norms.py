"""Norms whose gradient at zero is finite."""

import torch
from jaxtyping import Float
from torch import Tensor


def safe_norm(x: Tensor, dim: int | tuple[int, ...], eps: float = 1e-8) -> Tensor:
    """sqrt(Σ x² + eps) over `dim`: smooth everywhere, with gradient 0 at x = 0."""
    return torch.sqrt((x * x).sum(dim) + eps)


def exact_norm(x: Tensor, dim: int) -> Tensor:
    """|x| over `dim`, without an epsilon; value and gradient at x = 0 are 0."""
    return root((x * x).sum(dim))


def root(square: Tensor) -> Tensor:
    """The square root, with the value and the gradient 0 at 0 and finite second derivatives next to it."""
    # below, the third power of the root, which second derivatives divide by, would vanish in single precision
    zero = square <= torch.finfo(square.dtype).tiny ** 0.5
    return torch.sqrt(square + zero) - zero.to(square.dtype)


def distances_and_directions(
    vectors: Float[Tensor, "edges 3"],
) -> tuple[Float[Tensor, "edges"], Float[Tensor, "edges 3"]]:
    """Length (Å) and unit vector of each edge vector; coincident atoms must have been refused before."""
    x, y, z = vectors.unbind(1)  # three long sums are much faster than many sums of three
    d = torch.sqrt(x * x + y * y + z * z)
    return d, vectors / d[:, None]
