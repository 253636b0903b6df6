"""The edges of a batch as the message blocks see them, and sums of messages that never hold all edges at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equispec.graph import tracing

# A tile's arrays of [edges, features] floats should stay in the second-level cache: 512 edges at 128 features.
TILE_ELEMENTS = 65536


@dataclass(frozen=True, eq=False)
class Edges:
    """Receiver i, sender j, unit vector û_ij (from i to j) and the radial basis of each edge, sorted by receiver.

    The last column of `basis` multiplies the bias of a filter; the columns already hold the cutoff function.
    """

    receiver: Int[Tensor, "edges"]
    sender: Int[Tensor, "edges"]
    direction: Float[Tensor, "edges 3"]
    basis: Float[Tensor, "edges columns"]

    def tiles(self, size: int) -> "Iterator[Edges]":
        """Contiguous pieces of at most `size` edges; at least one, which may be empty."""
        pieces = (x.split(size) for x in (self.receiver, self.sender, self.direction, self.basis))
        return (Edges(*piece) for piece in zip(*pieces, strict=True))


def sum_messages(
    message: Callable[[Edges], tuple[Tensor, ...]], edges: Edges, n_atoms: int, features: int
) -> tuple[Tensor, ...]:
    """Σ_j m_ij [atoms, ...] for every kind of message [edges, ...] that `message` returns; zero without neighbours.

    Without gradients the edges are worked off in tiles that stay in the cache; with gradients the messages are kept for
    the backward pass anyway, and a compiler does its own tiling.
    """
    whole = torch.is_grad_enabled() or tracing() or edges.basis.is_cuda
    totals: tuple[Tensor, ...] = ()
    for tile in [edges] if whole else edges.tiles(max(TILE_ELEMENTS // features, 32)):
        messages = message(tile)
        totals = totals or tuple(m.new_zeros(n_atoms, *m.shape[1:]) for m in messages)
        for total, m in zip(totals, messages, strict=True):
            total.index_add_(0, tile.receiver, m)
    return totals


def filter_matrices(layer: nn.Linear, features: int, n: int) -> tuple[Float[Tensor, "columns features"], ...]:
    """The first `n` filters of a linear map as matrices that act on `Edges.basis`, bias included as the last row."""
    assert layer.bias is not None
    rows = n * features
    matrix = torch.cat([layer.weight[:rows], layer.bias[:rows, None]], dim=1)
    return tuple(part.T for part in matrix.split(features))


def network_parts(
    network: nn.Sequential, x: Float[Tensor, "atoms inputs"], features: int, n: int
) -> tuple[Float[Tensor, "atoms features"], ...]:
    """The first `n` groups of `features` outputs of a network that ends in a linear map.

    Each group is contiguous, so that rows are gathered fast, and the groups not asked for are not computed.
    """
    *layers, last = network
    assert isinstance(last, nn.Linear)
    assert last.bias is not None
    rows = n * features
    for layer in layers:
        x = layer(x)
    parts = zip(last.weight[:rows].split(features), last.bias[:rows].split(features), strict=True)
    return tuple(nn.functional.linear(x, weight, bias) for weight, bias in parts)
