"""Softmax within segments: rows of numbers of any size and number, among them none."""

import numpy as np
import torch
from torch import Tensor

from equispec.nn.segment import segment_softmax

SEGMENTS = 9


def case(seed: int, size: float = 3.0) -> tuple[Tensor, Tensor]:
    """Numbers and their segments, in any order; some segments are empty."""
    random = np.random.default_rng(seed)
    n = int(random.integers(0, 40))
    used = random.permutation(SEGMENTS)[: random.integers(1, SEGMENTS)]
    values = random.normal(0, size, n)
    return torch.as_tensor(values), torch.as_tensor(random.choice(used, n))


def test_A10_equals_the_softmax_of_every_segment() -> None:
    for seed in range(30):
        values, segment = case(seed)
        found = segment_softmax(values, segment, SEGMENTS)
        assert found.shape == values.shape
        for k in range(SEGMENTS):
            own = segment == k
            assert torch.allclose(found[own], torch.softmax(values[own], 0), rtol=1e-12, atol=1e-14)


def test_A10_rows_sum_to_one_and_nothing_overflows() -> None:
    for seed in range(30):
        for size in (1.0, 1e3, 1e6):
            values, segment = case(seed, size)
            found = segment_softmax(values, segment, SEGMENTS)
            assert found.isfinite().all()
            sums = torch.zeros(SEGMENTS, dtype=found.dtype).index_add(0, segment, found)
            used = torch.zeros(SEGMENTS, dtype=torch.bool).index_fill(0, segment, True)
            assert (sums[used] - 1).abs().max() <= 1e-12 if used.any() else not len(values)
            assert torch.equal(sums[~used], torch.zeros_like(sums[~used]))


def test_A10_distances_of_a_thousand_in_single_precision() -> None:
    values = torch.tensor([1000.0, 999.0, -1000.0, 3.0])
    found = segment_softmax(values, torch.tensor([0, 0, 0, 2]), 3)
    expected = torch.tensor([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), 0.0, 1.0], dtype=torch.float32)
    assert torch.allclose(found, expected, atol=1e-6)


def test_A10_a_constant_in_a_segment_changes_nothing_and_others_are_not_touched() -> None:
    values, segment = case(4)
    assert len(values) > 10
    first = segment == segment[0]
    found = segment_softmax(values, segment, SEGMENTS)
    assert torch.allclose(segment_softmax(values + 50.0 * first, segment, SEGMENTS), found, rtol=1e-12, atol=1e-14)
    other = segment_softmax(torch.where(first, values.flip(0), values), segment, SEGMENTS)
    assert torch.equal(other[~first], found[~first])


def test_A10_no_edges_and_no_segments() -> None:
    none, nowhere = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    assert segment_softmax(none, nowhere, 4).shape == (0,)
    assert segment_softmax(none, nowhere, 0).shape == (0,)


def test_A10_gradients() -> None:
    """Also those of equal numbers, and of segments with a single number, whose share is 1 whatever it is."""
    values = torch.tensor([0.3, -1.2, 0.3, 2.0, 0.7, 0.7], dtype=torch.float64, requires_grad=True)
    segment = torch.tensor([3, 0, 3, 0, 1, 3])
    assert torch.autograd.gradcheck(lambda x: segment_softmax(x, segment, 5), values)
    assert torch.autograd.gradgradcheck(lambda x: segment_softmax(x, segment, 5), values)
    (gradient,) = torch.autograd.grad(segment_softmax(values, segment, 5)[4], values)
    assert torch.equal(gradient, torch.zeros_like(gradient))
