"""Gated equivariant blocks: scalars and vectors of an atom become other scalars and vectors.

Schütt, Unke & Gastegger, ICML 2021 (arXiv:2102.03150), Fig. 3, with bias-free V₁ and V₂ on the channels of v:

    [s', g] = dense(SiLU(dense([s, ‖V₁ v‖]))),     v' = g ⊙ V₂ v
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equispec.nn.mlp import dense, mlp
from equispec.nn.norms import exact_norm


class GatedEquivariantBlock(nn.Module):
    """One block; `activated` puts a SiLU on the new scalars. Rows of the mixing: [V₁, V₂]; of the network: [s', g].

    The norm has no epsilon: where a vector is exactly zero, the norm and its gradient are 0.
    """

    def __init__(self, scalars: tuple[int, int], vectors: tuple[int, int], hidden: int, activated: bool) -> None:
        """`scalars` and `vectors`: channels that come in and go out."""
        super().__init__()
        self.n_out = scalars[1], vectors[1]
        self.mix = dense(vectors[0], 2 * vectors[1], bias=False)
        self.network = mlp(scalars[0] + vectors[1], hidden, scalars[1] + vectors[1])
        self.activation = nn.SiLU() if activated else nn.Identity()

    def forward(
        self, s: Float[Tensor, "atoms scalars"], v: Float[Tensor, "atoms 3 vectors"]
    ) -> tuple[Float[Tensor, "atoms new_scalars"], Float[Tensor, "atoms 3 new_vectors"]]:
        for_norm, value = self.mix(v).chunk(2, dim=2)
        s, gate = self.network(torch.cat([s, exact_norm(for_norm, dim=1)], dim=1)).split(self.n_out, dim=1)
        return self.activation(s), gate[:, None, :] * value


class ScalarAndVector(nn.Module):
    """One scalar and one vector per atom by two gated blocks, F -> F/2 -> 1, the readout of the paper's tensors."""

    def __init__(self, scalars: int, vectors: int) -> None:
        super().__init__()
        s, v = max(1, scalars // 2), max(1, vectors // 2)
        self.blocks = nn.ModuleList(
            [
                GatedEquivariantBlock((scalars, s), (vectors, v), hidden=scalars, activated=True),
                GatedEquivariantBlock((s, 1), (v, 1), hidden=s, activated=False),
            ]
        )

    def forward(
        self, s: Float[Tensor, "atoms scalars"], v: Float[Tensor, "atoms 3 vectors"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms 3"]]:
        for block in self.blocks:
            s, v = block(s, v)
        return s[:, 0], v[:, :, 0]
