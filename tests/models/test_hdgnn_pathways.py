"""The neural pathways of HDGNN's first layer are those of all layers, for tensors of degree 0 alone."""

from typing import Any

import numpy as np
import pytest
import torch

from equispec.data.atoms import graph_from_arrays
from equispec.models.hdgnn import HDGNNConfig
from equispec.models.hdgnn.edges import EdgeView
from equispec.models.hdgnn.pathways import FirstPathways, NeuralPathways

FORMS: list[dict[str, Any]] = [{}, {"shared": False}, {"pathway_input": "rotated"}, {"mmax": 3}, {"roll": "random"}]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_first_layer_is_like_any_other_for_scalars(form: dict[str, Any]) -> None:
    config = HDGNNConfig(features=5, degree=3, hidden=8, edge_features=6, **form)
    torch.manual_seed(0)
    first, other = (kind(config, 3, 8).double() for kind in (FirstPathways, NeuralPathways))
    first.load_state_dict(other.state_dict())
    pos = 2.0 * torch.randn(6, 3, dtype=torch.float64)
    graph = graph_from_arrays(np.array([6, 1, 1, 8, 6, 1]), pos, config.cutoff, dtype=torch.float64)
    _, (edges,) = EdgeView(config).double()(graph, None)
    c = torch.randn(graph.n_edges, 6, dtype=torch.float64)
    a = torch.rand(graph.n_edges, 3, 5, dtype=torch.float64)
    scalars = torch.randn(graph.n_atoms, 1, 5, dtype=torch.float64, requires_grad=True)
    x = torch.nn.functional.pad(scalars, (0, 0, 0, 15))
    values, gradients = [], []
    for pathways in (first, other):
        message = pathways(x, c, edges, a)
        values.append(message)
        given = [scalars, *pathways.parameters()]
        found = torch.autograd.grad(message.square().sum(), given, allow_unused=True, materialize_grads=True)
        gradients.append(torch.cat([g.flatten() for g in found]))
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-10)
