"""Sums of PaiNN's messages over the neighbours, with their first and second derivatives written out.

    Δs_i = Σ_j φ_s,j ⊙ W_s,ij        Δv_i = Σ_j g_j ⊙ W_vv,ij + φ_vs,j ⊙ W_vs,ij ⊗ û_ij        W_ij = filters · basis_ij

Automatic differentiation would keep a dozen arrays of [edges, 3, F] for the backward pass, which then waits for the
memory. Here values, gradient and gradient of the gradient (a training step with forces) are made tile by tile, and
filters anew in each of them. The sums are linear in the gates φ and g, the directions û, the basis and the filters
separately, so that a derivative is a handful of the same products; third ones are left to automatic differentiation.

Vectors have the Cartesian axis in front: whatever all three components are multiplied by is then read in long rows.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from equispec.graph import tracing
from equispec.nn.pairs import EdgePairs, Tile

Tiles = tuple[Tile, ...]
Planes = Float[Tensor, "3 atoms F"]


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
    sums = _plain_sums if tracing() else _Sums.apply
    return sums(edges.tiles, edges.direction, edges.basis, filters, phi_s, phi_vs, gated)  # type: ignore[return-value]


def _plain_sums(
    tiles: Tiles, direction: Tensor, basis: Tensor, filters: Tensor, phi_s: Tensor, phi_vs: Tensor, gated: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The equations as they stand, which compilers and automatic differentiation can follow."""
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


class _Sums(Function):
    """The sums themselves."""

    @staticmethod
    def forward(
        ctx: Any,
        tiles: Tiles,
        direction: Tensor,
        basis: Tensor,
        filters: Tensor,
        phi_s: Tensor,
        phi_vs: Tensor,
        gated: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.tiles = tiles
        ctx.save_for_backward(direction, basis, filters, phi_s, phi_vs, gated)
        n, features = phi_s.shape
        ways = direction.shape[1]
        ds, dv = phi_s.new_zeros(n, features), phi_s.new_zeros(3, n, features)
        for tile in tiles:
            part = slice(tile.first, tile.last)
            u = direction[:, :, part, None]
            w_s, w_vs, *w_vv = _filters(basis[:, part], filters, features)
            _put(ds, tile.receiver, _take(phi_s, tile.sender, ways).mul_(w_s))
            m_vs = _take(phi_vs, tile.sender, ways).mul_(w_vs)
            m_v = u * m_vs if gated is None else _take(gated, tile.sender, ways).mul_(w_vv[0]).addcmul_(u, m_vs)
            _put(dv, tile.receiver_rows, m_v)
        return ds, dv

    @staticmethod
    def backward(ctx: Any, grad_s: Tensor, grad_v: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradient = _Gradient.apply if torch.is_grad_enabled() else _gradient
        return None, *gradient(ctx.tiles, _wanted(ctx), *ctx.saved_tensors, grad_s, grad_v)  # type: ignore[misc]


class _Gradient(Function):
    """`_gradient`, which can be differentiated."""

    @staticmethod
    def forward(ctx: Any, tiles: Tiles, wanted: tuple[bool, ...], *arguments: Any) -> tuple[Tensor | None, ...]:
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
    phi_s: Tensor,
    phi_vs: Tensor,
    gated: Tensor | None,
    grad_s: Tensor,
    grad_v: Tensor,
) -> tuple[Tensor | None, ...]:
    """The gradient of ⟨grad_s, Δs⟩ + ⟨grad_v, Δv⟩ by directions, basis, filters (where wanted), φ_s, φ_vs and g."""
    n, features = phi_s.shape
    ways = direction.shape[1]
    grad_s, grad_v = grad_s.contiguous(), grad_v.contiguous()
    d_direction, d_basis, d_filters = _zeros_where(wanted, direction, basis, filters)
    d_s, d_vs = phi_s.new_zeros(n, features), phi_s.new_zeros(n, features)
    d_gated = phi_s.new_zeros(3, n, features)
    for tile in tiles:
        part = slice(tile.first, tile.last)
        u, b = direction[:, :, part, None], basis[:, part]
        w_s, w_vs, *w_vv = _filters(b, filters, features)
        d_w = b.new_empty(b.shape[1], len(filters))
        d_w_s, d_w_vs, *d_w_vv = d_w.split(features, 1)

        g, x = _take(grad_s, tile.receiver, ways), _take(phi_s, tile.sender, ways)
        _products(d_w_s, (g, x))
        _put(d_s, tile.sender, g.mul_(w_s))

        g, x = _take(grad_v, tile.receiver, ways), _take(phi_vs, tile.sender, ways)
        along = _along(u, g)
        _products(d_w_vs, (along, x))
        _put(d_vs, tile.sender, along.mul_(w_vs))
        if d_direction is not None:
            torch.sum(g * x.mul_(w_vs), 3, out=d_direction[:, :, part])
        if gated is not None:
            _products(d_w_vv[0], (g, _take(gated, tile.sender, ways)))
            _put(d_gated, tile.sender_rows, g.mul_(w_vv[0]))
        if d_basis is not None:
            torch.mm(filters.T, d_w.T, out=d_basis[:, part])
        if d_filters is not None:
            d_filters.addmm_(d_w.T, b.T)
    return d_direction, d_basis, d_filters, d_s, d_vs, None if gated is None else d_gated


def _second(
    tiles: Tiles, wanted: tuple[bool, ...], arguments: tuple[Any, ...], tangents: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """The gradient of Σ ⟨tangent, gradient⟩ by all arguments of the gradient; a tangent None stands for zero.

    The gradient is linear in each argument: what a tangent x' does is what x does, with x' in its place.
    """
    direction, basis, filters, phi_s, phi_vs, gated, grad_s, grad_v = arguments
    filters_t = tangents[2]
    direction_t, basis_t, _, phi_s_t, phi_vs_t, gated_t = (
        torch.zeros_like(x) if t is None and x is not None else t for x, t in zip(arguments[:6], tangents, strict=True)
    )
    n, features = phi_s.shape
    ways = direction.shape[1]
    phi_s_t, phi_vs_t, grad_s, grad_v = (x.contiguous() for x in (phi_s_t, phi_vs_t, grad_s, grad_v))
    d_direction, d_basis, d_filters = _zeros_where(wanted, direction, basis, filters)
    d_s, d_vs, d_grad_s = (phi_s.new_zeros(n, features) for _ in range(3))
    d_gated, d_grad_v = (phi_s.new_zeros(3, n, features) for _ in range(2))
    for tile in tiles:
        part = slice(tile.first, tile.last)
        u, u_t, b, b_t = direction[:, :, part, None], direction_t[:, :, part, None], basis[:, part], basis_t[:, part]
        w_s, w_vs, *w_vv = _filters(b, filters, features)
        w_s_t, w_vs_t, *w_vv_t = w_t = _filters(b_t, filters, features)
        if filters_t is not None:
            for w, rows in zip(w_t, filters_t.split(features), strict=True):
                w.addmm_(b.T, rows.T)
        d_w, d_w_t = (b.new_empty(b.shape[1], len(filters)) for _ in range(2))
        d_w_s, d_w_vs, *d_w_vv = d_w.split(features, 1)
        d_w_s_t, d_w_vs_t, *d_w_vv_t = d_w_t.split(features, 1)

        g, x, x_t = _take(grad_s, tile.receiver, ways), *(_take(p, tile.sender, ways) for p in (phi_s, phi_s_t))
        _products(d_w_s, (g, x_t))
        _products(d_w_s_t, (g, x))
        _put(d_s, tile.sender, g.mul_(w_s_t))
        _put(d_grad_s, tile.receiver, x_t.mul_(w_s).addcmul_(x, w_s_t))

        g, x, x_t = _take(grad_v, tile.receiver, ways), *(_take(p, tile.sender, ways) for p in (phi_vs, phi_vs_t))
        along, along_t = _along(u, g), _along(u_t, g)
        _products(d_w_vs, (along, x_t), (along_t, x))
        _products(d_w_vs_t, (along, x))
        _put(d_vs, tile.sender, along.mul_(w_vs_t).addcmul_(along_t, w_vs))
        m_t = x_t.mul_(w_vs).addcmul_(x, w_vs_t)
        if d_direction is not None:
            torch.sum(g * m_t, 3, out=d_direction[:, :, part])
        d_g = (u * m_t).addcmul_(u_t, x.mul_(w_vs))
        if gated is not None:
            x, x_t = (_take(p, tile.sender, ways) for p in (gated, gated_t))
            _products(d_w_vv[0], (g, x_t))
            _products(d_w_vv_t[0], (g, x))
            d_g.addcmul_(x_t, w_vv[0]).addcmul_(x, w_vv_t[0])
            _put(d_gated, tile.sender_rows, g.mul_(w_vv_t[0]))
        _put(d_grad_v, tile.receiver_rows, d_g)
        if d_basis is not None:
            d_basis[:, part] = filters.T @ d_w.T
            if filters_t is not None:
                d_basis[:, part] += filters_t.T @ d_w_t.T
        if d_filters is not None:
            d_filters.addmm_(d_w.T, b.T).addmm_(d_w_t.T, b_t.T)
    return d_direction, d_basis, d_filters, d_s, d_vs, None if gated is None else d_gated, d_grad_s, d_grad_v


def _plain_second(
    tiles: Tiles, arguments: tuple[Any, ...], tangents: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """What `_second` returns, by automatic differentiation, so that it can be differentiated further."""
    *inputs, grad_s, grad_v = arguments
    given = [x for x in inputs if x is not None]
    # arguments that need no gradient are given one here, so that all can be asked for
    given, grads = (
        [x if x.requires_grad else x.detach().requires_grad_() for x in y] for y in (given, (grad_s, grad_v))
    )
    gated = given[5] if len(given) > 5 else None
    gradient = torch.autograd.grad(_plain_sums(tiles, *given[:5], gated), given, grads, create_graph=True)
    known = [(value, t) for value, t in zip(gradient, tangents, strict=False) if t is not None]
    second = torch.autograd.grad(
        [value for value, _ in known], [*given, *grads], [t for _, t in known], create_graph=True, allow_unused=True
    )
    return *second[: len(given)], *([None] * (6 - len(given))), *second[len(given) :]


def _filters(basis: Tensor, filters: Tensor, features: int) -> list[Tensor]:
    return [basis.T @ rows.T for rows in filters.split(features)]


def _take(x: Tensor, atoms: Tensor, ways: int) -> Tensor:
    """Rows of [atoms, F] or [3, atoms, F] as [ways, pairs, F] or [3, ways, pairs, F]."""
    return x.index_select(-2, atoms).view(*x.shape[:-2], ways, -1, x.shape[-1])


def _put(total: Tensor, rows: Tensor, x: Tensor) -> None:
    features = total.shape[-1]
    total.view(-1, features).index_add_(0, rows, x.view(-1, features))


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
