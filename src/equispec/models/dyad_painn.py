"""Dyad-PaiNN: the n-linear form of ISD-PaiNN, which carries every direction at once.

ISD-PaiNN (Shibata & Mizoguchi, Digital Discovery 3, 649 (2024)) starts its vectors from the direction n (eq 3) and
moves them with a message that is even under inversion of the structure (eq 4). Here the vector stream is kept strictly
*linear* in n: its gates and filters depend on scalars that never see n. Then v_i(n) = Y_i n, and the network propagates
the 3x3 matrices Y_i, the images of the three basis directions, in one pass. Y -> R Y Rᵀ under every R of O(3).

    Y_i⁰  = b_{Z_i} ⊗ I                                                                           (eq 3 for all n)
    ΔY_i  = ⅓ Σ_j { m^{vv}_ij ⊙ Y_j + m^{vs}_ij ⊙ û_ij (û_ijᵀ Y_j) }                                (eq 4 for all n)
    Δs_i  = Σ_j m^s_ij,        [m^s, m^{vv}, m^{vs}]_ij = φ(LayerNorm(s_j)) ⊙ W(d_ij)

followed by PaiNN's update block, whose invariants of the vectors are replaced by the n-free invariants of Y: the
Frobenius norm, the trace and the Frobenius product.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from equispec.config import Config
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph, edge_vectors
from equispec.nn.cutoff import polynomial_envelope
from equispec.nn.edges import Edges, filter_matrices, network_parts, sum_messages
from equispec.nn.mlp import dense, mlp
from equispec.nn.norms import distances_and_directions, safe_norm
from equispec.nn.radial import RADIAL_BASES

Scalars = Float[Tensor, "atoms F"]
Dyads = Float[Tensor, "atoms 3 3 F"]

THIRD = 1 / 3
ROWS, COLUMNS = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]  # the upper triangle of a symmetric 3x3 matrix
SYMMETRIC = [0, 1, 2, 1, 3, 4, 2, 4, 5]  # the whole matrix from its upper triangle


class DyadPaiNNConfig(Config):
    """Configuration of DyadPaiNN."""

    name: Literal["dyad-painn"] = "dyad-painn"
    features: PositiveInt = Field(96, le=8192, description="channels F of the scalar and of the dyad stream")
    blocks: PositiveInt = Field(3, description="message + update blocks")
    radial: Literal["bessel", "gaussian"] = "gaussian"
    n_radial: int = Field(32, ge=2, description="radial basis functions")
    cutoff: PositiveFloat = Field(6.0, le=100, description="Å")
    max_neighbors: PositiveInt | None = None
    elements: PositiveInt = Field(100, description="rows of the embedding tables; row Z")


class DyadPaiNN(nn.Module):
    """Dyad-PaiNN; see the module's text for the equations."""

    citation = "K. T. Schütt, O. T. Unke and M. Gastegger, ICML 2021, arXiv:2102.03150"

    def __init__(self, config: DyadPaiNNConfig) -> None:
        super().__init__()
        self.config = config
        f = config.features
        self.widths = FeatureWidths(scalar=f, dyad=f)
        self.max_z = config.elements - 1
        self.scalar_embedding = nn.Embedding(config.elements, f)
        self.dyad_embedding = nn.Embedding(config.elements, f)
        self.radial = RADIAL_BASES[config.radial](config.n_radial, config.cutoff)
        self.messages = nn.ModuleList(Message(f, config.n_radial) for _ in range(config.blocks))
        self.updates = nn.ModuleList(Update(f) for _ in range(config.blocks))

    def forward(self, graph: AtomGraph) -> NodeFeatures:
        """Scalars [atoms, F] and dyads [atoms, 3, 3, F] of every atom."""
        edges = self.edges(graph)
        s: Tensor = self.scalar_embedding(graph.z)
        start: Tensor = self.dyad_embedding(graph.z)
        y: Tensor | None = None  # stands for Y⁰ = b_Z ⊗ I, which is never written out
        for message, update in zip(self.messages, self.updates, strict=True):
            s, y = message(s, y, start, edges)
            s, y = update(s, y)
        return NodeFeatures(scalar=s, dyad=y)

    def edges(self, graph: AtomGraph) -> Edges:
        """Unit vectors and radial basis of all edges; the envelope multiplies the filter, its bias included."""
        d, u = distances_and_directions(edge_vectors(graph))
        envelope = polynomial_envelope(d * (1 / self.config.cutoff))[:, None]
        basis = torch.cat([self.radial(d) * envelope, envelope], dim=1)
        return Edges(graph.edge_index[0], graph.edge_index[1], u, basis)


class Message(nn.Module):
    """Messages along the edges: filters from the distance, gates from the sender's scalars. Parts: [s, vs, vv]."""

    def __init__(self, features: int, n_radial: int) -> None:
        super().__init__()
        self.features = features
        self.norm = nn.LayerNorm(features)
        self.gate = mlp(features, features, 3 * features)
        self.filter = dense(n_radial, 3 * features)

    def forward(self, s: Scalars, y: Dyads | None, start: Scalars, edges: Edges) -> tuple[Scalars, Dyads]:
        """Scalars and dyads after the message; y None stands for the first block, where Y_j = b_j ⊗ I."""
        w = filter_matrices(self.filter, self.features, 3)
        gate_s, gate_vs, gate_vv = network_parts(self.gate, self.norm(s), self.features, 3)
        identity = torch.eye(3, dtype=s.dtype, device=s.device)[:, :, None]
        # what depends on the sender alone is multiplied per atom, not per edge
        of_start = (gate_vs * start, gate_vv * start)

        def first_message(tile: Edges) -> tuple[Tensor, ...]:
            j, u = tile.sender, tile.direction
            m_vs = of_start[0][j] * (tile.basis @ w[1])
            upper = (u[:, ROWS] * u[:, COLUMNS])[:, :, None] * m_vs[:, None, :]  # (E, 6, F), û ûᵀ is symmetric
            return gate_s[j] * (tile.basis @ w[0]), of_start[1][j] * (tile.basis @ w[2]), upper

        def later_message(tile: Edges) -> tuple[Tensor, ...]:
            assert y is not None
            j, u = tile.sender, tile.direction[:, :, None]
            y_j = y[j]  # (E, 3, 3, F)
            along = u[:, :1] * y_j[:, 0]
            along = torch.addcmul(along, u[:, 1:2], y_j[:, 1])
            along = torch.addcmul(along, u[:, 2:], y_j[:, 2])  # ûᵀ Y_j, (E, 3, F)
            along = along * (gate_vs[j] * (tile.basis @ w[1]))[:, None, :]
            m_vv = gate_vv[j] * (tile.basis @ w[2])
            dy = torch.addcmul(y_j * m_vv[:, None, None, :], u[:, :, None, :], along[:, None, :, :])
            return gate_s[j] * (tile.basis @ w[0]), dy

        if y is None:
            ds, along_identity, upper = sum_messages(first_message, edges, s.shape[0], 3 * self.features)
            y = (start + along_identity * THIRD)[:, None, None, :] * identity
            return s + ds, y + (upper * THIRD)[:, SYMMETRIC].unflatten(1, (3, 3))
        ds, dy = sum_messages(later_message, edges, s.shape[0], 3 * self.features)
        return s + ds, torch.add(y, dy, alpha=THIRD)


class Update(nn.Module):
    """Atom-wise mixing of the dyads, gated by scalars and by n-free invariants of the dyads. Rows of mix: [U, V]."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.mix = dense(features, 2 * features, bias=False)
        self.gate = mlp(3 * features, features, 3 * features)

    def forward(self, s: Scalars, y: Dyads) -> tuple[Scalars, Dyads]:
        p, q = self.mix(y).split(self.features, dim=3)  # U Y, V Y
        trace = (q[:, 0, 0] + q[:, 1, 1] + q[:, 2, 2]) * THIRD
        x = self.gate(torch.cat([s, safe_norm(q, dim=(1, 2)), trace], dim=1))
        x_ss, x_sv, x_vv = x.split(self.features, dim=1)
        ds = torch.addcmul(x_ss, x_sv, (p * q).sum((1, 2)))
        return s + ds, torch.addcmul(y, x_vv[:, None, None, :], p)
