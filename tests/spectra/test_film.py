"""The closed formulas of films against explicit averages over orientations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equispec.errors import InputError
from equispec.spectra import SiteSpectra, film_intensity, molecular_axis, saupe_matrix, saupe_of_tilt

from .conftest import random_rotations, random_tensors

angles = st.floats(0.0, 90.0)


def rotation(axis: int, degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    r = np.eye(3)
    r[i, i] = r[j, j] = c
    r[i, j], r[j, i] = -s, s
    return r


def averaged(tensor: np.ndarray, tilt: float, theta: float, degree: float) -> float:
    """Brute force: turn the molecule about its z axis, lean it, turn it about the film normal, and look."""
    steps = np.arange(0.0, 360.0, 60.0)  # five would be exact for a tensor of rank 2
    mean = np.zeros((3, 3))
    for spin in steps:
        for azimuth in steps:
            r = rotation(2, azimuth) @ rotation(1, tilt) @ rotation(2, spin)
            mean += r @ tensor @ r.T / len(steps) ** 2
    parallel = np.array([math.cos(math.radians(90 - theta)), 0.0, math.cos(math.radians(theta))])
    perpendicular = np.array([0.0, 1.0, 0.0])
    return degree * parallel @ mean @ parallel + (1 - degree) * perpendicular @ mean @ perpendicular


@given(tilt=angles, theta=angles, degree=st.floats(0.0, 1.0), seed=st.integers(0, 2**31))
def test_formula_equals_the_average_over_orientations(tilt: float, theta: float, degree: float, seed: int) -> None:
    tensor = random_tensors(np.random.default_rng(seed))
    formula = film_intensity(tensor, saupe_of_tilt(np.array([0.0, 0.0, 1.0]), tilt), theta, degree)
    assert formula == pytest.approx(averaged(tensor, tilt, theta, degree), rel=1e-10, abs=1e-12)


def test_saupe_matrix_of_orientations(rng: np.random.Generator) -> None:
    spins = np.radians(np.arange(0.0, 360.0, 60.0))
    tilt = math.radians(35.0)
    ring = [[math.sin(tilt) * math.cos(a), math.sin(tilt) * math.sin(a), math.cos(tilt)] for a in spins]
    np.testing.assert_allclose(saupe_matrix(np.array(ring)), saupe_of_tilt(np.array([0.0, 0.0, 1.0]), 35.0), atol=1e-14)
    one = saupe_matrix(random_rotations(rng, 1)[0][:1])
    assert np.trace(one) == pytest.approx(0.0, abs=1e-14)
    # every direction once is no order at all
    np.testing.assert_allclose(saupe_matrix(np.eye(3)), 0.0, atol=1e-14)


def test_the_average_over_all_directions_is_no_normal() -> None:
    spectra = SiteSpectra(np.arange(2.0), np.ones((1, 2, 3, 3)), np.array([0]), np.array([6]), np.zeros((1, 3)))
    with pytest.raises(InputError, match="normal = 'iso': a direction is needed"):
        spectra.film(10, 20, normal="iso")


def test_saupe_matrix_gives_the_film_of_one_fixed_orientation(rng: np.random.Generator) -> None:
    """General order: one molecular orientation, averaged over the azimuth of the film only."""
    tensor, r = random_tensors(rng), random_rotations(rng, 1)[0]
    turned = [rotation(2, a) @ r for a in np.arange(0.0, 360.0, 30.0)]
    mean = sum(t @ tensor @ t.T for t in turned) / len(turned)
    saupe = saupe_matrix(r[2:3])  # the film normal in the molecular frame is Rᵀ z
    for theta in (20.0, 55.0, 90.0):
        e = np.array([math.sin(math.radians(theta)), 0.0, math.cos(math.radians(theta))])
        assert film_intensity(tensor, saupe, theta, 1.0) == pytest.approx(e @ mean @ e, rel=1e-12)


@pytest.mark.parametrize(("degree", "magic"), [(1.0, 54.74), (0.95, 53.68), (0.9, 52.51), (0.8, 49.80)])
def test_magic_angle(spectra: SiteSpectra, degree: float, magic: float) -> None:
    exact = math.degrees(math.acos(math.sqrt(1 / (3 * degree))))
    assert exact == pytest.approx(magic, abs=0.005)
    film = spectra.film(20, exact, degree)
    assert not isinstance(film, list)
    np.testing.assert_allclose(film.intensity, spectra.isotropic().intensity, rtol=1e-12)


def test_flat_molecule_at_grazing_and_normal_incidence(spectra: SiteSpectra) -> None:
    """A flat-lying planar molecule shows its normal to grazing light, and its plane at normal incidence."""
    normal, kind = molecular_axis(spectra.z, spectra.pos)
    assert kind == "plane normal"
    assert np.ptp(spectra.pos @ normal) < 1e-10
    grazing, normal_incidence = spectra.film(tilt=0, theta=[0, 90])  # pyright: ignore[reportGeneralTypeIssues]
    out = spectra.along(normal).intensity
    np.testing.assert_allclose(grazing.intensity, out, rtol=1e-10)
    in_plane = (3 * spectra.isotropic().intensity - out) / 2
    np.testing.assert_allclose(normal_incidence.intensity, in_plane, rtol=1e-10)
    geometry = grazing.meta["polarization"]
    assert (geometry["kind"], geometry["tilt"], geometry["theta"]) == ("film", 0.0, 0.0)
    assert geometry["axis"] == pytest.approx(normal)


def test_film_does_not_depend_on_the_frame(spectra: SiteSpectra, rng: np.random.Generator) -> None:
    r = random_rotations(rng, 1)[0]
    tensor = np.einsum("ac,secd,bd->seab", r, spectra.tensor, r)
    turned = SiteSpectra(spectra.energy, tensor, spectra.sites, spectra.z, spectra.pos @ r.T + 3.0)
    for ours, theirs in zip(spectra.film(35, [20, 70], 0.9), turned.film(35, [20, 70], 0.9), strict=True):  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(ours.intensity, theirs.intensity, rtol=1e-10)


def test_given_normal_wins(spectra: SiteSpectra) -> None:
    film = spectra.film(0, 0, normal=[0, 0, -2])
    assert not isinstance(film, list)
    np.testing.assert_allclose(film.intensity, spectra.along("z").intensity, rtol=1e-12)
    assert film.meta["polarization"]["axis_kind"] == "given"


TETRAHEDRON = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.63


def test_molecular_axes() -> None:
    def axis(z: list[int], pos: list[list[float]]) -> tuple[list[float], str]:
        vector, kind = molecular_axis(np.array(z), np.array(pos, dtype=float))
        return vector.round(6).tolist(), kind

    ethylene = [[0, 0, 0.66], [0, 0, -0.66], [0.92, 0, 1.2], [-0.92, 0, 1.2], [0.92, 0, -1.2], [-0.92, 0, -1.2]]
    assert axis([6, 6, 1, 1, 1, 1], ethylene) == ([0.0, 1.0, 0.0], "plane normal")
    assert axis([6, 8], [[0, 0, 0], [-1.1, 0, 0]]) == ([1.0, 0.0, 0.0], "long axis")
    acetylene = [[0, 0, 0.6], [0, 0, -0.6], [0, 0, 1.66], [0, 0, -1.66]]
    assert axis([6, 6, 1, 1], acetylene) == ([0.0, 0.0, 1.0], "long axis")
    # a methyl group out of the plane does not tilt the plane of the heavy atoms
    bent = [[0, 0, 0], [1.5, 0, 0], [2.2, 1.3, 0], [-0.4, 1.0, 0.3], [-0.4, -0.5, -0.9]]
    assert axis([6, 6, 8, 1, 1], bent) == ([0.0, 0.0, 1.0], "plane normal")


@pytest.mark.parametrize("pos", [np.vstack([np.zeros((1, 3)), TETRAHEDRON]), np.zeros((1, 3))])
def test_round_molecules_need_a_given_normal(pos: np.ndarray) -> None:
    z = np.array([6] + [1] * (len(pos) - 1))
    spectra = SiteSpectra(np.array([0.0, 1.0]), np.ones((1, 2, 3, 3)), np.array([0]), z, pos)
    with pytest.raises(InputError, match="normal="):
        spectra.film(30, 55)
    assert spectra.film(30, 55, normal=[0, 0, 1]) is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1, 55), "tilt"), ((91, 55), "tilt"), ((30, 95), "theta"), ((30, 55, 1.2), "polarization degree")],
)
def test_angles_out_of_range_are_refused(spectra: SiteSpectra, arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        spectra.film(*arguments)
