"""Both neighbour searches against a plain double loop over atoms and images."""

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from equispec.data.atoms import graph_from_atoms
from equispec.neighbors import edge_order, nearest_neighbors, neighbor_list, neighbor_list_batch

MOLECULE = np.zeros((3, 3))


def plain(pos, cell, pbc, cutoff):
    """All (i, j, shift) with |pos[j] - pos[i] + shift @ cell| < cutoff, sorted, by looping over everything."""
    spread = float(np.ptp(pos, axis=0).max()) if len(pos) else 0.0
    ranges = []
    for axis in range(3):
        n = 0
        if pbc[axis]:
            others = np.cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3])
            height = abs(cell[axis] @ others) / np.linalg.norm(others)
            n = int(np.ceil((cutoff + 2 * spread) / height)) + 1
        ranges.append(range(-n, n + 1))
    shifts = np.array(list(itertools.product(*ranges)))
    found = []
    for i in range(len(pos)):
        for j in range(len(pos)):
            distance = np.linalg.norm(pos[j] - pos[i] + shifts @ cell, axis=1)
            for shift in shifts[distance < cutoff]:
                if i != j or shift.any():
                    found.append((i, j, *(int(s) for s in shift)))
    return sorted(found)


def as_tuples(edges):
    edge_index, shift = edges
    return [tuple(row) for row in torch.cat([edge_index.T, shift.round().long()], dim=1).tolist()]


def one(pos, cell, pbc, cutoff):
    return neighbor_list(torch.tensor(pos), torch.tensor(cell), torch.tensor(pbc), cutoff)


def many(structures, cutoff):
    return neighbor_list_batch(
        torch.tensor(np.concatenate([pos for pos, _, _ in structures])),
        torch.tensor(np.concatenate([np.full(len(pos), s) for s, (pos, _, _) in enumerate(structures)])),
        torch.tensor(np.stack([cell for _, cell, _ in structures])),
        torch.tensor(np.stack([pbc for _, _, pbc in structures])),
        cutoff,
    )


@st.composite
def structures(draw):
    """Molecules, chains, slabs and crystals, oblique, with cells smaller and larger than the cutoff."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = np.array(draw(st.tuples(st.booleans(), st.booleans(), st.booleans())))
    size = draw(st.floats(1.2, 6.0))
    cell = size * (np.eye(3) + 0.3 * rng.uniform(-1, 1, (3, 3))) if pbc.any() else MOLECULE
    n = draw(st.integers(1, 6))
    pos = rng.uniform(0, 1, (n, 3)) @ (cell if pbc.any() else size * np.eye(3))
    return pos, cell, pbc


@settings(max_examples=60, deadline=None)
@given(structure=structures(), cutoff=st.floats(0.8, 4.5))
def test_both_searches_find_the_pairs_of_a_plain_loop(structure, cutoff):
    expected = plain(*structure, cutoff)
    assert as_tuples(one(*structure, cutoff)) == expected
    assert as_tuples(many([structure], cutoff)) == expected


@settings(max_examples=25, deadline=None)
@given(batch=st.lists(structures(), min_size=2, max_size=4), cutoff=st.floats(0.8, 3.5))
def test_a_batch_finds_the_pairs_of_its_structures(batch, cutoff):
    expected, first = [], 0
    for structure in batch:
        expected += [(i + first, j + first, *shift) for i, j, *shift in plain(*structure, cutoff)]
        first += len(structure[0])
    assert as_tuples(many(batch, cutoff)) == expected


@settings(max_examples=25, deadline=None)
@given(structure=structures(), cutoff=st.floats(0.8, 4.5))
def test_edges_are_sorted_by_receiver_and_come_in_pairs(structure, cutoff):
    edge_index, _ = edges = one(*structure, cutoff)
    assert (edge_index[0].diff() >= 0).all()
    tuples = as_tuples(edges)
    assert {(j, i, -a, -b, -c) for i, j, a, b, c in tuples} == set(tuples)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, True)])
def test_a_pair_at_exactly_the_cutoff_is_no_pair(pbc):
    cubic = (np.zeros((1, 3)), 2.0 * np.eye(3), np.array(pbc))
    for cutoff, per_axis in ((2.0, 0), (2.0 + 1e-9, 2)):
        assert one(*cubic, cutoff)[0].shape[1] == many([cubic], cutoff)[0].shape[1] == per_axis * sum(pbc)


def test_a_cell_much_smaller_than_the_cutoff():
    diamond = 3.567 / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    structure = (np.array([[0.0, 0, 0], [0.25 * 3.567] * 3]), diamond, np.array([True] * 3))
    expected = plain(*structure, 6.0)
    assert as_tuples(one(*structure, 6.0)) == as_tuples(many([structure], 6.0)) == expected
    shells = [(1.6, 4), (2.6, 16), (3.0, 28), (3.57, 34)]  # 4, 12, 12 and 6 neighbours
    assert [one(*structure, cutoff)[0].shape[1] // 2 for cutoff, _ in shells] == [count for _, count in shells]


def test_atoms_far_outside_the_cell_keep_their_neighbours():
    rng = np.random.default_rng(3)
    cell = np.array([[3.0, 0, 0], [0.4, 3.2, 0], [0, 0.5, 3.4]])
    pos = rng.uniform(0, 1, (5, 3)) @ cell
    pos[1] += 2 * cell[0] - 3 * cell[2]
    pos[4] -= 4 * cell[1]
    structure = (pos, cell, np.array([True] * 3))
    expected = plain(*structure, 3.3)
    assert as_tuples(one(*structure, 3.3)) == expected
    assert as_tuples(many([structure], 3.3)) == expected


@pytest.mark.parametrize("extent", [[0, 0, 1], [0, 1, 1], [0.01, 1, 1], [0.3, 0.7, 1]])
@pytest.mark.parametrize("cutoff", [0.5, 6.0])
def test_wide_structures_with_few_atoms(extent, cutoff):
    pos = np.random.default_rng(4).uniform(0, 1, (6, 3)) * 9000 * np.array(extent)
    pos[3] = pos[1] + [0, 0, 0.4]
    structure = (pos, MOLECULE, np.array([False] * 3))
    assert as_tuples(one(*structure, cutoff)) == plain(*structure, cutoff) == [(1, 3, 0, 0, 0), (3, 1, 0, 0, 0)]


@pytest.mark.parametrize("images", [0, 3])
def test_the_order_of_edges(images):
    random = np.random.default_rng(6)
    edge_index, shift = random.integers(0, 4, (2, 300)), random.integers(-images, images + 1, (300, 3))
    order = edge_order(torch.tensor(edge_index), torch.tensor(shift, dtype=torch.float32), 4)
    rows = list(zip(*edge_index.tolist(), *shift.T.tolist(), strict=True))
    assert [rows[k] for k in order.tolist()] == sorted(rows)


def test_an_atom_alone_has_no_neighbours():
    alone = (np.zeros((1, 3)), MOLECULE, np.array([False] * 3))
    for edge_index, shift in (one(*alone, 5.0), many([alone, alone], 5.0)):
        assert edge_index.shape == (2, 0)
        assert shift.shape == (0, 3)


def test_the_dtype_of_the_positions_is_kept():
    pos, cell, pbc = torch.rand(4, 3), torch.zeros(3, 3), torch.zeros(3, dtype=torch.bool)
    assert neighbor_list(pos, cell, pbc, 5.0)[1].dtype == torch.float32
    assert neighbor_list(pos.double(), cell.double(), pbc, 5.0)[1].dtype == torch.float64


def test_nearest_neighbors_keeps_the_nearest_in_their_order():
    receiver = torch.tensor([0, 0, 0, 2, 2, 3])
    distance = torch.tensor([3.0, 1.0, 2.0, 5.0, 5.0, 9.0])
    edge_index = torch.stack([receiver, torch.tensor([1, 2, 3, 0, 1, 0])])
    assert nearest_neighbors(edge_index, distance, 2).tolist() == [1, 2, 3, 4, 5]
    assert nearest_neighbors(edge_index, distance, 1).tolist() == [1, 3, 4, 5]  # equals together
    assert nearest_neighbors(edge_index, distance, 9).tolist() == list(range(6))
    assert nearest_neighbors(edge_index[:, :0], distance[:0], 3).tolist() == []


@pytest.mark.parametrize("limit", [3, 6, 13])
def test_a_limit_does_not_depend_on_how_a_crystal_is_turned(limit: int) -> None:
    """Shells of 12, 6 and 24 neighbours stay whole."""
    crystal, turns = bulk("Cu", "fcc", 3.6), Rotation.random(8, rng=np.random.default_rng(0)).as_matrix()
    for turn in turns:
        turned = Atoms(crystal.numbers, crystal.positions @ turn.T, cell=crystal.cell.array @ turn.T, pbc=True)
        assert graph_from_atoms(turned, 5.0, limit, torch.float32).n_edges == (18 if limit == 13 else 12)
