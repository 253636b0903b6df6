"""A spectrum, and a spectrum of absorption tensors: small frozen objects whose operations return new ones."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from equispec.errors import InputError
from equispec.spectra.broaden import FWHM_PER_SIGMA, broaden_spectrum, sigma_from
from equispec.spectra.polarization import Polarization, PolarizationLike

MAX_SHIFT = 1e6  # eV, beyond every absorption edge; larger numbers swallow the steps of the axis


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Intensity against energy.

    energy [E] in eV, evenly spaced; intensity [E] in the unit `meta["intensity_unit"]`; meta says where it comes from.
    """

    energy: Float[np.ndarray, "energy"]
    intensity: Float[np.ndarray, "energy"]
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        freeze(self, "energy", "intensity")

    def shift(self, energy: float | int) -> "Spectrum":
        """The same intensities at energies moved by `energy` eV."""
        return replace(self, energy=shifted(self.energy, energy), meta=shifted_meta(self.meta, energy))

    def broaden(self, *, fwhm: float | int | None = None, sigma: float | int | None = None) -> "Spectrum":
        """Convolve with one more Gaussian, given by its FWHM or its standard deviation (eV); the area is kept."""
        sigma = sigma_from(sigma, fwhm)
        intensity = broaden_spectrum(self.intensity, energy_step(self.energy), sigma)
        return replace(self, intensity=intensity, meta=broadened_meta(self.meta, sigma))


@dataclass(frozen=True, eq=False)
class TensorSpectrum:
    """Absorption tensor against energy: S(E; n) = nᵀ T(E) n for every direction n.

    energy [E] in eV, evenly spaced; tensor [E,3,3] symmetric, in the frame of the structure, unit
    `meta["intensity_unit"]`.
    """

    energy: Float[np.ndarray, "energy"]
    tensor: Float[np.ndarray, "energy 3 3"]
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        freeze(self, "energy", "tensor")

    def isotropic(self) -> Spectrum:
        """The average over all directions, Tr T / 3: a gas, a powder, or a film at the magic angle."""
        return self.polarized(None)

    def along(self, n: PolarizationLike) -> Spectrum:
        """The spectrum for one direction n (three numbers, normalised here); InputError for the zero vector."""
        polarization = Polarization.parse(n)
        if polarization.direction is None:
            raise InputError("along() needs a direction of three components; isotropic() gives the average")
        return self.polarized(polarization)

    def polarized(self, polarization: PolarizationLike) -> Spectrum:
        """The spectrum for any polarisation that `Polarization.parse` understands."""
        polarization = Polarization.parse(polarization)
        meta = self.meta | {"polarization": polarization.meta}
        return Spectrum(self.energy, polarization.intensity(self.tensor), meta)


def freeze(instance: Any, *names: str) -> None:
    """Replace array fields of a frozen dataclass by read-only float64 copies; InputError unless all are finite."""
    for name in names:
        array = np.array(getattr(instance, name), dtype=np.float64)
        if not np.isfinite(array).all():
            raise InputError(f"{type(instance).__name__}: {name} holds numbers that are not finite")
        array.flags.writeable = False
        object.__setattr__(instance, name, array)


def energy_step(energy: Float[np.ndarray, "energy"]) -> float:
    """Step (eV) of an energy axis; InputError unless it is increasing and evenly spaced."""
    step = float(energy[-1] - energy[0]) / (len(energy) - 1) if len(energy) > 1 else math.nan
    if not (step > 0 and np.allclose(np.diff(energy), step, rtol=1e-4, atol=0.0)):
        raise InputError("the energies of a spectrum must be increasing and evenly spaced")
    return step


def shifted(axis: Float[np.ndarray, "energy"], energy: float | int) -> Float[np.ndarray, "energy"]:
    """An energy axis moved by `energy` eV; InputError for a shift that is not finite or is too large."""
    if not math.isfinite(energy):
        raise InputError(f"shift = {energy} eV: it must be finite")
    if abs(energy) > MAX_SHIFT:
        raise InputError(f"shift = {energy:g} eV: at most {MAX_SHIFT:g} eV up or down is possible")
    return axis + energy


def shifted_meta(meta: Mapping[str, Any], energy: float) -> dict[str, Any]:
    """Metadata after one more rigid shift (eV); `shift` is the sum of all shifts of the raw energies."""
    return {**meta, "shift": meta.get("shift", 0.0) + float(energy)}


def broadened_meta(meta: Mapping[str, Any], sigma: float) -> dict[str, Any]:
    """Metadata after one more Gaussian (sigma in eV); `extra_fwhm` adds up in quadrature."""
    broadening = dict(meta.get("broadening", {}))
    broadening["extra_fwhm"] = math.hypot(broadening.get("extra_fwhm", 0.0), sigma * FWHM_PER_SIGMA)
    return {**meta, "broadening": broadening}
