"""The configuration of a training on energies, forces and other properties."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from equispec.config import Config
from equispec.data.split import SplitConfig
from equispec.derivatives import FROM_ENERGY
from equispec.heads import HEADS
from equispec.quantities import QUANTITIES
from equispec.train.base import OptimConfig, TrainingConfig


class PropertyDataConfig(Config):
    """Structures with properties."""

    store: Path = Field(description="property store (.h5); relative to the folder of the config")
    sha256: str | None = Field(
        None,
        description="accept only data with this hash, of the file or of its structures and labels alone; a run notes "
        "the latter",
    )
    split: SplitConfig = SplitConfig()


class LossConfig(Config):
    """What a label weighs and how its error is counted."""

    weight: PositiveFloat = 1.0
    kind: Literal["squared", "absolute"] = "squared"


class PropertyOptimConfig(OptimConfig):
    """Optimisation, and what is minimised: Σ_labels weight · mean (error / unit)^kind.

    The unit of energy, forces and stress is the scale of the energy head, that of other labels their spread in the
    training set. Means are over all components of all labels there are; structures without a label do not count.
    """

    losses: dict[str, LossConfig] = Field(min_length=1, description="label -> weight, or weight and kind")
    ema: float | None = Field(default=0.999, gt=0, lt=1, description=OptimConfig.model_fields["ema"].description)
    compile: bool = Field(
        default=False, description="compile the step with gradients; for structures that are all of one size"
    )

    @field_validator("losses", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        labels = [name for name, quantity in QUANTITIES.items() if quantity.scope != "site"]
        if unknown := [name for name in value if name not in labels]:
            raise ValueError(f"unknown label {unknown[0]!r}; known labels: {', '.join(labels)}")
        return {k: {"weight": v} if isinstance(v, int | float) else v for k, v in value.items()}


class PropertyTraining(TrainingConfig):
    """A training of a model with heads for properties."""

    data: PropertyDataConfig
    train: PropertyOptimConfig

    @model_validator(mode="after")
    def _predicted(self) -> "PropertyTraining":
        heads = {head.name for head in self.model.heads}  # type: ignore[attr-defined]
        lost = [name for name in FROM_ENERGY if name in self.train.losses]
        if lost and not heads & {"energy", "direct-forces"}:
            raise ValueError(f"train.losses: {lost[0]} follow from an energy; add the head 'energy' to model.heads")
        assert heads <= HEADS.keys()
        return self
