"""What HDGNN does to the tensors of one atom: normalisation by degree, the network on the sphere, and the readout."""

from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from equispec.models.hdgnn.config import HDGNNConfig
from equispec.nn.sphere import SphereGrid, harmonics_at, samples

EPS = 1e-5
SQUEEZE = 16  # channels that share one of the bottleneck

Atoms = Float[Tensor, "atoms components channels"]


def degree_of_component(top: int) -> list[int]:
    """The degree l of each of the (L+1)² components."""
    return [degree for degree in range(top + 1) for _ in range(2 * degree + 1)]


class DegreeNorm(nn.Module):
    """Every degree over the root mean square of its components and channels, times γ_lc; degree 0 first less its mean.

    Equivariant; zero stays zero for l > 0.
    """

    degree: Tensor

    def __init__(self, top: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(top + 1, channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("degree", torch.tensor(degree_of_component(top)), persistent=False)

    def forward(self, x: Atoms) -> Atoms:
        scalars = x[:, :1] - x[:, :1].mean(2, keepdim=True)
        x = torch.cat([scalars, x[:, 1:]], dim=1)
        square = x.new_zeros(len(x), len(self.weight)).index_add(1, self.degree, (x * x).mean(2))
        count = torch.bincount(self.degree)
        scale = torch.rsqrt(square / count + EPS)[:, self.degree, None] * self.weight[self.degree]
        x = x * scale
        return torch.cat([x[:, :1] + self.bias, x[:, 1:]], dim=1)


class DegreeLinear(nn.Module):
    """A linear map of the channels of each degree, with a bias for degree 0: equivariant."""

    def __init__(self, top: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(top + 1, channels, channels) / sqrt(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.top = top

    def forward(self, x: Atoms) -> Atoms:
        parts = [x[:, k * k : (k + 1) ** 2] @ self.weight[k] for k in range(self.top + 1)]
        return torch.cat([parts[0] + self.bias, *parts[1:]], dim=1)


class SphereUpdate(nn.Module):
    """x <- SH[W₃ MLP(p_x(r̂), p_x(-r̂), p_m(r̂), p_m(-r̂))] on a grid (eq 12 and 13), with squeeze and excitation.

    Maps of the channels commute with the transform: the first is made before it, the last one after the way back.
    """

    sign: Tensor

    def __init__(self, config: HDGNNConfig, grid: SphereGrid) -> None:
        super().__init__()
        c = config.features
        self.grid = [grid]  # shared by all layers
        self.first = nn.Linear(4 * c, 2 * c)
        self.second = nn.Linear(2 * c, 2 * c)
        self.third = nn.Linear(2 * c, c)
        self.excitation = config.excitation
        if config.excitation != "none":
            narrow = max(1, 2 * c // SQUEEZE)
            bend = nn.SiLU() if config.gradients else nn.ReLU()  # forces jump where ReLU bends
            self.gate = nn.Sequential(nn.Linear(2 * c, narrow), bend, nn.Linear(narrow, 2 * c), nn.Sigmoid())
        sign = (-1.0) ** torch.tensor(degree_of_component(config.degree))
        self.register_buffer("sign", sign.to(torch.get_default_dtype())[:, None], persistent=False)

    def forward(self, x: Atoms, m: Atoms) -> Atoms:
        grid = self.grid[0]
        x_here, x_opposite, m_here, m_opposite = self.first.weight.T.chunk(4)
        h = x @ x_here + self.sign * (x @ x_opposite) + m @ m_here + self.sign * (m @ m_opposite)
        h = silu(grid.to_grid @ h + self.first.bias)
        h = silu(self.second(h))
        if self.excitation != "none":
            mean = h.mean(1) if self.excitation == "mean" else torch.einsum("p,npc->nc", grid.weights, h)
            h = h * self.gate(mean)[:, None]
        out = (grid.from_grid @ h) @ self.third.weight.T
        constant = nn.functional.pad(sqrt(4 * pi) * self.third.bias[None], (0, 0, 0, out.shape[1] - 1))
        return out + constant


class SampledOutput(nn.Module):
    """Scalars of an atom: the mean over points of the sphere of a network of the value of x there.

    The last, linear layer of the paper's output block is that of the head.
    """

    values: Tensor

    def __init__(self, config: HDGNNConfig) -> None:
        super().__init__()
        points, lengths = samples(config.samples, config.output_points == "scn")
        values = harmonics_at(points, config.degree, lengths)
        self.register_buffer("values", values.to(torch.get_default_dtype()), persistent=False)
        self.first = nn.Linear(config.features, config.features)
        self.second = nn.Linear(config.features, config.features)

    def forward(self, x: Atoms) -> Float[Tensor, "atoms channels"]:
        at_points = self.values @ (x @ self.first.weight.T) + self.first.bias
        return silu(self.second(silu(at_points))).mean(1)
