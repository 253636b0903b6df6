import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equispec.errors import InputError
from equispec.spectra import (
    EDGES,
    PAPER_SIGMA,
    PUBLISHED_C_K_GRID,
    Broadening,
    EnergyGrid,
    broaden_spectrum,
    broaden_sticks,
    gaussian_matrix,
    smooth,
)

WIDE = EnergyGrid(200.0, 400.0, 4001)


def gaussian(x: np.ndarray, centre: float, fwhm: float) -> np.ndarray:
    sigma = fwhm / 2.3548200450309493
    return np.exp(-((x - centre) ** 2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))


def test_grids_hold_both_ends() -> None:
    grid = EDGES["C-K"].grid
    assert (grid.energies[0], grid.energies[-1], len(grid.energies)) == (280.0, 310.0, 301)
    assert grid.step == pytest.approx(0.1)
    assert PUBLISHED_C_K_GRID.step == pytest.approx(22 / 255)
    with pytest.raises(ValueError, match="read-only"):
        grid.energies[0] = 0.0


@pytest.mark.parametrize("arguments", [(280.0, 280.0, 3), (280.0, float("inf"), 3), (280.0, 290.0, 1)])
def test_bad_grids_are_refused(arguments: tuple[float, float, int]) -> None:
    with pytest.raises(InputError, match="energy grid"):
        EnergyGrid(*arguments)


@pytest.mark.parametrize("arguments", [(0.0,), (0.5, -1.0), (0.5, 4.5, float("nan"))])
def test_bad_widths_are_refused(arguments: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="must be positive"):
        Broadening(*arguments)


def test_width_has_a_ramp_above_the_ionisation_potential() -> None:
    width = Broadening().width(np.array([280.0, 297.0, 302.0, 307.0, 340.0]), 297.0)
    np.testing.assert_allclose(width, [0.5, 0.5, 2.5, 4.5, 4.5])
    np.testing.assert_allclose(Broadening.constant(1.2).width(np.array([280.0, 320.0]), 297.0), 1.2)


def test_sticks_equal_the_sum_written_out(rng: np.random.Generator) -> None:
    energy, dipole = np.array([292.0, 299.5, 315.0]), rng.normal(size=(3, 3))
    result = broaden_sticks(energy, dipole, EDGES["C-K"].grid, Broadening(), 297.0, -6.6)
    expected = np.zeros((301, 3, 3))
    for e, d, fwhm in zip(energy, dipole, (0.5, 1.5, 4.5), strict=True):
        expected += gaussian(EDGES["C-K"].grid.energies, e - 6.6, fwhm)[:, None, None] * np.outer(d, d)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-15)


@given(shift=st.floats(-10, 10), seed=st.integers(0, 2**31))
def test_sticks_keep_area_symmetry_and_sign(shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    energy, dipole = rng.uniform(285, 320, 20), rng.normal(size=(20, 3))
    tensor = broaden_sticks(energy, dipole, WIDE, Broadening(), 297.0, shift)
    np.testing.assert_allclose(tensor.sum(axis=0) * WIDE.step, dipole.T @ dipole, atol=1e-9)
    np.testing.assert_array_equal(tensor, np.swapaxes(tensor, -1, -2))
    assert np.linalg.eigvalsh(tensor).min() > -1e-13
    flipped = broaden_sticks(energy, -dipole, WIDE, Broadening(), 297.0, shift)
    np.testing.assert_array_equal(tensor, flipped)


def test_no_sticks_absorb_nothing() -> None:
    tensor = broaden_sticks(np.zeros(0), np.zeros((0, 3)), WIDE, Broadening(), 297.0, 0.0)
    assert tensor.shape == (4001, 3, 3)
    assert not tensor.any()


def test_gaussian_matrix_is_a_plain_convolution() -> None:
    energies = EDGES["C-K"].grid.energies
    matrix = gaussian_matrix(energies, PAPER_SIGMA)
    offset = energies[:, None] - energies
    np.testing.assert_allclose(matrix, 0.1 * gaussian(offset, 0.0, PAPER_SIGMA * 2.3548200450309493), atol=1e-14)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert matrix[150].sum() == pytest.approx(1.0, abs=1e-14)
    assert matrix[0].sum() == pytest.approx(0.5, abs=0.05)  # zeros outside
    np.testing.assert_allclose(gaussian_matrix(energies, 1e-3), np.eye(301), atol=1e-12)  # narrower than the grid


def test_gaussian_matrix_wider_than_the_grid() -> None:
    energies = np.linspace(0.0, 1.0, 11)
    matrix = gaussian_matrix(energies, 5.0)
    np.testing.assert_allclose(matrix[3, 7] / matrix[3, 3], np.exp(-0.5 * (0.4 / 5.0) ** 2))


@pytest.mark.parametrize("energies", [[0.0, 1.0, 3.0], [1.0, 0.5, 0.0], [1.0]])
def test_gaussian_matrix_refuses_uneven_energies(energies: list[float]) -> None:
    with pytest.raises(InputError, match="energ"):
        gaussian_matrix(np.array(energies), 0.3)


def test_smoothing_gives_the_width_of_the_paper() -> None:
    grid = EDGES["C-K"].grid
    narrow, wide = gaussian(grid.energies, 290.0, 0.5), gaussian(grid.energies, 290.0, 0.5 * 2.3548200450309493)
    np.testing.assert_allclose(smooth(narrow, grid), wide, atol=2e-3 * wide.max())
    values = np.stack([narrow, wide])
    np.testing.assert_allclose(smooth(values, grid.step, 0.4), values @ gaussian_matrix(grid.energies, 0.4).T)


def test_smoothing_turns_sticks_into_the_spectrum_of_wider_sticks(rng: np.random.Generator) -> None:
    energy, dipole = rng.uniform(290, 310, 9), rng.normal(size=(9, 3))
    narrow = broaden_sticks(energy, dipole, WIDE, Broadening.constant(0.6), 297.0, 0.0)
    wide = broaden_sticks(energy, dipole, WIDE, Broadening.constant(1.0), 297.0, 0.0)
    extra = 0.8 / 2.3548200450309493  # 0.6² + 0.8² = 1²
    np.testing.assert_allclose(broaden_spectrum(narrow[:, 0, 0], WIDE, extra), wide[:, 0, 0], atol=1e-12)


@given(sigma=st.floats(0.01, 40.0), seed=st.integers(0, 2**31))
def test_broadening_keeps_area_constants_and_sign(sigma: float, seed: int) -> None:
    values = np.random.default_rng(seed).uniform(size=(2, 61))
    broad = broaden_spectrum(values, 0.25, sigma)
    np.testing.assert_allclose(broad.sum(axis=-1), values.sum(axis=-1), rtol=1e-12)
    np.testing.assert_allclose(broaden_spectrum(np.ones(61), 0.25, sigma), 1.0, rtol=1e-12)
    assert broad.min() >= 0.0
