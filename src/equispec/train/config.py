"""The training configuration, as written in YAML."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from equispec.config import Config
from equispec.data.split import SplitConfig
from equispec.errors import ConfigError, InputError
from equispec.model import ModelConfig


class BroadeningConfig(Config):
    """Gaussian FWHM in eV: `fwhm` up to the ionisation potential, rising to `fwhm_high` over `ramp` eV above it."""

    fwhm: PositiveFloat = 0.5
    fwhm_high: PositiveFloat = 4.5
    ramp: PositiveFloat = 10.0


class DataConfig(Config):
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
    weight_decay: NonNegativeFloat = 0.01
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: PositiveFloat | None = Field(default=5.0, description="largest norm of the gradient")
    ema: float | None = Field(
        default=0.99, gt=0, lt=1, description="decay of the moving average of the weights, per step"
    )
    patience: PositiveInt | None = Field(default=60, description="stop after this many epochs without improvement")
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


class TrainingConfig(Config):
    """A whole training run."""

    data: DataConfig
    model: ModelConfig
    train: OptimConfig = OptimConfig()

    @field_validator("model", mode="before")
    @classmethod
    def _parse_model(cls, value: Any) -> ModelConfig:
        return value if isinstance(value, ModelConfig) else ModelConfig.parse(value, "model")


def load_config(path: Path, overrides: list[str] | None = None) -> TrainingConfig:
    """Read a YAML configuration; `overrides` are "train.lr=1e-3"-like settings whose values are YAML.

    Raises InputError for a file that cannot be read, ConfigError for an unknown key or a forbidden value.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the configuration {path}: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a configuration is a mapping with the keys data, model, train")
    for override in overrides or []:
        _set(values, override)
    store = values.get("data", {}).get("store") if isinstance(values.get("data"), dict) else None
    if isinstance(store, str) and not Path(store).is_absolute():
        values["data"]["store"] = str((path.parent / store).resolve())
    return TrainingConfig.parse(values, str(path))


def _set(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"--set {override!r}: write it as key=value, for example train.lr=1e-3")
    *parents, last = key.split(".")
    for parent in parents:
        child = values.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is not a mapping")
        values = child
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML") from None
    if isinstance(value, str):
        with suppress(ValueError):  # YAML reads 1e-3 as text
            value = float(value)
    values[last] = value
