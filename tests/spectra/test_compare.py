import numpy as np
import pytest

from equispec.spectra import (
    EDGES,
    QUADRATIC_DIRECTIONS,
    anisotropic_part,
    directional,
    directional_error,
    isotropic_part,
    mse,
    paper_broad_mse,
    percentile_indices,
    quadraticity_residual,
    smooth_tensor,
    summarise,
    tensor_error,
    tensor_from_directions,
)

from .conftest import random_rotations, random_tensors

GRID = EDGES["C-K"].grid


def test_mse_of_shifted_peaks_native_and_paper_broad() -> None:
    """The same shift hurts the sharp spectrum far more: the reason for the second metric."""
    x = GRID.energies
    peak = lambda centre: np.exp(-0.5 * ((x - centre) / 0.2123) ** 2)  # noqa: E731
    native = mse(peak(290.0), peak(290.1))
    broad = paper_broad_mse(peak(290.0), peak(290.1), GRID)
    # ∫(g - g')² = 2 A²/(2σ√π) (1 - exp(-d²/4σ²)), with the area A = σ√(2π) of the unit peak
    for sigma, value in ((0.2123, native), (float(np.hypot(0.2123, 0.453)), broad)):
        area = 0.2123 * np.sqrt(2 * np.pi)
        exact = area**2 / (sigma * np.sqrt(np.pi)) * (1 - np.exp(-(0.1**2) / (4 * sigma**2)))
        assert value == pytest.approx(exact / (GRID.step * GRID.n), rel=1e-6)
    assert native > 10 * broad


def test_parts_of_a_tensor(rng: np.random.Generator) -> None:
    tensor = random_tensors(rng, 4, 5)
    rest = anisotropic_part(tensor)
    np.testing.assert_allclose(np.trace(rest, axis1=-2, axis2=-1), 0.0, atol=1e-14)
    np.testing.assert_allclose(rest + isotropic_part(tensor)[..., None, None] * np.eye(3), tensor)


def test_tensor_error_is_the_average_over_directions(rng: np.random.Generator) -> None:
    ours, theirs = random_tensors(rng, 3, 6), random_tensors(rng, 3, 6)
    n = rng.normal(size=(200_000, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    sampled = mse(directional(ours, n), directional(theirs, n)).mean(axis=-1)
    error = tensor_error(ours, theirs)
    np.testing.assert_allclose(error.total, sampled, rtol=0.02)
    difference = ours - theirs
    square = 2 * (difference**2).sum(axis=(-2, -1)) + np.trace(difference, axis1=-2, axis2=-1) ** 2
    np.testing.assert_allclose(error.total, square.mean(axis=-1) / 15, rtol=1e-12)
    np.testing.assert_allclose(error.isotropic, mse(isotropic_part(ours), isotropic_part(theirs)), rtol=1e-12)


def test_directional_error_has_the_same_expectation(rng: np.random.Generator) -> None:
    difference, frames = random_tensors(rng, 2) - random_tensors(rng, 2), random_rotations(rng, 40_000)
    turned = np.einsum("nac,ecd,nbd->neab", frames, difference, frames)
    error = directional_error(directional(turned), np.zeros((40_000, 3, 2)))
    exact = tensor_error(difference[None], np.zeros((1, 2, 3, 3)))
    np.testing.assert_allclose(error.total.mean(), exact.total[0], rtol=0.03)
    np.testing.assert_allclose(error.isotropic, exact.isotropic[0], rtol=1e-10)
    np.testing.assert_allclose(error.total, mse(directional(turned), np.zeros((40_000, 3, 2))).mean(axis=-1), rtol=1e-9)


def test_smoothing_commutes_with_the_direction(rng: np.random.Generator) -> None:
    ours, theirs = random_tensors(rng, 2, GRID.n), random_tensors(rng, 2, GRID.n)
    broad = mse(directional(smooth_tensor(ours, GRID)), directional(smooth_tensor(theirs, GRID)))
    np.testing.assert_allclose(broad, paper_broad_mse(directional(ours), directional(theirs), GRID), rtol=1e-9)


def test_summary() -> None:
    errors = np.linspace(0.0, 0.2, 21).reshape(3, 7)
    summary = summarise(errors)
    assert summary.n == 21
    assert summary.mean == pytest.approx(0.1)
    assert summary.percentiles == pytest.approx({0: 0.0, 50: 0.1, 95: 0.19, 100: 0.2})
    assert summary.share_below == pytest.approx(10 / 21)
    assert percentile_indices(errors.ravel()[::-1]) == [20, 10, 1, 0]
    empty = summarise(np.zeros(0))
    assert (empty.n, empty.share_below) == (0, 0.0)
    assert np.isnan(empty.mean)


def test_quadraticity(rng: np.random.Generator) -> None:
    tensor = random_tensors(rng, 2, 7)
    n = rng.normal(size=(30, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)

    def along(directions: np.ndarray) -> np.ndarray:
        return np.moveaxis(directional(tensor, directions), -2, 0)

    rebuilt = tensor_from_directions(along(QUADRATIC_DIRECTIONS))
    np.testing.assert_allclose(rebuilt, tensor, atol=1e-13)
    assert quadraticity_residual(along(n), n, rebuilt) < 1e-28
    quartic = along(n) ** 2
    assert quadraticity_residual(quartic, n, tensor_from_directions(along(QUADRATIC_DIRECTIONS) ** 2)) > 1e-3
