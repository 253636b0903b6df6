"""Tensor products with the harmonics of an edge against e3nn, their parity, and the gate's constants."""

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.integrate import quad
from torch import Tensor

from equispec.nn.degree_products import SIGMOID_GAIN, EdgeCouplings, FullProduct, MeanProduct, paths
from equispec.nn.mlp import SILU_GAIN
from equispec.nn.so3 import spherical_harmonics, wigner_d
from random_rotations import directions, rotations

TOP, TO, CHANNELS = 4, 2, 3
AXES = [2, 0, 1]  # our x, y, z are z, x, y of e3nn


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def tensors(n: int, channels: int, top: int = TOP) -> Tensor:
    return torch.randn(n, (top + 1) ** 2, channels)


def turned(x: Tensor, matrix: Tensor) -> Tensor:
    """Spherical tensors [n, components, channels] after a rotation."""
    blocks = wigner_d(matrix, round(x.shape[1] ** 0.5) - 1)
    return torch.cat([d @ x[:, k * k : (k + 1) ** 2] for k, d in enumerate(blocks)], dim=1)


def coupled(couplings: EdgeCouplings, unit: Tensor, u: Tensor) -> list[Tensor]:
    return couplings(couplings.maps(spherical_harmonics(unit, range(TOP + 1))), u)


def test_A9_second_moments_of_the_gate() -> None:
    for gain, f in (
        (SILU_GAIN, lambda x: x / (1 + np.exp(-x))),
        (SIGMOID_GAIN, lambda x: 1 / (1 + np.exp(-x))),
    ):
        moment = quad(lambda x, f=f: np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * f(x) ** 2, -20, 20)[0]
        assert gain == pytest.approx(moment**-0.5, abs=1e-9)


@pytest.mark.parametrize("channels", [1, CHANNELS])
def test_C3_products_are_those_of_e3nn(channels: int) -> None:
    """Weight by weight; the signs of couplings are a convention, which the weights follow."""
    irreps = "+".join(f"{channels}x{k}{'eo'[k % 2]}" for k in range(TOP + 1))
    out = "+".join(f"{channels}x{k}{'eo'[k % 2]}" for k in range(TO + 1))
    edge = o3.Irreps.spherical_harmonics(TOP)
    theirs = o3.FullyConnectedTensorProduct(irreps, edge, out, path_normalization="none")
    couplings = EdgeCouplings(TOP, TOP, TO)
    u, unit = tensors(20, channels), directions(20)
    z = coupled(couplings, unit, u)
    weights: dict[int, list[Tensor]] = {k: [] for k in range(TO + 1)}
    for instruction, weight in zip(theirs.instructions, theirs.weight_views(), strict=True):
        l1, l2, l3 = instruction.i_in1, instruction.i_in2, instruction.i_out
        weights[l3].append(weight[:, 0] * (-1) ** ((l1 + l2 - l3) // 2))
    harmonics = o3.spherical_harmonics(edge, unit[:, torch.tensor(AXES).argsort()], False, "component")
    flat = torch.cat([u[:, k * k : (k + 1) ** 2].mT.flatten(1) for k in range(TOP + 1)], dim=1)
    expected = theirs(flat, harmonics)
    ours = [(x.flatten(2) @ torch.cat(weights[k])).mT.flatten(1) for k, x in enumerate(z)]
    torch.testing.assert_close(torch.cat(ours, dim=1), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["mean", "shared", "full"])
def test_C2_products_and_gate_are_equivariant_and_keep_parity(kind: str) -> None:
    couplings = EdgeCouplings(TOP, TOP, TO)
    channels = CHANNELS if kind == "full" else 1
    product = (
        FullProduct(couplings, TO, CHANNELS)
        if kind == "full"
        else MeanProduct(couplings, TO, CHANNELS, shared=kind == "shared")
    )
    torch.nn.init.normal_(product.gate.bias)
    u, unit = tensors(20, channels), directions(20)
    expected = product(coupled(couplings, unit, u))
    assert expected.shape == (20, (TO + 1) ** 2, CHANNELS)
    for matrix in rotations(5, seed=2):
        found = product(coupled(couplings, unit @ matrix.T, turned(u, matrix)))
        assert (found - turned(expected, matrix)).abs().max() < 1e-10
    sign = torch.cat([torch.full((2 * k + 1, 1), (-1.0) ** k) for k in range(TOP + 1)])
    inverted = product(coupled(couplings, -unit, sign * u))
    assert (inverted - sign[: (TO + 1) ** 2] * expected).abs().max() < 1e-10


def test_every_weight_has_its_path() -> None:
    couplings = EdgeCouplings(6, 6, 2)
    assert couplings.counts == [7, 12, 16]
    assert len(paths(6, 6, 2)) == 35
    product = MeanProduct(couplings, 2, 128)
    assert sum(p.numel() for p in product.parameters()) == 6656  # C1, with 384 biases
