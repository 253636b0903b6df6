"""The training configuration, as written in YAML: of spectra or of properties, as the heads of the model say."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from equispec.errors import ConfigError, InputError
from equispec.heads.spectrum_config import SiteSpectrumConfig
from equispec.model import ModelConfig
from equispec.train.properties.config import PropertyTraining
from equispec.train.spectra.config import SpectraTraining

Training = SpectraTraining | PropertyTraining


def load_config(path: Path, overrides: list[str] | None = None) -> Training:
    """Read a YAML configuration; `overrides` are "train.lr=1e-3"-like settings whose values are YAML.

    A store named in the file is sought from the folder of the file, one named in an override from the working folder.
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
    if isinstance(store, str):
        told = any(override.split("=")[0].strip() in ("data", "data.store") for override in overrides or [])
        values["data"]["store"] = str(((Path() if told else path.parent) / store).resolve())
    return parse_config(values, str(path))


def parse_config(values: dict[str, Any], where: str = "configuration") -> Training:
    """The configuration from plain data; ConfigError as `load_config`, and where heads of both kinds are asked for."""
    if "model" not in values:
        raise ConfigError(f"{where}: the key model is missing; a configuration has the keys data, model, train")
    model = values["model"] if isinstance(values["model"], ModelConfig) else ModelConfig.parse(values["model"], "model")
    spectra = {isinstance(head, SiteSpectrumConfig) for head in model.heads}
    if len(spectra) > 1:
        raise ConfigError(f"{where}: model.heads: a training is on spectra or on properties, not on both")
    kind = SpectraTraining if True in spectra else PropertyTraining
    return kind.parse({**values, "model": model}, where)


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
