"""Attention between neighbours: products of receiver, pair and sender, head by head, and sums over the neighbours.

    scores   a_ij^h = Σ_{c in h} q_i,c w_ij,c k_j,c              spread   y_i,c = Σ_j a_ij^h(c) w_ij,c v_j,c

with one w for both ways of a pair, i <- j and j <- i; channels of a head lie side by side. Scores are linear in each of
q, w and k, sums in each of a, w and v, and the derivatives of either are again scores, sums and the products that go
with w: three operations that are each other's derivatives, to any order. Each is worked off in tiles that stay in the
cache and keeps its arguments only, where automatic differentiation would keep six arrays of [edges, F]. Where no second
derivatives are wanted, all gradients of one operation are made in one pass.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import Function

from equispec.nn.pairs import Tile, tiles


@dataclass(frozen=True, eq=False)
class PairIndex:
    """Receivers and senders of pairs, with the ranges in which products of `features` channels are made."""

    receiver: Int[Tensor, "ways pairs"]
    sender: Int[Tensor, "ways pairs"]
    n_atoms: int
    tiles: tuple[Tile, ...]

    @classmethod
    def of(
        cls, receiver: Int[Tensor, "ways pairs"], sender: Int[Tensor, "ways pairs"], n_atoms: int, features: int
    ) -> "PairIndex":
        """Pairs of one way, i <- j, or of two, the second row being the first one mirrored."""
        return cls(receiver, sender, n_atoms, tiles(receiver, sender, n_atoms, features))

    @property
    def ways(self) -> int:
        return self.receiver.shape[0]


def scores(
    index: PairIndex,
    heads: int,
    q: Float[Tensor, "atoms F"],
    w: Float[Tensor, "pairs F"] | None,
    k: Float[Tensor, "atoms F"],
) -> Float[Tensor, "ways pairs heads"]:
    """Σ_c q_i w_ij k_j over the channels of each head; w None: as if it were one."""
    return _Scores.apply(index, heads, q, w, k)  # type: ignore[return-value]


def spread(
    index: PairIndex,
    a: Float[Tensor, "ways pairs heads"],
    w: Float[Tensor, "pairs F"] | None,
    v: Float[Tensor, "atoms F"],
    reverse: bool = False,
) -> Float[Tensor, "atoms F"]:
    """Σ_j a_ij w_ij v_j of every receiver i; `reverse`: Σ_i a_ij w_ij v_i of every sender j."""
    return _Spread.apply(index, reverse, a, w, v)  # type: ignore[return-value]


def _products(
    index: PairIndex, a: Float[Tensor, "ways pairs heads"], q: Float[Tensor, "atoms F"], k: Float[Tensor, "atoms F"]
) -> Float[Tensor, "pairs F"]:
    """a_ij q_i k_j, both ways of a pair added."""
    return _Products.apply(index, a, q, k)  # type: ignore[return-value]


def _score_gradients(
    index: PairIndex, grad: Tensor, q: Tensor, w: Tensor | None, k: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Gradients of `scores` by q, w and k."""
    by_q, by_k, by_w = torch.zeros_like(q), torch.zeros_like(k), []
    for tile in index.tiles:
        x, y, g = _pieces(index, tile, q, k, grad)
        _by_head(x, g).mul_(g)
        if w is not None:
            part = w[tile.first : tile.last]
            by_w.append((x * y).sum(0))
            x.mul_(part)
            y.mul_(part)
        _by_head(y, g).mul_(g)
        by_q.index_add_(0, tile.receiver, y.flatten(0, 1))
        by_k.index_add_(0, tile.sender, x.flatten(0, 1))
    return by_q, _joined(by_w, w), by_k


def _sum_gradients(
    index: PairIndex, grad: Tensor, a: Tensor, w: Tensor | None, v: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Gradients of `spread` by a, w and v."""
    by_a, by_w, by_v = [], [], torch.zeros_like(v)
    for tile in index.tiles:
        x, y, g = _pieces(index, tile, grad, v, a)
        if w is not None:
            by_w.append(_by_head(x * y, g).mul(g).flatten(2).sum(0))
            x.mul_(w[tile.first : tile.last])
        y.mul_(x)
        by_a.append(_by_head(y, g).sum(3))
        _by_head(x, g).mul_(g)
        by_v.index_add_(0, tile.sender, x.flatten(0, 1))
    return torch.cat(by_a, dim=1) if by_a else torch.zeros_like(a), _joined(by_w, w), by_v


def _pieces(index: PairIndex, tile: Tile, q: Tensor, k: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q_i and k_j [ways, pairs, F], and a_ij [ways, pairs, heads, 1] of the pairs of a tile."""
    x = q.index_select(0, tile.receiver).view(index.ways, -1, q.shape[1])
    y = k.index_select(0, tile.sender).view(index.ways, -1, k.shape[1])
    return x, y, a[:, tile.first : tile.last, :, None]


def _by_head(x: Tensor, a: Tensor) -> Tensor:
    """Channels [..., F] as [..., heads, F_h]."""
    return x.unflatten(2, (a.shape[2], -1))


def _joined(parts: list[Tensor], w: Tensor | None) -> Tensor | None:
    """The parts of all tiles, or nothing where there is no w."""
    return None if w is None else torch.cat(parts) if parts else torch.zeros_like(w)


class _Scores(Function):
    @staticmethod
    def forward(ctx: Any, index: PairIndex, heads: int, q: Tensor, w: Tensor | None, k: Tensor) -> Tensor:
        ctx.index, ctx.heads = index, heads
        ctx.save_for_backward(q, w, k)
        found = []
        for tile in index.tiles:
            x = q.index_select(0, tile.receiver).mul_(k.index_select(0, tile.sender)).view(index.ways, -1, q.shape[1])
            if w is not None:
                x.mul_(w[tile.first : tile.last])
            found.append(x.unflatten(2, (heads, -1)).sum(3))
        return torch.cat(found, dim=1) if found else q.new_zeros(index.ways, 0, heads)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, w, k = ctx.saved_tensors
        _, _, by_q, by_w, by_k = ctx.needs_input_grad
        if not torch.is_grad_enabled():
            return None, None, *_score_gradients(ctx.index, grad, q, w, k)
        return (
            None,
            None,
            spread(ctx.index, grad, w, k) if by_q else None,
            _products(ctx.index, grad, q, k) if by_w else None,
            spread(ctx.index, grad, w, q, reverse=True) if by_k else None,
        )


class _Spread(Function):
    @staticmethod
    def forward(ctx: Any, index: PairIndex, reverse: bool, a: Tensor, w: Tensor | None, v: Tensor) -> Tensor:
        ctx.index, ctx.reverse = index, reverse
        ctx.save_for_backward(a, w, v)
        total = torch.zeros_like(v)
        for tile in index.tiles:
            part = slice(tile.first, tile.last)
            to, source = (tile.sender, tile.receiver) if reverse else (tile.receiver, tile.sender)
            x = v.index_select(0, source).view(index.ways, -1, v.shape[1])
            if w is not None:
                x.mul_(w[part])
            x.unflatten(2, (a.shape[2], -1)).mul_(a[:, part, :, None])
            total.index_add_(0, to, x.flatten(0, 1))
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        a, w, v = ctx.saved_tensors
        _, _, by_a, by_w, by_v = ctx.needs_input_grad
        q, k = (v, grad) if ctx.reverse else (grad, v)
        if not torch.is_grad_enabled() and not ctx.reverse:
            return None, None, *_sum_gradients(ctx.index, grad, a, w, v)
        return (
            None,
            None,
            scores(ctx.index, a.shape[2], q, w, k) if by_a else None,
            _products(ctx.index, a, q, k) if by_w else None,
            spread(ctx.index, a, w, grad, reverse=not ctx.reverse) if by_v else None,
        )


class _Products(Function):
    @staticmethod
    def forward(ctx: Any, index: PairIndex, a: Tensor, q: Tensor, k: Tensor) -> Tensor:
        ctx.index = index
        ctx.save_for_backward(a, q, k)
        found = []
        for tile in index.tiles:
            x = q.index_select(0, tile.receiver).mul_(k.index_select(0, tile.sender)).view(index.ways, -1, q.shape[1])
            x.unflatten(2, (a.shape[2], -1)).mul_(a[:, tile.first : tile.last, :, None])
            found.append(x.sum(0))
        return torch.cat(found) if found else q.new_zeros(0, q.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        a, q, k = ctx.saved_tensors
        _, by_a, by_q, by_k = ctx.needs_input_grad
        return (
            None,
            scores(ctx.index, a.shape[2], q, grad, k) if by_a else None,
            spread(ctx.index, a, grad, k) if by_q else None,
            spread(ctx.index, a, grad, q, reverse=True) if by_k else None,
        )
