"""Oriented films: what polarised light sees of molecules that stand, lie or tilt on a surface.

The film is uniaxial about its normal (z): an average over the azimuth, or a substrate of at least threefold symmetry.
Source: J. Stöhr, NEXAFS Spectroscopy (1992), ch. 9, in the form of the Saupe order matrix.
"""

import math

import numpy as np
from jaxtyping import Float, Int

from equispec.errors import InputError

ON_A_LINE = 1e-4  # Å²: atoms that leave a line by less than 0.01 Å (root mean square) are on it


def legendre2(cosine: float) -> float:
    """Second Legendre polynomial P₂."""
    return 0.5 * (3.0 * cosine * cosine - 1.0)


def saupe_matrix(cosines: Float[np.ndarray, "orientations 3"]) -> Float[np.ndarray, "3 3"]:
    """Order matrix S_ab = ½⟨3 c_a c_b - δ_ab⟩ in the molecular frame, symmetric and traceless.

    cosines [orientations,3]: the film normal in the molecular frame (unit vectors), one row per molecular orientation.
    """
    return 0.5 * (3.0 * np.einsum("na,nb->ab", cosines, cosines) / len(cosines) - np.eye(3))


def saupe_of_tilt(normal: Float[np.ndarray, "3"], tilt: float) -> Float[np.ndarray, "3 3"]:
    """Order matrix of a rigid molecule whose axis `normal` (unit vector) leans by `tilt` degrees from the film normal.

    The molecule turns freely about that axis and about the film normal: S = P₂(cos tilt) (3 g gᵀ - 1)/2.
    """
    return legendre2(math.cos(math.radians(tilt))) * 0.5 * (3.0 * np.outer(normal, normal) - np.eye(3))


def film_intensity(
    tensor: Float[np.ndarray, "*shape 3 3"],
    saupe: Float[np.ndarray, "3 3"],
    theta: float,
    polarization_degree: float,
) -> Float[np.ndarray, "*shape"]:
    """Absorption of a uniaxial film, I(θ) = T̄ + (S:T) [ (2P/3) P₂(cos θ) - (1-P)/3 ], in the unit of the tensor.

    tensor [...,3,3] and saupe [3,3] in the same molecular frame. theta: angle between the beam and the surface in
    degrees (90 is normal incidence); P: degree of linear polarisation in the plane of incidence, 0 to 1.
    It is P (T_∥ cos²θ + T_⊥ sin²θ) + (1-P) T_⊥ with T_∥ = T̄ + ⅔ S:T along and T_⊥ = T̄ - ⅓ S:T across the normal.
    """
    if not 0.0 <= theta <= 90.0:
        raise InputError(f"theta = {theta}°: the angle between beam and surface must lie between 0 and 90 degrees")
    if not 0.0 <= polarization_degree <= 1.0:
        raise InputError(f"polarization degree = {polarization_degree}: it must lie between 0 and 1")
    mean = np.einsum("...aa->...", tensor) / 3.0
    order = np.einsum("ab,...ab->...", saupe, tensor)
    p2 = legendre2(math.cos(math.radians(theta)))
    return np.asarray(mean + order * (2.0 * polarization_degree * p2 - (1.0 - polarization_degree)) / 3.0)


def molecular_axis(
    z: Int[np.ndarray, "atoms"], pos: Float[np.ndarray, "atoms 3"]
) -> tuple[Float[np.ndarray, "3"], str]:
    """The axis that a tilt angle refers to (unit vector), and what it is: "plane normal" or "long axis".

    z [atoms] atomic numbers; pos [atoms,3] in Å. A principal axis of the unweighted positions of the heavy atoms (of
    all atoms, where the heavy ones lie on one line): the normal of the best plane, or the long axis of a molecule that
    is round about it. The sign is free and chosen so that the last component that is not zero is positive.

    Raises InputError where no axis stands out: a single atom, a tetrahedral or otherwise round molecule.
    """
    spread, axes = _principal_axes(pos[z > 1])
    if spread[1] < ON_A_LINE:
        spread, axes = _principal_axes(pos)
    distinct = np.diff(spread) > np.maximum(0.05 * spread[1:], ON_A_LINE)
    if distinct[0]:
        return _upward(axes[:, 0]), "plane normal"
    if distinct[1]:
        return _upward(axes[:, 2]), "long axis"
    raise InputError(
        "the molecule has no plane or axis that stands out; say which axis is tilted with normal=(x, y, z)"
    )


def _principal_axes(pos: Float[np.ndarray, "atoms 3"]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
    """Mean squared extents (Å², ascending) and the axes they belong to, as columns."""
    if len(pos) == 0:
        return np.zeros(3), np.eye(3)
    centred = pos - pos.mean(axis=0)
    spread, axes = np.linalg.eigh(centred.T @ centred / len(pos))
    return spread, axes


def _upward(axis: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    last = np.flatnonzero(np.abs(axis) > 1e-9)[-1]
    return axis * np.sign(axis[last])
