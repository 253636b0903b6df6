"""Tensors of atoms in the frames of their edges, and what edges say in their frames summed by atoms.

The matrices of all edges of an atom lie in one block, so that maps of turned tensors and sums of tensors turned back
are products of matrices for each atom, not for each edge. The blocks are as large as the atom with most edges needs.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Turns:
    """P D of every edge: D turns tensors into its frame, P keeps the rows |m| <= mmax.

    `matrices`: P D of every degree.
    """

    def __init__(
        self,
        matrices: Sequence[Float[Tensor, "edges _rows _components"]],
        sender: Int[Tensor, "edges"],
        receiver: Int[Tensor, "edges"],
        n_atoms: int,
    ) -> None:
        self.matrices = matrices
        self.ends = sender, receiver
        self.n_atoms = n_atoms
        self.rows = [d.shape[1] for d in matrices]
        self.components = [d.shape[2] for d in matrices]

    def turned(self, x: Float[Tensor, "edges components channels"]) -> Float[Tensor, "edges rows channels"]:
        """P D x."""
        parts = x.split(self.components, dim=1)
        return torch.cat([d @ part for d, part in zip(self.matrices, parts, strict=True)], dim=1)

    def mapped(
        self, x: Float[Tensor, "atoms components channels"], weight: Float[Tensor, "maps width"]
    ) -> tuple[Float[Tensor, "edges maps"], Float[Tensor, "edges maps"]]:
        """W P D x of the senders and of the receivers, the width being that of all rows and channels.

        Each atom has W meet all components of x that a D could turn into a row, which the D of its edges then weigh.
        """
        weights = weight.unflatten(1, (-1, x.shape[2])).split(self.rows, dim=1)
        parts = [
            (part.flatten(0, 1) @ w.permute(2, 1, 0).flatten(1)).view(len(x), -1, len(weight))
            for part, w in zip(x.split(self.components, dim=1), weights, strict=True)
        ]
        found = (self._pairs @ torch.cat(parts, dim=1)).flatten(0, 1)
        senders, receivers = self._places
        return found[senders], found[receivers]

    def summed_back(self, y: Float[Tensor, "edges rows channels"]) -> Float[Tensor, "atoms components channels"]:
        """Σ Dᵀ Pᵀ y over the edges that an atom receives."""
        blocks = zip(self._received, self._by_receiver(y).split(self.rows, dim=2), strict=True)
        return torch.cat([d.flatten(1, 2).transpose(1, 2) @ part.flatten(1, 2) for d, part in blocks], dim=1)

    @cached_property
    def _slots(self) -> list[tuple[int, Int[Tensor, "edges"]]]:
        """For senders and for receivers: the most edges of one, and which of its edges an edge is."""
        return [_ranked(end, self.n_atoms) for end in self.ends]

    @cached_property
    def _places(self) -> list[Int[Tensor, "edges"]]:
        """Places of every edge in blocks of those that an atom sends and of those that it receives."""
        (sent, first), (received, second) = self._slots
        sender, receiver = self.ends
        return [sender * (sent + received) + first, receiver * (sent + received) + sent + second]

    @cached_property
    def _pairs(self) -> Float[Tensor, "atoms places pairs"]:
        """P D of all edges of an atom, a column for every pair of a component and a row of its degree."""
        pairs = torch.cat([d.transpose(1, 2).flatten(1) for d in self.matrices], dim=1)
        places = sum(most for most, _ in self._slots)
        block = pairs.new_zeros(self.n_atoms * places, pairs.shape[1])
        for place in self._places:
            block.index_copy_(0, place, pairs)
        return block.unflatten(0, (self.n_atoms, places))

    @cached_property
    def _received(self) -> list[Float[Tensor, "atoms places _rows _components"]]:
        return [self._by_receiver(d) for d in self.matrices]

    def _by_receiver(self, values: Float[Tensor, "edges *shape"]) -> Float[Tensor, "atoms places *shape"]:
        """Values of edges in blocks of those that an atom receives, zero in places without an edge."""
        most, rank = self._slots[1]
        block = values.new_zeros(self.n_atoms * most, *values.shape[1:])
        return block.index_copy_(0, self.ends[1] * most + rank, values).unflatten(0, (self.n_atoms, most))


def _ranked(end: Int[Tensor, "edges"], n_atoms: int) -> tuple[int, Int[Tensor, "edges"]]:
    """The largest number of edges with the same atom, and a number from 0 on of every edge among these."""
    counts = torch.bincount(end, minlength=n_atoms)
    order = torch.argsort(end, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=end.device) - (counts.cumsum(0) - counts)[end[order]]
    return int(counts.max()), rank
