"""Options of HDGNN: presets, and what does not go together."""

from typing import Any

import pytest

from equispec.errors import ConfigError
from equispec.models.hdgnn import HDGNNConfig


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
