"""The point that the positions in dipoles, polarizabilities and spatial extents are counted from."""

from typing import Literal

import torch
from ase.data import atomic_masses
from jaxtyping import Float
from torch import Tensor, nn

from equispec.graph import AtomGraph, sum_per_system

Origin = Literal["center-of-mass", "zero"]


class RelativePositions(nn.Module):
    """r_i - r_0 in Å, with r_0 the centre of mass of each structure or, for "zero", the origin of the coordinates."""

    masses: Tensor

    def __init__(self, origin: Origin) -> None:
        super().__init__()
        self.origin = origin
        masses = torch.as_tensor(atomic_masses, dtype=torch.get_default_dtype())
        self.register_buffer("masses", masses, persistent=False)

    def forward(self, graph: AtomGraph) -> Float[Tensor, "atoms 3"]:
        if self.origin == "zero":
            return graph.pos
        mass = self.masses[graph.z][:, None]
        centre = sum_per_system(mass * graph.pos, graph) / sum_per_system(mass, graph)
        return graph.pos - centre[graph.system]
