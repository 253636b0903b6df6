"""NodeFeatures: what a backbone hands to a head, and FeatureWidths: how wide each kind is (None: not provided)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class NodeFeatures:
    """Per-atom features. The Cartesian axes rotate with the structure; kinds a backbone lacks are None.

    scalar: invariants. vector: polar vectors. dyad: second-rank tensors Y with Y -> R Y Rᵀ, even under inversion;
    the first Cartesian axis is the vector's component, the second the basis direction it is linear in.
    tensor: symmetric traceless tensors Q -> R Q Rᵀ, even under inversion.
    harmonic: spherical tensors of degrees 0 to L in the order of nn/so3.py, degree l of parity (-1)^l.
    """

    scalar: Float[Tensor, "atoms scalars"]
    vector: Float[Tensor, "atoms 3 vectors"] | None = None
    dyad: Float[Tensor, "atoms 3 3 dyads"] | None = None
    tensor: Float[Tensor, "atoms 3 3 tensors"] | None = None
    harmonic: Float[Tensor, "atoms components harmonics"] | None = None


@dataclass(frozen=True)
class FeatureWidths:
    """Number of channels of each kind of feature that a backbone provides; `degree`: L of the harmonic ones."""

    scalar: int
    vector: int | None = None
    dyad: int | None = None
    tensor: int | None = None
    harmonic: int | None = None
    degree: int | None = None
