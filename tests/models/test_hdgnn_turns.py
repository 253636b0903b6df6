"""Maps of turned tensors and sums of tensors turned back, by atoms, are those of each edge."""

import pytest
import torch
from torch import Tensor

from equispec.models.hdgnn.turns import Blocks, Turns
from equispec.nn.edge_frames import rotations

TOP, CHANNELS, MAPS = 3, 5, 7
EDGES = {  # receivers and senders of four atoms
    "uneven": ([0, 0, 0, 1, 1, 3], [3, 1, 3, 0, 0, 0]),
    "one": ([2], [0]),
    "to itself": ([1, 1, 1], [1, 1, 0]),
    "none": ([], []),
    "hub": (11 * [0] + [1, 2, 3], 5 * [1] + 4 * [2] + [3, 3, 0, 0, 0]),  # more edges than a block has places
}


def case(edges: str, most: int) -> tuple[Turns, Tensor, Tensor, Tensor, list[Tensor]]:
    """Turns, receivers, senders, tensors of the atoms, and P D of every degree, which asks for a gradient."""
    torch.manual_seed(0)
    receiver, sender = (torch.tensor(end, dtype=torch.long) for end in EDGES[edges])
    frames = torch.linalg.qr(torch.randn(len(receiver), 3, 3, dtype=torch.float64))[0]
    frames = frames * torch.linalg.det(frames)[:, None, None]
    matrices = [d.detach().requires_grad_() for d in rotations(frames, TOP, most)]
    x = torch.randn(4, (TOP + 1) ** 2, CHANNELS, dtype=torch.float64, requires_grad=True)
    return Turns(matrices, sender, receiver, len(x)), receiver, sender, x, matrices


def agree(found: Tensor, expected: Tensor, given: list[Tensor]) -> None:
    """Values, gradients, and the gradients of these."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    first = [torch.autograd.grad(value.pow(3).sum(), given, create_graph=True) for value in (found, expected)]
    second = [torch.autograd.grad(sum(g.square().sum() for g in one), given, retain_graph=True) for one in first]  # type: ignore[arg-type]
    for ours, theirs in ((first[0], first[1]), (second[0], second[1])):
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("edges", EDGES)
def test_maps_of_turned_tensors(edges: str, most: int) -> None:
    turns, receiver, sender, x, matrices = case(edges, most)
    weight = torch.randn(MAPS, sum(turns.rows) * CHANNELS, dtype=torch.float64, requires_grad=True)
    for found, end in zip(turns.mapped(x, weight), (sender, receiver), strict=True):
        agree(found, turns.turned(x[end]).flatten(1) @ weight.T, [x, weight, *matrices])


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("edges", EDGES)
def test_sums_of_tensors_turned_back(edges: str, most: int) -> None:
    turns, receiver, _, x, matrices = case(edges, most)
    y = torch.randn(len(receiver), sum(turns.rows), CHANNELS, dtype=torch.float64, requires_grad=True)
    back = torch.cat([d.transpose(1, 2) @ part for d, part in zip(matrices, y.split(turns.rows, 1), strict=True)], 1)
    agree(turns.summed_back(y), torch.zeros_like(x).index_add(0, receiver, back), [y, *matrices])


def test_blocks_waste_little_whatever_the_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, 90, (60,), generator=generator).tolist()
    for numbers in ([800] + 800 * [1], 50 * [3], 20 * [0] + [7], [0, 0], [1], drawn):
        counts = torch.tensor(numbers)
        atom = torch.arange(len(counts)).repeat_interleave(counts)
        atom = atom[torch.randperm(len(atom), generator=generator)]
        blocks = Blocks(atom, len(counts))
        block = blocks.place // blocks.size
        assert len(set(blocks.place.tolist())) == len(atom)
        assert torch.equal(blocks.atom[block], atom)
        assert len(blocks.atom) * blocks.size <= 3 * len(atom) + len(counts)
        assert torch.equal(blocks.summed(blocks.spread(torch.ones(len(atom))).sum(1)), counts.float())
        assert torch.equal(blocks.given(torch.arange(1.0 * len(counts)))[block], atom.float())
    assert Blocks(torch.arange(50).repeat_interleave(3), 50).one_each
