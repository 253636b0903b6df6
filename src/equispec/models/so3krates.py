"""So3krates: attention on invariant features f and on spherical harmonic coordinates χ (SPHCs), one of each per atom.

Frank, Unke & Müller, NeurIPS 2022 (arXiv:2205.14276). Equation numbers are the paper's; where it is silent or prints
another form, the authors' reference code is followed, as said in docs/adr/016-so3krates.md:

    start        (eq 9, 11)    f_i = Emb(z_i),     χ_i^(l) = Σ_j φ(r_ij) Y^(l)(r̂_ij) / Σ_j φ(r_ij)
    filters      (eq 16)       w_ij = φ_r(φ(r_ij) g(r_ij)) + φ_s(‖χ_i - χ_j‖_l)
    attention    (eq 12, 15)   f_i += Σ_j φ(r_ij) α_ij v_j,     α_ij = ⟨q_i, w_ij ⊙ k_j⟩ / sqrt(F_h), in heads
                 (eq 13, 14)   χ_i^(l) += Σ_j [φ(r_ij) + φ~(χ~_ij)] α_ij^(l) Y^(l)(r̂_ij), one head for each degree
    interaction  (eq 17-19)    f and χ exchange norms; χ~^(l) = Σ k_{l1 l2 l} (χ^(l1) ⊗_l χ^(l2)) mixes the degrees
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator
from torch import Tensor, nn

from equispec.config import Config
from equispec.errors import InputError
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph
from equispec.nn.cutoff import cosine_cutoff
from equispec.nn.mlp import lecun_dense
from equispec.nn.norms import distances_and_directions
from equispec.nn.pair_attention import PairIndex, scores, spread
from equispec.nn.pair_filter import FilterWeights, HeadMap, PairFilter, mapped
from equispec.nn.pairs import pairs_of
from equispec.nn.radial import RADIAL_BASES
from equispec.nn.so3 import spherical_harmonics, tensors_of, vectors_of
from equispec.nn.sphc import Degrees, SelfMix
from equispec.nn.sphc_neighbors import NonLocalCut, Pairs, all_pairs, refuse_too_many

SMOOTH = 1.0  # c_0 of sphc_norm: smooth
SEARCH_FROM = 64  # atoms of a structure above which a non-local model looks for its pairs (benchmarks/non_local.py)
# memory of a pair over that of its filter and harmonics, and of a step of training over that (benchmarks/non_local.py)
KEPT, SECOND = 2, 3
SMALLEST_EPS = 1e-12  # its square is a number in single precision
CONSECUTIVE = "must be consecutive whole numbers from 0 to 6, such as [1, 2, 3]"
# what the reference code does; it was left in our defaults where it makes energies jump or differ in mirror images
PAPER = {"parity": False, "sphc_norm": "paper", "norm_eps": 0.0}


class So3kratesConfig(Config):
    """Configuration of So3krates; sizes are those of the paper's force fields (715,435 parameters with its readout)."""

    name: Literal["so3krates"] = "so3krates"
    preset: Literal["physics", "paper"] = Field("physics", description="paper: defaults of the reference code")
    cutoff: float = Field(5.0, ge=0.1, le=100, description="Å")
    max_neighbors: PositiveInt | None = Field(
        None, description="keep only the nearest, None: all within the cutoff; non-local attention sees all the same"
    )
    features: PositiveInt = Field(132, le=8192, description="channels F, a multiple of heads and of len(degrees)")
    blocks: PositiveInt = Field(6, description="layers")
    degrees: tuple[int, ...] = Field((1, 2, 3), description="consecutive degrees of the SPHCs")
    heads: PositiveInt = Field(4, description="heads of the feature attention")
    radial: Literal["physnet", "gaussian", "bessel"] = "physnet"
    n_radial: int = Field(32, ge=2, description="radial basis functions")
    radial_hidden: PositiveInt = Field(128, description="hidden units of the radial filter φ_r")
    sphc_hidden: PositiveInt = Field(32, description="hidden units of the filter on SPHC distances φ_s")
    elements: int = Field(100, ge=2, description="rows of the embedding table; row Z")
    qkv: Literal["per-head", "identity"] = Field("per-head", description="identity: q = k = v = f (eq 12 and 15)")
    interaction: Literal["code", "paper"] = Field("code", description="paper: eqs 17 and 18, one affine map for each φ")
    parity: bool = Field(True, description="mix only degrees with l1 + l2 + l3 even: mirror images have equal energies")
    sphc_norm: Literal["smooth", "paper"] = Field(
        "smooth",
        description="χ at the start over (Σ φ + 1); paper: over Σ φ, which jumps where a last neighbour leaves",
    )
    norm_eps: NonNegativeFloat = Field(0.01, description="norms of SPHCs are sqrt(x² + eps²) - eps; 0: cones at x = 0")
    feature_layer_norm: bool = Field(False, description="layer norm of f after attention and after interaction")
    sphc_layer_norm: bool = Field(False, description="SPHCs of learned length after attention and after interaction")
    non_local: bool = Field(False, description="attention of all atoms on all others, by their distance in SPHC space")
    chi_cut: PositiveFloat | None = Field(None, description="non-local cut of χ~; None: 1 / atoms of the molecule")
    softmax_include_self: bool = Field(False, description="χ~_ij is a softmax over all j, i itself included")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("preset") == "paper":
            return {**PAPER, **values}
        return values

    @field_validator("degrees", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        if isinstance(value, int):
            raise ValueError(CONSECUTIVE)
        return value

    @field_validator("degrees")
    @classmethod
    def _consecutive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] < 0 or value[-1] > 6 or value != tuple(range(value[0], value[0] + len(value))):
            raise ValueError(CONSECUTIVE)
        return value

    @field_validator("norm_eps")
    @classmethod
    def _resolved(cls, value: float) -> float:
        if 0 < value < SMALLEST_EPS:
            raise ValueError(f"must be 0 or at least {SMALLEST_EPS:g}: squares of smaller numbers vanish")
        return value

    @model_validator(mode="after")
    def _used(self) -> "So3kratesConfig":
        if not self.non_local and (self.chi_cut is not None or self.softmax_include_self):
            raise ValueError("chi_cut and softmax_include_self are of the non-local attention; set non_local = true")
        return self

    @model_validator(mode="after")
    def _divisible(self) -> "So3kratesConfig":
        for parts, name in ((self.heads, "heads"), (len(self.degrees), "degrees")):
            if self.features % parts:
                raise ValueError(
                    f"features = {self.features} must be a multiple of the {parts} {name}, such as "
                    f"{self.features + parts - self.features % parts}"
                )
        return self


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Pairs of atoms and what does not change from layer to layer.

    cutoff: φ(r); basis: φ(r) g(r); harmonics: Y(r̂) seen from the receiver of each way. All without a unit.
    """

    index: PairIndex
    cutoff: Float[Tensor, "pairs"]
    basis: Float[Tensor, "pairs n_radial"]
    harmonics: Float[Tensor, "ways pairs components"]

    def differences(self, chi: Float[Tensor, "atoms components"]) -> Float[Tensor, "pairs components"]:
        """χ_i - χ_j of the first way."""
        i, j = self.index.receiver[0], self.index.sender[0]
        return chi.index_select(0, i) - chi.index_select(0, j)

    def sum(self, values: Float[Tensor, "ways pairs n"]) -> Float[Tensor, "atoms n"]:
        """Sums over the neighbours of every atom."""
        total = values.new_zeros(self.index.n_atoms, values.shape[2])
        return total.index_add(0, self.index.receiver.flatten(), values.flatten(0, 1))


@dataclass(frozen=True, eq=False)
class State:
    """Features and SPHCs after a layer, and the attention by which it came to them (None before the first layer).

    attention: φ α of the feature heads, of the pairs in `near`; geometric: [φ + φ~] α of the degrees, of the pairs in
    `among`; non_local: φ~ of these, where the model has it.
    """

    f: Float[Tensor, "atoms F"]
    chi: Float[Tensor, "atoms components"]
    near: Neighbourhood
    among: Neighbourhood
    attention: Float[Tensor, "near_ways near heads"] | None = None
    geometric: Float[Tensor, "ways among degrees"] | None = None
    non_local: Float[Tensor, "ways among"] | None = None


class So3krates(nn.Module):
    """The So3krates representation: scalars f; degrees 1 and 2 of the SPHCs of all layers as vectors and tensors."""

    hint = " (vectors need degree 1, tensors degree 2, and both need parity = true)"
    citation = "J. T. Frank, O. T. Unke and K.-R. Müller, NeurIPS 2022, arXiv:2205.14276"

    def __init__(self, config: So3kratesConfig) -> None:
        super().__init__()
        self.config = config
        self.degrees = Degrees(config.degrees, config.norm_eps)
        # without the parity rule, components of degree 1 and 2 are no vectors and tensors in mirror images
        rotates = config.parity or SelfMix(self.degrees, parity=True).triples == SelfMix(self.degrees, False).triples
        channels = config.blocks + 1 if rotates else None
        self.widths = FeatureWidths(
            scalar=config.features,
            vector=channels if 1 in config.degrees else None,
            tensor=channels if 2 in config.degrees else None,
        )
        self.max_z = config.elements - 1
        self.molecular = config.non_local
        self.cones = config.norm_eps == 0
        self.cut = NonLocalCut(self.degrees.total_norm, config.chi_cut, config.softmax_include_self)
        self.embedding = nn.Embedding(config.elements, config.features)
        nn.init.normal_(self.embedding.weight, std=config.features**-0.5)
        self.radial = RADIAL_BASES[config.radial](config.n_radial, config.cutoff)
        self.layers = nn.ModuleList(Layer(config, self.degrees) for _ in range(config.blocks))

    def forward(self, graph: AtomGraph) -> NodeFeatures:
        """Features after the last layer; vectors and tensors of the start and of every layer, as channels."""
        found = [(state.f, state.chi) for state in self.states(graph)]  # not the states, which hold all their pairs
        chi = torch.stack([chi for _, chi in found], dim=1)  # (N, layers + 1, m)
        vectors, tensors = None, None
        if self.widths.vector:
            vectors = vectors_of(chi[..., self.degrees.part(1)]).transpose(1, 2)
        if self.widths.tensor:
            tensors = tensors_of(chi[..., self.degrees.part(2)]).movedim(1, 3)
        return NodeFeatures(scalar=found[-1][0], vector=vectors, tensor=tensors)

    def states(self, graph: AtomGraph) -> Iterator[State]:
        """The state at the start and after every layer."""
        near = self.neighbourhood(graph, *pairs_of(graph))
        everyone = self.neighbourhood_of(graph, all_pairs(graph)) if self.sees_all_pairs(graph) else None
        state = State(self.embedding(graph.z), self.start(near), near, near)
        yield state
        for layer in self.layers:
            among, non_local = self.surroundings(state.chi, near, everyone, graph)
            state = layer(state, near, among, non_local)
            yield state

    def sees_all_pairs(self, graph: AtomGraph) -> bool:
        """Whether the non-local attention weighs all pairs; in large structures it looks for those that matter."""
        if not self.config.non_local:
            return False
        if graph.cell.any():
            raise InputError(
                "a non-local So3krates model sees all atoms of a structure, and a periodic one has no end: take a "
                "local model (non_local: false) or a molecule without a cell"
            )
        return int(torch.bincount(graph.system, minlength=1).max()) <= SEARCH_FROM

    def surroundings(
        self,
        chi: Float[Tensor, "atoms components"],
        near: Neighbourhood,
        everyone: Neighbourhood | None,
        graph: AtomGraph,
    ) -> tuple[Neighbourhood, Float[Tensor, "ways pairs"] | None]:
        """Whom the geometric attention sees, and φ~ of them, if any."""
        if not self.config.non_local:
            return near, None
        if everyone is not None:
            return everyone, self.cut.weights(everyone.differences(chi), everyone.index, graph)
        pairs, log_sums = self.cut.search(chi, graph, self.config.cutoff, self.bytes_per_pair(graph))
        found = self.neighbourhood_of(graph, pairs)
        return found, self.cut.weights_of_some(found.differences(chi), found.index, graph, log_sums)

    def neighbourhood_of(self, graph: AtomGraph, pairs: Pairs) -> Neighbourhood:
        """A neighbourhood of pairs, both ways of them; TooManyPairs where they do not fit into the memory."""
        refuse_too_many(len(pairs[0]), self.bytes_per_pair(graph), graph)
        receiver = torch.stack(pairs)
        return self.neighbourhood(graph, graph.pos[pairs[1]] - graph.pos[pairs[0]], receiver, receiver.flip(0))

    def bytes_per_pair(self, graph: AtomGraph) -> int:
        """What a pair of the non-local attention takes: for gradients in every layer, in training for second ones."""
        layers = self.config.blocks if torch.is_grad_enabled() else 1
        hidden = 2 * (self.config.radial_hidden + self.config.sphc_hidden) + self.config.features
        numbers = hidden + 4 * sum(2 * degree + 1 for degree in self.config.degrees)
        return layers * KEPT * numbers * graph.pos.element_size() * (SECOND if self.training else 1)

    def neighbourhood(self, graph: AtomGraph, vectors: Tensor, receiver: Tensor, sender: Tensor) -> Neighbourhood:
        """Harmonics, cutoff and radial basis of pairs."""
        d, u = distances_and_directions(vectors)
        cutoff = cosine_cutoff(d, self.config.cutoff)
        y = spherical_harmonics(u, self.config.degrees)
        return Neighbourhood(
            PairIndex.of(receiver, sender, graph.n_atoms, self.config.features),
            cutoff,
            self.radial(d) * cutoff[:, None],
            torch.stack([y, y * self.degrees.parity][: len(receiver)]),
        )

    def start(self, near: Neighbourhood) -> Float[Tensor, "atoms components"]:
        """χ_i = Σ_j φ Y / Σ_j φ (eq 11), zero for an atom without neighbours."""
        weight = near.cutoff[None, :, None].expand(near.index.ways, -1, 1)
        total = near.sum(weight)
        if self.config.sphc_norm == "smooth":
            total = total + SMOOTH
        return near.sum(weight * near.harmonics) / torch.where(total > 0, total, 1.0)


class Attention(nn.Module):
    """α_ij = ⟨q_i, w_ij ⊙ k_j⟩ / sqrt(F_h) in each head (eq 15); `scale` is 1 / sqrt(F_h)."""

    def __init__(self, config: So3kratesConfig, heads: int) -> None:
        super().__init__()
        f, affine = config.features, config.qkv == "per-head"
        n_degrees = len(config.degrees)
        self.heads = heads
        self.filter = PairFilter(config.n_radial, config.radial_hidden, n_degrees, config.sphc_hidden, f)
        self.query, self.key = HeadMap(f, heads, affine), HeadMap(f, heads, affine)
        self.scale = 1 / sqrt(f / (heads if affine else 1))


class Layer(nn.Module):
    """Attention on features and on SPHCs, both from the state before, then the interaction of the two."""

    def __init__(self, config: So3kratesConfig, degrees: Degrees) -> None:
        super().__init__()
        self.degrees = degrees
        self.features = Attention(config, config.heads)
        self.value = HeadMap(config.features, config.heads, config.qkv == "per-head")
        self.geometry = Attention(config, len(config.degrees))
        self.interaction = (Interaction if config.interaction == "code" else PaperInteraction)(config, degrees)
        self.norms = nn.ModuleList(
            nn.LayerNorm(config.features, eps=1e-6) for _ in range(2 * config.feature_layer_norm)
        )
        self.lengths = nn.ParameterList(
            nn.Parameter(torch.ones(len(config.degrees))) for _ in range(2 * config.sphc_layer_norm)
        )

    def forward(
        self, state: State, near: Neighbourhood, among: Neighbourhood, non_local: Float[Tensor, "ways pairs"] | None
    ) -> State:
        """The next state: features by the pairs in `near`, SPHCs by those in `among`, with φ~ of these if any."""
        f, chi = state.f, state.chi
        (q, k, v), (q_chi, k_chi) = self.projections(f)
        w, w_chi = self.filters(chi, near, among)
        attention = scores(near.index, self.features.heads, q, w, k)
        attention = attention * (near.cutoff * self.features.scale)[:, None]
        weight = among.cutoff[None] if non_local is None else among.cutoff + non_local
        geometric = scores(among.index, self.geometry.heads, q_chi, w_chi, k_chi)
        geometric = geometric * (weight * self.geometry.scale)[:, :, None]
        f = self.normal(f + spread(near.index, attention, None, v), 0)
        chi = chi + among.sum(self.degrees.expand(geometric) * among.harmonics)
        f, chi = self.interaction(f, self.of_length(chi, 0))
        return State(self.normal(f, 1), self.of_length(chi, 1), near, among, attention, geometric, non_local)

    def projections(self, f: Float[Tensor, "atoms F"]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Queries, keys and values of the features; queries and keys of the SPHCs."""
        one, other = self.features, self.geometry
        return mapped(f, [one.query, one.key, self.value]), mapped(f, [other.query, other.key])

    def filters(self, chi: Tensor, near: Neighbourhood, among: Neighbourhood) -> tuple[Tensor, Tensor]:
        """w of both attentions, at once where they are between the same atoms."""
        weights = FilterWeights.of([self.features.filter, self.geometry.filter])
        d = self.degrees.norms(near.differences(chi))
        if among is near:
            w, w_chi = weights(near.basis, d).unbind()
            return w, w_chi
        d_chi = self.degrees.norms(among.differences(chi))
        return weights.part(0, 1)(near.basis, d)[0], weights.part(1, 2)(among.basis, d_chi)[0]

    def normal(self, f: Tensor, place: int) -> Tensor:
        return self.norms[place](f) if len(self.norms) else f

    def of_length(self, chi: Tensor, place: int) -> Tensor:
        return self.degrees.expand(self.lengths[place]) * self.degrees.directions(chi) if len(self.lengths) else chi


class Interaction(nn.Module):
    """f and χ exchange norms, in the form of the reference code: products of affine maps, no activation."""

    def __init__(self, config: So3kratesConfig, degrees: Degrees) -> None:
        super().__init__()
        n, f = len(config.degrees), config.features
        self.degrees, self.sizes = degrees, (f, f, n, n)
        self.mix = SelfMix(degrees, config.parity)
        self.joint = lecun_dense(f + n, 2 * f + 2 * n)
        self.mixed = lecun_dense(n, f)

    def forward(self, f: Tensor, chi: Tensor) -> tuple[Float[Tensor, "atoms F"], Float[Tensor, "atoms components"]]:
        """f and χ after the exchange (eq 19 and the reference code)."""
        mixed = self.mix(chi)
        s, t = self.degrees.norms(chi), self.degrees.norms(mixed)
        a1, a2, b1, b2 = self.joint(torch.cat([f, s], dim=1)).split(self.sizes, dim=1)
        f = torch.addcmul(f + a1, a2, self.mixed(t)) * (1 / sqrt(3))
        return f, chi + self.degrees.expand(b1) * chi + self.degrees.expand(b2) * mixed


class PaperInteraction(nn.Module):
    """Equations 17 and 18, with one affine map for each of φ_1, φ_2 and φ_3."""

    def __init__(self, config: So3kratesConfig, degrees: Degrees) -> None:
        super().__init__()
        n, f = len(config.degrees), config.features
        self.degrees = degrees
        self.mix = SelfMix(degrees, config.parity)
        self.phi_1, self.phi_2, self.phi_3 = lecun_dense(f + 2 * n, f), lecun_dense(f + 2 * n, n), lecun_dense(n, n)

    def forward(self, f: Tensor, chi: Tensor) -> tuple[Float[Tensor, "atoms F"], Float[Tensor, "atoms components"]]:
        """f and χ after the exchange (eqs 17 and 18)."""
        mixed = self.mix(chi)
        t = self.degrees.norms(mixed)
        x = torch.cat([f, self.degrees.norms(chi), t], dim=1)
        step = self.degrees.expand(self.phi_2(x)) * chi + self.degrees.expand(self.phi_3(t)) * mixed
        return f + self.phi_1(x), chi + step
