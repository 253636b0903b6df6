"""Broadening: from sticks to a spectrum on a grid, and from a spectrum to a smoother one."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from equispec.errors import InputError
from equispec.spectra.grid import EnergyGrid

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))

# sigma (eV) of the extra Gaussian that takes our pre-edge FWHM of 0.5 eV to the constant sigma of 0.5 eV of
# Shibata & Mizoguchi, Digital Discovery 3, 649 (2024): sqrt(0.5² - (0.5 / 2.3548)²)
PAPER_SIGMA = 0.453


@dataclass(frozen=True)
class Broadening:
    """Gaussian broadening whose width grows above the ionisation potential (all in eV).

    The full width at half maximum of a transition at raw energy e is `fwhm` up to the ionisation potential, then grows
    linearly to `fwhm_high` over `ramp`, and stays there. The ramp hides the discreteness of a continuum that was
    calculated with a finite basis.

    Raises InputError for a width or ramp that is not finite and positive.
    """

    fwhm: float = 0.5
    fwhm_high: float = 4.5
    ramp: float = 10.0

    def __post_init__(self) -> None:
        for name in ("fwhm", "fwhm_high", "ramp"):
            _positive(name, getattr(self, name))

    @classmethod
    def constant(cls, fwhm: float) -> "Broadening":
        """The same width (eV, FWHM) at every energy."""
        return cls(fwhm, fwhm)

    def width(
        self, energy: Float[np.ndarray, "*shape"], ionization_potential: float | None
    ) -> Float[np.ndarray, "*shape"]:
        """FWHM (eV) of transitions at these raw energies (eV), for one raw ionisation potential (eV, None: unknown).

        Raises InputError for an unknown ionisation potential unless the width is the same everywhere.
        """
        if self.fwhm_high == self.fwhm:
            return np.full(np.shape(energy), float(self.fwhm))
        if ionization_potential is None:
            raise InputError(
                "the data have no ionisation potential above which the broadening could grow: set fwhm_high to fwhm"
            )
        fraction = np.clip((energy - ionization_potential) / self.ramp, 0.0, 1.0)
        return self.fwhm + (self.fwhm_high - self.fwhm) * fraction


def sigma_from(sigma: float | int | None = None, fwhm: float | int | None = None) -> float:
    """Standard deviation (eV) of a Gaussian given by exactly one of `sigma` and `fwhm` (eV); InputError otherwise."""
    if (sigma is None) == (fwhm is None):
        raise InputError("a broadening is given either by sigma or by fwhm (eV), not by both or none")
    if sigma is not None:
        return _positive("sigma", sigma)
    assert fwhm is not None
    return _positive("fwhm", fwhm) / FWHM_PER_SIGMA


def broaden_sticks(
    energy: Float[np.ndarray, "sticks"],
    dipole: Float[np.ndarray, "sticks 3"],
    grid: EnergyGrid,
    broadening: Broadening,
    ionization_potential: float | None,
    shift: float,
) -> Float[np.ndarray, "energy 3 3"]:
    """Absorption tensor of one site on a grid: T(E) = Σ_f d_f d_fᵀ g(E - E_f - shift), float64.

    energy [n] raw transition energies in eV; dipole [n,3] transition dipoles in e·bohr (the sign is irrelevant);
    ionization_potential in eV on the same raw scale, None (unknown) only for a constant width; shift in eV. The result
    [E,3,3] is in (e·bohr)²/eV, symmetric and positive semidefinite, and S(E; n) = nᵀ T(E) n. g is a Gaussian of unit
    area, `broadening` gives its width.
    """
    energy = np.asarray(energy, dtype=np.float64)
    dipole = np.asarray(dipole, dtype=np.float64)
    sigma = broadening.width(energy, ionization_potential) / FWHM_PER_SIGMA
    gaussian = np.exp(-0.5 * ((grid.energies[:, None] - (energy + shift)) / sigma) ** 2)  # (E, n)
    gaussian /= sigma * math.sqrt(2.0 * math.pi)
    dyads = dipole[:, :, None] * dipole[:, None, :]  # (n, 3, 3)
    return (gaussian @ dyads.reshape(len(energy), 9)).reshape(grid.n, 3, 3)


def gaussian_matrix(energies: Float[np.ndarray, "energy"], sigma: float) -> Float[np.ndarray, "energy energy"]:
    """Plain convolution with a Gaussian as a matrix: smoothed = matrix @ values.

    energies [E] in eV, evenly spaced; sigma in eV. Entries are g(E_i - E_j) · step; g is scaled so that the sum over an
    endless grid is exactly 1, which changes nothing to rounding while sigma > step and keeps the area when it is not.
    Values beyond the ends of the grid count as zero, so rows near the ends sum to less than 1: use it on differences
    of spectra and wherever linearity and symmetry matter; `broaden_spectrum` treats the ends of a spectrum better.

    Raises InputError for uneven energies or a sigma that is not positive.
    """
    n = len(energies)
    lattice, reach = _lattice_gaussian(_step(energies), sigma, n)
    offset = np.abs(np.arange(n)[:, None] - np.arange(n))
    return np.where(offset <= reach, lattice[np.minimum(offset, reach) + reach], 0.0)


def smooth(
    values: Float[np.ndarray, "*shape energy"], grid: EnergyGrid | float, sigma: float = PAPER_SIGMA
) -> Float[np.ndarray, "*shape energy"]:
    """Convolve the last axis with a Gaussian, zeros outside (see `gaussian_matrix`); the paper-broad filter by default.

    `grid` is the grid of the values or just its step in eV; sigma in eV.
    """
    step = grid.step if isinstance(grid, EnergyGrid) else float(grid)
    matrix = gaussian_matrix(step * np.arange(values.shape[-1]), sigma)
    return np.asarray(values, dtype=np.float64) @ matrix  # the matrix is symmetric


def broaden_spectrum(
    values: Float[np.ndarray, "*shape energy"], grid: EnergyGrid | float, sigma: float
) -> Float[np.ndarray, "*shape energy"]:
    """Convolve the last axis of a spectrum with a Gaussian of standard deviation sigma (eV), keeping its area.

    The spectrum is mirrored at the ends of the grid (half a step outside the last points). What leaves the window
    therefore comes back: the sum over the grid is conserved exactly, a constant stays constant, and a continuum does
    not fall off at the end of the window. All weights are positive, so a positive semidefinite tensor stays one.
    `grid` is the grid of the values or just its step in eV.
    """
    step = grid.step if isinstance(grid, EnergyGrid) else float(grid)
    n = values.shape[-1]
    lattice, reach = _lattice_gaussian(_positive("step", step), sigma, n)
    target = np.arange(n)[:, None] + np.arange(-reach, reach + 1)  # (E, 2 reach + 1) on the endless grid
    target = target % (2 * n)
    target = np.where(target < n, target, 2 * n - 1 - target)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.arange(n)[:, None], target), lattice)
    return np.asarray(values, dtype=np.float64) @ matrix


def _lattice_gaussian(step: float, sigma: float, n: int) -> tuple[Float[np.ndarray, "points"], int]:
    """A Gaussian on grid points -reach .. reach, summing to 1; it ends where it drops below rounding (9 sigma).

    Raises InputError for a sigma that is not positive or is more than five times the axis of n points.
    """
    if _positive("sigma", sigma) > (widest := 5 * n * step):
        raise InputError(f"sigma = {sigma:.6g} eV: at most {widest:.6g} eV is possible, five times the energy window")
    reach = math.ceil(9.0 * sigma / step)
    lattice = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / sigma) ** 2)
    return lattice / lattice.sum(), reach


def _step(energies: Float[np.ndarray, "energy"]) -> float:
    if len(energies) < 2:
        raise InputError(f"an energy axis of {len(energies)} points: at least 2 are needed")
    steps = np.diff(energies)
    step = float(energies[-1] - energies[0]) / (len(energies) - 1)
    if not (step > 0 and np.allclose(steps, step, rtol=1e-4, atol=0.0)):
        raise InputError("the energies must be increasing and evenly spaced")
    return step


def _positive(name: str, value: float | int) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} = {value} eV: it must be positive")
    return float(value)
