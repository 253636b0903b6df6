"""Edges as pairs: each is found once, as itself or as a mirror image; lists without mirror images are seen."""

import numpy as np
import pytest
import torch

from equispec.data.atoms import graph_from_arrays
from equispec.graph import AtomGraph
from equispec.nn import pairs as pairs_module
from equispec.nn.pairs import one_of_each_pair, tiles

CELL = np.array([[3.0, 0, 0], [0.4, 3.2, 0], [0, 0.5, 3.4]])


def graph(periodic: bool, **options) -> AtomGraph:
    """Six atoms; the periodic ones have images of themselves among their neighbours."""
    pos = np.random.default_rng(5).uniform(0, 3, (6, 3))
    return graph_from_arrays(np.full(6, 6), pos, 4.0, CELL if periodic else None, dtype=torch.float64, **options)


def one_way(graph: AtomGraph) -> torch.Tensor | None:
    return one_of_each_pair(graph.edge_index, graph.edge_shift, graph.n_atoms)


@pytest.mark.parametrize("periodic", [False, True])
def test_an_edge_or_its_mirror_image(periodic: bool) -> None:
    g = graph(periodic)
    kept = one_way(g)
    assert kept is not None
    edges = torch.cat([g.edge_index.T, g.edge_shift.long()], dim=1)
    chosen = edges[kept]
    mirrored = torch.cat([chosen[:, [1, 0]], -chosen[:, 2:]], dim=1)
    both = sorted(map(tuple, torch.cat([chosen, mirrored]).tolist()))
    assert both == sorted(map(tuple, edges.tolist()))
    assert len(set(both)) == len(both)


def test_no_edges() -> None:
    lonely = graph_from_arrays(np.array([6]), np.zeros((1, 3)), 4.0)
    kept = one_way(lonely)
    assert kept is not None
    assert kept.shape == (0,)
    assert tiles(lonely.edge_index[:1], lonely.edge_index[1:], 1, 8) == ()


@pytest.mark.parametrize("periodic", [False, True])
def test_lists_without_mirror_images_are_seen(periodic: bool) -> None:
    g = graph(periodic)
    assert one_way(graph(periodic, max_neighbors=2)) is None
    for lost in range(g.n_edges):
        rest = torch.arange(g.n_edges) != lost
        assert one_of_each_pair(g.edge_index[:, rest], g.edge_shift[rest], g.n_atoms) is None


def test_a_wrong_shift_is_seen() -> None:
    g = graph(True)
    shift = g.edge_shift.clone()
    shift[0, 0] += 5
    assert one_of_each_pair(g.edge_index, shift, g.n_atoms) is None


def test_tiles_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "TILE_ELEMENTS", 64)
    receiver, sender = torch.randint(0, 9, (2, 2, 70))
    found = tiles(receiver, sender, 9, 1)
    assert [(tile.first, tile.last) for tile in found] == [(0, 32), (32, 64), (64, 70)]
    for tile in found:
        assert torch.equal(tile.receiver, receiver[:, tile.first : tile.last].flatten())
        assert torch.equal(tile.sender, sender[:, tile.first : tile.last].flatten())
        for rows, atoms in ((tile.receiver_rows, tile.receiver), (tile.sender_rows, tile.sender)):
            planes = rows.view(-1, len(atoms))
            assert torch.equal(planes % 9, atoms.expand(len(planes), -1))
            assert torch.equal(planes // 9, torch.arange(len(planes))[:, None].expand(-1, len(atoms)))
