"""Edges as pairs that share a filter, in ranges that are worked off while their arrays are in the cache."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equispec.graph import AtomGraph, edge_vectors, tracing
from equispec.neighbors import edge_order, image_numbers

# Edges x features of a range: its arrays stay in the third-level cache, and starting an operation on them costs little.
TILE_ELEMENTS = 131072
SMALLEST_TILE = 32  # edges


class Tile(NamedTuple):
    """The pairs `first` to `last` and the atoms of their edges, one way after the other.

    `*_rows` are the same atoms as rows of [4 atoms, F], plane after plane, for sums of several planes.
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


def pairs_of(
    graph: AtomGraph,
) -> tuple[Float[Tensor, "pairs 3"], Int[Tensor, "ways pairs"], Int[Tensor, "ways pairs"]]:
    """Vectors (Å) from the receivers to the senders of the first way, receivers and senders of all ways.

    One way only for a compiler, which must not look at the list, and where edges have no mirror images.
    """
    one = None if tracing() else one_of_each_pair(graph.edge_index, graph.edge_shift, graph.n_atoms)
    if one is None:
        return edge_vectors(graph), graph.edge_index[:1], graph.edge_index[1:]
    edge_index, edge_shift = graph.edge_index.index_select(1, one), graph.edge_shift.index_select(0, one)
    vectors = edge_vectors(replace(graph, edge_index=edge_index, edge_shift=edge_shift))
    return vectors, edge_index, edge_index.flip(0)


def one_of_each_pair(
    edge_index: Int[Tensor, "2 edges"], edge_shift: Float[Tensor, "edges 3"], n_atoms: int
) -> Int[Tensor, "pairs"] | None:
    """Indices of one edge of each pair i <- j, j <- i (of opposite shifts).

    None if any edge lacks its mirror image, or if edges are not in the order of the neighbour lists.
    """
    receiver, sender = edge_index
    ahead = receiver < sender
    if edge_shift.any():
        ahead |= (receiver == sender) & (image_numbers(edge_shift) > 0)
    behind = (~ahead).nonzero()[:, 0]
    ahead = ahead.nonzero()[:, 0]
    if len(ahead) != len(behind):
        return None
    mirrored, shift = edge_index.index_select(1, behind).flip(0), -edge_shift.index_select(0, behind)
    order = edge_order(mirrored, shift, n_atoms)
    same_atoms = torch.equal(mirrored.index_select(1, order), edge_index.index_select(1, ahead))
    same_shift = torch.equal(shift.index_select(0, order), edge_shift.index_select(0, ahead))
    return ahead if same_atoms and same_shift else None


def tiles(
    receiver: Int[Tensor, "ways pairs"], sender: Int[Tensor, "ways pairs"], n_atoms: int, features: int
) -> tuple[Tile, ...]:
    """Ranges of pairs that are worked off at once: all of them for a compiler and where there is no small cache."""
    ways, pairs = receiver.shape
    size = max(TILE_ELEMENTS // features, SMALLEST_TILE) // ways
    if receiver.device.type != "cpu" or tracing():
        size = max(pairs, 1)
    plane = n_atoms * torch.arange(4, device=receiver.device)[:, None]

    def tile(first: int) -> Tile:
        i, j = (x[:, first : first + size].reshape(-1) for x in (receiver, sender))
        return Tile(first, min(first + size, pairs), i, j, (plane + i).view(-1), (plane + j).view(-1))

    return tuple(tile(first) for first in range(0, pairs, size))
