"""What a person reads off a spectrum first: its peaks, and how the molecule must lie to show them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from equispec.spectra.polarization import PolarizationLike
from equispec.spectra.sites import SiteSpectra

MIN_PROMINENCE = 0.05  # of the highest intensity; what rises less above its surroundings is not a peak
NO_AXIS = 0.1  # of the trace; where no principal value differs more from the mean, all directions absorb alike


@dataclass(frozen=True)
class Peak:
    """A maximum of a spectrum: energy in eV, height in the unit of the intensities."""

    energy: float
    height: float


@dataclass(frozen=True)
class Anisotropy:
    """The axis that stands out of an absorption tensor, and what share of the intensity lies along it.

    `axis` is a unit vector n whose largest component is positive.
    `share` is nᵀ T n / Tr T: 1 where only light polarised along n is absorbed, 0 where only light across it, 1/3 where
    all directions absorb alike.
    """

    axis: tuple[float, float, float]
    share: float


@dataclass(frozen=True)
class PeakRow:
    """First and strongest peak of one curve; `anisotropy` at the first one, None where no axis stands out."""

    label: str
    first: Peak
    strongest: Peak
    anisotropy: Anisotropy | None


def find_peaks(energy: Float[np.ndarray, "energy"], intensity: Float[np.ndarray, "energy"]) -> list[Peak]:
    """Maxima in the order of their energies, each placed at the vertex of the parabola through its three points.

    Left out are maxima that rise less than 5 % of the highest intensity above the higher of the two valleys beside
    them. A curve without any, such as a rising one, has its highest point as its only peak.
    """
    inner = np.flatnonzero((intensity[1:-1] > intensity[:-2]) & (intensity[1:-1] >= intensity[2:])) + 1
    least = MIN_PROMINENCE * intensity.max()
    found = [i for i in inner.tolist() if intensity[i] > 0 and _prominence(intensity, i) >= least]
    if not found:
        top = int(intensity.argmax())
        return [Peak(float(energy[top]), float(intensity[top]))]
    return [_vertex(energy, intensity, i) for i in found]


def anisotropy(tensor: Float[np.ndarray, "3 3"]) -> Anisotropy | None:
    """The axis of a tensor whose principal value differs most from the mean; None where none differs by much."""
    trace = float(np.trace(tensor))
    values, axes = np.linalg.eigh(tensor)
    k = int(np.abs(values - trace / 3).argmax())
    if not trace > 0 or abs(values[k] - trace / 3) < NO_AXIS * trace:
        return None
    axis = axes[:, k] * np.sign(axes[np.abs(axes[:, k]).argmax(), k])
    return Anisotropy((float(axis[0]), float(axis[1]), float(axis[2])), float(values[k] / trace))


def peak_rows(spectra: SiteSpectra, polarization: PolarizationLike = None, per_site: bool = True) -> list[PeakRow]:
    """Peaks of the total, and of every site, for a polarisation."""
    intensity = spectra.site_intensity(polarization)
    rows = [_row("total", spectra.energy, intensity.sum(axis=0), spectra.tensor.sum(axis=0))]
    if per_site:
        sites = zip(spectra.labels, intensity, spectra.tensor, strict=True)
        rows += [_row(label, spectra.energy, curve, tensor) for label, curve, tensor in sites]
    return rows


def _row(
    label: str,
    energy: Float[np.ndarray, "energy"],
    intensity: Float[np.ndarray, "energy"],
    tensor: Float[np.ndarray, "energy 3 3"],
) -> PeakRow:
    peaks = find_peaks(energy, intensity)
    nearest = int(np.abs(energy - peaks[0].energy).argmin())
    return PeakRow(label, peaks[0], max(peaks, key=lambda peak: peak.height), anisotropy(tensor[nearest]))


def _prominence(intensity: Float[np.ndarray, "energy"], i: int) -> float:
    """Height above the higher of the two lowest points on the way to something higher, on either side."""
    valleys = []
    for side in (intensity[i - 1 :: -1], intensity[i + 1 :]):
        higher = np.flatnonzero(side > intensity[i])
        valleys.append(side[: higher[0] if len(higher) else None].min(initial=intensity[i]))
    return float(intensity[i] - max(valleys))


def _vertex(energy: Float[np.ndarray, "energy"], intensity: Float[np.ndarray, "energy"], i: int) -> Peak:
    left, middle, right = intensity[i - 1 : i + 2]
    curvature = left - 2 * middle + right
    offset = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    step = energy[i + 1] - energy[i]
    return Peak(float(energy[i] + offset * step), float(middle - 0.25 * (left - right) * offset))
