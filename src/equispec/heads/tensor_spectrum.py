"""Heads that return the whole absorption tensor T(E) of every absorbing site: S(E; n) = nᵀ T(E) n.

Both are positive semidefinite and equivariant, T -> R T Rᵀ under O(3), by construction (no direction enters).

dyad-tensor    T(E) = w_0(E) I + Σ_k w_k(E) G_k, w >= 0, G_k = V_kᵀ V_k / (0.1 + Tr(V_kᵀ V_k)/3), V_k = Σ_c A_kc Y^c
square-tensor  T(E) = M(E)², M(E) = μ(E) I + Σ_k λ_k(E) Q^k, with Q^k symmetric, traceless and even: l = 2 edge tensors
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from equispec.data.statistics import SpectrumStatistics
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph, absorber_sites, edge_vectors
from equispec.heads.spectrum_config import SiteSpectrumConfig
from equispec.nn.cutoff import polynomial_envelope
from equispec.nn.mlp import dense, mlp
from equispec.nn.norms import distances_and_directions
from equispec.nn.radial import GaussianBasis
from equispec.spectra import EDGES


class DyadTensorConfig(SiteSpectrumConfig):
    """Configuration of DyadTensorHead."""

    name: Literal["dyad-tensor"] = "dyad-tensor"
    channels: PositiveInt = Field(16, description="dyads K per site")


class DyadTensorHead(nn.Module):
    """T(E) as a sum of positive dyads with non-negative spectral weights."""

    needs = ("scalar", "dyad")
    outputs = ("absorption_tensor",)
    intensity_scale: Tensor

    def __init__(self, config: DyadTensorConfig, widths: FeatureWidths) -> None:
        super().__init__()
        assert widths.dyad is not None
        self.config = config
        self.element = EDGES[config.edge].z
        self.n_energies = config.energy_grid.n
        self.mix = dense(widths.dyad, config.channels, bias=False)
        n_weights = (config.channels + 1) * self.n_energies
        self.weights = mlp(widths.scalar, widths.scalar, n_weights, dropout=config.dropout)
        self.register_buffer("intensity_scale", torch.ones((), dtype=torch.float64))

    def initialise(self, statistics: SpectrumStatistics) -> None:
        """Start from the mean spectrum of the training set, shared equally among the channels."""
        self.intensity_scale.fill_(statistics.intensity_scale)
        share = torch.as_tensor(statistics.mean_spectrum).clamp(min=1e-3) / (self.config.channels + 1)
        last = self.weights[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(0.3)
            last.bias.copy_(torch.log(torch.expm1(share)).repeat_interleave(self.config.channels + 1))

    def forward(self, features: NodeFeatures, graph: AtomGraph) -> dict[str, Tensor]:
        """{"absorption_tensor": [sites, E, 3, 3]} for the absorbing sites of the batch."""
        assert features.dyad is not None
        sites = absorber_sites(graph, self.element)
        k = self.config.channels
        v = self.mix(features.dyad[sites])  # (S, 3, 3, K)
        gram = torch.einsum("sabk,sack->skbc", v, v)
        gram = gram / (0.1 + torch.einsum("skaa->sk", gram) * (1 / 3))[:, :, None, None]
        identity = torch.eye(3, dtype=v.dtype, device=v.device).expand(len(sites), 1, 3, 3)
        dyads = torch.cat([identity, gram], dim=1).reshape(len(sites), k + 1, 9)
        w = nn.functional.softplus(self.weights(features.scalar[sites])).view(len(sites), self.n_energies, k + 1)
        return {"absorption_tensor": torch.bmm(w, dyads).view(len(sites), self.n_energies, 3, 3)}


class SquareTensorConfig(SiteSpectrumConfig):
    """Configuration of SquareTensorHead."""

    name: Literal["square-tensor"] = "square-tensor"
    channels: PositiveInt = Field(16, description="tensors K per site")
    cutoff: PositiveFloat = Field(6.0, le=100, description="Å, of the edges that build the tensors")
    n_radial: int = Field(32, ge=2, description="radial basis functions of those edges")
    hidden: PositiveInt | None = Field(
        None, le=8192, description="hidden units of the network of the coefficients; None: as many as scalar features"
    )


class SquareTensorHead(nn.Module):
    """T(E) as the square of a symmetric matrix built from l = 2 tensors of the edges, of the vectors and of the atoms.

    The Q^k are soft-normalised mixtures of three kinds of symmetric traceless tensors, K of each:
    Σ_j α_ij sym₀(û ⊗ û), Σ_j β_ij sym₀(v_j ⊗ û) and sym₀(v_i ⊗ v'_i), with sym₀(a ⊗ b) = ½(abᵀ + baᵀ) - ⅓(a·b) I;
    and of the atom's own tensors, where the backbone has some.
    """

    needs = ("scalar", "vector")
    outputs = ("absorption_tensor",)
    intensity_scale: Tensor

    def __init__(self, config: SquareTensorConfig, widths: FeatureWidths) -> None:
        super().__init__()
        assert widths.vector is not None
        self.config = config
        self.element = EDGES[config.edge].z
        self.n_energies = config.energy_grid.n
        k, f = config.channels, widths.scalar
        self.radial = GaussianBasis(config.n_radial, config.cutoff)
        self.edge_filter = dense(config.n_radial, 2 * k)
        self.edge_gate = mlp(2 * f, f, 2 * k)
        self.neighbor_vectors = dense(widths.vector, k, bias=False)
        self.own_vectors = dense(widths.vector, 2 * k, bias=False)
        self.mix = dense(3 * k + (widths.tensor or 0), k, bias=False)
        self.coefficients = mlp(f, config.hidden or f, (k + 1) * self.n_energies, dropout=config.dropout)
        self.register_buffer("intensity_scale", torch.ones((), dtype=torch.float64))

    def initialise(self, statistics: SpectrumStatistics) -> None:
        """Start from the isotropic mean spectrum: μ(E) is its square root, the anisotropic coefficients are small."""
        self.intensity_scale.fill_(statistics.intensity_scale)
        last = self.coefficients[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(0.3)
            bias = last.bias.view(self.n_energies, -1)
            bias.zero_()
            bias[:, 0] = torch.as_tensor(statistics.mean_spectrum).clamp(min=1e-3).sqrt()

    def extend_from(self, known: int) -> None:
        """Give all energies from number `known` on the coefficients of the one before them."""
        last = self.coefficients[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            for parameter in (last.weight, last.bias):
                rows = parameter.view(self.n_energies, self.config.channels + 1, -1)
                rows[known:] = rows[known - 1].clone()

    def forward(self, features: NodeFeatures, graph: AtomGraph) -> dict[str, Tensor]:
        """{"absorption_tensor": [sites, E, 3, 3]} for the absorbing sites of the batch."""
        sites = absorber_sites(graph, self.element)
        n = len(sites)
        tensors = self.site_tensors(features, graph, sites)  # (S, K, 3, 3)
        identity = torch.eye(3, dtype=tensors.dtype, device=tensors.device).expand(n, 1, 3, 3)
        k = self.config.channels
        basis = torch.cat([identity, tensors], dim=1).reshape(n, k + 1, 9)
        c = self.coefficients(features.scalar[sites]).view(n, self.n_energies, k + 1)
        m = torch.bmm(c, basis).view(n, self.n_energies, 3, 3)
        return {"absorption_tensor": m @ m}

    def site_tensors(
        self, features: NodeFeatures, graph: AtomGraph, sites: Int[Tensor, "sites"]
    ) -> Float[Tensor, "sites channels 3 3"]:
        """The soft-normalised symmetric traceless tensors Q^k of each site."""
        assert features.vector is not None
        slot = torch.full((graph.n_atoms,), -1, device=sites.device).scatter(
            0, sites, torch.arange(len(sites), device=sites.device)
        )
        d, u = distances_and_directions(edge_vectors(graph))
        used = (slot[graph.edge_index[0]] >= 0) & (d < self.config.cutoff)
        (i, j), d, u = graph.edge_index[:, used], d[used], u[used]
        gate = self.edge_gate(torch.cat([features.scalar[i], features.scalar[j]], dim=1))
        envelope = polynomial_envelope(d / self.config.cutoff)[:, None]
        alpha, beta = (gate * self.edge_filter(self.radial(d)) * envelope).chunk(2, dim=1)  # (E, K)
        v_j = beta[:, None, :] * self.neighbor_vectors(features.vector[j])  # (E, 3, K)
        edge = torch.cat([alpha[:, None, :] * u[:, :, None], v_j], dim=2)[:, :, None, :] * u[:, None, :, None]
        pooled = edge.new_zeros(len(sites), 3, 3, edge.shape[-1]).index_add(0, slot[i], edge)
        a, b = self.own_vectors(features.vector[sites]).chunk(2, dim=2)
        own = [] if features.tensor is None else [features.tensor[sites]]
        q = torch.cat([pooled, a[:, :, None, :] * b[:, None, :, :], *own], dim=3)  # (S, 3, 3, 3K + tensors)
        q = self.mix(q).permute(0, 3, 1, 2)
        q = 0.5 * (q + q.mT)
        third = torch.eye(3, dtype=q.dtype, device=q.device) * (1 / 3)
        q = q - torch.einsum("skaa->sk", q)[:, :, None, None] * third
        return q / torch.sqrt(0.1 + (q * q).sum((2, 3)) * (1 / 3))[:, :, None, None]
