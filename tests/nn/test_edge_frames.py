"""Frames along edges: their rolls, their rows of rotation matrices, and edges where angles would fail."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from equispec.nn.edge_frames import BLENDED, Roll, edge_frames, inner_rotations, ranks, rotations, smooth_frames
from equispec.nn.so3 import spherical_harmonics, wigner_d
from random_rotations import directions
from random_rotations import rotations as random_rotations

TOP = 6
Z = torch.tensor([0, 0, 1.0], dtype=torch.float64)


def near_axes() -> Tensor:
    """Edges along the axes and to both sides of them, from 1e-8 to 1e-4 rad."""
    axes = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    tilted = [axes + size * torch.roll(axes, turn, 1) for size in (1e-8, 1e-6, 1e-4) for turn in (1, 2)]
    return torch.nn.functional.normalize(torch.cat([axes, *tilted]), dim=1)


def frames_of(unit: Tensor, roll: Roll, seed: int = 0) -> Tensor:
    n = len(unit)
    distance = torch.linspace(1, 2, n, dtype=unit.dtype)
    return edge_frames(unit, distance, torch.arange(n) // 7, torch.arange(n), roll, seed)


@pytest.mark.parametrize("roll", get_args(Roll))
def test_C4_C5_frames_are_rotations_that_take_the_edge_to_the_z_axis(roll: Roll) -> None:
    unit = torch.cat([near_axes(), directions(100)])
    frames = frames_of(unit, roll)
    assert (torch.linalg.det(frames) - 1).abs().max() < 1e-12
    assert (torch.einsum("eab,eb->ea", frames, unit) - Z).abs().max() < 1e-12
    for d in rotations(frames, TOP, TOP):
        assert (d @ d.mT - torch.eye(d.shape[1])).abs().max() < 1e-10


def test_smooth_frames_share_the_edges_between_two_cosines() -> None:
    unit = torch.cat([near_axes(), directions(400)])
    index, frames, share = smooth_frames(unit)
    assert (torch.linalg.det(frames) - 1).abs().max() < 1e-12
    assert (torch.einsum("eab,eb->ea", frames, unit[index]) - Z).abs().max() < 1e-12
    assert (share > 0).all()
    torch.testing.assert_close(
        torch.zeros(len(unit)).double().index_add(0, index, share), torch.ones(len(unit)).double()
    )
    between = (unit[:, 2].abs() > BLENDED[0]) & (unit[:, 2].abs() < BLENDED[1])
    assert torch.equal(torch.bincount(index), 1 + between.long())
    alone = ~between[index]
    axis = frames_of(unit, "axis")[index]
    torch.testing.assert_close(frames[alone], axis[alone], rtol=0, atol=0)
    assert [part.shape[0] for part in smooth_frames(unit[:0])] == [0, 0, 0]


def test_C4_rows_are_those_of_the_whole_matrix() -> None:
    frames = frames_of(torch.cat([near_axes(), directions(100)]), "seeded")
    for degree, (rows, whole) in enumerate(zip(inner_rotations(frames, TOP), wigner_d(frames, TOP), strict=True)):
        expected = whole[:, max(0, degree - 1) : degree + 2]
        assert (rows - expected).abs().max() < 1e-12
    assert [d.shape[1] for d in rotations(frames, TOP, 2)] == [1, 3, 5, 5, 5, 5, 5]


def test_C4_a_roll_turns_orders_m_and_minus_m_and_leaves_m_zero() -> None:
    unit = directions(50)
    one, two = inner_rotations(frames_of(unit, "axis"), TOP), inner_rotations(frames_of(unit, "seeded"), TOP)
    for degree in range(1, TOP + 1):
        assert (one[degree][:, 1] - two[degree][:, 1]).abs().max() < 1e-12
        turn = torch.einsum("eac,ebc->eab", one[degree][:, [0, 2]], two[degree][:, [0, 2]])
        assert (turn @ turn.mT - torch.eye(2)).abs().max() < 1e-12
        first = torch.einsum("eac,ebc->eab", one[1][:, [0, 2]], two[1][:, [0, 2]])
        assert (turn - first).abs().max() < 1e-12  # the same angle in every degree


def test_C4_truncation_commutes_with_rolls() -> None:
    """P D(roll) = D_inner(roll) P: what |m| <= 1 cuts off, no roll brings back."""
    unit = directions(20)
    one, two = frames_of(unit, "axis"), frames_of(unit, "seeded")
    for degree, d in enumerate(wigner_d(two @ one.mT, TOP)):
        keep = slice(max(0, degree - 1), degree + 2)
        outside = torch.cat([d[:, keep, : keep.start], d[:, keep, keep.stop :]], dim=2)
        assert outside.numel() == 0 or outside.abs().max() < 1e-12


def test_rolls_of_a_seed_are_the_same_again_and_cover_the_circle() -> None:
    unit = Z.expand(2000, 3)
    found = frames_of(unit, "seeded", 1)
    assert torch.equal(found, frames_of(unit, "seeded", 1))
    assert not torch.allclose(found, frames_of(unit, "seeded", 2))
    for seed, dtype in ((1, torch.float64), (20261126, torch.float32)):
        found = frames_of(unit.to(dtype), "seeded", seed)
        angles = torch.atan2(found[:, 0, 1], found[:, 0, 0])
        assert torch.histc(angles, 8).min() > 200
    assert not torch.equal(frames_of(unit, "random"), frames_of(unit, "random"))


def test_local_frames_turn_with_the_structure() -> None:
    unit, turn = directions(40, seed=3), random_rotations(1, seed=5)[0]
    assert (frames_of(unit @ turn.T, "local") - frames_of(unit, "local") @ turn.T).abs().max() < 1e-12
    assert (frames_of(unit @ turn.T, "axis") - frames_of(unit, "axis") @ turn.T).abs().max() > 0.1


def test_local_frames_of_lonely_and_parallel_edges_are_those_of_the_axes() -> None:
    unit = torch.stack([Z, -Z, torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64)])
    receiver, distance = torch.tensor([0, 0, 1]), torch.ones(3, dtype=torch.float64)
    found = edge_frames(unit, distance, receiver, torch.arange(3), "local")
    assert torch.equal(found, edge_frames(unit, distance, receiver, torch.arange(3), "axis"))
    none = torch.zeros(0, dtype=torch.long)
    assert edge_frames(unit[:0], distance[:0], none, none, "local").shape == (0, 3, 3)


def test_C12_C13_ranks_of_edges_and_ties() -> None:
    distance = torch.tensor([3.0, 1.0, 2.0, 5.0, 5.0, 4.0, 1.0])
    receiver = torch.tensor([0, 0, 0, 1, 1, 1, 3])
    assert ranks(distance, receiver).tolist() == [2, 0, 1, 1, 2, 0, 0]
    assert ranks(distance[:0], receiver[:0]).tolist() == []


def test_the_middle_row_is_the_harmonic_of_the_edge() -> None:
    unit = directions(20)
    rows = inner_rotations(frames_of(unit, "axis"), 4)
    for degree in range(1, 5):
        y = spherical_harmonics(unit, [degree])
        torch.testing.assert_close(rows[degree][:, 1], y / y.norm(dim=1, keepdim=True), atol=1e-12, rtol=0)
