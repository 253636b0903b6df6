"""The neural pathways of HDGNN's first layer are those of all layers, where tensors are of degree 0 alone."""

from typing import Any

import numpy as np
import pytest
import torch

from equispec.data.atoms import graph_from_arrays
from equispec.models.hdgnn import HDGNN, HDGNNConfig
from equispec.models.hdgnn.pathways import PATHWAYS, FirstPathways, NeuralPathways

SMOOTH = {"gradients": True, "envelope": True, "roll": "axis"}
FORMS: list[dict[str, Any]] = [
    {},
    {"shared": False},
    {"pathway_input": "rotated"},
    {"pathway_input": "rotated", "shared": False},
    {"mmax": 3},
    {"degree": 4, "resolutions": 2, "near": 2},
    {"attention": "softmax", "node_linear": True},
    {"attention": [0.3, 0.3, 0.3, 0.1], "layer_norm": False},
    {"product": "none"},
    SMOOTH,
]


def network(form: dict[str, Any]) -> HDGNN:
    sizes = {"features": 5, "blocks": 2, "degree": 3, "hidden": 8, "edge_features": 6, "invariants": 7, "n_radial": 20}
    torch.manual_seed(0)
    backbone = HDGNN(HDGNNConfig(**{**sizes, **form})).double().eval()
    for name, parameter in backbone.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    return backbone


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_first_layer_is_like_any_other_for_scalars(form: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pos = 2.0 * torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pos.requires_grad_(form == SMOOTH)
    graph = graph_from_arrays(np.array([6, 1, 1, 8, 6, 1]), pos, 8.0, dtype=torch.float64)
    scalars, gradients, kinds = [], [], []
    for first in (FirstPathways, NeuralPathways):
        monkeypatch.setitem(PATHWAYS, "mlp", (first, NeuralPathways))
        backbone = network(form)
        kinds.append([type(layer.messages[0].pathways) for layer in backbone.layers])  # type: ignore[index, union-attr]
        scalars.append(backbone(graph).scalar)
        given = [*backbone.parameters(), *([pos] if form == SMOOTH else [])]
        found = torch.autograd.grad(scalars[-1].square().sum(), given, allow_unused=True, materialize_grads=True)
        gradients.append(torch.cat([g.flatten() for g in found]))
    assert kinds == [[FirstPathways, NeuralPathways], [NeuralPathways, NeuralPathways]]
    torch.testing.assert_close(scalars[0], scalars[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-10)


def test_first_layer_alone_has_pathways_of_its_own() -> None:
    backbone = network({"blocks": 3})
    kinds = [type(layer.messages[0].pathways) for layer in backbone.layers]  # type: ignore[index, union-attr]
    assert kinds == [FirstPathways, NeuralPathways, NeuralPathways]
