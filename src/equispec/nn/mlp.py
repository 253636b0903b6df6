"""Dense layers with the initialisations the papers use."""

import torch
from torch import Tensor, nn

SILU_GAIN = 1.6765324703310909  # 1 / sqrt of the second moment of the SiLU of a standard normal number


def dense(n_in: int, n_out: int, bias: bool = True) -> nn.Linear:
    """Linear layer with Xavier-uniform weights and zero bias."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def lecun_dense(n_in: int, n_out: int) -> nn.Linear:
    """Linear layer with LeCun-normal weights (normal, cut at two sigma, of variance 1 / n_in) and zero bias."""
    layer = nn.Linear(n_in, n_out)
    lecun_normal_(layer.weight, n_in)
    nn.init.zeros_(layer.bias)
    return layer


def lecun_normal_(weight: Tensor, n_in: int) -> None:
    """Fill with a normal distribution that is cut at two sigma and has the variance 1 / n_in after that."""
    sigma = n_in**-0.5 / 0.87962566103423978  # the standard deviation of a standard normal cut at two sigma
    nn.init.trunc_normal_(weight, std=sigma, a=-2 * sigma, b=2 * sigma)


def scale_for_silu(layer: nn.Linear) -> None:
    """Normal weights and zero bias: of SiLU of standard normal numbers, the layer makes numbers of mean square 1."""
    nn.init.normal_(layer.weight, std=SILU_GAIN * layer.in_features**-0.5)
    nn.init.zeros_(layer.bias)


class ScaledSiLU(nn.Module):
    """SiLU(x) / 0.6, which keeps the variance of a standard normal input (Open Catalyst models)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.silu(x) * (1 / 0.6)


def mlp(
    n_in: int, n_hidden: int, n_out: int, activation: type[nn.Module] = nn.SiLU, dropout: float = 0.0
) -> nn.Sequential:
    """Two dense layers with an activation between them; with dropout, before each of them."""
    layers = [dense(n_in, n_hidden), activation(), dense(n_hidden, n_out)]
    if dropout > 0:
        layers = [nn.Dropout(dropout), *layers[:2], nn.Dropout(dropout), layers[2]]
    return nn.Sequential(*layers)
