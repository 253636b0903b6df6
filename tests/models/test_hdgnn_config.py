"""Options of HDGNN: presets, and what does not go together."""

from typing import Any

import numpy as np
import pytest
import torch

from equispec.data.atoms import graph_from_arrays
from equispec.errors import ConfigError
from equispec.models.hdgnn import HDGNN, HDGNNConfig


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"degree": 4, "product_degree": 5}, "product_degree = 5 exceeds the degree 4"),
        ({"pathway": "none", "product": "none"}, "there would be no messages"),
        ({"product": "full", "full_degree_branch": True}, "full_degree_branch goes with product = mean, not with full"),
        ({"resolutions": 2, "degree": 3}, "two resolutions need a degree of at least 4, not 3"),
        ({"attention": [0.5, 0.5]}, "attention: 4 numbers are needed, one for each branch"),
        ({"gradients": True}, "gradients need envelope = true"),
        ({"preset": "theirs"}, "preset"),
        ({"degree": 6, "product_degree": 5, "resolutions": 2}, "product_degree = 5 exceeds the degree 4 of the edges"),
        ({"degree": 2, "product_degree": 3}, "product_degree = 3 exceeds the degree 2"),
        ({"attention": "soft"}, "must be sigmoid, softmax or a list of numbers"),
        ({"attention": [0.5, "x", 0.1, 0.1]}, "must be sigmoid, softmax or a list of numbers"),
        ({"gradients": True, "envelope": True, "roll": "axis", "max_neighbors": 12}, "and max_neighbors = null"),
    ],
)
def test_configurations_that_make_no_sense(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        HDGNNConfig.parse({"name": "hdgnn", **changes}, "backbone")


def test_options_win_over_the_preset() -> None:
    config = HDGNNConfig(preset="paper-code", blocks=3)
    assert (config.blocks, config.degree, config.resolutions) == (3, 6, 2)


def test_preset_starts_like_the_public_code() -> None:
    assert HDGNNConfig(preset="paper-code").initial_weights == "public"
    assert HDGNNConfig().initial_weights == "scaled"


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("blocks", [2, 8])
def test_features_differ_between_atoms_from_the_start(blocks: int, seed: int) -> None:
    """With the public initial weights they hardly do."""
    pos = np.random.default_rng(0).uniform(0, 6, (20, 3))
    spreads = {}
    for weights in ("scaled", "public"):
        config = HDGNNConfig(features=16, blocks=blocks, hidden=64, invariants=32, initial_weights=weights)
        torch.manual_seed(seed)
        backbone = HDGNN(config).double().eval()
        graph = graph_from_arrays(np.full(20, 6), pos, config.cutoff, dtype=torch.float64)
        with torch.no_grad():
            spreads[weights] = backbone(graph).scalar.std(0).mean().item()
    assert 0.02 < spreads["scaled"] < 1
    assert spreads["public"] < 0.001
