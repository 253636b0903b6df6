"""The neural pathways of HDGNN's messages: networks of tensors in the frame of an edge, and the forms of the ablations.

All of them take the normalised tensors x of the atoms and return the terms of a message with their attention, summed,
in the frame of the laboratory.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from equispec.models.hdgnn.config import HDGNNConfig
from equispec.models.hdgnn.edges import TensorEdges, inner_components

Atoms = Float[Tensor, "atoms components channels"]
Message = Float[Tensor, "edges components channels"]
Attention = Float[Tensor, "edges branches channels"]


class GatedNetwork(nn.Module):
    """NN(v; c) = SiLU dense (SiLU(dense(c)) ⊙ SiLU(W₁ v + b₁)), eq 10."""

    def __init__(self, n_in: int, hidden: int, n_out: int, edge_features: int) -> None:
        super().__init__()
        self.first = nn.Linear(n_in, hidden)
        self.second = nn.Linear(hidden, n_out)
        self.gate = nn.Linear(edge_features, hidden)

    def forward(self, inner: Float[Tensor, "edges H"], c: Float[Tensor, "edges B"]) -> Float[Tensor, "edges out"]:
        """`inner`: W₁ v, without the bias."""
        return silu(self.second(silu(self.gate(c)) * silu(inner + self.first.bias)))


class NeuralPathway(nn.Module):
    """N(x) = NN(P (D - 1) x) + NN(P x) of a sum of tensors; W₁ P x is one product for each atom, not for each edge."""

    def __init__(self, config: HDGNNConfig, width: int, hidden: int) -> None:
        super().__init__()
        self.split = config.pathway_input == "split"
        self.turned = GatedNetwork(width, hidden, width, config.edge_features)
        own = self.split and not config.shared
        self.plain = GatedNetwork(width, hidden, width, config.edge_features) if own else None

    def forward(
        self,
        turned: Float[Tensor, "edges width"],
        plain: Float[Tensor, "atoms width"],
        ends: Sequence[Tensor],
        c: Float[Tensor, "edges B"],
    ) -> Float[Tensor, "edges width"]:
        """turned: P D x of every edge; plain: P x of every atom; ends: the atoms of an edge that are summed."""
        inner = linear(turned, self.turned.first.weight)
        if not self.split:
            return self.turned(inner, c)
        here = _gathered(linear(plain, self.turned.first.weight), ends)
        if self.plain is None:
            return self.turned(inner - here, c) + self.turned(here, c)
        return self.turned(inner - here, c) + self.plain(_gathered(linear(plain, self.plain.first.weight), ends), c)

    def of_zero(self, c: Float[Tensor, "edges B"]) -> Float[Tensor, "edges width"]:
        """NN(0), which NN(P (D - 1) x) is where no frame turns x; 0 where it is no part of N."""
        zero = c.new_zeros(1, 1)
        if not self.split:
            return zero.expand(len(c), self.turned.second.out_features)
        return self.turned(zero.expand(len(c), self.turned.first.out_features), c)

    def of_scalars(
        self, scalars: Float[Tensor, "atoms channels"], ends: Sequence[Tensor], c: Float[Tensor, "edges B"]
    ) -> Float[Tensor, "edges width"]:
        """NN(P x) of tensors that are of degree 0 alone; with `of_zero`, this is N."""
        network = self.plain or self.turned
        return network(_gathered(linear(scalars, network.first.weight[:, : scalars.shape[1]]), ends), c)


def _gathered(values: Tensor, ends: Sequence[Tensor]) -> Tensor:
    first, *others = (values[end] for end in ends)
    return first + others[0] if others else first


class NeuralPathways(nn.Module):
    """a_1 N_1(x_s) + a_2 N_1(x_t) + a_3 N_2(x_s + x_t), eq 11; without `shared`, source and target have their own."""

    def __init__(self, config: HDGNNConfig, top: int, hidden: int) -> None:
        super().__init__()
        width = len(inner_components(top, config.mmax)) * config.features
        self.which = [0, 0, 1] if config.shared else [0, 1, 2]  # the network of each term
        self.paths = nn.ModuleList(NeuralPathway(config, width, hidden) for _ in range(max(self.which) + 1))

    def forward(self, x: Atoms, c: Float[Tensor, "edges B"], edges: TensorEdges, a: Attention) -> Message:
        plain = x[:, edges.inner].flatten(1)
        source, target = edges.turned(x[edges.sender]).flatten(1), edges.turned(x[edges.receiver]).flatten(1)
        turned = source, target, source + target
        terms = zip(self.which, turned, ends_of_terms(edges), strict=True)
        return self._message([self.paths[k](v, plain, ends, c) for k, v, ends in terms], edges, a)

    def _message(self, terms: list[Tensor], edges: TensorEdges, a: Attention) -> Message:
        shape = -1, a.shape[2]
        first, *others = (term.unflatten(1, shape) * w[:, None] for term, w in zip(terms, a.unbind(1), strict=True))
        return edges.turned_back(sum(others, first))


class FirstPathways(NeuralPathways):
    """The same in the first layer, where x is of degree 0 alone and no frame turns it: five maps of twelve remain."""

    def forward(self, x: Atoms, c: Float[Tensor, "edges B"], edges: TensorEdges, a: Attention) -> Message:
        scalars, paths = x[:, 0], list[Any](self.paths)
        still = [path.of_zero(c) for path in paths]
        terms = zip(self.which, ends_of_terms(edges), strict=True)
        return self._message([still[k] + paths[k].of_scalars(scalars, ends, c) for k, ends in terms], edges, a)


def ends_of_terms(edges: TensorEdges) -> tuple[tuple[Tensor, ...], ...]:
    """The atoms of an edge whose tensors each term sums."""
    return (edges.sender,), (edges.receiver,), (edges.sender, edges.receiver)


class LinearPathways(nn.Module):
    """The same three terms with linear maps of the channels of each degree, times dense(c): strictly equivariant."""

    def __init__(self, config: HDGNNConfig, top: int, hidden: int) -> None:
        super().__init__()
        channels, count = config.features, 2 if config.shared else 3
        self.degree_of_row = [2 * min(degree, config.mmax) + 1 for degree in range(top + 1)]
        self.weights = nn.Parameter(torch.randn(count, top + 1, channels, channels) / channels**0.5)
        self.gates = nn.ModuleList(nn.Linear(config.edge_features, channels) for _ in range(count))

    def forward(self, x: Atoms, c: Float[Tensor, "edges B"], edges: TensorEdges, a: Attention) -> Message:
        source, target = edges.turned(x[edges.sender]), edges.turned(x[edges.receiver])
        which = [0, 0, 1] if len(self.gates) == 2 else [0, 1, 2]
        total = torch.zeros_like(source)
        for k, v, weight in zip(which, (source, target, source + target), a.unbind(1), strict=True):
            parts = zip(v.split(self.degree_of_row, dim=1), self.weights[k], strict=True)
            mixed = torch.cat([part @ w for part, w in parts], dim=1)
            total = total + mixed * (weight * silu(self.gates[k](c)))[:, None]
        return edges.turned_back(total)


class UnrestrictedPathway(nn.Module):
    """a_1 MLP([x_s, x_t, Y(r̂)]) in the frame of the laboratory."""

    def __init__(self, config: HDGNNConfig, top: int, hidden: int) -> None:
        super().__init__()
        size = (top + 1) ** 2
        n_in, n_out = size * (2 * config.features + 1), size * config.features
        self.network = GatedNetwork(n_in, hidden, n_out, config.edge_features)

    def forward(self, x: Atoms, c: Float[Tensor, "edges B"], edges: TensorEdges, a: Attention) -> Message:
        inputs = [x[edges.sender].flatten(1), x[edges.receiver].flatten(1), edges.harmonics]
        inner = linear(torch.cat(inputs, dim=1), self.network.first.weight)
        return self.network(inner, c).unflatten(1, (-1, a.shape[2])) * a


Pathways = NeuralPathways | LinearPathways | UnrestrictedPathway
# in the first layer and in all others
PATHWAYS: dict[str, tuple[type[Pathways], type[Pathways]]] = {
    "mlp": (FirstPathways, NeuralPathways),
    "linear": (LinearPathways, LinearPathways),
    "unrestricted": (UnrestrictedPathway, UnrestrictedPathway),
}
