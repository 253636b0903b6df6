"""Tensor products of spherical tensors with the harmonics of an edge, and the gate that follows them in HDGNN.

Only couplings with even l1 + l2 + l3 are used, those that keep the parity (-1)^l.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import pi, sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from equispec.nn.mlp import SILU_GAIN
from equispec.nn.so3 import coupling

SIGMOID_GAIN = 1.8462285453386056  # as SILU_GAIN, of the logistic function


def paths(first: int, second: int, top: int) -> list[tuple[int, int, int]]:
    """(l1, l2, l3) of all couplings of degrees up to `first` and `second` to ones up to `top`, in this order."""
    return [
        (l1, l2, l3)
        for l1 in range(first + 1)
        for l2 in range(second + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, top) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]


class EdgeCouplings(nn.Module):
    """Linear maps from tensors of degree l1 to ones of degree l3 that the harmonics of an edge make.

    z^(l3) = sqrt(2 l3 + 1) Σ C(u^(l1), Y^(l2)(r̂)) for every path, with harmonics of mean square 1 ("component").
    """

    order: Tensor

    def __init__(self, first: int, second: int, top: int) -> None:
        super().__init__()
        self.first = first
        self.paths = paths(first, second, top)
        self.tables = [f"table_{l1}" for l1 in range(first + 1)]
        for l1, name in enumerate(self.tables):
            table = torch.as_tensor(_coupling_table(l1, second, top))
            self.register_buffer(name, table.to(torch.get_default_dtype()), persistent=False)
        # columns are made in the order of l1; those of one l3 belong together
        starts = np.cumsum([0, *(2 * l3 + 1 for _, _, l3 in self.paths)])
        chosen = [[k for k, path in enumerate(self.paths) if path[2] == l3] for l3 in range(top + 1)]
        self.counts = [len(ks) for ks in chosen]
        order = [c for ks in chosen for k in ks for c in range(starts[k], starts[k + 1])]
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def maps(self, harmonics: Float[Tensor, "edges second"]) -> list[Float[Tensor, "edges _columns _components"]]:
        """For every l1 the matrices of all its paths, one below the other."""
        return [torch.einsum("es,scu->ecu", harmonics, getattr(self, name)) for name in self.tables]

    def forward(
        self, maps: list[Float[Tensor, "edges _columns _components"]], u: Float[Tensor, "edges first channels"]
    ) -> list[Float[Tensor, "edges _components _paths channels"]]:
        """z^(l3) of all paths to l3, for every l3."""
        parts = [matrix @ u[:, l1 * l1 : (l1 + 1) ** 2] for l1, matrix in enumerate(maps)]
        z = torch.cat(parts, dim=1).index_select(1, self.order)
        pieces = z.split([count * (2 * l3 + 1) for l3, count in enumerate(self.counts)], dim=1)
        return [piece.unflatten(1, (-1, 2 * l3 + 1)).transpose(1, 2) for l3, piece in enumerate(pieces)]


@lru_cache(maxsize=64)
def _coupling_table(l1: int, second: int, top: int) -> Float[np.ndarray, "second columns l1"]:
    columns = []
    for _, l2, l3 in (path for path in paths(l1, second, top) if path[0] == l1):
        block = np.zeros(((second + 1) ** 2, 2 * l3 + 1, 2 * l1 + 1))
        block[l2 * l2 : (l2 + 1) ** 2] = sqrt(4 * pi * (2 * l3 + 1)) * coupling(l1, l2, l3).transpose(2, 0, 1)
        columns.append(block)
    return np.concatenate(columns, axis=1)


class Gate(nn.Module):
    """SiLU on scalars, and a logistic gate of each channel on every other degree, scaled to keep the second moment."""

    def __init__(self, top: int, channels: int) -> None:
        super().__init__()
        self.top, self.channels = top, channels
        self.bias = nn.Parameter(torch.zeros((top + 1) * channels))

    def forward(
        self, scalars: Float[Tensor, "edges gates"], others: list[Float[Tensor, "edges _components channels"]]
    ) -> Float[Tensor, "edges components channels"]:
        """scalars: those of degree 0, then the gates of degree 1, 2, ...; others: degrees 1 to the top."""
        value, *gates = (scalars + self.bias).split(self.channels, dim=1)
        out = [SILU_GAIN * torch.nn.functional.silu(value)[:, None]]
        out += [x * (SIGMOID_GAIN * torch.sigmoid(g))[:, None] for x, g in zip(others, gates, strict=True)]
        return torch.cat(out, dim=1)


def _weights(rows: Sequence[int], terms: Sequence[int], channels: int) -> nn.ParameterList:
    """Normal weights [rows, outputs] of every degree, over the root of the terms that are summed.

    Degree 0 has the channels of the gates of all other degrees too.
    """
    widths = [channels * len(rows), *[channels] * (len(rows) - 1)]
    parts = zip(rows, widths, terms, strict=True)
    return nn.ParameterList(torch.randn(row, width) / sqrt(term) for row, width, term in parts)


class MeanProduct(nn.Module):
    """Mean-embedding tensor product: the mean over channels u couples with the edge; a weight per path and channel.

    t^(l3)_c = Σ_paths w_(path, c) z^(l3), and a gate (HDGNN, eq 7). `shared`: one weight per degree and channel, after
    the sum over paths, as eq 7 has it.
    """

    def __init__(self, couplings: EdgeCouplings, top: int, channels: int, shared: bool = False) -> None:
        super().__init__()
        self.top = top
        self.gate = Gate(top, channels)
        counts = couplings.counts[: top + 1]
        self.weights = _weights([1] * len(counts) if shared else counts, counts, channels)

    def forward(
        self, z: list[Float[Tensor, "edges _components _paths 1"]]
    ) -> Float[Tensor, "edges components channels"]:
        scalars, *others = (x[..., 0] @ w.expand(x.shape[2], -1) for x, w in zip(z, self.weights, strict=False))
        return self.gate(scalars[:, 0], others)


class FullProduct(nn.Module):
    """Tensor product of all channels with the edge: a matrix of channels per path, and the same gate."""

    def __init__(self, couplings: EdgeCouplings, top: int, channels: int) -> None:
        super().__init__()
        self.top = top
        self.gate = Gate(top, channels)
        terms = [count * channels for count in couplings.counts[: top + 1]]
        self.weights = _weights(terms, terms, channels)

    def forward(
        self, z: list[Float[Tensor, "edges _components _paths channels"]]
    ) -> Float[Tensor, "edges components channels"]:
        scalars, *others = (x.flatten(2) @ w for x, w in zip(z, self.weights, strict=False))
        return self.gate(scalars[:, 0], others)
