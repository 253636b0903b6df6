"""The band of a predicted spectrum: how far first principles may lie from it, for any polarisation and sum of sites.

A band is made by a calibrated model (`equispec.spectra.calibration`, docs/adr/011-uncertainty-and-domain.md).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from equispec.spectra.broaden import broaden_spectrum
from equispec.spectra.polarization import Polarization, PolarizationLike
from equispec.spectra.spectrum import freeze

ALIKE = 0.02  # sites whose isotropic spectra differ by less than this share of their maximum are equivalent


@dataclass(frozen=True, eq=False)
class Band:
    """Half-widths of the interval that holds the reference with the probability `level`, at every energy by itself.

    squared [S,E,3,3]: U, positive semidefinite; along n the half-width of a site is (nᵀ U n)^½, in the unit of the
    intensities. isotropic [S,E]: half-width of Tr T / 3. coherence [E], 0 to 1: how far the errors of different sites
    of one molecule add up, from independent to all of one sign.
    """

    level: float
    squared: Float[np.ndarray, "sites energy 3 3"]
    isotropic: Float[np.ndarray, "sites energy"]
    coherence: Float[np.ndarray, "energy"]

    def __post_init__(self) -> None:
        freeze(self, "squared", "isotropic", "coherence")

    def of_sites(self, polarization: PolarizationLike = None) -> Float[np.ndarray, "sites energy"]:
        """Half-widths of every site for a polarisation (see `Polarization.parse`)."""
        chosen = Polarization.parse(polarization)
        return self.isotropic if chosen.direction is None else np.sqrt(np.maximum(chosen.intensity(self.squared), 0.0))

    def of_sum(
        self, polarization: PolarizationLike, alike: Bool[np.ndarray, "sites sites"]
    ) -> Float[np.ndarray, "energy"]:
        """Half-width of the sum over the sites; `alike` says which pairs are equivalent (see `equivalent`)."""
        apart, together = squared_sums(self.of_sites(polarization), alike)
        return np.sqrt((1.0 - self.coherence) * apart + self.coherence * together)

    def select(self, rows: slice | list[int]) -> "Band":
        """The band of some of the sites."""
        return replace(self, squared=self.squared[rows], isotropic=self.isotropic[rows])

    def broaden(self, step: float, sigma: float) -> "Band":
        """After convolving the spectra with a Gaussian (step and sigma in eV): the mean square of the half-widths.

        An upper bound: errors of either sign cancel in part, which is not taken into account.
        """

        def mean(values: np.ndarray) -> np.ndarray:
            return np.moveaxis(broaden_spectrum(np.moveaxis(values, 1, -1), step, sigma), -1, 1)

        coherence = broaden_spectrum(self.coherence, step, sigma)
        return replace(
            self, squared=mean(self.squared), isotropic=np.sqrt(mean(self.isotropic**2)), coherence=coherence
        )


def equivalent(isotropic: Float[np.ndarray, "sites energy"]) -> Bool[np.ndarray, "sites sites"]:
    """Which pairs of sites have the same isotropic spectrum, so that their errors are the same as well."""
    gap = np.stack([np.abs(isotropic - own).max(axis=1) for own in isotropic])
    return gap <= ALIKE * max(float(np.abs(isotropic).max(initial=0.0)), 1e-300)


def squared_sums(
    half_width: Float[np.ndarray, "*shape sites energy"], alike: Bool[np.ndarray, "sites sites"]
) -> tuple[Float[np.ndarray, "*shape energy"], Float[np.ndarray, "*shape energy"]]:
    """Squared half-width of a sum over sites if only equivalent ones err together, and if all do."""
    apart = np.einsum("...se,...se->...e", half_width, alike.astype(float) @ half_width)
    return apart, half_width.sum(axis=-2) ** 2
