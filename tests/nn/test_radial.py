"""Cutoff functions and radial bases: the values that papers print, slopes at the ends, and formulas."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from equispec.nn.cutoff import cosine_cutoff, polynomial_envelope
from equispec.nn.radial import RADIAL_BASES, BesselBasis, GaussianBasis, PhysNetBasis

CUTOFF = 5.0


@pytest.fixture(autouse=True)
def double() -> object:
    """Constants are computed in the default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def derivatives(function, x: float, n: int) -> list[float]:
    """Value and the first n derivatives of a function of one number."""
    at = torch.tensor(x, requires_grad=True)
    values = [function(at)]
    for _ in range(n):
        values += torch.autograd.grad(values[-1], at, create_graph=True)
    return [value.item() for value in values]


def test_A5_cosine_cutoff() -> None:
    for cutoff in (2.5, 5.0, 8.0):
        d = torch.tensor([0.0, cutoff / 2, cutoff, cutoff + 1e-9, 3 * cutoff])
        assert (cosine_cutoff(d, cutoff) - torch.tensor([1.0, 0.5, 0, 0, 0])).abs().max() <= 1e-15
        value, slope, bend = derivatives(lambda d, c=cutoff: cosine_cutoff(d, c), cutoff - 1e-9, 2)
        assert abs(value) <= 1e-8
        assert abs(slope) <= 1e-8
        assert bend == pytest.approx((np.pi / cutoff) ** 2 / 2)  # the second derivative does jump
        assert derivatives(lambda d, c=cutoff: cosine_cutoff(d, c), cutoff + 1e-9, 2) == [0, 0, 0]
        random = torch.rand(20) * cutoff
        assert torch.allclose(cosine_cutoff(random, cutoff), torch.cos(random * math.pi / (2 * cutoff)) ** 2)


def test_A5_polynomial_of_dimenet() -> None:
    x = torch.tensor([0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.5, 40.0])
    expected = torch.tensor([1.0, 0.9957733154, 0.85546875, 0.3214569092, 0.03809179, 0, 0, 0])
    assert (polynomial_envelope(x, 6) - expected).abs().max() <= 1e-8
    assert (polynomial_envelope(x, 6)[5:] == 0).all()


@pytest.mark.parametrize("p", [2, 5, 6])
def test_A5_polynomial_vanishes_smoothly(p: int) -> None:
    inside = derivatives(lambda x: polynomial_envelope(x, p), 1 - 1e-11, 2)
    assert np.abs(inside).max() <= 1e-8
    for x in (1.0, 1 + 1e-11, 13.0):
        assert derivatives(lambda x: polynomial_envelope(x, p), x, 2) == [0, 0, 0]
    x = torch.linspace(0, 1, 50)
    y = polynomial_envelope(x, p)
    a, b, c = (p + 1) * (p + 2) / 2, p * (p + 2), p * (p + 1) / 2
    assert torch.allclose(y, 1 - a * x**p + b * x ** (p + 1) - c * x ** (p + 2), atol=1e-13)
    assert (y.diff() <= 1e-14).all()


def test_A6_constants_of_physnet() -> None:
    basis = PhysNetBasis(32, CUTOFF)
    assert basis.beta.item() == pytest.approx(259.48501191, abs=1e-8)
    assert basis.centres[0].item() == pytest.approx(0.006737947, abs=1e-8)
    assert basis.centres[31].item() == pytest.approx(1, abs=1e-15)
    assert basis.centres.diff().diff().abs().max() <= 1e-15
    assert basis(torch.zeros(1))[0, 31].item() == pytest.approx(1, abs=1e-8)
    assert basis(torch.tensor([CUTOFF]))[0, 0].item() == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize(("n", "cutoff"), [(32, 5.0), (7, 2.5), (2, 10.0)])
def test_A6_physnet_is_the_formula(n: int, cutoff: float) -> None:
    d = np.random.default_rng(n).uniform(0.5, 1.2 * cutoff, 25)
    last = math.exp(-cutoff)
    centres = last + (1 - last) / (n - 1) * np.arange(n)
    expected = np.exp(-((2 / n * (1 - last)) ** -2) * (np.exp(-d)[:, None] - centres) ** 2)
    np.testing.assert_allclose(PhysNetBasis(n, cutoff)(torch.as_tensor(d)), expected, atol=1e-12)


def test_gaussians_and_sines_are_their_formulas() -> None:
    d = torch.tensor(np.random.default_rng(1).uniform(0.5, CUTOFF, 25))
    width = CUTOFF / 8
    gaussians = torch.exp(-0.5 * ((d[:, None] - width * torch.arange(9)) / width) ** 2)
    assert (GaussianBasis(9, CUTOFF)(d) - gaussians).abs().max() <= 1e-12
    sines = torch.sin(d[:, None] * torch.arange(1, 10) * (math.pi / CUTOFF)) / d[:, None]
    assert (BesselBasis(9, CUTOFF)(d) - sines).abs().max() <= 1e-12
    at_zero = torch.arange(1, 10) * (math.pi / CUTOFF)
    assert (BesselBasis(9, CUTOFF)(torch.zeros(1))[0] - at_zero).abs().max() <= 1e-8


@pytest.mark.parametrize("name", RADIAL_BASES)
def test_bases_are_differentiable_and_take_no_distances(name: str) -> None:
    basis = RADIAL_BASES[name](6, CUTOFF)
    d: Tensor = torch.tensor([0.7, 2.0, 4.9], requires_grad=True)
    assert torch.autograd.gradcheck(basis, d)
    assert torch.autograd.gradgradcheck(basis, d)
    assert basis(torch.zeros(0)).shape == (0, 6)
    assert not list(basis.parameters())
    assert not basis.state_dict()
    stored = RADIAL_BASES[name](6, CUTOFF, stored=True).state_dict()
    assert set(stored) == {key for key, _ in basis.named_buffers()}


def test_A7_gaussians_at_their_centres() -> None:
    """Widths of ours are one spacing: e^-1/2 at the neighbouring centre."""
    basis = GaussianBasis(400, 8.0)
    values = basis(basis.centres)
    assert (values.diagonal() - 1).abs().max() <= 1e-12
    assert (values.diagonal(1) - math.exp(-0.5)).abs().max() <= 1e-12
