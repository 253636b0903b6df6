"""The configuration of a training on spectra."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from equispec.config import Config
from equispec.data.split import SplitConfig
from equispec.train.base import OptimConfig, TrainingConfig


class BroadeningConfig(Config):
    """Gaussian FWHM in eV: `fwhm` up to the ionisation potential, rising to `fwhm_high` over `ramp` eV above it."""

    fwhm: PositiveFloat = 0.5
    fwhm_high: PositiveFloat = 4.5
    ramp: PositiveFloat = 10.0


class SpectraDataConfig(Config):
    """Reference spectra and how they become targets."""

    store: Path = Field(
        description="HDF5 store of sticks, a file or a folder of them; relative to the folder of the config"
    )
    shards: tuple[str, ...] | None = Field(
        None, description="use only these files of the folder; a run notes here which ones there were when it began"
    )
    sha256: str | None = Field(
        None, description="accept only data with this content hash; a run notes here that of its data"
    )
    split: SplitConfig = SplitConfig()
    broadening: BroadeningConfig = BroadeningConfig()
    normalization: float | str = Field(
        "mean",
        description="what intensities are divided by: their mean over the training sites, the constant that came with "
        "published data, or a number; squared errors scale with its inverse square",
    )
    train_sites: PositiveInt | None = Field(
        None, description="use only about this many training sites (learning curve)"
    )

    @field_validator("normalization", mode="before")
    @classmethod
    def _known_or_positive(cls, value: Any) -> Any:
        if value in ("mean", "published"):
            return value
        with suppress(TypeError, ValueError):  # YAML reads 1e-4 as text
            if not isinstance(value, bool) and 0 < (number := float(value)) < math.inf:
                return number
        raise ValueError("it must be mean, published or a positive number")


class SpectraOptimConfig(OptimConfig):
    """Optimisation, and what is minimised."""

    loss_power: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="the loss of a site to this power is what training lowers; below 1 outliers weigh less",
    )
    smooth_loss: NonNegativeFloat = Field(default=4.0, description="weight of the loss of the smoothed residual")
    position_noise: NonNegativeFloat = Field(
        default=0.0, description="Å, standard deviation of a random displacement of every atom in every step"
    )
    directions: Literal["together", "separate", "random"] = Field(
        default="together",
        description="directional models: x, y and z in one step, one optimiser step each (the paper), or random axes",
    )


class SpectraTraining(TrainingConfig):
    """A training of a model with a head for site spectra."""

    data: SpectraDataConfig
    train: SpectraOptimConfig = SpectraOptimConfig()
