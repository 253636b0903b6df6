"""Directions and rotations for tests of symmetries, in double precision."""

import torch
from torch import Tensor


def directions(n: int, seed: int = 0) -> Tensor:
    v = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return v / v.norm(dim=-1, keepdim=True)


def rotations(n: int, seed: int = 0) -> Tensor:
    """Proper rotations, uniform in SO(3)."""
    normal = torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    w, x, y, z = (normal / normal.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
