import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from equispec.errors import InputError
from equispec.spectra import Polarization

components = st.floats(-1e3, 1e3, allow_subnormal=False)


@pytest.mark.parametrize(
    ("given_as", "direction"),
    [
        ("iso", None),
        (None, None),
        ("x", (1.0, 0.0, 0.0)),
        ("z", (0.0, 0.0, 1.0)),
        ("0,0,1", (0.0, 0.0, 1.0)),
        ("0, -2, 0", (0.0, 1.0, 0.0)),
        ([3, 0, 4], (0.6, 0.0, 0.8)),
        (np.array([0.0, -0.6, -0.8]), (0.0, 0.6, 0.8)),
        ("theta=90,phi=0", (1.0, 0.0, 0.0)),
        ("theta=90, phi=90", (0.0, 1.0, 0.0)),
        ("theta=0,phi=12", (0.0, 0.0, 1.0)),
        ([0, 0, 1e-300], (0.0, 0.0, 1.0)),
        ([1e300, 0, 0], (1.0, 0.0, 0.0)),
    ],
)
def test_parse(given_as: object, direction: tuple[float, float, float] | None) -> None:
    parsed = Polarization.parse(given_as)  # pyright: ignore[reportArgumentType]
    if direction is None:
        assert parsed.direction is None
    else:
        np.testing.assert_allclose(parsed.direction or (), direction, atol=1e-15)


@given(st.tuples(components, components, components))
def test_opposite_directions_are_one(n: tuple[float, float, float]) -> None:
    assume(max(map(abs, n)) > 1e-6)
    ours = Polarization.parse(np.array(n))
    assert ours == Polarization.parse(-np.array(n))
    assert not any(math.copysign(1.0, c) < 0 for c in ours.direction or () if c == 0.0)
    assert np.linalg.norm(ours.direction or ()) == pytest.approx(1.0, abs=1e-15)
    assert Polarization.parse(ours) is ours


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("0,0,0", "zero vector"),
        (np.zeros(3), "zero vector"),
        ("0,0", "three components"),
        (np.eye(3), "one direction"),
        ("1,nan,0", "finite"),
        ("sideways", "allowed are 'iso'"),
        ("theta=ninety,phi=0", "allowed are 'iso'"),
        ("", "allowed are 'iso'"),
    ],
)
def test_bad_polarisations_are_refused(bad: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Polarization.parse(bad)  # pyright: ignore[reportArgumentType]


def test_labels() -> None:
    assert [Polarization.parse(p).label for p in ("iso", "y", [0, 0, -3])] == ["iso", "y", "z"]
    assert Polarization.parse([1, 1, 0]).label == "0.707107,0.707107,0"
