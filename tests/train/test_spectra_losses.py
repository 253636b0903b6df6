"""The losses against direct averages over directions, and what the power does."""

import numpy as np
import pytest
import torch

from equispec.spectra import gaussian_matrix
from equispec.train.spectra.losses import NEARLY_PERFECT, multiresolution, site_error, tempered, tensor_error


@pytest.fixture
def residual():
    half = torch.randn(5, 7, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return half + half.mT


def test_the_tensor_error_is_the_mean_over_all_directions(residual):
    """The twelve corners of an icosahedron average polynomials of degree 4 exactly."""
    golden = (1 + 5**0.5) / 2
    corners = [np.roll([0, a, b * golden], k) for k in range(3) for a in (1, -1) for b in (1, -1)]
    n = torch.as_tensor(np.array(corners) / np.sqrt(1 + golden**2))
    along = torch.einsum("na,seab,nb->nse", n, residual, n)
    assert torch.allclose(tensor_error(residual), along.square().mean((0, 2)), atol=1e-12)


def test_smoothing_rewards_a_peak_that_is_nearly_right():
    energies = np.arange(101) * 0.1
    matrix = torch.as_tensor(gaussian_matrix(energies, 0.45))

    def peak(centre: float) -> torch.Tensor:
        return torch.as_tensor(np.exp(-0.5 * ((energies - centre) / 0.2) ** 2))

    residuals = torch.stack([peak(3.0) - peak(3.6), peak(3.0) - peak(7.0)])  # nearly right, far off
    plain, mixed = site_error(residuals), multiresolution(residuals, matrix, 4.0)
    assert mixed[0] / mixed[1] < 0.8 * plain[0] / plain[1]
    assert torch.equal(multiresolution(residuals, matrix, 0.0), plain)


def test_the_power_lowers_the_weight_of_outliers():
    loss = torch.tensor([0.0, 0.02, 2.0], dtype=torch.float64, requires_grad=True)
    weights = torch.autograd.grad(tempered(loss, 0.5).sum(), loss)[0]
    assert torch.isfinite(weights).all()
    assert weights[2] / weights[1] == pytest.approx((2 * NEARLY_PERFECT / (2 + NEARLY_PERFECT)) ** 0.5)
    assert torch.equal(tempered(loss, 1.0), loss)
