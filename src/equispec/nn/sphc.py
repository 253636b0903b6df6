"""Spherical harmonic coordinates (SPHCs): one vector of components for each of several degrees, side by side."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equispec.nn.norms import root
from equispec.nn.so3 import components, coupling


class Degrees(nn.Module):
    """A list of degrees: where each lies among the components, and norms and factors of each.

    Norms are sqrt(x² + eps²) - eps; with eps = 0 their value and gradient at x = 0 are 0.
    """

    of: Tensor
    parity: Tensor

    def __init__(self, degrees: Sequence[int], eps: float = 0.0) -> None:
        super().__init__()
        self.list, self.eps = tuple(degrees), eps
        number = np.repeat(np.arange(len(degrees)), [2 * degree + 1 for degree in degrees])
        of = np.arange(len(degrees))[:, None] == number
        dtype = torch.get_default_dtype()
        self.register_buffer("of", torch.as_tensor(of).to(dtype), persistent=False)  # (degrees, components)
        signs = (-1.0) ** np.array(self.list)[number]
        self.register_buffer("parity", torch.as_tensor(signs).to(dtype), persistent=False)  # of Y(-r) = ±Y(r)

    def part(self, degree: int) -> slice:
        """Where the components of a degree are."""
        first = components([other for other in self.list if other < degree])
        return slice(first, first + 2 * degree + 1)

    def expand(self, values: Float[Tensor, "*batch degrees"]) -> Float[Tensor, "*batch components"]:
        """One number per degree, repeated for its components."""
        return values @ self.of

    def norms(self, chi: Float[Tensor, "*batch components"]) -> Float[Tensor, "*batch degrees"]:
        """The norm of every degree."""
        return self._root((chi * chi) @ self.of.T)

    def total_norm(self, chi: Float[Tensor, "*batch components"]) -> Float[Tensor, "*batch"]:
        """The norm of all components together."""
        return self._root((chi * chi).sum(-1))

    def directions(self, chi: Float[Tensor, "*batch components"]) -> Float[Tensor, "*batch components"]:
        """Every degree divided by its norm, sqrt(x² + eps²) with an eps; zero where that is zero."""
        norms = self.norms(chi) + self.eps
        return chi / self.expand(torch.where(norms > 0, norms, 1.0))

    def _root(self, square: Tensor) -> Tensor:
        return torch.sqrt(square + self.eps**2) - self.eps if self.eps else root(square)


class SelfMix(nn.Module):
    """χ~^(l3) = Σ_{l1 < l2} k_{l3 l1 l2} (χ^(l1) ⊗_l3 χ^(l2)), couplings of norm 1; `parity`: l1 + l2 + l3 even only.

    k is a table of all degrees [l3, l1, l2], of which the entries in `triples` act.
    """

    couplings: Tensor
    live: Tensor
    left: Tensor
    right: Tensor

    def __init__(self, degrees: Degrees, parity: bool) -> None:
        super().__init__()
        self.degrees = degrees
        self.pairs = tuple(combinations(degrees.list, 2))
        self.triples = tuple(
            (l3, l1, l2)
            for l1, l2 in self.pairs
            for l3 in degrees.list
            if l2 - l1 <= l3 <= l1 + l2 and not (parity and (l1 + l2 + l3) % 2)
        )
        n, first = len(degrees.list), degrees.list[0]
        live = [((l3 - first) * n + l1 - first) * n + l2 - first for l3, l1, l2 in self.triples]
        self.register_buffer("live", torch.tensor(live, dtype=torch.long), persistent=False)  # entries of k that act
        self.k = nn.Parameter(0.1 * torch.randn(n, n, n))
        self.register_buffer("couplings", self._couplings().to(torch.get_default_dtype()), persistent=False)
        left, right = self._products()
        self.register_buffer("left", left, persistent=False)
        self.register_buffer("right", right, persistent=False)

    def _products(self) -> Int[Tensor, "2 products"]:
        """The components that are multiplied, for all pairs of degrees."""
        numbers = torch.arange(components(self.degrees.list))
        grids = [
            torch.cartesian_prod(numbers[self.degrees.part(l1)], numbers[self.degrees.part(l2)])
            for l1, l2 in self.pairs
        ]
        return torch.cat(grids or [torch.zeros(0, 2, dtype=torch.long)]).T.contiguous()

    def _couplings(self) -> Float[Tensor, "triples products components"]:
        """For each triple, the map from the products of all pairs of degrees to the components."""
        sizes = [(2 * l1 + 1) * (2 * l2 + 1) for l1, l2 in self.pairs]
        table = np.zeros((len(self.triples), sum(sizes), components(self.degrees.list)))
        for row, (l3, l1, l2) in enumerate(self.triples):
            pair = self.pairs.index((l1, l2))
            first = sum(sizes[:pair])
            block = coupling(l1, l2, l3).reshape(2 * l3 + 1, -1).T
            table[row, first : first + sizes[pair], self.degrees.part(l3)] = block
        return torch.as_tensor(table)

    def forward(self, chi: Float[Tensor, "atoms components"]) -> Float[Tensor, "atoms components"]:
        if not self.triples:
            return torch.zeros_like(chi)
        k = self.k.flatten().index_select(0, self.live)
        matrix = (k @ self.couplings.flatten(1)).view(self.couplings.shape[1:])
        return (chi.index_select(1, self.left) * chi.index_select(1, self.right)) @ matrix
