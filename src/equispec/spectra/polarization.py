"""The polarisation of the light (or the direction of the momentum transfer) seen by a molecule."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from equispec.errors import InputError

_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_ALLOWED = "allowed are 'iso', 'x', 'y', 'z', three numbers such as '0,0,1', and 'theta=55,phi=0' (degrees)"


@dataclass(frozen=True)
class Polarization:
    """One direction in the frame of the structure, or (direction None) the average over all directions.

    `direction` is a unit vector whose sign is chosen so that its last component that is not zero is positive:
    n and -n absorb alike, and so they are the same polarisation here.
    """

    direction: tuple[float, float, float] | None = None

    @classmethod
    def parse(cls, value: "PolarizationLike") -> "Polarization":
        """From 'iso' (or None), 'x', 'y', 'z', three numbers (text or sequence), or 'theta=55,phi=0'.

        theta is the angle to the z axis, phi the azimuth from x towards y, both in degrees:
        n = (sin θ cos φ, sin θ sin φ, cos θ). Vectors are normalised. Raises InputError for anything else.

        >>> Polarization.parse("0,0,-2").direction
        (0.0, 0.0, 1.0)
        """
        if isinstance(value, cls):
            return value
        if value is None or (isinstance(value, str) and value == "iso"):
            return cls(None)
        if isinstance(value, str):
            return cls(_unit(_parse_text(value), value))
        return cls(_unit(value, value))

    @property
    def label(self) -> str:
        """A short name: 'iso', an axis, or the components."""
        if self.direction is None:
            return "iso"
        for name, axis in _AXES.items():
            if self.direction == axis:
                return name
        return ",".join(f"{component:.6g}" for component in self.direction)

    @property
    def meta(self) -> dict[str, Any]:
        """The geometry as plain data for file headers."""
        if self.direction is None:
            return {"kind": "isotropic"}
        return {"kind": "direction", "vector": list(self.direction)}

    def intensity(self, tensor: Float[np.ndarray, "*shape 3 3"]) -> Float[np.ndarray, "*shape"]:
        """Absorption of a tensor T: Tr T / 3 for the isotropic average, nᵀ T n for a direction; unit as T."""
        if self.direction is None:
            return np.asarray(np.einsum("...aa->...", tensor) / 3.0)
        n = np.array(self.direction)
        return np.asarray(np.einsum("...ab,a,b->...", tensor, n, n))


PolarizationLike: TypeAlias = str | Sequence[float | int] | np.ndarray | Polarization | None


def _parse_text(text: str) -> Sequence[float]:
    if text in _AXES:
        return _AXES[text]
    angles = re.fullmatch(r"\s*theta\s*=([^,]+),\s*phi\s*=([^,]+)", text)
    try:
        if angles:
            theta, phi = (math.radians(float(angle)) for angle in angles.groups())
            return math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"polarisation {text!r} is not understood; {_ALLOWED}") from None


def _unit(vector: Any, given: Any) -> tuple[float, float, float]:
    shown = given if isinstance(given, str) else str(np.asarray(given).tolist())
    try:
        n = np.array(vector, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"polarisation {shown} is not a direction; {_ALLOWED}") from None
    if n.shape != (3,):
        raise InputError(f"polarisation {shown} is not one direction of three components; {_ALLOWED}")
    largest = np.abs(n).max()
    if not np.isfinite(largest):
        raise InputError(f"polarisation {shown}: the components must be finite")
    if largest == 0.0:
        raise InputError(f"polarisation {shown} is the zero vector, which has no direction; {_ALLOWED}")
    n = n / largest  # first, so that the norm neither overflows nor underflows
    n /= np.linalg.norm(n)
    sign = math.copysign(1.0, n[np.flatnonzero(n)[-1]])
    x, y, z = (sign * n + 0.0).tolist()  # + 0.0 turns -0.0 into 0.0
    return x, y, z
