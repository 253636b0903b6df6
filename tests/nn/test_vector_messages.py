"""Sums of messages: the equations as loops, and every derivative against automatic and numerical differentiation."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from equispec.nn import pairs as pairs_module
from equispec.nn import vector_messages as module
from equispec.nn.pairs import EdgePairs, tiles
from equispec.nn.vector_messages import scalar_messages, vector_messages

N_ATOMS, FEATURES, COLUMNS, PAIRS = 4, 2, 3, 5

Arguments = tuple[Tensor, Tensor, Tensor, Tensor]  # direction, basis, filters, gates


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=["one tile", "small tiles"], autouse=True)
def tile_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "small tiles":
        # the smallest size of a tile is for speed; here it may hold fewer pairs than there are
        monkeypatch.setattr(pairs_module, "SMALLEST_TILE", 4)
        monkeypatch.setattr(pairs_module, "TILE_ELEMENTS", 0)


def case(ways: int, propagation: bool) -> tuple[EdgePairs, Arguments]:
    receiver = torch.randint(0, N_ATOMS, (1, PAIRS)).sort().values
    sender = torch.randint(0, N_ATOMS, (1, PAIRS))
    if ways == 2:
        receiver, sender = torch.cat([receiver, sender]), torch.cat([sender, receiver])
    arguments = (
        torch.randn(3, ways, PAIRS),
        torch.randn(COLUMNS, PAIRS),
        torch.randn((3 if propagation else 2) * FEATURES, COLUMNS),
        torch.randn(5 if propagation else 2, N_ATOMS, FEATURES),
    )
    for x in arguments:
        x.requires_grad_()
    return EdgePairs(tiles(receiver, sender, N_ATOMS, FEATURES), *arguments[:2]), arguments


def atoms(edges: EdgePairs) -> tuple[Tensor, Tensor]:
    """Receivers and senders [ways, pairs]."""
    ways = edges.direction.shape[1]
    return tuple(torch.cat([x.view(ways, -1) for x in y], dim=1) for y in list(zip(*edges.tiles, strict=True))[2:4])  # type: ignore


cases = pytest.mark.parametrize(("ways", "propagation"), [(1, True), (2, True), (2, False)])


@cases
def test_equations(ways: int, propagation: bool) -> None:
    edges, (u, basis, filters, gates) = case(ways, propagation)
    expected = torch.zeros(4, N_ATOMS, FEATURES)
    receiver, sender = atoms(edges)
    with torch.no_grad():
        for way in range(ways):
            for pair in range(PAIRS):
                i, j = receiver[way, pair], sender[way, pair]
                w_s, w_vs, *w_vv = (filters @ basis[:, pair]).split(FEATURES)
                expected[0, i] += gates[1, j] * w_s
                expected[1:, i] += torch.outer(u[:, way, pair], gates[0, j] * w_vs)
                if propagation:
                    expected[1:, i] += gates[2:, j] * w_vv[0]
    assert torch.allclose(vector_messages(edges, filters, gates), expected, atol=1e-13)
    assert torch.allclose(module._plain_sums(edges.tiles, u, basis, filters, gates), expected, atol=1e-13)
    alone = scalar_messages(edges, filters[:FEATURES], gates[1])
    assert torch.allclose(alone, expected[0], atol=1e-13)


@cases
def test_first_and_second_derivatives(ways: int, propagation: bool) -> None:
    edges, arguments = case(ways, propagation)

    def sums(*x: Tensor) -> Tensor:
        return vector_messages(EdgePairs(edges.tiles, x[0], x[1]), x[2], x[3])

    assert torch.autograd.gradcheck(sums, arguments)
    assert torch.autograd.gradgradcheck(sums, arguments)


@cases
def test_third_derivatives(ways: int, propagation: bool) -> None:
    edges, arguments = case(ways, propagation)
    grad = torch.randn(4, N_ATOMS, FEATURES)

    def forces_of_forces(function) -> list[Tensor]:
        """A scalar of the second derivatives, differentiated once more."""
        first = torch.autograd.grad(function(edges.tiles, *arguments), arguments, grad, create_graph=True)
        value = sum(x.square().sum() for x in first)
        second = torch.autograd.grad(value, arguments, create_graph=True)
        return list(torch.autograd.grad(sum(x.square().sum() for x in second), arguments))

    ours, plain = forces_of_forces(module._Sums.apply), forces_of_forces(module._plain_sums)
    for a, b in zip(ours, plain, strict=True):
        assert torch.allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("kept", [(0,), (1,), (2,), (3,), (0, 1), (2, 3)], ids=str)
def test_gradients_by_some_arguments(kept: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for does not change what it is, and what is not is not made, even though it could be."""
    edges, arguments = case(2, True)
    x, same = ([y * 1 for y in arguments] for _ in range(2))  # not leaves, as in a network
    asked = []
    gradient = module._gradient
    monkeypatch.setattr(
        module, "_gradient", lambda tiles, wanted, *y: asked.append(wanted) or gradient(tiles, wanted, *y)
    )
    grad = torch.randn(4, N_ATOMS, FEATURES)
    found = torch.autograd.grad(module._Sums.apply(edges.tiles, *x), [x[k] for k in kept], grad, create_graph=True)
    expected = torch.autograd.grad(module._plain_sums(edges.tiles, *same), same, grad, create_graph=True)
    assert asked == [tuple(k in kept for k in range(3))]
    for k, value in zip(kept, found, strict=True):
        assert torch.allclose(value, expected[k], atol=1e-13)
    found, expected = ([y.square().sum() for y in gradient] for gradient in (found, [expected[k] for k in kept]))
    second, reference = (torch.autograd.grad(y, arguments, materialize_grads=True) for y in (found, expected))
    for a, b in zip(second, reference, strict=True):
        assert torch.allclose(a, b, rtol=1e-10)


def test_no_edges() -> None:
    empty = torch.zeros(2, 0, dtype=torch.int64)
    edges = EdgePairs(tiles(empty, empty, N_ATOMS, FEATURES), torch.randn(3, 2, 0), torch.randn(COLUMNS, 0))
    filters = torch.randn(3 * FEATURES, COLUMNS, requires_grad=True)
    gates = torch.randn(5, N_ATOMS, FEATURES, requires_grad=True)
    total = vector_messages(edges, filters, gates)
    assert torch.equal(total, torch.zeros(4, N_ATOMS, FEATURES))
    for x in torch.autograd.grad(total.sum(), (filters, gates)):
        assert torch.equal(x, torch.zeros_like(x))
