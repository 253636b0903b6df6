"""Arithmetic on segments: edges that belong to the same atom, atoms that belong to the same structure."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def segment_softmax(
    values: Float[Tensor, "edges"], segment: Int[Tensor, "edges"], n_segments: int
) -> Float[Tensor, "edges"]:
    """exp(x) / Σ exp(x) over the edges of each segment; the largest value is taken off first, so nothing overflows."""
    top = values.new_full((n_segments,), -torch.inf)
    top = top.scatter_reduce(0, segment, values.detach(), "amax")
    weights = torch.exp(values - top[segment])
    return weights / values.new_zeros(n_segments).index_add(0, segment, weights)[segment]
