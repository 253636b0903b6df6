"""Forces that are predicted rather than derived from an energy (SCN, arXiv:2206.14331; HDGNN, ICLR 2024):

    F_i = mean_p v_i(p) p,     v_i(p) = dense SiLU dense SiLU dense x_i(p),     points p on the sphere

They need no derivative, do not conserve energy, and turn with the structure only as far as the features do.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import silu

from equispec.config import Config
from equispec.data.statistics import PropertyStatistics
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph
from equispec.nn.sphere import harmonics_at, samples


class DirectForcesConfig(Config):
    """Configuration of DirectForcesHead."""

    name: Literal["direct-forces"] = "direct-forces"
    samples: PositiveInt = Field(128, description="points of the sphere")
    output_points: Literal["unit", "scn"] = Field("unit", description="scn: scaled by their density, as in SCN")
    scale: PositiveFloat | None = Field(None, description="eV/Å; default: the root mean square of the training set")


class DirectForcesHead(nn.Module):
    """Forces [atoms, 3] eV/Å from the spherical tensors of the atoms."""

    needs = ("harmonic",)
    outputs = ("forces",)
    values: Tensor
    points: Tensor
    scale: Tensor

    def __init__(self, config: DirectForcesConfig, widths: FeatureWidths) -> None:
        super().__init__()
        assert widths.harmonic is not None
        assert widths.degree is not None
        self.given_scale = config.scale
        f = widths.harmonic
        self.first, self.second, self.third = nn.Linear(f, f), nn.Linear(f, f), nn.Linear(f, 1)
        dtype = torch.get_default_dtype()
        points, lengths = samples(config.samples, config.output_points == "scn")
        values = harmonics_at(points, widths.degree, lengths)
        self.register_buffer("values", values.to(dtype), persistent=False)
        self.register_buffer("points", torch.as_tensor(points * lengths[:, None], dtype=dtype), persistent=False)
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    def initialise(self, statistics: PropertyStatistics) -> None:
        """The scale of the training set."""
        measured = float(np.sqrt(np.mean(statistics.labels["forces"] ** 2))) or 1.0
        self.scale.fill_(self.given_scale or measured)

    def forward(self, features: NodeFeatures, graph: AtomGraph) -> dict[str, Float[Tensor, "atoms 3"]]:
        """{"forces": [atoms, 3]} in eV/Å."""
        assert features.harmonic is not None
        at_points = self.values @ (features.harmonic @ self.first.weight.T) + self.first.bias
        strength = self.third(silu(self.second(silu(at_points))))
        return {"forces": (strength * self.points).mean(1) * self.scale.to(strength.dtype)}
