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
from jaxtyping import Float, Int
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from equispec.config import Config
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph, edge_vectors
from equispec.nn.cutoff import polynomial_envelope
from equispec.nn.mlp import dense, mlp
from equispec.nn.norms import distances_and_directions, safe_norm
from equispec.nn.radial import RADIAL_BASES
from equispec.nn.segment import sum_over_neighbors


class DyadPaiNNConfig(Config):
    """Configuration of DyadPaiNN."""

    name: Literal["dyad-painn"] = "dyad-painn"
    features: PositiveInt = Field(96, description="channels F of the scalar and of the dyad stream")
    blocks: PositiveInt = Field(3, description="message + update blocks")
    radial: Literal["bessel", "gaussian"] = "gaussian"
    n_radial: int = Field(32, ge=2, description="radial basis functions")
    cutoff: PositiveFloat = Field(6.0, description="Å")
    max_neighbors: PositiveInt | None = None
    elements: PositiveInt = Field(100, description="rows of the embedding tables; row Z")


class DyadPaiNN(nn.Module):
    """Dyad-PaiNN; see the module's text for the equations."""

    def __init__(self, config: DyadPaiNNConfig) -> None:
        super().__init__()
        self.config = config
        f = config.features
        self.widths = FeatureWidths(scalar=f, dyad=f)
        self.scalar_embedding = nn.Embedding(config.elements, f)
        self.dyad_embedding = nn.Embedding(config.elements, f)
        self.radial = RADIAL_BASES[config.radial](config.n_radial, config.cutoff)
        self.messages = nn.ModuleList(Message(f, config.n_radial) for _ in range(config.blocks))
        self.updates = nn.ModuleList(Update(f) for _ in range(config.blocks))

    def forward(self, graph: AtomGraph) -> NodeFeatures:
        """Scalars [atoms, F] and dyads [atoms, 3, 3, F] of every atom."""
        d, u = distances_and_directions(edge_vectors(graph))
        basis, envelope = self.radial(d), polynomial_envelope(d / self.config.cutoff)[:, None]
        s = self.scalar_embedding(graph.z)
        identity = torch.eye(3, dtype=s.dtype, device=s.device)
        y = identity[:, :, None] * self.dyad_embedding(graph.z)[:, None, None, :]
        for message, update in zip(self.messages, self.updates, strict=True):
            ds, dy = message(s, y, basis, envelope, u, graph.edge_index)
            s, y = s + ds, y + dy
            ds, dy = update(s, y)
            s, y = s + ds, y + dy
        return NodeFeatures(scalar=s, dyad=y)


class Message(nn.Module):
    """Messages along the edges: filters from the distance, gates from the sender's scalars."""

    def __init__(self, features: int, n_radial: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.gate = mlp(features, features, 3 * features)
        self.filter = dense(n_radial, 3 * features)

    def forward(
        self,
        s: Float[Tensor, "atoms F"],
        y: Float[Tensor, "atoms 3 3 F"],
        basis: Float[Tensor, "edges n_radial"],
        envelope: Float[Tensor, "edges 1"],
        u: Float[Tensor, "edges 3"],
        edge_index: Int[Tensor, "2 edges"],
    ) -> tuple[Float[Tensor, "atoms F"], Float[Tensor, "atoms 3 3 F"]]:
        receiver, sender = edge_index
        n = s.shape[0]
        # the envelope multiplies the filter after its linear map, bias included: messages vanish at the cutoff
        m = self.gate(self.norm(s))[sender] * (self.filter(basis) * envelope)  # (E, 3F)
        m_s, m_vv, m_vs = m.chunk(3, dim=1)
        y_j = y[sender]  # (E, 3, 3, F)
        along = torch.einsum("ea,eabf->ebf", u, y_j) * m_vs[:, None, :]  # ûᵀ Y_j, (E, 3, F)
        dy = torch.addcmul(y_j * m_vv[:, None, None, :], u[:, :, None, None], along[:, None, :, :])
        return sum_over_neighbors(m_s, receiver, n), sum_over_neighbors(dy, receiver, n) * (1 / 3)


class Update(nn.Module):
    """Atom-wise mixing of the dyads, gated by scalars and by n-free invariants of the dyads."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mix = dense(features, 2 * features, bias=False)
        self.gate = mlp(3 * features, features, 3 * features)

    def forward(
        self, s: Float[Tensor, "atoms F"], y: Float[Tensor, "atoms 3 3 F"]
    ) -> tuple[Float[Tensor, "atoms F"], Float[Tensor, "atoms 3 3 F"]]:
        p, q = self.mix(y).chunk(2, dim=-1)  # (N, 3, 3, F) each
        trace = torch.einsum("naaf->nf", q) * (1 / 3)
        x1, x2, x3 = self.gate(torch.cat([s, safe_norm(q, dim=(1, 2)), trace], dim=1)).chunk(3, dim=1)
        return x1 + x2 * (p * q).sum((1, 2)), x3[:, None, None, :] * p
