"""From the disagreement of an ensemble and its errors on validation molecules to a band of a stated level.

Variance of the tensor of a site, up to a factor that is calibrated afterwards (docs/adr/011-uncertainty-and-domain.md):

    V(E) = spread · Σ_m ΔT_m² / (M - 1)  +  slope · (dT/dE)²  +  intensity · T²  +  floor² I

with matrix squares, ΔT_m the departure of member m from the mean T. V is positive semidefinite and turns with the
molecule. nᵀ V n is a squared width along n, Tr V / 3 one for the isotropic spectrum. The weights maximise the
likelihood of the validation residuals; the quantiles of |residual| / width around every energy then give the factors of
the levels (split conformal prediction: Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018)).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat, model_validator

from equispec.config import Config
from equispec.errors import InputError
from equispec.spectra.band import Band, equivalent, squared_sums
from equispec.spectra.compare import directional, isotropic_part
from equispec.spectra.spectrum import energy_step

LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
LEVEL = 0.9  # of the band where no other is asked for
FLOOR = 1e-3  # share of the mean intensity: smaller intensities are nothing
KNOT_STEP = 1.0  # eV between the energies at which factors are kept
WINDOW = 1.0  # eV, standard deviation of the Gaussian that weights the residuals around a knot
STRIDE = 3  # the weights are fitted on every third energy: the residuals of neighbours are the same
ITERATIONS = 300

_PHI = (1 + 5**0.5) / 2
# six axes of an icosahedron: their average of a fourth power of n is that over all directions
ICOSAHEDRON: Float[np.ndarray, "6 3"] = np.array(
    [[0, 1, _PHI], [0, 1, -_PHI], [1, _PHI, 0], [1, -_PHI, 0], [_PHI, 0, 1], [-_PHI, 0, 1]]
) / np.sqrt(1 + _PHI**2)

Tensors = Float[np.ndarray, "sites energy 3 3"]


class Scale(Config):
    """Of one level, at the knots: factors of the width along a direction and of the isotropic one, and `coherence`."""

    level: float = Field(gt=0, lt=1)
    direction: tuple[NonNegativeFloat, ...]
    isotropic: tuple[NonNegativeFloat, ...]
    coherence: tuple[NonNegativeFloat, ...]


class BandCalibration(Config):
    """What turns a predicted tensor and the spread of its ensemble into a band: weights, knots (eV), factors."""

    spread: NonNegativeFloat
    slope: NonNegativeFloat
    intensity: NonNegativeFloat
    knots: tuple[float, ...]
    scales: tuple[Scale, ...]

    @model_validator(mode="after")
    def _one_factor_per_knot(self) -> "BandCalibration":
        n = len(self.knots)
        if any(not n == len(x.direction) == len(x.isotropic) == len(x.coherence) > 0 for x in self.scales):
            raise ValueError(f"{n} knots, but not as many factors at every level")
        return self

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(scale.level for scale in self.scales)

    def variance(self, energy: Float[np.ndarray, "energy"], tensor: Tensors, spread: Tensors) -> Tensors:
        """V of every site (see above), from its mean tensor and Σ_m ΔT_m² / (M - 1)."""
        weights = (self.spread, self.slope, self.intensity)
        parts = zip(weights, features(energy, tensor, spread), strict=True)
        return np.asarray(sum(weight * part for weight, part in parts) + FLOOR**2 * np.eye(3))

    def band(self, energy: Float[np.ndarray, "energy"], tensor: Tensors, spread: Tensors, level: float = LEVEL) -> Band:
        """The band of a level; InputError for one that was not calibrated."""
        found = [scale for scale in self.scales if abs(scale.level - level) < 1e-9]
        if not found:
            raise InputError(f"level {level:g} of the band: calibrated are {', '.join(f'{x:g}' for x in self.levels)}")
        (scale,) = found
        along, isotropic, coherence = (
            np.interp(energy, self.knots, values) for values in (scale.direction, scale.isotropic, scale.coherence)
        )
        variance = self.variance(energy, tensor, spread)
        width = np.sqrt(isotropic_part(variance))
        return Band(scale.level, along[:, None, None] ** 2 * variance, isotropic * width, coherence)


def features(energy: Float[np.ndarray, "energy"], tensor: Tensors, spread: Tensors) -> tuple[Tensors, Tensors, Tensors]:
    """The three squares of which V is the weighted sum."""
    slope = np.gradient(tensor, energy_step(energy), axis=1)
    return spread, slope @ slope, tensor @ tensor


def calibrate_band(
    energy: Float[np.ndarray, "energy"],
    predicted: Tensors,
    spread: Tensors,
    reference: Tensors,
    molecule: Int[np.ndarray, "sites"],
    levels: Sequence[float] = LEVELS,
    directions: Float[np.ndarray, "directions 3"] = ICOSAHEDRON,
) -> BandCalibration:
    """Calibrate on sites that the model was not fitted to; `molecule` [S] says which of them belong together.

    Intensities in units of their mean; `directions`: unit vectors along which the reference is known. Deterministic.
    InputError without sites.
    """
    if not len(predicted):
        raise InputError("a band cannot be calibrated without any site")
    residual = predicted - reference
    weights = _fit_weights(energy, predicted, spread, residual, directions)
    knots = np.append(np.arange(energy[0], energy[-1], KNOT_STEP), energy[-1])
    bare = BandCalibration(
        spread=weights[0], slope=weights[1], intensity=weights[2], knots=tuple(knots.tolist()), scales=()
    )
    variance = bare.variance(energy, predicted, spread)
    isotropic, along = isotropic_part(residual)[:, None], directional(residual, directions)
    widths = np.sqrt(isotropic_part(variance))[:, None], np.sqrt(directional(variance, directions))
    present = isotropic_part(predicted).mean(axis=0) > FLOOR
    near = np.exp(-0.5 * ((energy - knots[:, None]) / WINDOW) ** 2) * (present if present.any() else 1.0)
    molecules = len(np.unique(molecule))
    pairs = _sums(isotropic_part(predicted), molecule)
    scales = []
    for level in levels:
        corrected = min(1.0, level * (1 + 1 / molecules))  # one more molecule may stand in any place of the order
        factor_i, factor_n = (
            _quantiles(np.abs(r) / w, near, corrected) for r, w in zip((isotropic, along), widths, strict=True)
        )
        half_widths = [
            np.interp(energy, knots, factor) * w for factor, w in zip((factor_i, factor_n), widths, strict=True)
        ]
        coherence = _coherence((isotropic, along), half_widths, pairs, near, corrected)
        scales.append(
            Scale(level=level, direction=_plain(factor_n), isotropic=_plain(factor_i), coherence=_plain(coherence))
        )
    return bare.model_copy(update={"scales": tuple(scales)})


def _plain(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def _fit_weights(
    energy: Float[np.ndarray, "energy"],
    predicted: Tensors,
    spread: Tensors,
    residual: Tensors,
    directions: Float[np.ndarray, "directions 3"],
) -> tuple[float, ...]:
    """Weights of the three squares that maximise the likelihood of exponentially distributed |residual| / width.

    The width σ² = Σ_k w_k x_k; each step multiplies w_k by <x_k |r| / σ³> / <x_k / σ²>, at the maximum 1, to the
    power ½. The exponential law is less led by outliers than a Gaussian one.
    """
    squares = [directional(x[:, ::STRIDE], directions).ravel() for x in features(energy, predicted, spread)]
    r = np.abs(directional(residual[:, ::STRIDE], directions)).ravel()
    scale = np.array([x.mean() for x in squares])
    used = np.flatnonzero(scale > 0)
    x = np.stack([squares[k] / scale[k] for k in used])
    w = np.full(len(used), np.mean(r**2) / max(len(used), 1))
    for _ in range(ITERATIONS):
        variance = w @ x + FLOOR**2
        w = w * np.sqrt((x @ (r * variance**-1.5)) / (x @ (1 / variance)))
    weights = np.zeros(3)
    weights[used] = w / scale[used]
    return _plain(np.where(weights * scale > 1e-12, weights, 0.0))


def _quantiles(
    ratio: Float[np.ndarray, "sites directions energy"], near: Float[np.ndarray, "knots energy"], level: float
) -> Float[np.ndarray, "knots"]:
    """Quantile of a level of the ratios around every knot, each energy with its weight there."""
    order = np.argsort(ratio, axis=None, kind="stable")
    values, energies = ratio.ravel()[order], np.broadcast_to(np.arange(ratio.shape[-1]), ratio.shape).ravel()[order]
    found = []
    for weights in near:
        total = np.cumsum(weights[energies])
        found.append(values[min(int(np.searchsorted(total, level * total[-1])), len(values) - 1)])
    return np.array(found)


def _sums(isotropic: np.ndarray, molecule: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of the sites of every molecule that has more than one kind of them, and which of them are equivalent."""
    groups = [np.flatnonzero(molecule == m) for m in np.unique(molecule)]
    pairs = [(rows, equivalent(isotropic[rows])) for rows in groups]
    return [(rows, alike) for rows, alike in pairs if not alike.all()]


def _coherence(
    residuals: Sequence[np.ndarray],  # (sites, directions, energy) each
    half_widths: Sequence[np.ndarray],
    sums: Sequence[tuple[np.ndarray, np.ndarray]],
    near: Float[np.ndarray, "knots energy"],
    level: float,
) -> Float[np.ndarray, "knots"]:
    """The coherence with which the bands of sums hold a share `level` of the residuals; 1 where no sum is known."""
    if not sums:
        return np.ones(len(near))
    needed = []
    for residual, half_width in zip(residuals, half_widths, strict=True):
        for rows, alike in sums:
            apart, together = squared_sums(half_width[rows].swapaxes(0, 1), alike)
            squared = residual[rows].sum(axis=0) ** 2
            needed.append((squared - apart) / np.maximum(together - apart, 1e-300))
    return np.clip(_quantiles(np.concatenate(needed)[:, None], near, level), 0.0, 1.0)
