"""What every training configuration has: data, model, optimisation."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from equispec.config import Config
from equispec.model import ModelConfig


class PlateauConfig(Config):
    """The learning rate falls by `factor` where the smoothed validation loss has not fallen for `patience` epochs.

    Smoothing (Schütt, Unke & Gastegger 2021, section 5): l̄_t = s l̄_(t-1) + (1 - s) l_t.
    """

    factor: float = Field(0.5, gt=0, lt=1)
    patience: PositiveInt = Field(50, description="epochs")
    smoothing: float = Field(0.9, ge=0, lt=1)
    min_lr: NonNegativeFloat = 1e-6


class OptimConfig(Config):
    """Optimisation."""

    seed: NonNegativeInt = 0
    init: str | None = Field(
        default=None, description="start from the weights of this model: a shipped name or a model folder"
    )
    epochs: PositiveInt = 300
    batch_size: PositiveInt = Field(default=8, description="molecules per step")
    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = Field(
        default=0.01, description="0.01 with adamw; 0 with adam, where it would outweigh small gradients"
    )
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    plateau: PlateauConfig = Field(default_factory=lambda: PlateauConfig.parse({}))
    clip: PositiveFloat | None = Field(default=5.0, description="largest norm of the gradient")
    ema: float | None = Field(
        default=0.99, gt=0, lt=1, description="decay of the moving average of the weights, per step"
    )
    patience: PositiveInt | None = Field(
        default=60, description="stop after this many epochs without improvement (plateau: of the smoothed loss)"
    )

    @model_validator(mode="before")
    @classmethod
    def _decay(cls, values: Any) -> Any:
        # Adam adds the decay to the gradient and divides by its size: small gradients are lost in it
        if isinstance(values, Mapping) and values.get("optimizer") == "adam":
            return {"weight_decay": 0.0, **values}
        return values


class TrainingConfig(Config):
    """What a run trains; subclasses add `data` and `train`."""

    model: ModelConfig

    @field_validator("model", mode="before")
    @classmethod
    def _parse_model(cls, value: Any) -> ModelConfig:
        return value if isinstance(value, ModelConfig) else ModelConfig.parse(value, "model")
