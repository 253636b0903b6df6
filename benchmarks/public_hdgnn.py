"""The arithmetic of HDGNN's public code, with the weights of a network of ours, for benchmarks/hdgnn_speed.py.

Written from its description: rotation matrices Z(α) J Z(β) J Z(γ) of all orders; every edge has one matrix of the rows
|m| <= 1 over all degrees; the tensors of an edge go through the first map of a network twice, turned and unturned; the
maps of the update and of the output are made on the grid and at the points. Left out here as in the networks that are
compared: the fifth branch, the second resolution, and frames that are drawn anew.
"""

from dataclasses import dataclass
from functools import cache
from math import pi, sqrt
from typing import Any

import torch
from e3nn import o3
from torch import Tensor
from torch.nn.functional import silu

from equispec.graph import AtomGraph, edge_vectors
from equispec.model import Model
from equispec.models.hdgnn.edges import inner_components
from equispec.models.hdgnn.message import Messages
from equispec.nn.degree_products import SIGMOID_GAIN
from equispec.nn.edge_frames import edge_frames
from equispec.nn.mlp import SILU_GAIN
from equispec.nn.norms import distances_and_directions
from equispec.nn.so3 import ORDER, coupling, spherical_harmonics


@dataclass(frozen=True, eq=False)
class PublicEdges:
    """Edges with the rows |m| <= 1 of D over all degrees, and those of D - 1."""

    receiver: Tensor
    sender: Tensor
    inner: Tensor
    turn: Tensor
    difference: Tensor
    harmonics: Tensor


def public_edges(graph: AtomGraph, top: int) -> tuple[Tensor, PublicEdges]:
    """Distances and edges in frames rolled by the axes."""
    receiver, sender = graph.edge_index
    distance, unit = distances_and_directions(edge_vectors(graph))
    frames = edge_frames(unit, distance, receiver, torch.arange(graph.n_edges), "axis")
    inner = torch.tensor(inner_components(top, 1))
    turn = torch.zeros(graph.n_edges, len(inner), (top + 1) ** 2)
    row = 0
    for degree, whole in enumerate(public_matrices(frames, top)):
        part = whole[:, max(0, degree - 1) : degree + 2]
        turn[:, row : row + part.shape[1], degree**2 : (degree + 1) ** 2] = part
        row += part.shape[1]
    difference = turn.clone()
    difference[:, torch.arange(len(inner)), inner] -= 1
    harmonics = spherical_harmonics(unit, range(top + 1))
    return distance, PublicEdges(receiver, sender, inner, turn, difference, harmonics)


@cache
def table(l1: int, l2: int, l3: int) -> Tensor:
    """Couplings times √(2 l3 + 1), one column for each component of the result."""
    return torch.tensor(sqrt(2 * l3 + 1) * coupling(l1, l2, l3), dtype=torch.float32).flatten(1).T.contiguous()


def public_matrices(frames: Tensor, top: int) -> list[Tensor]:
    """D^(l) for l = 0 ... top from angles, Z(α) J Z(β) J Z(γ)."""
    angles = o3.matrix_to_angles(frames[:, ORDER][:, :, ORDER])  # e3nn's polar axis is y
    found = []
    for degree in range(top + 1):
        first, second, third = (about_pole(degree, angle) for angle in angles)
        tilt = tilted(degree)
        found.append(first @ tilt @ second @ tilt.T @ third)
    return found


@cache
def tilted(degree: int) -> Tensor:
    """The matrix that turns rotations about the polar axis y into ones about x."""
    zero = torch.zeros(())
    return o3.wigner_D(degree, zero, zero + pi / 2, zero) @ o3.wigner_D(degree, zero + pi / 2, zero + pi / 2, zero)


def about_pole(degree: int, angle: Tensor) -> Tensor:
    """Rotation matrices about the polar axis: cosines on the diagonal, sines across it."""
    d = angle.new_zeros(len(angle), 2 * degree + 1, 2 * degree + 1)
    rows = torch.arange(2 * degree + 1)
    multiples = (degree - rows) * angle[:, None]
    d[:, rows, rows.flip(0)] = torch.sin(multiples)
    d[:, rows, rows] = torch.cos(multiples)
    return d


class PublicMessages:
    """The messages of a block with the block's own weights."""

    def __init__(self, block: Messages, model: Model, edges: PublicEdges) -> None:
        config: Any = model.backbone.config
        self.block, self.edges, self.channels = block, edges, config.features
        self.paths = block.couplings[0].paths
        self.tables = {path: table(*path) for path in self.paths}

    def __call__(self, x: Tensor, c: Tensor, f: Tensor) -> Tensor:
        edges, block = self.edges, self.block
        source, target = x[edges.sender], x[edges.receiver]
        a = self.attention(c, f)
        first, second = block.pathways.paths  # type: ignore[union-attr]
        one, two = (path.turned.gates(c) for path in (first, second))
        message = self.network(first, source, one) * a[:, 0, None] + self.network(first, target, one) * a[:, 1, None]
        message = message + self.network(second, source + target, two) * a[:, 2, None]
        out = torch.bmm(edges.turn.transpose(1, 2), message)
        product = self.product(source + target) * a[:, 3, None]
        out = torch.cat([out[:, : product.shape[1]] + product, out[:, product.shape[1] :]], dim=1)
        return torch.zeros_like(x).index_add(0, edges.receiver, out)

    def attention(self, c: Tensor, f: Tensor) -> Tensor:
        module = self.block.attention
        ends = torch.cat([c, f[self.edges.sender], f[self.edges.receiver]], dim=1)
        return torch.sigmoid(module.second(torch.relu(module.first(ends)))).unflatten(1, module.shape)

    def network(self, path: Any, x: Tensor, gates: Tensor) -> Tensor:
        """NN of the turned and of the unturned rows, each through both maps."""
        net = path.turned

        def through(v: Tensor) -> Tensor:
            inner = silu(net.first(v.flatten(1)))
            return silu(net.second(gates * inner)).unflatten(1, (-1, self.channels))

        return through(torch.bmm(self.edges.difference, x)) + through(x[:, self.edges.inner])

    def product(self, x: Tensor) -> Tensor:
        """Σ over paths of couplings of the mean with the harmonics of mean square 1, and the gate."""
        module, u, y = self.block.product, x.mean(2), sqrt(4 * pi) * self.edges.harmonics
        parts: list[list[Tensor]] = [[] for _ in range(module.top + 1)]  # type: ignore[operator, union-attr]
        for l1, l2, l3 in self.paths:
            if l3 > module.top:  # type: ignore[operator, union-attr]
                continue
            one, two = u[:, l1**2 : (l1 + 1) ** 2], y[:, l2**2 : (l2 + 1) ** 2]
            pairs = (one[:, :, None] * two[:, None, :]).flatten(1)
            parts[l3].append(pairs @ self.tables[l1, l2, l3])
        weights = module.weights  # type: ignore[union-attr]
        sums = [torch.stack(terms, dim=2) @ weight for terms, weight in zip(parts, weights, strict=True)]
        value, *gates = (sums[0][:, 0] + module.gate.bias).split(self.channels, dim=1)  # type: ignore[union-attr]
        out = [SILU_GAIN * silu(value)[:, None]]
        out += [t * (SIGMOID_GAIN * torch.sigmoid(g))[:, None] for t, g in zip(sums[1:], gates, strict=True)]
        return torch.cat(out, dim=1)


def public_scalars(model: Model, graph: AtomGraph) -> Tensor:
    """The scalars of the output block of a whole network."""
    backbone: Any = model.backbone
    distance, edges = public_edges(graph, backbone.config.degree)
    f = backbone.embedding(graph.z)
    x = torch.nn.functional.pad(silu(backbone.start(f))[:, None], (0, 0, 0, (backbone.config.degree + 1) ** 2 - 1))
    basis = backbone.basis(distance)
    for layer in backbone.layers:
        c = layer.scalars(basis, graph)
        m = PublicMessages(layer.messages[0], model, edges)(layer.norm(x) / sqrt(3), c, f)
        x = updated(layer.update, x, m)
        if layer.to_invariants is not None:
            total = torch.zeros(len(f), c.shape[1]).index_add(0, edges.receiver, c)
            f = silu(f + 2 / 3 * layer.to_invariants(total))
    output = backbone.output
    return silu(output.second(silu(output.first(output.values @ x)))).mean(1)


def updated(update: Any, x: Tensor, m: Tensor) -> Tensor:
    """The update with all of its maps on the grid, its gate by the mean over the sphere."""
    grid = update.grid[0]
    h = grid.to_grid @ torch.cat([x, update.sign * x, m, update.sign * m], dim=2)
    h = silu(update.second(silu(update.first(h))))
    h = h * update.gate(torch.einsum("p,npc->nc", grid.weights, h))[:, None]
    return grid.from_grid @ update.third(h)
