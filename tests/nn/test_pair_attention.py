"""Scores and sums of attention: plain loops, derivatives to third order, one and two ways, tiles, heads."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from equispec.nn import pair_attention
from equispec.nn.pair_attention import PairIndex, scores, spread

ATOMS, HEADS, FEATURES = 7, 3, 6


def some_index(pairs: int, ways: int, features: int = FEATURES) -> PairIndex:
    random = np.random.default_rng(pairs + 1000 * ways)
    receiver, sender = torch.as_tensor(random.integers(0, ATOMS, (2, 1, pairs)))
    if ways == 2:
        receiver, sender = torch.cat([receiver, sender]), torch.cat([sender, receiver])
    return PairIndex.of(receiver, sender, ATOMS, features)


def some_arrays(pairs: int, ways: int, features: int = FEATURES, heads: int = HEADS) -> tuple[Tensor, ...]:
    """q, w, k, v and a."""
    torch.manual_seed(pairs)
    shapes = (ATOMS, features), (pairs, features), (ATOMS, features), (ATOMS, features), (ways, pairs, heads)
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


def looped_scores(index: PairIndex, q: Tensor, w: Tensor | None, k: Tensor, heads: int = HEADS) -> Tensor:
    size = q.shape[1] // heads
    found = torch.zeros(*index.receiver.shape, heads, dtype=q.dtype)
    for way, pair, h, c in product(range(index.ways), range(index.receiver.shape[1]), range(heads), range(size)):
        i, j, channel = int(index.receiver[way, pair]), int(index.sender[way, pair]), h * size + c
        found[way, pair, h] += q[i, channel] * k[j, channel] * (1 if w is None else w[pair, channel])
    return found


def looped_sums(index: PairIndex, a: Tensor, w: Tensor | None, v: Tensor, reverse: bool) -> Tensor:
    size = v.shape[1] // a.shape[2]
    found = torch.zeros_like(v)
    for way, pair, c in product(range(index.ways), range(index.receiver.shape[1]), range(v.shape[1])):
        i, j = int(index.receiver[way, pair]), int(index.sender[way, pair])
        to, source = (j, i) if reverse else (i, j)
        found[to, c] += a[way, pair, c // size] * v[source, c] * (1 if w is None else w[pair, c])
    return found


@pytest.fixture(params=[False, True], ids=["one tile", "tiles"])
def tiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether ranges of pairs are the smallest, 32 edges."""
    if request.param:
        monkeypatch.setattr("equispec.nn.pairs.TILE_ELEMENTS", 0)
    return request.param


@pytest.mark.parametrize("filtered", [True, False], ids=["w", "no w"])
@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize("pairs", [0, 1, 16, 17, 32, 33, 70])
def test_plain_loops(pairs: int, ways: int, filtered: bool, tiled: bool) -> None:
    index = some_index(pairs, ways)
    assert (len(index.tiles) > 1) == (tiled and pairs * ways > 32)
    q, w, k, v, a = some_arrays(pairs, ways)
    given = w if filtered else None
    found = scores(index, HEADS, q, given, k)
    assert found.shape == (ways, pairs, HEADS)
    assert torch.allclose(found, looped_scores(index, q, given, k), rtol=0, atol=1e-13)
    for reverse in (False, True):
        expected = looped_sums(index, a, given, v, reverse)
        assert torch.allclose(spread(index, a, given, v, reverse), expected, rtol=0, atol=1e-13)


def test_arguments_are_not_changed() -> None:
    index, arrays = some_index(9, 2), some_arrays(9, 2)
    q, w, k, v, a = (x.clone().requires_grad_() for x in arrays)
    spread(index, scores(index, HEADS, q, w, k) + a, w, v).square().sum().backward()
    assert all(torch.equal(after, before) for after, before in zip((q, w, k, v, a), arrays, strict=True))


@pytest.mark.parametrize("ways", [1, 2])
def test_derivatives(ways: int, tiled: bool) -> None:
    pairs = 40 if tiled else 3
    index = some_index(pairs, ways)
    q, w, k, v, a = (x.requires_grad_() for x in some_arrays(pairs, ways))
    fast = {"fast_mode": tiled}  # many numbers: along a random direction
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda q, w, k: scores(index, HEADS, q, w, k), (q, w, k), **fast)
        assert check(lambda q, k: scores(index, HEADS, q, None, k), (q, k), **fast)
        for reverse in (False, True):
            assert check(lambda a, w, v, r=reverse: spread(index, a, w, v, r), (a, w, v), **fast)
            assert check(lambda a, v, r=reverse: spread(index, a, None, v, r), (a, v), **fast)


@pytest.mark.parametrize("ways", [1, 2])
def test_third_derivatives(ways: int) -> None:
    """gradgradcheck of a gradient, for the attention as a whole."""
    index = some_index(3, ways, features=2)
    arrays = tuple(x.requires_grad_() for x in some_arrays(3, ways, features=2, heads=1)[:4])

    def gradient(q: Tensor, w: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        value = spread(index, scores(index, 1, q, w, k).tanh(), w, v)
        value = value.square().sum() + spread(index, scores(index, 1, q, w, k), None, v).sin().sum()
        return torch.autograd.grad(value, (q, w, k, v), create_graph=True)

    assert torch.autograd.gradcheck(gradient, arrays, fast_mode=True)
    assert torch.autograd.gradgradcheck(gradient, arrays, fast_mode=True)


@pytest.mark.parametrize("name", ["q", "w", "k", "v", "a"])
def test_derivatives_by_one_argument_alone(name: str) -> None:
    """The others are constants, and get no gradients."""
    index = some_index(3, 2)
    arrays = dict(zip(("q", "w", "k", "v", "a"), some_arrays(3, 2), strict=True))
    x = arrays[name].requires_grad_()

    def value(x: Tensor) -> Tensor:
        given = {**arrays, name: x}
        return spread(
            index, scores(index, HEADS, given["q"], given["w"], given["k"]) + given["a"], given["w"], given["v"]
        )

    assert torch.autograd.gradcheck(value, x)
    assert torch.autograd.gradgradcheck(value, x)


def test_no_pairs_have_derivatives() -> None:
    index = some_index(0, 2)
    q, w, k, v, a = (x.requires_grad_() for x in some_arrays(0, 2))
    total = spread(index, scores(index, HEADS, q, w, k) + a, w, v).sum() + scores(index, HEADS, q, None, k).sum()
    for x, gradient in zip((q, w, k, v, a), torch.autograd.grad(total, (q, w, k, v, a)), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))


def test_heads_do_not_mix() -> None:
    """Channels of head 1 alone change scores and sums of head 1 alone; order within a head is without meaning."""
    index = some_index(20, 2)
    q, w, k, v, a = some_arrays(20, 2)
    head = slice(2, 4)
    before, sums = scores(index, HEADS, q, w, k), spread(index, a, w, v)
    for changed in ((q, True), (w, True), (k, True), (v, False)):
        x, to_scores = changed
        x[:, head] += 1
        difference = (scores(index, HEADS, q, w, k) - before).abs().amax((0, 1))
        assert (difference > 0).tolist() == [False, to_scores, False]
        difference = (spread(index, a, w, v) - sums).abs().amax(0)
        assert not difference[[0, 1, 4, 5]].any()
        before, sums = scores(index, HEADS, q, w, k), spread(index, a, w, v)
    within, across = [1, 0, 2, 3, 5, 4], [0, 2, 1, 3, 4, 5]
    assert torch.allclose(scores(index, HEADS, q[:, within], w[:, within], k[:, within]), before, atol=1e-13)
    assert not torch.allclose(scores(index, HEADS, q[:, across], w[:, across], k[:, across]), before, atol=1e-3)


def test_both_ways_are_one_way_and_its_mirror_image() -> None:
    two = some_index(12, 2)
    q, w, k, v, a = some_arrays(12, 2)
    both = PairIndex.of(two.receiver.reshape(1, -1), two.sender.reshape(1, -1), ATOMS, FEATURES)
    twice = torch.cat([w, w])
    flat = scores(both, HEADS, q, twice, k)
    assert torch.allclose(flat.view(2, 12, HEADS), scores(two, HEADS, q, w, k), atol=1e-14)
    assert torch.allclose(spread(both, a.reshape(1, 24, HEADS), twice, v), spread(two, a, w, v), atol=1e-13)


def test_the_three_operations_are_all_that_there_is() -> None:
    """Gradients of the hand-written operations are again these, so that no order of derivatives is left out."""
    index = some_index(4, 2)
    q, w, k, _, a = (x.requires_grad_() for x in some_arrays(4, 2))
    (by_w,) = torch.autograd.grad((scores(index, HEADS, q, w, k) * a).sum(), w, create_graph=True)
    assert torch.allclose(by_w, pair_attention._products(index, a, q, k), atol=1e-14)
    assert torch.autograd.gradcheck(lambda a, q, k: pair_attention._products(index, a, q, k), (a, q, k))
    assert torch.autograd.gradgradcheck(lambda a, q, k: pair_attention._products(index, a, q, k), (a, q, k))
