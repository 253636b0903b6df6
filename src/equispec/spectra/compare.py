"""How far two sets of spectra are apart.

The measure of Shibata & Mizoguchi, Digital Discovery 3, 649 (2024), is the mean squared error over the energy grid of
one site and one direction. Errors of tensors follow from one identity: averaged over all directions n,
E[(nᵀ Δ n)²] = (2 ‖Δ‖² + (Tr Δ)²)/15, which is the error of the isotropic part plus that of the anisotropic part.
All results are in the squared unit of the intensities.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from equispec.spectra.broaden import PAPER_SIGMA, smooth
from equispec.spectra.grid import EnergyGrid

# x, y, z and the three bisectors: six directions from which a tensor follows exactly
QUADRATIC_DIRECTIONS: Float[np.ndarray, "6 3"] = np.array(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.float64
) / np.sqrt([[1.0], [1.0], [1.0], [2.0], [2.0], [2.0]])


def mse(
    predicted: Float[np.ndarray, "*shape energy"], reference: Float[np.ndarray, "*shape energy"]
) -> Float[np.ndarray, "*shape"]:
    """Mean squared error over the energies, for every spectrum."""
    return np.asarray(np.mean((predicted - reference) ** 2, axis=-1))


def paper_broad_mse(
    predicted: Float[np.ndarray, "*shape energy"],
    reference: Float[np.ndarray, "*shape energy"],
    grid: EnergyGrid | float,
    sigma: float = PAPER_SIGMA,
) -> Float[np.ndarray, "*shape"]:
    """Mean squared error after both spectra were convolved with a Gaussian of standard deviation sigma (eV).

    With the default, spectra of our pre-edge width get the width of the paper's data, so that its errors compare.
    """
    return mse(smooth(predicted, grid, sigma), smooth(reference, grid, sigma))


def smooth_tensor(
    tensor: Float[np.ndarray, "*shape energy 3 3"], grid: EnergyGrid | float, sigma: float = PAPER_SIGMA
) -> Float[np.ndarray, "*shape energy 3 3"]:
    """Tensors (or differences of tensors) convolved along the energy as in `paper_broad_mse`."""
    return np.moveaxis(smooth(np.moveaxis(tensor, -3, -1), grid, sigma), -1, -3)


def directional(
    tensor: Float[np.ndarray, "*shape energy 3 3"], directions: Float[np.ndarray, "directions 3"] | None = None
) -> Float[np.ndarray, "*shape directions energy"]:
    """Spectra nᵀ T n of tensors for unit vectors [directions,3]; x, y and z by default."""
    n = np.eye(3) if directions is None else directions
    return np.einsum("...eab,na,nb->...ne", tensor, n, n, optimize=True)


def isotropic_part(tensor: Float[np.ndarray, "*shape 3 3"]) -> Float[np.ndarray, "*shape"]:
    """The average over all directions, Tr T / 3."""
    return np.asarray(np.einsum("...aa->...", tensor) / 3.0)


def anisotropic_part(tensor: Float[np.ndarray, "*shape 3 3"]) -> Float[np.ndarray, "*shape 3 3"]:
    """The traceless rest, T - (Tr T / 3) 1."""
    return tensor - isotropic_part(tensor)[..., None, None] * np.eye(3)


@dataclass(frozen=True)
class SplitError:
    """A squared error and its two parts: isotropic + anisotropic = total, for every site."""

    total: Float[np.ndarray, "*shape"]
    isotropic: Float[np.ndarray, "*shape"]
    anisotropic: Float[np.ndarray, "*shape"]


def tensor_error(
    predicted: Float[np.ndarray, "*shape energy 3 3"], reference: Float[np.ndarray, "*shape energy 3 3"]
) -> SplitError:
    """Squared error averaged over all directions and the energies: mean of (2 ‖ΔT‖² + (Tr ΔT)²)/15.

    It does not depend on the frame. For spectra along x, y, z of molecules in random frames the mean squared error has
    the same expectation. Convolve both with `smooth_tensor` first for the paper-broad form.
    """
    difference = predicted - reference
    isotropic = np.mean(isotropic_part(difference) ** 2, axis=-1)
    anisotropic = np.mean(np.sum(anisotropic_part(difference) ** 2, axis=(-2, -1)), axis=-1) * (2.0 / 15.0)
    return _split_error(isotropic, anisotropic)


def directional_error(
    predicted: Float[np.ndarray, "*shape 3 energy"], reference: Float[np.ndarray, "*shape 3 energy"]
) -> SplitError:
    """Squared error averaged over three perpendicular directions and the energies, from spectra along them.

    The isotropic part is the error of the mean of the three spectra, the anisotropic part that of their deviations
    from it. Use `tensor_error` where tensors are known.
    """
    difference = predicted - reference
    mean = difference.mean(axis=-2, keepdims=True)
    isotropic = np.mean(mean**2, axis=(-2, -1))
    anisotropic = np.mean((difference - mean) ** 2, axis=(-2, -1))
    return _split_error(isotropic, anisotropic)


def _split_error(isotropic: np.ndarray, anisotropic: np.ndarray) -> SplitError:
    return SplitError(np.asarray(isotropic + anisotropic), np.asarray(isotropic), np.asarray(anisotropic))


@dataclass(frozen=True)
class ErrorSummary:
    """A distribution of errors in a few numbers: percentile -> value, the mean, and the share below a threshold."""

    n: int
    mean: float
    percentiles: dict[int, float]
    threshold: float
    share_below: float


def summarise(
    errors: Float[np.ndarray, "*shape"], percentiles: Sequence[int] = (0, 50, 95, 100), threshold: float = 0.1
) -> ErrorSummary:
    """Summary of errors of any shape; the defaults are the paper's figures. An empty set gives NaN and share 0."""
    flat = errors.ravel()
    if not len(flat):
        return ErrorSummary(0, math.nan, dict.fromkeys(percentiles, math.nan), threshold, 0.0)
    values = np.percentile(flat, percentiles)
    table = {p: float(value) for p, value in zip(percentiles, values, strict=True)}
    return ErrorSummary(len(flat), float(flat.mean()), table, threshold, float(np.mean(flat < threshold)))


def percentile_indices(
    errors: Float[np.ndarray, "spectra"], percentiles: Sequence[int] = (0, 50, 95, 100)
) -> list[int]:
    """Which spectra stand at these percentiles of the sorted errors: what the paper's Fig. 1 draws."""
    order = np.argsort(errors, kind="stable")
    return [int(order[round(p / 100 * (len(order) - 1))]) for p in percentiles]


def tensor_from_directions(
    intensity: Float[np.ndarray, "6 *shape"],
) -> Float[np.ndarray, "*shape 3 3"]:
    """The tensor T that gives these intensities along QUADRATIC_DIRECTIONS: T_aa = S(e_a), and for a ≠ b
    T_ab = S((e_a + e_b)/√2) - ½ (S(e_a) + S(e_b))."""
    xx, yy, zz, s_yz, s_xz, s_xy = intensity
    yz, xz, xy = s_yz - 0.5 * (yy + zz), s_xz - 0.5 * (xx + zz), s_xy - 0.5 * (xx + yy)
    return np.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], axis=-1).reshape(*xx.shape, 3, 3)


def quadraticity_residual(
    intensity: Float[np.ndarray, "directions *shape energy"],
    directions: Float[np.ndarray, "directions 3"],
    tensor: Float[np.ndarray, "*shape energy 3 3"],
) -> float:
    """How far directional predictions are from any tensor: mean of (S(n) - nᵀ T n)² over mean of S(n)².

    intensity: spectra along random unit `directions`; tensor: from `tensor_from_directions` of the same model.
    0 is exact; a network that is not built quadratic shows a few per cent.
    """
    quadratic = np.moveaxis(directional(tensor, directions), -2, 0)
    return float(np.mean((intensity - quadratic) ** 2) / np.mean(intensity**2))
