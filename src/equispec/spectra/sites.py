"""What a molecule absorbs: one absorption tensor per site, and everything that follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from equispec.errors import InputError
from equispec.spectra.band import Band, equivalent
from equispec.spectra.broaden import Broadening, broaden_spectrum, sigma_from
from equispec.spectra.film import film_intensity, molecular_axis, saupe_of_tilt
from equispec.spectra.grid import Edge
from equispec.spectra.polarization import Polarization, PolarizationLike
from equispec.spectra.spectrum import (
    Spectrum,
    TensorSpectrum,
    broadened_meta,
    energy_step,
    freeze,
    shifted,
    shifted_meta,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def spectra_meta(
    edge: Edge,
    intensity_unit: str,
    *,
    model: str | None = None,
    model_hash: str | None = None,
    broadening: Broadening | None = None,
    shift: float | None = None,
) -> dict[str, Any]:
    """The metadata that every file of spectra carries.

    `shift` (eV) is what was added to raw transition energies (default: the edge's alignment); `broadening` the widths
    the spectra were made or trained with. What is not known is left out.
    """
    from equispec import __version__  # the package may still be importing this module

    meta: dict[str, Any] = {"equispec_version": __version__, "edge": edge.name, "element": edge.element}
    meta |= {"energy_unit": "eV", "intensity_unit": intensity_unit, "position_unit": "Å"}
    meta["shift"] = edge.shift if shift is None else float(shift)
    if broadening is not None:
        widths = {"fwhm": broadening.fwhm, "fwhm_high": broadening.fwhm_high, "ramp": broadening.ramp}
        meta["broadening"] = {"kind": "gaussian", "unit": "eV", **widths}
    return meta | {k: v for k, v in (("model", model), ("model_hash", model_hash)) if v is not None}


@dataclass(frozen=True, eq=False)
class SiteSpectra:
    """Absorption tensors of the sites of one structure: S(E; n) = nᵀ T(E) n for every direction n.

    energy [E] in eV, evenly spaced; tensor [S,E,3,3] symmetric, in the frame of the structure, in the unit
    `meta["intensity_unit"]`; sites [S] indices (from 0) of the absorbing atoms; z [atoms] atomic numbers;
    pos [atoms,3] in Å; meta: see `spectra_meta`; band: how far first principles may lie from the prediction, None if
    that is not known. Operations return new objects.

    Raises InputError for numbers that are not finite and for shapes or site indices that do not fit together.
    """

    energy: Float[np.ndarray, "energy"]
    tensor: Float[np.ndarray, "sites energy 3 3"]
    sites: Int[np.ndarray, "sites"]
    z: Int[np.ndarray, "atoms"]
    pos: Float[np.ndarray, "atoms 3"]
    meta: dict[str, Any] = field(default_factory=dict)
    band: Band | None = None

    def __post_init__(self) -> None:
        freeze(self, "energy", "tensor", "pos")
        for name in ("sites", "z"):
            array = np.array(getattr(self, name), dtype=np.int64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        expected = (len(self.sites), len(self.energy), 3, 3)
        if self.tensor.shape != expected or self.pos.shape != (len(self.z), 3):
            raise InputError(
                f"spectra of {expected[0]} sites and {expected[1]} energies of {len(self.z)} atoms do not fit tensors "
                f"of shape {self.tensor.shape} and positions of shape {self.pos.shape}"
            )
        if self.band is not None and self.band.squared.shape != expected:
            raise InputError(f"a band of shape {self.band.squared.shape} does not fit tensors of shape {expected}")
        if len(self.sites) and not (self.sites.min() >= 0 and self.sites.max() < len(self.z)):
            raise InputError(f"site indices {self.sites.tolist()} reach beyond the {len(self.z)} atoms")

    @property
    def labels(self) -> list[str]:
        """Index and element of every site, e.g. '7_C': the column names of files."""
        from ase.data import chemical_symbols  # a third of a second that most callers have no use for

        return [f"{site}_{chemical_symbols[self.z[site]]}" for site in self.sites]

    def select(self, sites: Sequence[int] | Int[np.ndarray, "chosen"]) -> "SiteSpectra":
        """Only these atoms (indices from 0), in the order given; InputError for an atom that is not a site."""
        position = {int(site): k for k, site in enumerate(self.sites)}
        missing = [int(site) for site in sites if int(site) not in position]
        if missing or not len(sites):
            asked = f"atom {missing[0]} is not an absorbing site" if missing else "no site is chosen"
            raise InputError(f"{asked}; sites (atom indices from 0) are {', '.join(map(str, position))}")
        rows = [position[int(site)] for site in sites]
        if len(set(rows)) < len(rows):
            raise InputError(f"a site is chosen twice in {', '.join(str(int(site)) for site in sites)}")
        band = None if self.band is None else self.band.select(rows)
        return replace(self, tensor=self.tensor[rows], sites=self.sites[rows], band=band)

    def site(self, index: int) -> TensorSpectrum:
        """The tensor spectrum of one atom (index from 0)."""
        chosen = self.select([index])
        return TensorSpectrum(self.energy, chosen.tensor[0], self.meta | {"sites": [int(index)]})

    def site_intensity(self, polarization: PolarizationLike = "iso") -> Float[np.ndarray, "sites energy"]:
        """Absorption [S,E] of every site for a polarisation (see `Polarization.parse`)."""
        return Polarization.parse(polarization).intensity(self.tensor)

    def site_half_width(self, polarization: PolarizationLike = "iso") -> Float[np.ndarray, "sites energy"] | None:
        """Half-width [S,E] of the band of every site for a polarisation, in the unit of the intensities.

        The reference lies within intensity ± half-width with the probability `band.level`, at every energy by itself.
        None without a band.
        """
        return None if self.band is None else self.band.of_sites(polarization)

    def half_width(self, polarization: PolarizationLike = "iso") -> Float[np.ndarray, "energy"] | None:
        """Half-width [E] of the band of the sum over the sites for a polarisation; None without a band."""
        if self.band is None:
            return None
        return self.band.of_sum(polarization, equivalent(self.site_intensity("iso")))

    def molecule(self) -> TensorSpectrum:
        """The sum over the sites, still as a tensor."""
        return TensorSpectrum(self.energy, self.tensor.sum(axis=0), self.meta | {"sites": self.sites.tolist()})

    def isotropic(self) -> Spectrum:
        """The sum over the sites, averaged over all directions: Tr T / 3."""
        return self.molecule().isotropic()

    def along(self, n: PolarizationLike) -> Spectrum:
        """The sum over the sites for one direction n (three numbers, normalised here; or 'x', 'y', 'z').

        n and -n give the same numbers. Raises InputError for the zero vector and for more than one direction.
        """
        return self.molecule().along(n)

    def film(
        self,
        tilt: float | int,
        theta: float | int | Sequence[float | int] | np.ndarray,
        polarization_degree: float | int = 1.0,
        *,
        normal: PolarizationLike = None,
    ) -> Spectrum | list[Spectrum]:
        """The sum over the sites in a uniaxial film of rigid molecules, for one grazing angle or a list of them.

        tilt (degrees): angle between the molecular axis and the film normal, 0 for a flat-lying planar molecule.
        theta (degrees): angle between beam and surface, 90 is normal incidence. polarization_degree: degree of linear
        polarisation in the plane of incidence. The molecular axis is `normal`, or the plane normal (long axis, if the
        molecule is round about it) from the principal axes of the heavy atoms; the metadata say which. One theta
        gives one Spectrum, several give a list.

        Raises InputError for angles or degrees out of range, and where no molecular axis stands out.
        """
        if not 0.0 <= tilt <= 90.0:
            raise InputError(f"tilt = {tilt}°: it must lie between 0 and 90 degrees")
        if normal is None:
            axis, kind = molecular_axis(self.z, self.pos)
        else:
            direction = Polarization.parse(normal).direction
            if direction is None:
                raise InputError(f"normal = {normal!r}: a direction is needed, such as (0, 0, 1)")
            axis, kind = np.array(direction), "given"
        molecule = self.molecule()
        saupe = saupe_of_tilt(axis, float(tilt))
        geometry = {"kind": "film", "tilt": float(tilt), "polarization_degree": float(polarization_degree)}
        geometry |= {"axis": axis.tolist(), "axis_kind": kind, "angle_unit": "degree"}
        spectra = []
        for angle in np.atleast_1d(np.asarray(theta, dtype=np.float64)).tolist():
            intensity = film_intensity(molecule.tensor, saupe, angle, float(polarization_degree))
            meta = molecule.meta | {"polarization": {**geometry, "theta": angle}}
            spectra.append(Spectrum(self.energy, intensity, meta))
        return spectra[0] if np.ndim(theta) == 0 else spectra

    def shift(self, energy: float | int) -> "SiteSpectra":
        """The same tensors at energies moved by `energy` eV."""
        return replace(self, energy=shifted(self.energy, energy), meta=shifted_meta(self.meta, energy))

    def broaden(self, *, fwhm: float | int | None = None, sigma: float | int | None = None) -> "SiteSpectra":
        """Convolve with one more Gaussian, given by its FWHM or its standard deviation (eV).

        The area is kept, the ends of the window are mirrored, and the tensors stay positive semidefinite. A band then
        holds at least its share of the references: errors of either sign cancel, which it does not count on.
        """
        sigma = sigma_from(sigma, fwhm)
        step = energy_step(self.energy)
        tensor = np.moveaxis(broaden_spectrum(np.moveaxis(self.tensor, 1, -1), step, sigma), -1, 1)
        band = None if self.band is None else self.band.broaden(step, sigma)
        return replace(self, tensor=tensor, meta=broadened_meta(self.meta, sigma), band=band)

    def save(
        self,
        path: str | Path,
        *,
        polarization: PolarizationLike = None,
        sites: Sequence[int] | None = None,
        per_site: bool = False,
    ) -> Path:
        """Write .csv, .json (intensities for a polarisation, isotropic by default) or .h5 (the tensors); see `io`."""
        from equispec.spectra.io import save_spectra  # io reads into this class

        return save_spectra(self, path, polarization=polarization, sites=sites, per_site=per_site)

    def plot(self, path: str | Path | None = None, **options: Any) -> "Figure":
        """Draw total and per-site spectra; `path` ends in .png or .svg. Options: see `plot.plot_spectra`."""
        from equispec.spectra.plot import plot_spectra  # plot draws this class

        return plot_spectra(self, path, **options)
