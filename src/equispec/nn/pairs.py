"""Edges as pairs that share a filter, in ranges that are worked off while their arrays are in the cache."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equispec.graph import tracing

# Edges x features of a range: its arrays stay in the third-level cache, and starting an operation on them costs little.
TILE_ELEMENTS = 131072


class Tile(NamedTuple):
    """The pairs `first` to `last` and the atoms of their edges, one way after the other.

    `*_rows` are the same atoms as rows of [3 atoms, F], for sums of vectors.
    """

    first: int
    last: int
    receiver: Int[Tensor, "edges"]
    sender: Int[Tensor, "edges"]
    receiver_rows: Int[Tensor, "rows"]
    sender_rows: Int[Tensor, "rows"]


@dataclass(frozen=True, eq=False)
class EdgePairs:
    """Pairs of edges that share a filter: two ways, i <- j and j <- i, or one where edges have no mirror images.

    direction: û from receiver to sender; basis: radial functions times cutoff, the last row multiplies the bias of a
    filter.
    """

    tiles: tuple[Tile, ...]
    direction: Float[Tensor, "3 ways pairs"]
    basis: Float[Tensor, "columns pairs"]


def one_of_each_pair(
    edge_index: Int[Tensor, "2 edges"], edge_shift: Float[Tensor, "edges 3"], n_atoms: int
) -> Int[Tensor, "pairs"] | None:
    """Indices of one edge of each pair i <- j, j <- i (of opposite shifts).

    None if any edge lacks its mirror image, or if edges are not in the order of the neighbour lists.
    """
    edge, mirrored = edge_index, edge_index.flip(0)
    radix = [n_atoms, n_atoms]
    if edge_shift.any():
        image = edge_shift.round().long().T
        reach = int(image.abs().max())
        edge, mirrored = torch.cat([edge, reach + image]), torch.cat([mirrored, reach - image])
        radix += [2 * reach + 1] * 3
    own, other = _number(edge, radix), _number(mirrored, radix)
    kept = own < other
    first, second = own[kept], other[~kept]
    if first.shape != second.shape or not torch.equal(first, second.sort().values):
        return None
    return kept.nonzero()[:, 0]


def _number(digits: Int[Tensor, "digits edges"], radix: list[int]) -> Int[Tensor, "edges"]:
    number = digits[0]
    for digit, base in zip(digits[1:], radix[1:], strict=True):
        number = number * base + digit
    return number


def tiles(
    receiver: Int[Tensor, "ways pairs"], sender: Int[Tensor, "ways pairs"], n_atoms: int, features: int
) -> tuple[Tile, ...]:
    """Ranges of pairs that are worked off at once: all of them for a compiler and where there is no small cache."""
    ways, pairs = receiver.shape
    size = max(TILE_ELEMENTS // features, 32) // ways
    if receiver.device.type != "cpu" or tracing():
        size = max(pairs, 1)
    plane = n_atoms * torch.arange(3, device=receiver.device)[:, None]

    def tile(first: int) -> Tile:
        i, j = (x[:, first : first + size].reshape(-1) for x in (receiver, sender))
        return Tile(first, min(first + size, pairs), i, j, (plane + i).view(-1), (plane + j).view(-1))

    return tuple(tile(first) for first in range(0, pairs, size))
