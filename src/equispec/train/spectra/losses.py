"""Losses of predicted spectra, per labelled site, from the residual on the energy grid."""

import torch
from jaxtyping import Float
from torch import Tensor

NEARLY_PERFECT = 0.02


def tensor_error(residual: Float[Tensor, "sites E 3 3"]) -> Float[Tensor, "sites"]:
    """Mean over E of the squared error averaged over all directions: (2 ‖ΔT‖² + (Tr ΔT)²) / 15.

    E_n[(nᵀ Δ n)²] for n uniform on the sphere and symmetric Δ.
    """
    trace = residual.diagonal(dim1=2, dim2=3).sum(-1)
    return ((2 * residual.square().sum((2, 3)) + trace.square()) / 15).mean(1)


def directional_error(residual: Float[Tensor, "sites E"]) -> Float[Tensor, "sites"]:
    """Mean over E of the squared error for one direction (Shibata & Mizoguchi 2024, section 2.3)."""
    return residual.square().mean(1)


def site_error(residual: Float[Tensor, "sites E *cartesian"]) -> Float[Tensor, "sites"]:
    """The error of residuals of either kind: whole tensors, or spectra along single directions."""
    return tensor_error(residual) if residual.ndim == 4 else directional_error(residual)


def multiresolution(
    residual: Float[Tensor, "sites E *cartesian"], smoothing: Float[Tensor, "E E"], weight: float
) -> Float[Tensor, "sites"]:
    """(L + weight · L_smooth) · 2 / (1 + weight), L_smooth being the error of the residual smoothed along E.

    The smooth part rewards a peak that is nearly at the right energy, where L alone sees two separate peaks.
    """
    if weight == 0:
        return site_error(residual)
    smooth = torch.einsum("ef,sf...->se...", smoothing, residual)
    return (site_error(residual) + weight * site_error(smooth)) * (2 / (1 + weight))


def tempered(loss: Float[Tensor, "sites"], power: float) -> Float[Tensor, "sites"]:
    """(L + 0.02)^power: below a power of 1 the few sites that are far off weigh less against the many that are near.

    0.02 is small against the error of most sites and keeps the gradient of a perfect one finite.
    """
    return loss if power == 1 else (loss + NEARLY_PERFECT) ** power
