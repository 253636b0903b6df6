"""Sums of PaiNN's messages over the neighbours, with their first and second derivatives written out.

    Δs_i = Σ_j φ_s,j ⊙ W_s,ij        Δv_i = Σ_j g_j ⊙ W_vv,ij + φ_vs,j ⊙ W_vs,ij ⊗ û_ij        W_ij = filters · basis_ij

Automatic differentiation would keep a dozen arrays of [edges, 3, F] for the backward pass, which then waits for the
memory. Here values, gradient and gradient of the gradient (a training step with forces) are made tile by tile, and
filters anew in each of them. The sums are linear in the gates φ and g, the directions û, the basis and the filters
separately, so that a derivative is a handful of the same products; third ones are left to automatic differentiation.

An edge i <- j and its mirror image j <- i share their filter and are worked off together, as two ways of one pair.
Vectors have the Cartesian axis in front: whatever all three components are multiplied by is then read in long rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

TILE_ELEMENTS = 131072  # edges x features of a tile: its arrays stay in the cache, starting an operation costs little

Planes = Float[Tensor, "3 atoms F"]


class Tile(NamedTuple):
    """The pairs `first` to `last` and the atoms of their edges, one way after the other.

    The last two are the same atoms as rows of [3 atoms, F], which a sum of vectors is added to.
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


def mirrored_edges(
    edge_index: Int[Tensor, "2 edges"], edge_shift: Float[Tensor, "edges 3"]
) -> Int[Tensor, "pairs"] | None:
    """Indices of one edge of each pair i <- j, j <- i (of opposite shifts); None if any edge lacks its mirror image."""
    digits = [edge_index, edge_index.flip(0)]
    radix = [int(edge_index.max()) + 1 if edge_index.numel() else 1] * 2
    if edge_shift.any():
        image = edge_shift.round().long().T
        reach = int(image.abs().max())
        digits = [torch.cat([digits[0], reach + image]), torch.cat([digits[1], reach - image])]
        radix += [2 * reach + 1] * 3
    own, mirror = (_number(x, radix) for x in digits)
    kept = own < mirror
    first, second = own[kept], mirror[~kept]
    if first.shape != second.shape or not torch.equal(first.sort().values, second.sort().values):
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
    """Ranges of pairs that are worked off at once; all of them where there is no small cache, and for a compiler."""
    ways, pairs = receiver.shape
    size = max(TILE_ELEMENTS // features, 32) // ways
    if receiver.device.type != "cpu" or torch.compiler.is_compiling():
        size = max(pairs, 1)
    plane = n_atoms * torch.arange(3, device=receiver.device)[:, None]

    def tile(first: int) -> Tile:
        i, j = (x[:, first : first + size].reshape(-1) for x in (receiver, sender))
        return Tile(first, min(first + size, pairs), i, j, (plane + i).view(-1), (plane + j).view(-1))

    return tuple(tile(first) for first in range(0, pairs, size))


def scalar_messages(
    edges: EdgePairs, filters: Float[Tensor, "F columns"], phi_s: Float[Tensor, "atoms F"]
) -> Float[Tensor, "atoms F"]:
    """Δs alone, for a network without vectors."""
    total = torch.zeros_like(phi_s)
    for tile in edges.tiles:
        w = edges.basis[:, tile.first : tile.last].T @ filters.T
        message = _take(phi_s, tile.sender, edges.direction.shape[1]) * w
        total = total.index_add(0, tile.receiver, message.flatten(0, 1))
    return total


def vector_messages(
    edges: EdgePairs,
    filters: Float[Tensor, "rows columns"],
    phi_s: Float[Tensor, "atoms F"],
    phi_vs: Float[Tensor, "atoms F"],
    gated: Planes | None,
) -> tuple[Float[Tensor, "atoms F"], Planes]:
    """Δs and Δv. Rows of `filters`: W_s, W_vs and, with `gated` (g = φ_vv ⊙ v), W_vv; the last column is the bias."""
    if torch.compiler.is_compiling():
        return _plain_sums(edges.tiles, edges.direction, edges.basis, filters, phi_s, phi_vs, gated)
    return _Sums.apply(edges.tiles, edges.direction, edges.basis, filters, phi_s, phi_vs, gated)  # type: ignore[return-value]


def _plain_sums(
    tiles: tuple[Tile, ...],
    direction: Tensor,
    basis: Tensor,
    filters: Tensor,
    phi_s: Tensor,
    phi_vs: Tensor,
    gated: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The equations as they stand, which automatic differentiation and compilers can follow."""
    n, features = phi_s.shape
    ways = direction.shape[1]
    ds, dv = torch.zeros_like(phi_s), phi_s.new_zeros(3 * n, features)
    for tile in tiles:
        part = slice(tile.first, tile.last)
        w_s, w_vs, *w_vv = _filters(basis[:, part], filters, features)
        m_v = direction[:, :, part, None] * (_take(phi_vs, tile.sender, ways) * w_vs)
        if gated is not None:
            m_v = m_v + _take(gated, tile.sender, ways) * w_vv[0]
        ds = ds.index_add(0, tile.receiver, (_take(phi_s, tile.sender, ways) * w_s).flatten(0, 1))
        dv = dv.index_add(0, tile.receiver_rows, m_v.flatten(0, 2))
    return ds, dv.view(3, n, features)


def _filters(basis: Tensor, filters: Tensor, features: int) -> list[Tensor]:
    return [basis.T @ rows.T for rows in filters.split(features)]


def _take(x: Tensor, atoms: Tensor, ways: int) -> Tensor:
    """Rows of [atoms, F] or [3, atoms, F] as [ways, pairs, F] or [3, ways, pairs, F]."""
    return x.index_select(-2, atoms).unflatten(-2, (ways, -1))


def _put(total: Tensor, rows: Tensor, x: Tensor) -> None:
    features = total.shape[-1]
    total.view(-1, features).index_add_(0, rows, x.view(-1, features))


def _along(u: Tensor, v: Tensor) -> Tensor:
    """⟨û, v⟩ of [3, ways, pairs, 1] and [3, ways, pairs, F]."""
    (ux, uy, uz), (x, y, z) = u.unbind(), v.unbind()
    return (ux * x).addcmul_(uy, y).addcmul_(uz, z)


def _products(out: Tensor, *factors: tuple[Tensor, Tensor]) -> None:
    """Σ a ⊙ b over all axes but the last two and over the pairs (a, b), into `out` [pairs, F]."""
    pairs = [two for a, b in factors for two in zip(_layers(a), _layers(b), strict=True)]
    torch.mul(*pairs[0], out=out)
    for a, b in pairs[1:]:
        out.addcmul_(a, b)


def _layers(x: Tensor) -> tuple[Tensor, ...]:
    return x.view(-1, *x.shape[-2:]).unbind()


def _wanted(ctx: FunctionCtx) -> list[bool]:
    """For each tensor argument, whether the backward pass under way asks for its gradient.

    `ctx.needs_input_grad` tells whether any could: forces would pay for gradients of the weights.
    """
    asked = getattr(torch._C, "_will_engine_execute_node", None)

    def wanted(node: Any) -> bool:
        leaf = node is not None and "AccumulateGrad" in node.name()  # the engine does not tell for these
        return node is not None and (leaf or asked is None or asked(node))

    return [wanted(node) for node, _ in ctx.next_functions]  # type: ignore[attr-defined]
