"""Tensors of atoms in the frames of their edges, and what edges say in their frames summed by atoms.

The matrices of the edges of an atom lie in blocks, so that maps of turned tensors and sums of tensors turned back are
products of matrices for each block, not for each edge.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equispec.nn.edge_frames import ranks


class Turns:
    """P D of every edge: D turns tensors into its frame, P keeps the rows |m| <= mmax.

    `matrices`: P D of every degree; `sender`, `receiver`: the atoms of every edge, in any order. For one forward pass:
    what is derived from the matrices is made when it is first asked for, with or without gradients, and kept.
    """

    def __init__(
        self,
        matrices: Sequence[Float[Tensor, "edges _rows _components"]],
        sender: Int[Tensor, "edges"],
        receiver: Int[Tensor, "edges"],
        n_atoms: int,
    ) -> None:
        self.matrices = matrices
        self.sender, self.receiver = sender, receiver
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
        found = (self._pairs @ self._of_ends.given(torch.cat(parts, dim=1))).flatten(0, 1)
        senders, receivers = self._of_ends.place.tensor_split(2)
        return found[senders], found[receivers]

    def summed_back(self, y: Float[Tensor, "edges rows channels"]) -> Float[Tensor, "atoms components channels"]:
        """Σ Dᵀ Pᵀ y over the edges that an atom receives."""
        blocks = zip(self._received, self._of_receivers.spread(y).split(self.rows, dim=2), strict=True)
        sums = [d.flatten(1, 2).transpose(1, 2) @ part.flatten(1, 2) for d, part in blocks]
        return self._of_receivers.summed(torch.cat(sums, dim=1))

    @cached_property
    def _of_ends(self) -> "Blocks":
        """Blocks of the edges that an atom sends and of those that it receives."""
        return Blocks(torch.cat([self.sender, self.receiver]), self.n_atoms)

    @cached_property
    def _of_receivers(self) -> "Blocks":
        return Blocks(self.receiver, self.n_atoms)

    @cached_property
    def _pairs(self) -> Float[Tensor, "blocks places pairs"]:
        """P D of the edges of an atom, a column for every pair of a component and a row of its degree."""
        pairs = torch.cat([d.transpose(1, 2).flatten(1) for d in self.matrices], dim=1)
        return self._of_ends.spread(torch.cat([pairs, pairs]))

    @cached_property
    def _received(self) -> list[Float[Tensor, "blocks places _rows _components"]]:
        return [self._of_receivers.spread(d) for d in self.matrices]


class Blocks:
    """Items of atoms in blocks of as many places as the atom with most items needs, but at most twice the mean.

    An atom with more items has several blocks, so that there are not many more than three places for each item.
    `place` of every item; `atom` of every block.
    """

    def __init__(self, atom: Int[Tensor, "items"], n_atoms: int) -> None:
        counts = torch.bincount(atom, minlength=n_atoms)
        most = int(counts.max()) if len(atom) else 0
        self.size = max(1, min(most, 2 * len(atom) // max(1, n_atoms) + 1))
        self.n_atoms = n_atoms
        number = (counts + self.size - 1) // self.size
        rank = ranks(torch.zeros(len(atom), device=atom.device), atom)
        first = number.cumsum(0) - number
        self.place = (first[atom] + rank // self.size) * self.size + rank % self.size
        self.atom = torch.arange(n_atoms, device=atom.device).repeat_interleave(number)
        self.one_each = bool((number == 1).all())

    def spread(self, values: Float[Tensor, "items *shape"]) -> Float[Tensor, "blocks places *shape"]:
        """Values of items in their places, zero in others."""
        block = values.new_zeros(len(self.atom) * self.size, *values.shape[1:])
        return block.index_copy_(0, self.place, values).unflatten(0, (len(self.atom), self.size))

    def given(self, values: Float[Tensor, "atoms *shape"]) -> Float[Tensor, "blocks *shape"]:
        """Those of the atom of every block."""
        return values if self.one_each else values[self.atom]

    def summed(self, values: Float[Tensor, "blocks *shape"]) -> Float[Tensor, "atoms *shape"]:
        """The sum over the blocks of every atom."""
        if self.one_each:
            return values
        return values.new_zeros(self.n_atoms, *values.shape[1:]).index_add(0, self.atom, values)
