"""Transforms between coefficients and values on the sphere, and points that cover it."""

import numpy as np
import pytest
import torch

from equispec.nn.so3 import spherical_harmonics
from equispec.nn.sphere import SphereGrid, crowding, harmonics_at, sphere_grid, spiral


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("top", [1, 3, 4, 5, 6])
def test_A8_there_and_back_is_the_identity(top: int) -> None:
    grid = SphereGrid(top)
    assert grid.to_grid.shape == (2 * (top + 1) * (2 * top + 3), (top + 1) ** 2)
    assert (grid.from_grid @ grid.to_grid - torch.eye((top + 1) ** 2)).abs().max() < 1e-12


@pytest.mark.parametrize("top", [4, 5])
def test_A8_odd_degrees_negated_are_the_value_on_the_other_side(top: int) -> None:
    points = sphere_grid(2 * (top + 1), 2 * top + 3)[0]
    sign = torch.cat([torch.full((2 * degree + 1,), (-1.0) ** degree) for degree in range(top + 1)])
    opposite = spherical_harmonics(-torch.as_tensor(points), range(top + 1))
    assert (SphereGrid(top).to_grid * sign - opposite).abs().max() < 1e-12


@pytest.mark.parametrize("rows", [2, 6, 14])
def test_quadrature_is_exact_up_to_twice_the_degree(rows: int) -> None:
    points, weights = sphere_grid(rows, rows + 1)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-14)
    integrals = weights @ harmonics_at(points, rows - 1).numpy()
    np.testing.assert_allclose(integrals, np.sqrt(4 * np.pi) * np.eye(len(integrals))[0], atol=1e-13)


def test_a_spiral_covers_the_sphere_evenly() -> None:
    points = spiral(128)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-14)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 9 * np.eye(128)
    nearest = distances.min(1)
    assert nearest.max() / nearest.min() < 1.6
    density = crowding(points)
    assert density.mean() == pytest.approx(1)
    assert 0.98 < density.min() < density.max() < 1.02


def test_points_that_are_no_unit_vectors_scale_each_degree() -> None:
    points, lengths = spiral(5), np.array([0.5, 1, 2, 3, 0.1])
    scaled = harmonics_at(points, 2, lengths)
    plain = harmonics_at(points, 2)
    for degree in range(3):
        part = slice(degree**2, (degree + 1) ** 2)
        torch.testing.assert_close(scaled[:, part], plain[:, part] * torch.as_tensor(lengths[:, None] ** degree))
