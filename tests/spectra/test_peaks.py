"""Peaks and polarisation axes of spectra whose answers are known."""

import numpy as np
import pytest

from equispec.spectra import EnergyGrid, SiteSpectra, find_peaks, peak_rows
from equispec.spectra.peaks import anisotropy

from .conftest import random_rotations

GRID = EnergyGrid(280.0, 310.0, 301).energies


def gaussian(centre: float, height: float, sigma: float = 0.4) -> np.ndarray:
    return height * np.exp(-0.5 * ((GRID - centre) / sigma) ** 2)


def test_peaks_are_found_between_the_points_of_the_grid() -> None:
    peaks = find_peaks(GRID, gaussian(285.234, 2.0) + gaussian(288.57, 5.0) + gaussian(295.0, 1.0, 2.0))
    assert [peak.energy for peak in peaks] == pytest.approx([285.234, 288.57, 295.0], abs=2e-3)
    assert [peak.height for peak in peaks] == pytest.approx([2.0, 5.0, 1.0], rel=2e-3)


def test_ripples_and_steps_are_not_peaks() -> None:
    step = 1.0 / (1.0 + np.exp(-(GRID - 292.0)))
    (peak,) = find_peaks(GRID, gaussian(285.0, 1.0) + step + 0.01 * np.sin(9.0 * GRID))
    assert peak.energy == pytest.approx(285.0, abs=0.05)


def test_a_rising_curve_has_its_highest_point() -> None:
    (peak,) = find_peaks(GRID, GRID - GRID[0])
    assert (peak.energy, peak.height) == (310.0, pytest.approx(30.0))


def test_a_plateau_is_one_peak() -> None:
    assert len(find_peaks(GRID, np.clip(gaussian(290.0, 2.0), 0.0, 1.0))) == 1


def test_a_dark_spectrum_does_not_fail() -> None:
    (peak,) = find_peaks(GRID, np.zeros_like(GRID))
    assert peak.height == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_the_axis_that_stands_out_turns_with_the_tensor(seed: int) -> None:
    r = random_rotations(np.random.default_rng(seed), 1)[0]
    along = anisotropy(r @ np.diag([0.1, 0.1, 1.0]) @ r.T)
    across = anisotropy(r @ np.diag([1.0, 1.0, 0.1]) @ r.T)
    assert along is not None
    assert across is not None
    for found, share in ((along, 1.0 / 1.2), (across, 0.1 / 2.1)):
        assert abs(np.dot(found.axis, r[:, 2])) == pytest.approx(1.0)
        assert max(found.axis, key=abs) > 0
        assert found.share == pytest.approx(share)


def test_no_axis_where_all_directions_absorb_alike() -> None:
    assert anisotropy(np.eye(3)) is None
    assert anisotropy(np.diag([1.0, 1.1, 1.2])) is None
    assert anisotropy(np.zeros((3, 3))) is None


def test_rows_of_a_molecule(spectra: SiteSpectra) -> None:
    rows = peak_rows(spectra, "z")
    assert [row.label for row in rows] == ["total", "0_C", "1_C", "2_C"]
    assert peak_rows(spectra, "z", per_site=False) == rows[:1]
    total = spectra.along("z")
    assert rows[0].strongest.height >= total.intensity[1:-1].max() * (1 - 1e-12)
