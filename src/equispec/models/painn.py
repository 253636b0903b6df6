"""PaiNN: equivariant message passing with scalars s and vectors v.

Schütt, Unke & Gastegger, ICML 2021 (arXiv:2102.03150). Notation and equation numbers are the paper's:

    W(d) = (A e(d) + b) f_c(d),     e_n(d) = sin(n π d / r_cut) / d,     φ = dense, SiLU, dense
    message (eqs 7, 8)     Δs_i = Σ_j φ_s(s_j) ⊙ W_s,     Δv_i = Σ_j v_j ⊙ φ_vv(s_j) ⊙ W_vv + φ_vs(s_j) ⊙ W_vs ⊗ û_ij
    update  (eqs 9, 10)    Δs_i = a_ss + a_sv ⊙ ⟨U v_i, V v_i⟩,     Δv_i = a_vv ⊙ U v_i,     a = a(s_i, ‖V v_i‖)
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from equispec.config import Config
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph
from equispec.nn.cutoff import cosine_cutoff
from equispec.nn.edges import network_parts
from equispec.nn.mlp import dense, mlp
from equispec.nn.norms import distances_and_directions, safe_norm
from equispec.nn.pairs import EdgePairs, pairs_of, tiles
from equispec.nn.radial import RADIAL_BASES
from equispec.nn.vector_messages import scalar_messages, vector_messages

# Planes of the Cartesian components lie one after the other in memory: v.transpose(0, 1) is contiguous.
Vectors = Float[Tensor, "atoms 3 F"]


class PaiNNConfig(Config):
    """Configuration of PaiNN; the defaults are the paper's, the last three switches its ablations (Table 4)."""

    name: Literal["painn"] = "painn"
    cutoff: PositiveFloat = Field(5.0, le=100, description="Å")
    max_neighbors: PositiveInt | None = Field(
        None, description="keep only the nearest, equal ones together; None: all within the cutoff"
    )
    features: PositiveInt = Field(128, le=8192, description="channels F")
    blocks: PositiveInt = Field(3, description="message and update blocks T")
    radial: Literal["bessel", "gaussian"] = "bessel"
    n_radial: int = Field(20, ge=2, description="radial basis functions")
    stored_radial: bool = Field(False, description="the constants of the radial basis are weights, as imported ones")
    elements: PositiveInt = Field(100, description="rows of the embedding table; row Z")
    share_filters: bool = Field(False, description="one filter for all blocks")
    share_interactions: bool = Field(False, description="one set of message and update weights for all blocks")
    vectors: bool = Field(True, description="False: scalars only")
    vector_propagation: bool = Field(True, description="False: drop the neighbours' vectors from eq 8 (W_vv = 0)")
    scalar_product: bool = Field(True, description="False: drop a_sv ⟨Uv, Vv⟩ from eq 9")


class PaiNN(nn.Module):
    """The PaiNN representation: scalars [atoms, F] and polar vectors [atoms, 3, F] of every atom."""

    citation = "K. T. Schütt, O. T. Unke and M. Gastegger, ICML 2021, arXiv:2102.03150"

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__()
        self.config = config
        f, parts = config.features, _message_parts(config)
        self.widths = FeatureWidths(scalar=f, vector=f if config.vectors else None)
        self.max_z = config.elements - 1
        self.embedding = nn.Embedding(config.elements, f)
        self.radial = RADIAL_BASES[config.radial](config.n_radial, config.cutoff, config.stored_radial)
        n_filters = 1 if config.share_filters else config.blocks
        n_interactions = 1 if config.share_interactions else config.blocks
        self.filters = nn.ModuleList(dense(config.n_radial, parts * f) for _ in range(n_filters))
        self.messages = nn.ModuleList(Message(config) for _ in range(n_interactions))
        self.updates = nn.ModuleList(Update(config) for _ in range(n_interactions))

    def forward(self, graph: AtomGraph) -> NodeFeatures:
        """Features after the last block."""
        edges = self.edges(graph)
        s: Tensor = self.embedding(graph.z)
        v: Tensor | None = None  # stands for v = 0, whose terms are skipped
        for t in range(self.config.blocks):
            s, v = self.messages[t % len(self.messages)](s, v, edges, self.filters[t % len(self.filters)])
            s, v = self.updates[t % len(self.updates)](s, v)
        return NodeFeatures(scalar=s, vector=v)

    def edges(self, graph: AtomGraph) -> EdgePairs:
        """Unit vectors and radial basis of all edges; the cutoff multiplies the filter, its bias included."""
        vectors, receiver, sender = pairs_of(graph)
        d, u = distances_and_directions(vectors)
        f_c = cosine_cutoff(d, self.config.cutoff)
        basis = torch.cat([self.radial(d).T * f_c, f_c[None]])
        direction = torch.stack([u.T, -u.T][: len(receiver)], dim=1)
        return EdgePairs(tiles(receiver, sender, graph.n_atoms, self.config.features), direction, basis)


def _message_parts(config: PaiNNConfig) -> int:
    """Messages come in the order [s, vs, vv]; the ablations drop the last one or two."""
    return 1 if not config.vectors else 3 if config.vector_propagation else 2


class Message(nn.Module):
    """Message block, eqs 7 and 8."""

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__()
        self.features = config.features
        self.parts = _message_parts(config)
        self.phi = mlp(self.features, self.features, self.parts * self.features)

    def forward(
        self, s: Float[Tensor, "atoms F"], v: Vectors | None, edges: EdgePairs, filter_layer: nn.Linear
    ) -> tuple[Float[Tensor, "atoms F"], Vectors | None]:
        parts = min(self.parts, 2) if v is None else self.parts
        rows = parts * self.features
        filters = torch.cat([filter_layer.weight[:rows], filter_layer.bias[:rows, None]], dim=1)
        phi_s, *phi_v = network_parts(self.phi, s, self.features, parts)
        if not phi_v:
            return s + scalar_messages(edges, filters, phi_s), None
        gates = [phi_v[0][None], phi_s[None]]
        if v is not None and parts == 3:
            gates.append(v.transpose(0, 1) * phi_v[1])  # φ_vv(s_j) ⊙ v_j, per sender
        total = vector_messages(edges, filters, torch.cat(gates))
        ds, dv = total[0], total[1:].transpose(0, 1)
        return s + ds, dv if v is None else v + dv


class Update(nn.Module):
    """Update block, eqs 9 and 10. Parts of a(s, ‖Vv‖): [ss, sv, vv]; rows of the mixing: [U, V]."""

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__()
        f = config.features
        self.features = f
        self.scalar_product = config.scalar_product
        if config.vectors:
            self.mix = dense(f, 2 * f, bias=False)
            self.a = mlp(2 * f, f, (3 if config.scalar_product else 2) * f)
        else:
            self.a = mlp(f, f, f)

    def forward(
        self, s: Float[Tensor, "atoms F"], v: Vectors | None
    ) -> tuple[Float[Tensor, "atoms F"], Vectors | None]:
        if v is None:
            return s + self.a(s), None
        v = v.transpose(0, 1)
        p, q = self.mix(v).split(self.features, dim=2)  # U v, V v
        a_ss, *a_sv, a_vv = self.a(torch.cat([s, safe_norm(q, dim=0)], dim=1)).split(self.features, dim=1)
        s = s + a_ss
        if self.scalar_product:
            s = torch.addcmul(s, a_sv[0], (p * q).sum(0))
        return s, torch.addcmul(v, a_vv, p).transpose(0, 1)
