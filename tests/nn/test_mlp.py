"""Dense layers and their initial weights."""

import torch

from equispec.nn.mlp import scale_for_silu


def test_weights_that_keep_the_size_of_features_through_silu() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(400, 500).double()
    scale_for_silu(layer)
    assert not layer.bias.any()
    y = layer(torch.nn.functional.silu(torch.randn(1000, 400, dtype=torch.float64)))
    assert abs(y.square().mean().item() - 1) < 0.02
