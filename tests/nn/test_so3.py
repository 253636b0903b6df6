"""Harmonics, couplings and rotation matrices: orthonormal, equivariant, exact at the poles, those of e3nn."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from e3nn import o3
from torch import Tensor

from equispec.nn.so3 import components, coupling, spherical_harmonics, tensors_of, vectors_of, wigner_d
from random_rotations import directions, rotations

TOP = 6
DEGREES = tuple(range(TOP + 1))
TRIPLES = [(a, b, c) for a, b in product(DEGREES, repeat=2) for c in range(abs(a - b), min(a + b, TOP) + 1)]
POLES = torch.cat([torch.eye(3), -torch.eye(3)]).double()


def near_the_identity_and_half_turns() -> Tensor:
    """Rotations where Euler angles about any axis fail, and rotations next to them."""
    signs = [np.diag(d) for d in ([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1])]
    exact = torch.as_tensor(np.array([*signs, np.roll(np.eye(3), 1, axis=0)], dtype=float))
    axis = torch.tensor([[0, -0.3, 0.5], [0.3, 0, -0.7], [-0.5, 0.7, 0]], dtype=torch.float64)
    tilts = torch.stack([torch.linalg.matrix_exp(size * axis) for size in (0.0, 1e-9, 1e-7, 1e-4)])
    return (tilts[:, None] @ exact[None]).flatten(0, 1)


def in_double(call: Callable[[], list]) -> list:
    """What e3nn computes in single precision unless the default is another."""
    torch.set_default_dtype(torch.float64)
    try:
        return call()
    finally:
        torch.set_default_dtype(torch.float32)


def largest(x: Tensor) -> float:
    return float(x.abs().max())


def test_A1_harmonics_are_orthonormal() -> None:
    cosines, weights = np.polynomial.legendre.leggauss(TOP + 1)  # exact for polynomials of degree 2 TOP + 1
    angles = np.arange(2 * TOP + 1) * 2 * np.pi / (2 * TOP + 1)
    z, phi = (x.ravel() for x in np.meshgrid(cosines, angles, indexing="ij"))
    sine = np.sqrt(1 - z**2)
    points = torch.as_tensor(np.stack([sine * np.cos(phi), sine * np.sin(phi), z], axis=-1))
    y = spherical_harmonics(points, DEGREES)
    measure = torch.as_tensor(np.repeat(weights, len(angles)) * 2 * np.pi / len(angles))
    assert largest(y.T @ (measure[:, None] * y) - torch.eye(components(DEGREES))) <= 1e-12


@pytest.mark.parametrize("matrices", [rotations(25), near_the_identity_and_half_turns()], ids=["random", "poles"])
def test_A2_rotation_matrices_of_all_degrees(matrices: Tensor) -> None:
    found, others = wigner_d(matrices, TOP), wigner_d(rotations(len(matrices), seed=1), TOP)
    products = wigner_d(matrices @ rotations(len(matrices), seed=1), TOP)
    u = torch.cat([directions(20), POLES])
    turned = torch.einsum("nab,ub->nua", matrices, u)
    for degree, (d, other, both) in enumerate(zip(found, others, products, strict=True)):
        y, rotated = spherical_harmonics(u, [degree]), spherical_harmonics(turned, [degree])
        assert largest(rotated - torch.einsum("ncd,ud->nuc", d, y)) <= 1e-12
        assert largest(d @ d.mT - torch.eye(2 * degree + 1)) <= 1e-12
        assert largest(torch.linalg.det(d) - 1) <= 1e-12
        assert largest(d @ other - both) <= 1e-12
    assert [len(wigner_d(matrices, top)) for top in (0, 1, 2)] == [1, 2, 3]


def test_A2_rotation_matrices_of_e3nn() -> None:
    """Its components are those of (y, z, x); by Euler angles, thus away from their poles only."""
    matrices = rotations(25, seed=2)
    order = [1, 2, 0]
    theirs = matrices[:, order][:, :, order]
    away = theirs[:, 1, 1].abs() < 0.99
    assert away.sum() >= 20
    theirs_d = in_double(lambda: [o3.Irrep(degree, 1).D_from_matrix(theirs[away]) for degree in DEGREES])
    for d, expected in zip(wigner_d(matrices[away], TOP), theirs_d, strict=True):
        assert largest(d - expected) <= 1e-10


def test_A3_values_of_the_first_degrees() -> None:
    u = torch.tensor([0.36, 0.48, 0.8], dtype=torch.float64)
    first = [0.2345292057, 0.3908820095, 0.1758969043]
    second = [0.1887923688, 0.4195385973, 0.2901602400, 0.3146539480, -0.0550644409]
    y = spherical_harmonics(u, [0, 1, 2])
    assert largest(y - torch.tensor([0.5 / np.sqrt(np.pi), *first, *second], dtype=torch.float64)) <= 1e-10


def test_A3_the_norm_of_every_degree() -> None:
    u = torch.cat([directions(30), POLES])
    for degree in DEGREES:
        norms = spherical_harmonics(u, [degree]).square().sum(-1)
        assert largest(norms - (2 * degree + 1) / (4 * np.pi)) <= 1e-12


@pytest.mark.parametrize("degrees", [DEGREES, (3,), (2, 3), (0,), (5, 1)], ids=str)
def test_A3_harmonics_of_e3nn(degrees: tuple[int, ...]) -> None:
    u = torch.cat([directions(30), POLES]).view(4, 9, 3)
    expected = o3.spherical_harmonics(list(degrees), u[..., [1, 2, 0]], normalize=False, normalization="integral")
    assert largest(spherical_harmonics(u, degrees) - expected) <= 1e-12
    signs = torch.cat([torch.full((2 * degree + 1,), (-1.0) ** degree) for degree in degrees])
    assert largest(spherical_harmonics(-u, degrees) - signs * spherical_harmonics(u, degrees)) == 0


@pytest.mark.parametrize("top", [TOP])
def test_A4_couplings_are_invariant_and_of_norm_1(top: int) -> None:
    ds = [d.numpy() for d in wigner_d(rotations(20, seed=3), top)]
    for l1, l2, l3 in TRIPLES:
        c = coupling(l1, l2, l3)
        assert abs(np.linalg.norm(c) - 1) <= 1e-12
        turned = np.einsum("cab,nax,nby->ncxy", c, ds[l1], ds[l2], optimize=True)
        expected = np.einsum("ncd,dxy->ncxy", ds[l3], c)
        assert np.abs(turned - expected).max() <= 1e-12, (l1, l2, l3)


def test_A4_couplings_of_e3nn_up_to_sign() -> None:
    theirs = in_double(lambda: [o3.wigner_3j(*triple).permute(2, 0, 1).numpy() for triple in TRIPLES])
    for triple, expected in zip(TRIPLES, theirs, strict=True):
        found = coupling(*triple)
        assert min(np.abs(found - expected).max(), np.abs(found + expected).max()) <= 1e-12, triple


def test_A4_the_cross_product_and_exchange() -> None:
    epsilon = np.zeros((3, 3, 3))
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        epsilon[a, b, c], epsilon[a, c, b] = 1, -1
    found = coupling(1, 1, 1)
    assert min(np.abs(found - s * epsilon / np.sqrt(6)).max() for s in (1, -1)) <= 1e-12
    for degree in range(1, TOP + 1):
        for l3 in range(min(2 * degree, TOP) + 1):
            c = coupling(degree, degree, l3)
            assert np.abs(c.transpose(0, 2, 1) - (-1) ** l3 * c).max() <= 1e-12


def test_A4_degrees_that_do_not_couple() -> None:
    with pytest.raises(ValueError, match="do not couple"):
        coupling(1, 2, 4)
    with pytest.raises(ValueError, match="do not couple"):
        coupling(3, 1, 1)
    with pytest.raises(ValueError, match="read-only"):
        coupling(1, 1, 2)[0, 0, 0] = 1.0


def test_products_of_harmonics_of_one_direction() -> None:
    """C(Y_l1(û), Y_l2(û)) is along Y_l3(û), and zero where l1 + l2 + l3 is odd."""
    y = dict(enumerate(spherical_harmonics(directions(20), [degree]) for degree in DEGREES))
    for l1, l2, l3 in TRIPLES:
        product_ = torch.einsum("cab,na,nb->nc", torch.tensor(coupling(l1, l2, l3)), y[l1], y[l2])
        along = (product_ * y[l3]).sum(-1, keepdim=True) / y[l3].square().sum(-1, keepdim=True)
        assert largest(product_ - along * y[l3]) <= 1e-12
        assert (largest(along) > 1e-3) == ((l1 + l2 + l3) % 2 == 0)


def test_vectors_and_tensors_of_harmonics() -> None:
    u = directions(20)
    assert largest(vectors_of(spherical_harmonics(u, [1])) - np.sqrt(3 / (4 * np.pi)) * u) <= 1e-12
    traceless = u[:, :, None] * u[:, None, :] - torch.eye(3, dtype=u.dtype) / 3
    expected = traceless * np.sqrt(5 / (4 * np.pi)) / np.sqrt(2 / 3)
    assert largest(tensors_of(spherical_harmonics(u, [2])) - expected) <= 1e-12


def test_vectors_and_tensors_rotate() -> None:
    matrices = rotations(20, seed=4)
    _, first, second = wigner_d(matrices, 2)
    x, y = torch.randn(20, 3, dtype=torch.float64), torch.randn(20, 5, dtype=torch.float64)
    turned = torch.einsum("nab,nb->na", matrices, vectors_of(x))
    assert largest(vectors_of(torch.einsum("nab,nb->na", first, x)) - turned) <= 1e-12
    tensors = tensors_of(y)
    assert largest(tensors_of(torch.einsum("nab,nb->na", second, y)) - matrices @ tensors @ matrices.mT) <= 1e-12
    assert largest(tensors - tensors.mT) <= 1e-12
    assert largest(tensors.diagonal(dim1=1, dim2=2).sum(-1)) <= 1e-12
    assert largest(tensors.square().sum((1, 2)) - y.square().sum(1)) <= 1e-12


@pytest.mark.parametrize("points", [directions(3), POLES[:3]], ids=["random", "poles"])
def test_harmonics_are_differentiable_twice(points: Tensor) -> None:
    v = points.clone().requires_grad_()

    def harmonics(v: Tensor) -> Tensor:
        return spherical_harmonics(v / v.norm(dim=-1, keepdim=True), (0, 1, 2, 3, 4))

    assert torch.autograd.gradcheck(harmonics, v)
    assert torch.autograd.gradgradcheck(harmonics, v)


def test_rotation_matrices_are_differentiable_twice() -> None:
    matrix = rotations(1)[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda m: torch.cat([d.flatten() for d in wigner_d(m, 3)]), matrix)
    assert torch.autograd.gradgradcheck(lambda m: torch.cat([d.flatten() for d in wigner_d(m, 3)]), matrix)


def test_harmonics_under_function_transforms() -> None:
    u, degrees = directions(5), (1, 2, 3)
    many = torch.func.vmap(lambda v: spherical_harmonics(v, degrees))(u)
    assert torch.equal(many, spherical_harmonics(u, degrees))
    jacobian = torch.func.vmap(torch.func.jacrev(lambda v: spherical_harmonics(v, degrees)))(u)
    h = 1e-5
    steps = h * torch.eye(3, dtype=torch.float64)
    apart = [spherical_harmonics(u + step, degrees) - spherical_harmonics(u - step, degrees) for step in steps]
    assert largest(jacobian - torch.stack(apart, dim=-1) / (2 * h)) <= 1e-8


def test_single_precision() -> None:
    u = directions(20)
    y = spherical_harmonics(u.float(), DEGREES)
    assert y.dtype == torch.float32
    assert largest(y - spherical_harmonics(u, DEGREES)) <= 1e-5
    assert all(d.dtype == torch.float32 for d in wigner_d(rotations(2).float(), TOP))
