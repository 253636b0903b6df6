"""ISD-PaiNN: absorption spectra for a given direction n, even under inversion of n and of the structure.

Shibata & Mizoguchi, Digital Discovery 3, 649 (2024). PaiNN (painn.py) with two changes:

    directional embedding (eq 3)    v_i⁰ = b_{Z_i} ⊗ n
    symmetric message     (eq 4)    Δv_i = Σ_j v_j ⊙ m^{vv}_ij + m^{vs}_ij ⊙ ⟨v_j, û_ij⟩ ⊗ û_ij,   m = φ(s_j) ⊙ W(d_ij)

The inner product is per channel. The printed equation has r_ij in place of its û_ij, a factor the filter can learn.
The published network is built on the Open Catalyst Project's PaiNN, which differs from the paper's in layer norms,
activations, scale factors and the place of the cutoff; `ISDPaiNNConfig.published()` is that form.
"""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from equispec.config import Config
from equispec.errors import InputError
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph, edge_vectors
from equispec.nn.cutoff import cosine_cutoff, polynomial_envelope
from equispec.nn.edges import Edges, filter_matrices, network_parts, sum_messages
from equispec.nn.mlp import ScaledSiLU, dense, mlp
from equispec.nn.norms import distances_and_directions, exact_norm
from equispec.nn.radial import RADIAL_BASES

Scalars = Float[Tensor, "atoms F"]
Vectors = Float[Tensor, "atoms 3 F"]


class ISDPaiNNConfig(Config):
    """Configuration of ISDPaiNN. Sizes default to the published ones."""

    name: Literal["isd-painn"] = "isd-painn"
    cutoff: PositiveFloat = Field(8.0, le=100, description="Å")
    max_neighbors: PositiveInt | None = Field(
        None, description="keep only the nearest, equal ones together; None: all within the cutoff"
    )
    features: PositiveInt = Field(512, le=8192, description="channels F")
    blocks: PositiveInt = Field(8, description="message and update blocks")
    radial: Literal["bessel", "gaussian"] = "gaussian"
    n_radial: int = Field(64, ge=2, description="radial basis functions")
    n_elements: PositiveInt = Field(9, description="rows of the embedding tables; row Z - 1")
    directional_embedding: bool = Field(True, description="False: v = 0 at the start (ablation of eq 3)")
    symmetric_message: bool = Field(True, description="False: PaiNN's message (ablation of eq 4; not even in n)")
    layer_norm: bool = Field(True, description="normalise the scalars before the message's network")
    scaled: bool = Field(True, description="SiLU/0.6 and factors 1/√2, 1/√3, 1/√F that keep variances near one")
    envelope: Literal["cosine", "polynomial"] = Field("polynomial", description="function that vanishes at the cutoff")
    cut_bias: bool = Field(
        True, description="False: the envelope leaves out the filter's bias, as published; messages jump at the cutoff"
    )
    sign_only: bool = Field(
        False, description="the sign of ⟨v_j, û⟩ in its place: discontinuous, only for weights trained so"
    )

    @classmethod
    def paper(cls, **changes: Any) -> "ISDPaiNNConfig":
        """The paper's text: PaiNN's message and update without norms and scale factors, its cosine cutoff."""
        return cls.parse({"layer_norm": False, "scaled": False, "envelope": "cosine", **changes}, cls.__name__)

    @classmethod
    def published(cls, **changes: Any) -> "ISDPaiNNConfig":
        """The published weights: the Open Catalyst form, at most 50 neighbours."""
        return cls.parse({"cut_bias": False, "max_neighbors": 50, **changes}, cls.__name__)


class ISDPaiNN(nn.Module):
    """The ISD-PaiNN representation for the direction `graph.system_data["direction"]` of each structure."""

    citation = "K. Shibata and T. Mizoguchi, Digital Discovery 3, 649 (2024), doi:10.1039/d4dd00021h"

    def __init__(self, config: ISDPaiNNConfig) -> None:
        super().__init__()
        self.config = config
        f = config.features
        # its vectors are odd in n and even under inversion: not the polar vectors that a head may ask for
        self.widths = FeatureWidths(scalar=f)
        self.max_z = config.n_elements
        self.scalar_embedding = _embedding(config.n_elements, f)
        if config.directional_embedding:
            self.vector_embedding = _embedding(config.n_elements, f)
        self.radial = RADIAL_BASES[config.radial](config.n_radial, config.cutoff)
        self.messages = nn.ModuleList(Message(config) for _ in range(config.blocks))
        self.updates = nn.ModuleList(Update(config) for _ in range(config.blocks))

    def forward(self, graph: AtomGraph) -> NodeFeatures:
        """Scalars [atoms, F], even in n and under inversion of the structure.

        Directions are normalised here; a missing or a zero one is an InputError.
        """
        edges = self.edges(graph)
        s, v = self.initial(graph)
        for message, update in zip(self.messages, self.updates, strict=True):
            s, v = message(s, v, edges)
            s, v = update(s, v)
        return NodeFeatures(scalar=s)

    def initial(self, graph: AtomGraph) -> tuple[Scalars, Vectors]:
        """s_i⁰ = a_{Z_i}, v_i⁰ = b_{Z_i} ⊗ n (eq 3)."""
        row = graph.z - 1
        s = self.scalar_embedding(row)
        if not self.config.directional_embedding:
            return s, s.new_zeros(s.shape[0], 3, s.shape[1])
        n = unit_directions(graph)[graph.system]
        return s, n[:, :, None] * self.vector_embedding(row)[:, None, :]

    def edges(self, graph: AtomGraph) -> Edges:
        """Unit vectors and radial basis of all edges; its last column multiplies the bias of the filters."""
        d, u = distances_and_directions(edge_vectors(graph))
        if self.config.envelope == "cosine":
            f_c = cosine_cutoff(d, self.config.cutoff)[:, None]
        else:
            f_c = polynomial_envelope(d * (1 / self.config.cutoff))[:, None]
        bias = f_c if self.config.cut_bias else torch.ones_like(f_c)
        basis = torch.cat([self.radial(d) * f_c, bias], dim=1)
        return Edges(graph.edge_index[0], graph.edge_index[1], u, basis)


def unit_directions(graph: AtomGraph) -> Float[Tensor, "systems 3"]:
    """The direction of each structure, normalised; raises InputError for a missing or a zero direction."""
    direction = graph.system_data.get("direction")
    if direction is None:
        raise InputError("a directional model needs a direction [systems, 3] for every structure; none was given")
    norm = torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    if not torch.compiler.is_compiling() and not bool((norm > 0).all()):
        raise InputError("a direction is zero or not a number; it must be a vector of non-zero length")
    return direction / norm


def _embedding(rows: int, features: int) -> nn.Embedding:
    table = nn.Embedding(rows, features)
    nn.init.uniform_(table.weight, -math.sqrt(3), math.sqrt(3))
    return table


class Message(nn.Module):
    """Message block with eq 4 for the vectors. Parts of the messages: [s, vs, vv]."""

    def __init__(self, config: ISDPaiNNConfig) -> None:
        super().__init__()
        f = config.features
        self.features = f
        self.symmetric = config.symmetric_message
        self.sign_only = config.sign_only
        self.norm = nn.LayerNorm(f) if config.layer_norm else nn.Identity()
        self.phi = mlp(f, f, 3 * f, ScaledSiLU if config.scaled else nn.SiLU)
        self.filter = dense(config.n_radial, 3 * f)
        self.residual_scale = math.sqrt(0.5) if config.scaled else 1.0
        self.vv_scale = math.sqrt(1 / 3) if config.scaled else 1.0
        self.v_scale = math.sqrt(1 / f) if config.scaled else 1.0

    def forward(self, s: Scalars, v: Vectors, edges: Edges) -> tuple[Scalars, Vectors]:
        w = filter_matrices(self.filter, self.features, 3)
        phi_s, phi_vs, phi_vv = network_parts(self.phi, self.norm(s), self.features, 3)
        phi_vv = phi_vv * self.vv_scale

        def message(tile: Edges) -> tuple[Tensor, Tensor]:
            j, u, v_j = tile.sender, tile.direction[:, :, None], v.index_select(0, tile.sender)
            m_vs = phi_vs.index_select(0, j) * (tile.basis @ w[1])
            if self.symmetric:
                along = (u * v_j).sum(1)  # ⟨v_j, û_ij⟩, (E, F)
                m_vs = m_vs * (torch.sign(along) if self.sign_only else along)
            m_vv = phi_vv.index_select(0, j) * (tile.basis @ w[2])
            m_s = phi_s.index_select(0, j) * (tile.basis @ w[0])
            return m_s, torch.addcmul(v_j * m_vv[:, None, :], u, m_vs[:, None, :])

        ds, dv = sum_messages(message, edges, s.shape[0], self.features)
        return (s + ds) * self.residual_scale, v + dv * self.v_scale


class Update(nn.Module):
    """PaiNN's update block. Parts of the gates: [ss, sv, vv]; rows of the mixing: [U, V]. The norm has no epsilon."""

    scale: Tensor

    def __init__(self, config: ISDPaiNNConfig) -> None:
        super().__init__()
        f = config.features
        self.features = f
        self.mix = dense(f, 2 * f, bias=False)
        self.gate = mlp(2 * f, f, 3 * f, ScaledSiLU if config.scaled else nn.SiLU)
        self.residual_scale = math.sqrt(0.5) if config.scaled else 1.0
        self.dot_scale = math.sqrt(1 / f) if config.scaled else 1.0
        self.register_buffer("scale", torch.ones(()))  # a factor fitted once, not trained

    def forward(self, s: Scalars, v: Vectors) -> tuple[Scalars, Vectors]:
        p, q = self.mix(v).split(self.features, dim=2)  # U v, V v
        x = self.gate(torch.cat([s, exact_norm(q, dim=1)], dim=1))
        x_ss, x_sv, x_vv = x.split(self.features, dim=1)
        ds = (x_ss + x_sv * (p * q).sum(1) * self.dot_scale) * self.residual_scale
        return (s + ds) * self.scale, torch.addcmul(v, x_vv[:, None, :], p)
