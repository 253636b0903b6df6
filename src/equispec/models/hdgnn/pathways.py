"""The neural pathways of HDGNN's messages: networks of tensors in the frame of an edge, and the forms of the ablations.

All of them take the normalised tensors x of the atoms and return the terms of the messages with their attention, summed
over the edges that an atom receives, in the frame of the laboratory.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from equispec.models.hdgnn.config import HDGNNConfig
from equispec.models.hdgnn.edges import TensorEdges, inner_components

Atoms = Float[Tensor, "atoms components channels"]
Attention = Float[Tensor, "edges branches channels"]
Gates = tuple[Float[Tensor, "edges H"], Float[Tensor, "edges H"]]


class GatedNetwork(nn.Module):
    """NN(v; c) = SiLU dense (SiLU(dense(c)) ⊙ SiLU(W₁ v + b₁)), eq 10."""

    def __init__(self, n_in: int, hidden: int, n_out: int, edge_features: int) -> None:
        super().__init__()
        self.first = nn.Linear(n_in, hidden)
        self.second = nn.Linear(hidden, n_out)
        self.gate = nn.Linear(edge_features, hidden)

    def gates(self, c: Float[Tensor, "edges B"]) -> Float[Tensor, "edges H"]:
        """SiLU(dense(c)), for all calls with the same edges."""
        return silu(self.gate(c))

    def forward(self, inner: Float[Tensor, "#edges H"], gates: Float[Tensor, "edges H"]) -> Float[Tensor, "edges out"]:
        """`inner`: W₁ v, without the bias."""
        return silu(self.second(gates * silu(inner + self.first.bias)))


class NeuralPathway(nn.Module):
    """N(x) = NN(P (D - 1) x) + NN(P x) of a sum of tensors; W₁ P x is one product for each atom, not for each edge."""

    def __init__(self, config: HDGNNConfig, width: int, hidden: int) -> None:
        super().__init__()
        self.split = config.pathway_input == "split"
        self.turned = GatedNetwork(width, hidden, width, config.edge_features)
        own = self.split and not config.shared
        self.plain = GatedNetwork(width, hidden, width, config.edge_features) if own else None

    def gates(self, c: Float[Tensor, "edges B"]) -> Gates:
        """Those of the network of P (D - 1) x, and those of the network of P x."""
        gates = self.turned.gates(c)
        return gates, gates if self.plain is None else self.plain.gates(c)

    def forward(
        self,
        inner: Float[Tensor, "edges H"],
        plain: Float[Tensor, "atoms width"],
        ends: Sequence[Tensor],
        gates: Gates,
    ) -> Float[Tensor, "edges width"]:
        """inner: W₁ P D x of every edge; plain: P x of every atom; ends: the atoms of an edge that are summed."""
        if not self.split:
            return self.turned(inner, gates[0])
        here = _gathered(linear(plain, self.turned.first.weight), ends)
        value = self.turned(inner - here, gates[0])
        if self.plain is None:
            return value.add_(self.turned(here, gates[1]))
        return value.add_(self.plain(_gathered(linear(plain, self.plain.first.weight), ends), gates[1]))

    def of_zero(self, gates: Gates) -> Float[Tensor, "edges width"] | None:
        """NN(0), which NN(P (D - 1) x) is where no frame turns x; None where it is no part of N."""
        return self.turned(gates[0].new_zeros(1, gates[0].shape[1]), gates[0]) if self.split else None

    def of_scalars(
        self,
        scalars: Float[Tensor, "atoms channels"],
        ends: Sequence[Tensor],
        gates: Gates,
        zero: Float[Tensor, "edges width"] | None,
    ) -> Float[Tensor, "edges width"]:
        """N of tensors of degree 0, with `of_zero`."""
        network = self.plain or self.turned
        inner = _gathered(linear(scalars, network.first.weight[:, : scalars.shape[1]]), ends)
        value = network(inner, gates[1])
        return value if zero is None else value.add_(zero)


def _gathered(values: Tensor, ends: Sequence[Tensor]) -> Tensor:
    first, *others = (values[end] for end in ends)
    return first + others[0] if others else first


class NeuralPathways(nn.Module):
    """a_1 N_1(x_s) + a_2 N_1(x_t) + a_3 N_2(x_s + x_t), eq 11; without `shared`, source and target have their own."""

    def __init__(self, config: HDGNNConfig, top: int, hidden: int) -> None:
        super().__init__()
        width = len(inner_components(top, config.mmax)) * config.features
        self.which = parts_of_terms(config)
        self.paths = nn.ModuleList(NeuralPathway(config, width, hidden) for _ in range(max(self.which) + 1))

    def forward(self, x: Atoms, c: Float[Tensor, "edges B"], edges: TensorEdges, a: Attention) -> Atoms:
        plain = x[:, edges.inner].flatten(1)
        paths, gates = self._with_gates(c)
        of_senders, of_receivers = edges.turns.mapped(x, torch.cat([path.turned.first.weight for path in paths]))
        senders, receivers = of_senders.chunk(len(paths), dim=1), of_receivers.chunk(len(paths), dim=1)
        first, second, both = self.which
        inners = senders[first], receivers[second], senders[both] + receivers[both]
        terms = zip(self.which, inners, ends_of_terms(edges), strict=True)
        return self._message([paths[k](inner, plain, ends, gates[k]) for k, inner, ends in terms], edges, a)

    def _with_gates(self, c: Float[Tensor, "edges B"]) -> tuple[list[NeuralPathway], list[Gates]]:
        paths = cast(list[NeuralPathway], list(self.paths))
        return paths, [path.gates(c) for path in paths]

    def _message(self, terms: list[Tensor], edges: TensorEdges, a: Attention) -> Atoms:
        shape, weights = (-1, a.shape[2]), a[:, :, None].unbind(1)
        total = terms[0].unflatten(1, shape) * weights[0]
        for term, weight in zip(terms[1:], weights[1:], strict=True):
            total.addcmul_(term.unflatten(1, shape), weight)
        return edges.turns.summed_back(total)


class FirstPathways(NeuralPathways):
    """The same in the first layer, where x is of degree 0 alone: no other component is looked at.

    No frame turns it, and the paper's form makes five products for each edge, where it makes six in other layers, and
    maps of turned tensors.
    """

    def forward(self, x: Atoms, c: Float[Tensor, "edges B"], edges: TensorEdges, a: Attention) -> Atoms:
        paths, gates = self._with_gates(c)
        zero = [path.of_zero(own) for path, own in zip(paths, gates, strict=True)]
        terms = zip(self.which, ends_of_terms(edges), strict=True)
        values = [paths[k].of_scalars(x[:, 0], ends, gates[k], zero[k]) for k, ends in terms]
        return self._message(values, edges, a)


def parts_of_terms(config: HDGNNConfig) -> list[int]:
    """Which weights the terms of source, target and sum have; with `shared`, source and target have the same."""
    return [0, 0, 1] if config.shared else [0, 1, 2]


def ends_of_terms(edges: TensorEdges) -> tuple[tuple[Tensor, ...], ...]:
    """The atoms of an edge whose tensors each term sums."""
    return (edges.sender,), (edges.receiver,), (edges.sender, edges.receiver)


class LinearPathways(nn.Module):
    """The same three terms with linear maps of the channels of each degree, times dense(c): strictly equivariant."""

    def __init__(self, config: HDGNNConfig, top: int, hidden: int) -> None:
        super().__init__()
        self.which = parts_of_terms(config)
        channels, count = config.features, max(self.which) + 1
        self.degree_of_row = [2 * min(degree, config.mmax) + 1 for degree in range(top + 1)]
        self.weights = nn.Parameter(torch.randn(count, top + 1, channels, channels) / channels**0.5)
        self.gates = nn.ModuleList(nn.Linear(config.edge_features, channels) for _ in range(count))

    def forward(self, x: Atoms, c: Float[Tensor, "edges B"], edges: TensorEdges, a: Attention) -> Atoms:
        source, target = edges.turns.turned(x[edges.sender]), edges.turns.turned(x[edges.receiver])
        total = torch.zeros_like(source)
        for k, v, weight in zip(self.which, (source, target, source + target), a.unbind(1), strict=True):
            parts = zip(v.split(self.degree_of_row, dim=1), self.weights[k], strict=True)
            mixed = torch.cat([part @ w for part, w in parts], dim=1)
            total = total + mixed * (weight * silu(self.gates[k](c)))[:, None]
        return edges.turns.summed_back(total)


class UnrestrictedPathway(nn.Module):
    """a_1 MLP([x_s, x_t, Y(r̂)]) in the frame of the laboratory."""

    def __init__(self, config: HDGNNConfig, top: int, hidden: int) -> None:
        super().__init__()
        size = (top + 1) ** 2
        n_in, n_out = size * (2 * config.features + 1), size * config.features
        self.network = GatedNetwork(n_in, hidden, n_out, config.edge_features)

    def forward(self, x: Atoms, c: Float[Tensor, "edges B"], edges: TensorEdges, a: Attention) -> Atoms:
        inputs = [x[edges.sender].flatten(1), x[edges.receiver].flatten(1), edges.harmonics]
        inner = linear(torch.cat(inputs, dim=1), self.network.first.weight)
        message = self.network(inner, self.network.gates(c)).unflatten(1, (-1, a.shape[2])) * a
        return torch.zeros_like(x).index_add(0, edges.receiver, message)


Pathways = NeuralPathways | LinearPathways | UnrestrictedPathway
# in the first layer and in all others
PATHWAYS: dict[str, tuple[type[Pathways], type[Pathways]]] = {
    "mlp": (FirstPathways, NeuralPathways),
    "linear": (LinearPathways, LinearPathways),
    "unrestricted": (UnrestrictedPathway, UnrestrictedPathway),
}
