"""The edges of a batch as HDGNN sees them: invariants of their lengths, and tensors in their frames."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equispec.graph import AtomGraph, edge_vectors
from equispec.models.hdgnn.config import HDGNNConfig
from equispec.models.hdgnn.turns import Turns
from equispec.neighbors import nearest_neighbors
from equispec.nn.cutoff import polynomial_envelope
from equispec.nn.degree_products import EdgeCouplings
from equispec.nn.edge_frames import Roll, edge_frames, rotations, smooth_frames
from equispec.nn.norms import distances_and_directions
from equispec.nn.so3 import spherical_harmonics


@dataclass(frozen=True, eq=False)
class TensorEdges:
    """Edges of one resolution: what turns tensors into their frames, and what couples tensors with their harmonics.

    index: which edges of the batch they are, one with two frames twice; inner: components of x with |m| <= mmax, which
    are the rows of the turns; harmonics of mean square 1/4π; maps: see EdgeCouplings; envelope: factor of the messages.
    """

    top: int
    index: Int[Tensor, "edges"]
    receiver: Int[Tensor, "edges"]
    sender: Int[Tensor, "edges"]
    inner: Int[Tensor, "rows"]
    turns: Turns
    harmonics: Float[Tensor, "edges components"]
    maps: list[Float[Tensor, "edges _columns _components"]]
    envelope: Float[Tensor, "edges"] | None


def inner_components(top: int, most: int) -> list[int]:
    """Indices l² + l + m of the components with |m| <= most."""
    return [k * k + k + m for k in range(top + 1) for m in range(-min(k, most), min(k, most) + 1)]


class EdgeView(nn.Module):
    """From a batch to the edges of every resolution, and their distances (Å)."""

    def __init__(self, config: HDGNNConfig) -> None:
        super().__init__()
        self.config = config
        self.eval_roll: Roll = config.eval_roll  # how frames are rolled in evaluation; others are tried by `deviation`
        self.couplings = nn.ModuleList()
        for top, _ in config.levels:
            second = top if config.full_degree_branch else config.product_degree
            first = config.product_degree if config.product == "full" else top
            self.couplings.append(EdgeCouplings(first, top, second))

    def forward(
        self, graph: AtomGraph, frames: Float[Tensor, "edges 3 3"] | None
    ) -> tuple[Float[Tensor, "edges"], list[TensorEdges]]:
        config = self.config
        receiver, sender = graph.edge_index
        distance, unit = distances_and_directions(edge_vectors(graph))
        if not config.gradients:  # as in the reference: frames do not follow the positions
            unit = unit.detach()
        envelope = polynomial_envelope(distance / config.cutoff) if config.envelope else torch.ones_like(distance)
        roll = config.roll if self.training else self.eval_roll
        if frames is None and config.gradients and roll == "axis":
            index, turned, share = smooth_frames(unit)
            parts = [(index, turned, envelope[index] * share)]
        else:
            if frames is None:
                frames = edge_frames(unit, distance, receiver, _numbers(graph), roll, config.roll_seed)
            parts = [(index, frames[index], envelope[index]) for index in self._resolutions(graph, distance)]
        views = []
        for (top, _), couplings, (index, turned, weight) in zip(config.levels, self.couplings, parts, strict=True):
            harmonics = spherical_harmonics(unit[index], range(top + 1))
            matrices = rotations(turned, top, min(config.mmax, top))
            views.append(
                TensorEdges(
                    top,
                    index,
                    receiver[index],
                    sender[index],
                    torch.tensor(inner_components(top, config.mmax), device=unit.device),
                    Turns(matrices, sender[index], receiver[index], graph.n_atoms),
                    harmonics,
                    couplings.maps(harmonics),  # type: ignore[operator]
                    weight if config.envelope else None,
                )
            )
        return distance, views

    def _resolutions(self, graph: AtomGraph, distance: Float[Tensor, "edges"]) -> list[Int[Tensor, "_part"]]:
        """The edges of every resolution: all of them, or the nearest ones of every receiver and the others."""
        if self.config.resolutions == 1:
            return [torch.arange(graph.n_edges, device=distance.device)]
        near = torch.zeros(graph.n_edges, dtype=torch.bool, device=distance.device)
        near[nearest_neighbors(graph.edge_index, distance.detach(), self.config.near)] = True
        return [near.nonzero()[:, 0], (~near).nonzero()[:, 0]]


def _numbers(graph: AtomGraph) -> Int[Tensor, "edges"]:
    """The number of each edge within its structure, whatever else is in the batch."""
    system = graph.system[graph.edge_index[0]]
    counts = torch.bincount(system, minlength=graph.n_systems)
    return torch.arange(graph.n_edges, device=system.device) - (counts.cumsum(0) - counts)[system]


class DistanceBasis(nn.Module):
    """Gaussians exp(-½ ((d - μ_k) / w Δ)²) with centres of spacing Δ from 0 to the cutoff."""

    centres: Tensor

    def __init__(self, config: HDGNNConfig) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, config.cutoff, config.n_radial), persistent=False)
        self.width = config.radial_width * config.cutoff / (config.n_radial - 1)

    def forward(self, distance: Float[Tensor, "edges"]) -> Float[Tensor, "edges gaussians"]:
        return (distance[:, None] - self.centres).square().mul_(-0.5 / self.width**2).exp_()


class EdgeScalars(nn.Module):
    """c_e = SiLU dense SiLU (Emb(z_s) + Emb(z_t) + dense(distance)), own weights in every layer."""

    def __init__(self, config: HDGNNConfig) -> None:
        super().__init__()
        b = config.edge_features
        self.distance = nn.Linear(config.n_radial, b)
        self.source = nn.Embedding(config.elements, b)
        self.target = nn.Embedding(config.elements, b)
        for table in (self.source, self.target):
            nn.init.uniform_(table.weight, -1e-3, 1e-3)
        self.mix = nn.Linear(b, b)

    def forward(self, basis: Float[Tensor, "edges gaussians"], graph: AtomGraph) -> Float[Tensor, "edges B"]:
        receiver, sender = graph.edge_index
        species = self.source(graph.z)[sender] + self.target(graph.z)[receiver]
        return nn.functional.silu(self.mix(nn.functional.silu(species + self.distance(basis))))
