"""Tiled sums of messages equal sums over all edges at once, and networks are evaluated part by part."""

import numpy as np
import pytest
import torch
from torch import Tensor

from equispec.nn import edges as edges_module
from equispec.nn.edges import Edges, filter_matrices, network_parts, sum_messages
from equispec.nn.mlp import dense, mlp


def some_edges(n_edges: int, n_atoms: int = 11) -> Edges:
    random = np.random.default_rng(n_edges)
    receiver = torch.as_tensor(np.sort(random.integers(0, n_atoms, n_edges)))
    sender = torch.as_tensor(random.integers(0, n_atoms, n_edges))
    return Edges(receiver, sender, torch.as_tensor(random.normal(size=(n_edges, 3))), torch.ones(n_edges, 2).double())


def message(tile: Edges) -> tuple[Tensor, Tensor]:
    return tile.direction, tile.direction[:, :, None] * tile.direction[:, None, :]


@pytest.mark.parametrize("n_edges", [0, 1, 31, 32, 33, 200])
def test_tiles_and_plain_loops_agree(monkeypatch: pytest.MonkeyPatch, n_edges: int) -> None:
    edges = some_edges(n_edges)
    expected = torch.zeros(11, 3, dtype=torch.float64), torch.zeros(11, 3, 3, dtype=torch.float64)
    for i, u in zip(edges.receiver, edges.direction, strict=True):
        expected[0][i] += u
        expected[1][i] += torch.outer(u, u)
    monkeypatch.setattr(edges_module, "TILE_ELEMENTS", 0)
    with torch.no_grad():
        tiled = sum_messages(message, edges, 11, 3)
    whole = sum_messages(message, edges, 11, 3)
    for found in (tiled, whole):
        for value, total in zip(found, expected, strict=True):
            assert torch.allclose(value, total, atol=1e-13)


def test_parts_of_a_network_and_of_a_filter() -> None:
    torch.manual_seed(0)
    network, layer = mlp(4, 5, 9), dense(6, 9)
    torch.nn.init.normal_(layer.bias)
    x, basis = torch.randn(7, 4), torch.randn(8, 6)
    parts = network_parts(network, x, 3, 2)
    assert torch.allclose(torch.cat(parts, dim=1), network(x)[:, :6], atol=1e-6)
    assert all(part.is_contiguous() for part in parts)
    columns = torch.cat([basis, torch.ones(8, 1)], dim=1)
    filters = [columns @ matrix for matrix in filter_matrices(layer, 3, 3)]
    assert torch.allclose(torch.cat(filters, dim=1), layer(basis), atol=1e-6)
