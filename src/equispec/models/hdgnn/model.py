"""HDGNN from its parts."""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph
from equispec.models.hdgnn.config import HDGNNConfig
from equispec.models.hdgnn.edges import DistanceBasis, EdgeScalars, EdgeView, TensorEdges
from equispec.models.hdgnn.message import Messages
from equispec.models.hdgnn.update import DegreeLinear, DegreeNorm, SampledOutput, SphereUpdate
from equispec.nn.mlp import scale_for_silu
from equispec.nn.so3 import tensors_of, vectors_of
from equispec.nn.sphere import SphereGrid

State = tuple[Float[Tensor, "atoms components C"], Float[Tensor, "atoms C0"]]


class HDGNN(nn.Module):
    """The HDGNN representation: scalars by the sampled output block, and the degrees 1 and 2 of x.

    Features turn with the structure but for an error: where `pathway` is linear or none, that of the grid and of the
    points of the output block alone.
    """

    approximate = True
    citation = "J. An, C. Qu, Z. Zhou, F. Cao, Y. Xu, Y. Qi and F. Shen, ICLR 2024"

    def __init__(self, config: HDGNNConfig) -> None:
        super().__init__()
        self.config = config
        c = config.features
        extra = c if config.invariant_weight else 0
        self.widths = FeatureWidths(
            scalar=c + extra, vector=c, tensor=c if config.degree > 1 else None, harmonic=c, degree=config.degree
        )
        self.max_z = config.elements - 1
        self.embedding = nn.Embedding(config.elements, config.invariants)
        self.start = nn.Linear(config.invariants, c)
        self.basis = DistanceBasis(config)
        self.edges = EdgeView(config)
        self.grid = SphereGrid(config.degree, config.grid_resolution)
        self.layers = nn.ModuleList(
            Layer(config, self.edges, self.grid, first=k == 0, last=k == config.blocks - 1)
            for k in range(config.blocks)
        )
        self.output = SampledOutput(config)
        self.invariant = nn.Linear(config.invariants, c) if extra else None
        if config.initial_weights == "scaled":
            for part in self.modules():
                if isinstance(part, nn.Linear):
                    scale_for_silu(part)

    @property
    def conservative(self) -> bool:
        """Whether derivatives by the positions are those of what is predicted: frames follow them and nothing jumps."""
        return self.config.gradients

    def forward(self, graph: AtomGraph, frames: Float[Tensor, "edges 3 3"] | None = None) -> NodeFeatures:
        """Features after the last layer; `frames` (R_e r̂ = ẑ) instead of those of the roll policy."""
        x, f = self.states(graph, frames)[-1]
        scalar = self.output(x)
        if self.invariant is not None:
            scalar = torch.cat([scalar, self.config.invariant_weight * silu(self.invariant(f))], dim=1)
        vector = vectors_of(x[:, 1:4].transpose(1, 2)).transpose(1, 2)
        tensor = tensors_of(x[:, 4:9].transpose(1, 2)).movedim(1, 3) if self.widths.tensor else None
        return NodeFeatures(scalar=scalar, vector=vector, tensor=tensor, harmonic=x)

    def states(self, graph: AtomGraph, frames: Float[Tensor, "edges 3 3"] | None = None) -> list[State]:
        """x and f at the start and after every layer."""
        distance, edges = self.edges(graph, frames)
        basis = self.basis(distance)
        f: Tensor = self.embedding(graph.z)
        x = nn.functional.pad(silu(self.start(f))[:, None], (0, 0, 0, (self.config.degree + 1) ** 2 - 1))
        states = [(x, f)]
        for layer in self.layers:
            states.append(layer(*states[-1], graph, basis, edges))
        return states


class Layer(nn.Module):
    """One message and update; the first one gets x of degree 0 alone, the last one leaves f as it is."""

    def __init__(self, config: HDGNNConfig, view: EdgeView, grid: SphereGrid, first: bool, last: bool) -> None:
        super().__init__()
        self.scalars = EdgeScalars(config)
        self.norm = DegreeNorm(config.degree, config.features) if config.layer_norm else nn.Identity()
        self.linear = DegreeLinear(config.degree, config.features) if config.node_linear else nn.Identity()
        self.messages = nn.ModuleList(
            Messages(config, top, hidden, couplings, first)  # type: ignore[arg-type]
            for (top, hidden), couplings in zip(config.levels, view.couplings, strict=True)
        )
        self.update = SphereUpdate(config, grid)
        self.to_invariants = None if last else nn.Linear(config.edge_features, config.invariants)

    def forward(
        self,
        x: Float[Tensor, "atoms components C"],
        f: Float[Tensor, "atoms C0"],
        graph: AtomGraph,
        basis: Float[Tensor, "edges gaussians"],
        edges: list[TensorEdges],
    ) -> State:
        c = self.scalars(basis, graph)
        summed = torch.zeros_like(x)
        normal = self.linear(self.norm(x)) / sqrt(3)
        for messages, view in zip(self.messages, edges, strict=True):
            size = (view.top + 1) ** 2
            m = messages(normal[:, :size], c[view.index], f, view)
            summed = summed + nn.functional.pad(m, (0, 0, 0, x.shape[1] - size))
        return self.update(x, summed), self._invariants(f, c, edges[0])

    def _invariants(
        self, f: Float[Tensor, "atoms C0"], c: Float[Tensor, "edges B"], near: TensorEdges
    ) -> Float[Tensor, "atoms C0"]:
        if self.to_invariants is None:
            return f
        c = c[near.index] if near.envelope is None else c[near.index] * near.envelope[:, None]
        total = f.new_zeros(len(f), c.shape[1]).index_add(0, near.receiver, c)
        return silu(f + 2 / 3 * self.to_invariants(total))
