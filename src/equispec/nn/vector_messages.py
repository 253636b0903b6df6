"""Sums of PaiNN's messages over the neighbours, with their first and second derivatives written out.

    Δs_i = Σ_j φ_s,j ⊙ W_s,ij        Δv_i = Σ_j g_j ⊙ W_vv,ij + φ_vs,j ⊙ W_vs,ij ⊗ û_ij        W_ij = filters · basis_ij

Automatic differentiation would keep a dozen arrays of [edges, 3, F] for the backward pass, which then waits for the
memory. Here values, gradient and gradient of the gradient (a training step with forces) are made tile by tile, and
filters anew in each of them. The sums are linear in the gates φ and g, the directions û, the basis and the filters
separately, so that a derivative is a handful of the same products; third ones are left to automatic differentiation.

Gates and sums are planes [planes, atoms, F], (φ_vs, φ_s, g_x, g_y, g_z) and (Δs, Δv_x, Δv_y, Δv_z): what all components
of a vector are multiplied by is then read in long rows. Without vectors of the senders, the gates are (φ_vs, φ_s) only.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from equispec.graph import tracing
from equispec.nn.pairs import EdgePairs, Tile

Tiles = tuple[Tile, ...]


def scalar_messages(
    edges: EdgePairs, filters: Float[Tensor, "F columns"], phi_s: Float[Tensor, "atoms F"]
) -> Float[Tensor, "atoms F"]:
    """Δs alone, for a network without vectors."""
    total = torch.zeros_like(phi_s)
    for tile in edges.tiles:
        w = edges.basis[:, tile.first : tile.last].T @ filters.T
        message = _take(phi_s[None], tile.sender, edges.direction.shape[1]) * w
        total = total.index_add(0, tile.receiver, message.flatten(0, 2))
    return total


def vector_messages(
    edges: EdgePairs, filters: Float[Tensor, "rows columns"], gates: Float[Tensor, "planes atoms F"]
) -> Float[Tensor, "4 atoms F"]:
    """Δs and Δv. Rows of `filters`: W_s, W_vs and, with g among the gates, W_vv; its last column is the bias."""
    sums = _plain_sums if tracing() else _Sums.apply
    return sums(edges.tiles, edges.direction, edges.basis, filters, gates)  # type: ignore[return-value]


def _plain_sums(tiles: Tiles, direction: Tensor, basis: Tensor, filters: Tensor, gates: Tensor) -> Tensor:
    """The equations as they stand, which compilers and automatic differentiation can follow."""
    _, n, features = gates.shape
    total = gates.new_zeros(4 * n, features)
    for tile in tiles:
        part = slice(tile.first, tile.last)
        w_s, w_vs, *w_vv = _filters(basis[:, part], filters, features)
        x = _take(gates, tile.sender, direction.shape[1])
        m_v = direction[:, :, part, None] * (x[0] * w_vs)
        if w_vv:
            m_v = m_v + x[2:] * w_vv[0]
        total = total.index_add(0, tile.receiver_rows, torch.cat([(x[1] * w_s)[None], m_v]).flatten(0, 2))
    return total.view(4, n, features)


class _Sums(Function):
    """The sums themselves."""

    @staticmethod
    def forward(ctx: Any, tiles: Tiles, direction: Tensor, basis: Tensor, filters: Tensor, gates: Tensor) -> Tensor:
        ctx.tiles = tiles
        ctx.save_for_backward(direction, basis, filters, gates)
        _, n, features = gates.shape
        ways = direction.shape[1]
        total = gates.new_zeros(4, n, features)
        for tile in tiles:
            part = slice(tile.first, tile.last)
            u = direction[:, :, part, None]
            w_s, w_vs, *w_vv = _filters(basis[:, part], filters, features)
            _put(total[:1], tile.receiver_rows, _take(gates[1:2], tile.sender, ways).mul_(w_s))
            m_vs = _take(gates[:1], tile.sender, ways).mul_(w_vs)
            m_v = _take(gates[2:], tile.sender, ways).mul_(w_vv[0]).addcmul_(u, m_vs) if w_vv else u * m_vs
            _put(total[1:], tile.receiver_rows, m_v)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradient = _Gradient.apply if torch.is_grad_enabled() else _gradient
        return None, *gradient(ctx.tiles, _wanted(ctx), *ctx.saved_tensors, grad.contiguous())  # type: ignore[misc]


class _Gradient(Function):
    """`_gradient`, which can be differentiated."""

    @staticmethod
    def forward(ctx: Any, tiles: Tiles, wanted: tuple[bool, ...], *arguments: Tensor) -> tuple[Tensor | None, ...]:
        ctx.tiles = tiles
        ctx.save_for_backward(*arguments)
        ctx.set_materialize_grads(False)
        return _gradient(tiles, wanted, *arguments)

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if torch.is_grad_enabled():
            return None, None, *_plain_second(ctx.tiles, ctx.saved_tensors, tangents)
        return None, None, *_second(ctx.tiles, _wanted(ctx), ctx.saved_tensors, tangents)


def _gradient(
    tiles: Tiles,
    wanted: tuple[bool, ...],
    direction: Tensor,
    basis: Tensor,
    filters: Tensor,
    gates: Tensor,
    grad: Tensor,
) -> tuple[Tensor | None, ...]:
    """The gradient of ⟨grad, sums⟩ by directions, basis, filters (these where wanted) and gates."""
    features = gates.shape[2]
    d_direction, d_basis, d_filters = _zeros_where(wanted, direction, basis, filters)
    d_gates = torch.zeros_like(gates)
    ways = direction.shape[1]
    for tile in tiles:
        part = slice(tile.first, tile.last)
        u, b = direction[:, :, part, None], basis[:, part]
        w_s, w_vs, *w_vv = _filters(b, filters, features)
        d_w = b.new_empty(b.shape[1], len(filters))
        d_w_s, d_w_vs, *d_w_vv = d_w.split(features, 1)
        g, x = _take(grad[:1], tile.receiver, ways), _take(gates[1:2], tile.sender, ways)
        _products(d_w_s, (g, x))
        _put(d_gates[1:2], tile.sender_rows, g.mul_(w_s))

        g, x = _take(grad[1:], tile.receiver, ways), _take(gates[:1], tile.sender, ways)
        along = _along(u, g)
        _products(d_w_vs, (along, x))
        _put(d_gates[:1], tile.sender_rows, along.mul_(w_vs))
        if d_direction is not None:
            torch.sum(g * x.mul_(w_vs), 3, out=d_direction[:, :, part])
        if w_vv:
            _products(d_w_vv[0], (g, _take(gates[2:], tile.sender, ways)))
            _put(d_gates[2:], tile.sender_rows, g.mul_(w_vv[0]))
        if d_basis is not None:
            torch.mm(filters.T, d_w.T, out=d_basis[:, part])
        if d_filters is not None:
            d_filters.addmm_(d_w.T, b.T)
    return d_direction, d_basis, d_filters, d_gates


def _second(
    tiles: Tiles, wanted: tuple[bool, ...], arguments: tuple[Tensor, ...], tangents: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """The gradient of Σ ⟨tangent, gradient⟩ by all arguments of `_gradient`; a tangent None stands for zero.

    The gradient is linear in each argument: what a tangent x' does is what x does, with x' in its place.
    """
    direction, basis, filters, gates, grad = arguments
    direction_t, basis_t, filters_t, gates_t = (
        torch.zeros_like(x) if t is None else t for x, t in zip(arguments[:4], tangents, strict=True)
    )
    features = gates.shape[2]
    d_direction, d_basis, d_filters = _zeros_where(wanted, direction, basis, filters)
    d_gates, d_grad = torch.zeros_like(gates), torch.zeros_like(grad)
    ways = direction.shape[1]
    for tile in tiles:
        part = slice(tile.first, tile.last)
        u, u_t, b, b_t = direction[:, :, part, None], direction_t[:, :, part, None], basis[:, part], basis_t[:, part]
        w_s, w_vs, *w_vv = _filters(b, filters, features)
        w_s_t, w_vs_t, *w_vv_t = _filters(b_t, filters, features)
        if tangents[2] is not None:
            for w, more in zip((w_s_t, w_vs_t, *w_vv_t), _filters(b, filters_t, features), strict=True):
                w.add_(more)
        d_w, d_w_t = (b.new_empty(b.shape[1], len(filters)) for _ in range(2))
        d_w_s, d_w_vs, *d_w_vv = d_w.split(features, 1)
        d_w_s_t, d_w_vs_t, *d_w_vv_t = d_w_t.split(features, 1)

        g = _take(grad[:1], tile.receiver, ways)
        x, x_t = (_take(y[1:2], tile.sender, ways) for y in (gates, gates_t))
        _products(d_w_s, (g, x_t))
        _products(d_w_s_t, (g, x))
        _put(d_gates[1:2], tile.sender_rows, g.mul_(w_s_t))
        _put(d_grad[:1], tile.receiver_rows, x_t.mul_(w_s).addcmul_(x, w_s_t))

        g = _take(grad[1:], tile.receiver, ways)
        x, x_t = (_take(y[:1], tile.sender, ways) for y in (gates, gates_t))
        along, along_t = _along(u, g), _along(u_t, g)
        _products(d_w_vs, (along, x_t), (along_t, x))
        _products(d_w_vs_t, (along, x))
        _put(d_gates[:1], tile.sender_rows, along.mul_(w_vs_t).addcmul_(along_t, w_vs))
        m_t = x_t.mul_(w_vs).addcmul_(x, w_vs_t)
        if d_direction is not None:
            torch.sum(g * m_t, 3, out=d_direction[:, :, part])
        d_g = (u * m_t).addcmul_(u_t, x.mul_(w_vs))
        if w_vv:
            x, x_t = (_take(y[2:], tile.sender, ways) for y in (gates, gates_t))
            _products(d_w_vv[0], (g, x_t))
            _products(d_w_vv_t[0], (g, x))
            d_g.addcmul_(x_t, w_vv[0]).addcmul_(x, w_vv_t[0])
            _put(d_gates[2:], tile.sender_rows, g.mul_(w_vv_t[0]))
        _put(d_grad[1:], tile.receiver_rows, d_g)
        if d_basis is not None:
            torch.mm(filters.T, d_w.T, out=d_basis[:, part])
            if tangents[2] is not None:
                d_basis[:, part] += filters_t.T @ d_w_t.T
        if d_filters is not None:
            d_filters.addmm_(d_w.T, b.T).addmm_(d_w_t.T, b_t.T)
    return d_direction, d_basis, d_filters, d_gates, d_grad


def _plain_second(
    tiles: Tiles, arguments: tuple[Tensor, ...], tangents: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """What `_second` returns, by automatic differentiation, so that it can be differentiated further."""
    # Aliases: some arguments have been computed from others, a way that the gradients must not follow. Those without a
    # history are given one, so that gradients by all can be asked for.
    *inputs, grad = (x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in arguments)
    gradient = torch.autograd.grad(_plain_sums(tiles, *inputs), inputs, grad, create_graph=True)
    known = [(value, tangent) for value, tangent in zip(gradient, tangents, strict=True) if tangent is not None]
    values, directions = zip(*known, strict=True)
    return torch.autograd.grad(values, [*inputs, grad], directions, create_graph=True, allow_unused=True)


def _filters(basis: Tensor, filters: Tensor, features: int) -> tuple[Tensor, ...]:
    return (basis.T @ filters.T).split(features, 1)


def _take(planes: Tensor, atoms: Tensor, ways: int) -> Tensor:
    """[planes, ways, pairs, F], the rows of the atoms of all edges."""
    return planes.index_select(1, atoms).view(len(planes), ways, -1, planes.shape[2])


def _put(planes: Tensor, rows: Tensor, x: Tensor) -> None:
    """Add [planes, ways, pairs, F] to the rows of the atoms."""
    x = x.view(-1, x.shape[-1])
    planes.view(-1, planes.shape[2]).index_add_(0, rows[: len(x)], x)


def _along(u: Tensor, v: Tensor) -> Tensor:
    """⟨û, v⟩ of [3, ways, pairs, 1] and [3, ways, pairs, F]."""
    (ux, uy, uz), (x, y, z) = u.unbind(), v.unbind()
    return (ux * x).addcmul_(uy, y).addcmul_(uz, z)


def _products(out: Tensor, *factors: tuple[Tensor, Tensor]) -> None:
    """Σ a ⊙ b over all axes but the last two and over the factors (a, b), into `out` [pairs, F]."""
    terms = [two for a, b in factors for two in zip(_layers(a), _layers(b), strict=True)]
    torch.mul(*terms[0], out=out)
    for a, b in terms[1:]:
        out.addcmul_(a, b)


def _layers(x: Tensor) -> tuple[Tensor, ...]:
    return x.view(-1, *x.shape[-2:]).unbind()


def _zeros_where(wanted: tuple[bool, ...], *like: Tensor) -> list[Tensor | None]:
    return [torch.zeros_like(x) if asked else None for asked, x in zip(wanted, like, strict=True)]


def _wanted(ctx: FunctionCtx) -> tuple[bool, ...]:
    """Whether the backward pass under way asks for the gradients by directions, basis and filters.

    `ctx.needs_input_grad` tells whether any could: forces would pay for gradients of the weights.
    """
    return tuple(_executed(node) for node, _ in ctx.next_functions[:3])  # type: ignore[attr-defined]


def _executed(node: Any) -> bool:
    asked = getattr(torch._C, "_will_engine_execute_node", None)
    if node is None or asked is None:
        return node is not None
    try:
        return asked(node)
    except RuntimeError:  # of leaves the engine does not tell
        return True
