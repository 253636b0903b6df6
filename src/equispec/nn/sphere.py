"""Functions on the sphere: from spherical harmonic coefficients to values at points, and back.

The grid has rows of equal distance in the polar angle, none at a pole; with the quadrature weights of Driscoll and
Healy (Adv. Appl. Math. 15 (1994) 202) integrals of what has no degree above 2L + 1 are exact on it.
"""

from math import pi, sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from equispec.nn.so3 import spherical_harmonics


def sphere_grid(rows: int, columns: int) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points"]]:
    """Points (unit vectors) and quadrature weights (sum 4π) of a grid with an even number of rows."""
    theta = (np.arange(rows) + 0.5) * pi / rows
    odd = 2 * np.arange(rows // 2) + 1
    weight = 4 / rows * np.sin(theta) * (np.sin(odd * theta[:, None]) / odd).sum(1) * 2 * pi / columns
    phi = np.arange(columns) * 2 * pi / columns
    xy = np.sin(theta)[:, None, None] * np.stack([np.cos(phi), np.sin(phi)], axis=1)
    z = np.broadcast_to(np.cos(theta)[:, None, None], (rows, columns, 1))
    return np.concatenate([xy, z], axis=2).reshape(-1, 3), np.repeat(weight, columns)


def spiral(n: int) -> Float[np.ndarray, "points 3"]:
    """Points that cover the sphere evenly, on a spiral of golden sections about the x axis."""
    k = np.arange(n)
    x = 1 - 2 * (k + 0.5) / n
    phi = 2 * pi * k / ((1 + sqrt(5)) / 2)
    return np.stack([x, np.sqrt(1 - x**2) * np.cos(phi), np.sqrt(1 - x**2) * np.sin(phi)], axis=1)


def crowding(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points"]:
    """The inverse density of points, of mean 1 (SCN, arXiv:2206.14331): 1 / Σ_j exp(-|p_i - p_j|² / 0.15)."""
    squares = ((points[:, None] - points[None]) ** 2).sum(-1)
    weight = 1 / np.exp(-squares / 0.15).sum(1)
    return weight / weight.mean()


def samples(n: int, scaled: bool) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points"]]:
    """Points of an output block and their lengths: 1, or as crowded as they are (SCN)."""
    points = spiral(n)
    return points, crowding(points) if scaled else np.ones(n)


def harmonics_at(
    points: Float[np.ndarray, "points 3"], top: int, lengths: Float[np.ndarray, "points"] | None = None
) -> Float[Tensor, "points components"]:
    """Y_lm at unit vectors for l = 0 ... top, in double precision; degree l times length^l where lengths are given."""
    degrees = range(top + 1)
    values = spherical_harmonics(torch.as_tensor(points), degrees)
    if lengths is None:
        return values
    powers = np.repeat(np.arange(top + 1), 2 * np.arange(top + 1) + 1)
    return values * torch.as_tensor(lengths[:, None] ** powers)


class SphereGrid(nn.Module):
    """Transforms between coefficients of degrees 0 ... top and a grid of `resolution` times 2(L+1) x (2(L+1)+1) points.

    Exact there and back, and for products as far as their degree is below 2L + 2 times the resolution.
    """

    to_grid: Tensor
    from_grid: Tensor
    weights: Tensor

    def __init__(self, top: int, resolution: int = 1) -> None:
        super().__init__()
        rows = resolution * 2 * (top + 1)
        points, weights = sphere_grid(rows, rows + 1)
        values = harmonics_at(points, top)
        dtype = torch.get_default_dtype()
        self.register_buffer("to_grid", values.to(dtype), persistent=False)
        self.register_buffer("from_grid", (values.T * torch.as_tensor(weights)).to(dtype), persistent=False)
        self.register_buffer("weights", torch.as_tensor(weights / weights.sum(), dtype=dtype), persistent=False)
