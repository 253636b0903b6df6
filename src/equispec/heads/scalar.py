"""Heads for scalar properties of a structure from its atoms' scalars: energies, and whatever else is one number.

    y = Σ_i [σ ε(s_i) + c(Z_i)]     or, for intensive properties, y = mean_i σ ε(s_i) + c,     ε = dense, SiLU, dense

(Schütt, Unke & Gastegger 2021, section 3.3, where all are sums). The offsets c are kept and added in double precision:
total energies need more digits than a network has.
"""

from typing import Annotated, Literal

import torch
from ase.data import atomic_numbers
from jaxtyping import Float
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, field_validator
from torch import Tensor, nn

from equispec.config import Config
from equispec.data.statistics import ROUNDING, Offsets, PropertyStatistics
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph, sum_per_system
from equispec.nn.mlp import dense
from equispec.quantities import QUANTITIES

ELEMENTS = 119  # rows of the table of offsets; row Z


def _scalar(name: str) -> str:
    known = [q.name for q in QUANTITIES.values() if q.scope == "system" and not q.shape]
    if name not in known:
        raise ValueError(f"a head for scalars has no such target; known targets: {', '.join(known)}")
    return name


class AtomwiseConfig(Config):
    """Configuration that heads for scalar properties have in common."""

    layers: PositiveInt = Field(2, le=8, description="dense layers; each but the last halves the width")
    hidden: PositiveInt | None = Field(None, le=8192, description="width between the layers instead")
    offset: Literal["atom", "element", "mean", "none"] = Field(
        "atom",
        description="mean per atom, a least-squares value per element, the mean of all structures, whatever their size "
        "(always for an average over the atoms), or nothing",
    )
    references: dict[str, float] | None = Field(
        None, description="energy of the free atom by symbol, in the unit of the target; taken off before the offset"
    )
    scale: PositiveFloat | None = Field(
        None, description="σ in the unit of the target; default: of the training set, see PropertyStatistics.scale"
    )

    @field_validator("references")
    @classmethod
    def _elements(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if unknown := [symbol for symbol in value or {} if atomic_numbers.get(symbol, 0) < 1]:
            raise ValueError(f"{unknown[0]!r} is not a chemical element")
        return value


class EnergyConfig(AtomwiseConfig):
    """Configuration of EnergyHead."""

    name: Literal["energy"] = "energy"


class ScalarConfig(AtomwiseConfig):
    """Configuration of ScalarHead."""

    name: Literal["scalar"] = "scalar"
    targets: tuple[Annotated[str, AfterValidator(_scalar)], ...] = Field(min_length=1)
    aggregation: Literal["sum", "mean"] = Field("sum", description="sum over the atoms (the paper, for all) or mean")


class _Atomwise(nn.Module):
    """One number per structure and target."""

    needs = ("scalar",)
    scale: Tensor
    references: Tensor
    mean: Tensor

    def __init__(self, config: AtomwiseConfig, targets: tuple[str, ...], widths: FeatureWidths) -> None:
        super().__init__()
        self.outputs = targets
        self.offset = config.offset
        self.given = config.references
        self.given_scale = config.scale
        sizes = [widths.scalar // 2**k for k in range(config.layers)]
        if config.hidden:
            sizes[1:] = [config.hidden] * (config.layers - 1)
        layers: list[nn.Module] = []
        for n_in, n_out in zip(sizes, [*sizes[1:], len(targets)], strict=True):
            layers += [dense(n_in, n_out), nn.SiLU()]
        self.network = nn.Sequential(*layers[:-1])
        n = len(targets)
        self.register_buffer("scale", torch.ones(n, dtype=torch.float64))
        self.register_buffer("references", torch.zeros(n, ELEMENTS, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(n, dtype=torch.float64))

    def initialise(self, statistics: PropertyStatistics) -> None:
        """Offsets and scales of the training set."""
        for k, name in enumerate(self.outputs):
            given = {atomic_numbers[symbol]: value for symbol, value in (self.given or {}).items()}
            fitted = statistics.offsets(name, self.offset, given, per_structure=self.per_structure)
            self.mean[k] = fitted.mean
            for z, value in fitted.references.items():
                self.references[k, z] = value
            self.scale[k] = self.given_scale or statistics.scale(name, fitted, self.per_structure, self.intensive)

    def spreads(self, statistics: PropertyStatistics) -> dict[str, float]:
        """Standard deviations of what the offsets leave of the targets; those that are rounding alone are left out."""
        found = {}
        for k, name in enumerate(self.outputs):
            if name in statistics.labels:
                offsets = Offsets({z: float(self.references[k, z]) for z in statistics.elements}, float(self.mean[k]))
                spread = float(statistics.rest(name, offsets, self.per_structure).std())
                if spread > ROUNDING * float(abs(statistics.labels[name]).max()):
                    found[name] = spread
        return found

    @property
    def intensive(self) -> bool:
        """Whether the network's numbers are averaged over the atoms."""
        return False

    @property
    def per_structure(self) -> bool:
        """Whether the mean is one of structures rather than of atoms."""
        return self.intensive or self.offset == "mean"

    def forward(self, features: NodeFeatures, graph: AtomGraph) -> dict[str, Tensor]:
        """{target: [systems]} for every target, in double precision."""
        atoms: Float[Tensor, "atoms targets"] = self.network(features.scalar)
        value = sum_per_system(atoms, graph).double() * self.scale
        count = sum_per_system(torch.ones_like(graph.z, dtype=torch.float64), graph)[:, None]
        value = value / count if self.intensive else value
        offset = sum_per_system(self.references.T[graph.z], graph)
        offset = offset + (self.mean if self.per_structure else self.mean * count)
        return dict(zip(self.outputs, (value + offset).unbind(1), strict=True))


class EnergyHead(_Atomwise):
    """The potential energy as a sum over atoms; forces and stress follow from it (`equispec.derivatives`)."""

    def __init__(self, config: EnergyConfig, widths: FeatureWidths) -> None:
        super().__init__(config, ("energy",), widths)


class ScalarHead(_Atomwise):
    """Any scalar properties of a structure, several at a time."""

    independent = True  # a loss of one target says nothing of another

    def __init__(self, config: ScalarConfig, widths: FeatureWidths) -> None:
        super().__init__(config, config.targets, widths)
        self.config = config

    @property
    def intensive(self) -> bool:
        return self.config.aggregation == "mean"
