"""The rotation group in a real basis: spherical harmonics, couplings of two of them, and rotation matrices.

Components of degree l come in the order m = -l ... l, and harmonics are orthonormal on the sphere, without the phase
(-1)^m: of degree 1 they are sqrt(3/4π) (y, z, x). Everything is a polynomial of the vector or of the rotation matrix,
made degree by degree with the couplings: exact at the poles, where angles fail, and differentiable as often as wanted.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import factorial, pi, sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

ORDER = [1, 2, 0]  # components of degree 1 are y, z and x
CARTESIAN_ORDER = [2, 0, 1]  # where x, y and z stand among them


def components(degrees: Sequence[int]) -> int:
    """Number of components of a list of degrees, Σ (2l + 1)."""
    return sum(2 * degree + 1 for degree in degrees)


def spherical_harmonics(unit: Float[Tensor, "*batch 3"], degrees: Sequence[int]) -> Float[Tensor, "*batch components"]:
    """Y^(l)(û) of unit vectors for every degree in `degrees`, one after the other; Σ_m Y_lm² = (2l + 1) / 4π.

    Each degree is the stretched coupling of the one below with the vector: a few long products for all edges at once.
    """
    vector = unit[..., ORDER]
    y = torch.full_like(unit[..., :1], 1 / sqrt(4 * pi))
    values = {0: y}
    for degree in range(1, max(degrees) + 1):
        products = (vector[..., :, None] * y[..., None, :]).flatten(-2)
        values[degree] = y = products @ torch.as_tensor(stretched(degree)).to(unit)
    return torch.cat([values[degree] for degree in degrees], dim=-1)


@lru_cache(maxsize=64)
def stretched(degree: int) -> Float[np.ndarray, "products components"]:
    """Y^(l) from the products of û and Y^(l-1), scaled such that Y_l0 of the z axis is sqrt((2l + 1) / 4π)."""
    c = coupling(1, degree - 1, degree)
    scale = sqrt((2 * degree + 1) / (2 * degree - 1)) / c[degree, 1, degree - 1]
    return np.ascontiguousarray(scale * c.reshape(2 * degree + 1, -1).T)


@lru_cache(maxsize=512)
def coupling(l1: int, l2: int, l3: int) -> Float[np.ndarray, "m3 m1 m2"]:
    """The invariant tensor C that couples degrees l1 and l2 to l3, of Frobenius norm 1.

    C(D a, D b) = D C(a, b) for rotations; parity is kept where l1 + l2 + l3 is even. It is unique but for its sign,
    which is that of the Clebsch-Gordan coefficients (Condon-Shortley), made real by a factor i where the sum is odd.
    Raises ValueError for degrees that do not couple.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"degrees {l1} and {l2} do not couple to {l3}")
    complex_ = np.zeros((2 * l3 + 1, 2 * l1 + 1, 2 * l2 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            complex_[l3 + m1 + m2, l1 + m1, l2 + m2] = _clebsch_gordan(l1, m1, l2, m2, l3, m1 + m2)
    u1, u2, u3 = (_real_from_complex(degree) for degree in (l1, l2, l3))
    real = np.einsum("cC,CAB,aA,bB->cab", u3, complex_, u1.conj(), u2.conj(), optimize=True)
    part = real.imag if (l1 + l2 + l3) % 2 else real.real
    part = part / np.linalg.norm(part)
    part.flags.writeable = False  # shared by all callers
    return part


def _clebsch_gordan(j1: int, m1: int, j2: int, m2: int, j: int, m: int) -> float:
    """<j1 m1 j2 m2 | j m> for m = m1 + m2, by Racah's formula with exact integers."""
    f = factorial
    first = Fraction((2 * j + 1) * f(j + j1 - j2) * f(j - j1 + j2) * f(j1 + j2 - j), f(j1 + j2 + j + 1))
    second = f(j + m) * f(j - m) * f(j1 - m1) * f(j1 + m1) * f(j2 - m2) * f(j2 + m2)
    total = Fraction(0)
    for k in range(max(0, j2 - j - m1, j1 - j + m2), min(j1 + j2 - j, j1 - m1, j2 + m2) + 1):
        below = f(k) * f(j1 + j2 - j - k) * f(j1 - m1 - k) * f(j2 + m2 - k) * f(j - j2 + m1 + k) * f(j - j1 - m2 + k)
        total += Fraction((-1) ** k, below)
    return float(total) * sqrt(first * second)


def _real_from_complex(degree: int) -> np.ndarray:
    """The unitary matrix of real harmonics (no phase) from complex ones (with the phase of Condon and Shortley)."""
    u = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=complex)
    u[degree, degree] = 1
    for m in range(1, degree + 1):
        sign = (-1) ** m
        u[degree + m, degree + m], u[degree + m, degree - m] = sign / sqrt(2), 1 / sqrt(2)
        u[degree - m, degree + m], u[degree - m, degree - m] = -1j * sign / sqrt(2), 1j / sqrt(2)
    return u


def wigner_d(matrix: Float[Tensor, "*batch 3 3"], top: int) -> list[Float[Tensor, "*batch m m"]]:
    """D^(l)(R) for l = 0 ... top, with Y^(l)(R û) = D^(l)(R) Y^(l)(û), of proper rotation matrices.

    D^(l) is the part of D^(1) ⊗ D^(l-1) of degree l: polynomials of the entries of R, no angles.
    """
    first = matrix[..., ORDER, :][..., ORDER]
    found = [matrix.new_ones((*matrix.shape[:-2], 1, 1)), first]
    for degree in range(2, top + 1):
        c = torch.as_tensor(coupling(1, degree - 1, degree) * sqrt(2 * degree + 1)).to(matrix)
        half = torch.einsum("cab,...aA->...cAb", c, first)
        found.append(torch.einsum("...cAb,...bB,CAB->...cC", half, found[degree - 1], c))
    return found[: top + 1]


def vectors_of(x: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Components of degree 1 as Cartesian vectors (x, y, z), of the same length."""
    return x[..., CARTESIAN_ORDER]


def tensors_of(x: Float[Tensor, "*batch 5"]) -> Float[Tensor, "*batch 3 3"]:
    """Components of degree 2 as symmetric traceless Cartesian tensors of the same (Frobenius) norm."""
    # coupling two vectors to degree 2 has unit norm over all five components
    c = torch.as_tensor(coupling(1, 1, 2) * sqrt(5)).to(x)
    c = c[:, CARTESIAN_ORDER][:, :, CARTESIAN_ORDER]
    return torch.einsum("...c,cab->...ab", x, c)
