"""Filters of pairs from distances in space and in SPHC space, and maps of features head by head; several at once.

Small molecules make small arrays, and starting an operation on them takes as long as the operation: what the attentions
of a layer do alike is done at once, with their weights side by side.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from equispec.nn.mlp import lecun_dense, lecun_normal_


class PairFilter(nn.Module):
    """w_ij = φ_r(basis) + φ_s(d) (So3krates, eq 16), the same for both ways of a pair; each φ is dense, SiLU, dense."""

    def __init__(self, n_radial: int, radial_hidden: int, degrees: int, sphc_hidden: int, features: int) -> None:
        super().__init__()
        self.radial_first, self.radial_last = (
            lecun_dense(n_radial, radial_hidden),
            lecun_dense(radial_hidden, features),
        )
        self.sphc_first, self.sphc_last = lecun_dense(degrees, sphc_hidden), lecun_dense(sphc_hidden, features)

    def forward(
        self, basis: Float[Tensor, "pairs n_radial"], d: Float[Tensor, "pairs degrees"]
    ) -> Float[Tensor, "pairs F"]:
        return FilterWeights.of([self])(basis, d)[0]


class FilterWeights(NamedTuple):
    """Weights and biases of several filters, one after the other; the biases of both last maps are added."""

    radial_first: Float[Tensor, "filters hidden n_radial"]
    radial_bias: Float[Tensor, "filters hidden"]
    radial_last: Float[Tensor, "filters hidden F"]
    sphc_first: Float[Tensor, "filters hidden_sphc degrees"]
    sphc_bias: Float[Tensor, "filters hidden_sphc"]
    sphc_last: Float[Tensor, "filters hidden_sphc F"]
    bias: Float[Tensor, "filters 1 F"]

    @classmethod
    def of(cls, filters: Sequence[PairFilter]) -> "FilterWeights":
        def stacked(dense: str, part: str) -> Tensor:
            return torch.stack([getattr(getattr(one, dense), part) for one in filters])

        return cls(
            stacked("radial_first", "weight"),
            stacked("radial_first", "bias"),
            stacked("radial_last", "weight").transpose(1, 2),
            stacked("sphc_first", "weight"),
            stacked("sphc_first", "bias"),
            stacked("sphc_last", "weight").transpose(1, 2),
            (stacked("radial_last", "bias") + stacked("sphc_last", "bias"))[:, None],
        )

    def part(self, first: int, last: int) -> "FilterWeights":
        """Those from `first` to before `last`."""
        return FilterWeights(*(x[first:last] for x in self))

    def __call__(
        self, basis: Float[Tensor, "pairs n_radial"], d: Float[Tensor, "pairs degrees"]
    ) -> Float[Tensor, "filters pairs F"]:
        hidden, hidden_sphc = (
            silu(linear(x, first.flatten(0, 1), bias.flatten())).unflatten(1, (len(self.bias), -1)).transpose(0, 1)
            for x, first, bias in (
                (basis, self.radial_first, self.radial_bias),
                (d, self.sphc_first, self.sphc_bias),
            )
        )
        w = torch.baddbmm(self.bias, hidden, self.radial_last)
        return torch.baddbmm(w, hidden_sphc, self.sphc_last)


class HeadMap(nn.Module):
    """An affine map of its own for each head, F_h -> F_h, or nothing (`affine` False)."""

    def __init__(self, features: int, heads: int, affine: bool) -> None:
        super().__init__()
        size = features // heads
        self.weight, self.bias = None, None
        if affine:
            self.weight = nn.Parameter(torch.empty(heads, size, size))
            self.bias = nn.Parameter(torch.zeros(heads, 1, size))
            lecun_normal_(self.weight, size)


def mapped(f: Float[Tensor, "atoms F"], maps: Sequence[HeadMap]) -> tuple[Float[Tensor, "atoms F"], ...]:
    """Each map of f; all of them have the same heads."""
    weights, biases = [one.weight for one in maps], [one.bias for one in maps]
    if weights[0] is None:
        return (f,) * len(maps)
    weight, bias = torch.cat(weights), torch.cat(biases)  # type: ignore[arg-type]
    n = len(maps)
    by_head = f.unflatten(1, (len(weight) // n, -1)).transpose(0, 1).repeat(n, 1, 1)
    found = torch.baddbmm(bias, by_head, weight).unflatten(0, (n, -1))
    return found.transpose(1, 2).flatten(2).unbind()
