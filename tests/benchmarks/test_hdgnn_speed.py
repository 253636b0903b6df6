"""The arithmetic that HDGNN is measured against gives its numbers."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import hdgnn_speed
from public_hdgnn import public_scalars

SIZES: dict[str, Any] = {"features": 16, "blocks": 2, "hidden": 16, "invariants": 16, "edge_features": 16}


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("degree", [3, 4])
def test_public_arithmetic_gives_the_same_messages(degree: int, layer: int) -> None:
    model = hdgnn_speed.network(**SIZES, degree=degree)
    found = hdgnn_speed.block_times(model, hdgnn_speed.graph_of(hdgnn_speed.slab(1)), layer, repeats=1)
    assert found["difference"] < 1e-5
    assert min(found["bytes"].values()) > 0
    assert set(found["whole"]) >= {"ours", "public arithmetic"}


@pytest.mark.parametrize("degree", [3, 4])
def test_public_arithmetic_gives_the_same_scalars_of_atoms(degree: int) -> None:
    model = hdgnn_speed.network(**SIZES, degree=degree)
    graph = hdgnn_speed.graph_of(hdgnn_speed.slab(1))
    with torch.no_grad():
        ours, public = model.backbone(graph).scalar, public_scalars(model, graph)
    assert float((ours - public).abs().max()) < 1e-5 * float(ours.abs().max())
    assert float(ours.std(0).mean()) > 1e-3 * float(ours.abs().max())
