"""The model folder: config.json (architecture, units, provenance) and weights.safetensors; nothing is unpickled."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, PositiveFloat
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from equispec import __version__
from equispec.config import Config
from equispec.data.domain import Domain
from equispec.errors import InputError
from equispec.model import Model, ModelConfig, build, parameter_count
from equispec.quantities import QUANTITIES
from equispec.spectra.calibration import BandCalibration

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "weights.safetensors"

# what every config.json holds besides the format
KINDS: dict[str, type] = {"model": dict, "weights_sha256": str, "metadata": dict, "units": dict}

# format n -> function that turns the config of format n into that of format n + 1
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


class _Open(Config):
    """A mapping whose named entries are checked; it may hold others."""

    model_config = ConfigDict(extra="allow", frozen=True)


class _Domain(_Open):
    elements: list[int]
    max_heavy_atoms: int
    charges: list[int]
    bonds: list[str] | None = None


class _Widths(Config):
    fwhm: PositiveFloat
    fwhm_high: PositiveFloat
    ramp: PositiveFloat


class Calibration(Config):
    """What `equispec models calibrate` adds to the metadata of a trained model; it holds for exactly these weights.

    `split` of the model's own data, with its numbers of molecules and sites, and the hash of that store.
    """

    split: str
    molecules: int
    sites: int
    data_sha256: str
    band: BandCalibration
    domain: Domain


class _Metadata(_Open):
    """The entries of the metadata that predictions rest on."""

    shift_eV: float | None = None
    intensity_scale: PositiveFloat | None = None
    broadening: _Widths | None = None
    statistics: _Domain | None = None
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model folder: the model, its metadata (data, domain, metrics, licence) and the hash of its weights."""

    model: Model
    metadata: dict[str, Any]
    name: str
    hash: str


def save_model(folder: Path, model: Model | Sequence[Model], metadata: dict[str, Any]) -> str:
    """Write a model folder, all or nothing, and return the hash of the weights.

    Several models of the same configuration make an ensemble; their weights share one file, prefixed "0/", "1/", ...

    An existing model folder is replaced; anything else at that place is an InputError.
    """
    models = [model] if isinstance(model, Model) else list(model)
    folder = Path(folder)
    if folder.exists() and not (folder / CONFIG).is_file():
        raise InputError(f"{folder} exists and is not a model folder; choose another place for the model")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"cannot write the model folder {folder}: {error.strerror}") from None
    try:
        partial.chmod(0o755)
        save_file(_weights(models), partial / WEIGHTS)
        (partial / WEIGHTS).chmod(0o644)
        digest = _sha256(partial / WEIGHTS)
        config = {
            "format": FORMAT,
            "equispec_version": __version__,
            "model": models[0].config.model_dump(mode="json"),
            "members": len(models),
            "units": {q.name: q.unit for q in QUANTITIES.values() if q.name in models[0].outputs},
            "weights_sha256": digest,
            "metadata": metadata,
        }
        (partial / CONFIG).write_text(_json(config), encoding="utf-8")
        if folder.exists():
            for extra in folder.iterdir():  # the card and other texts stay with the model
                if extra.name not in (CONFIG, WEIGHTS):
                    shutil.copy2(extra, partial / extra.name)
            shutil.rmtree(folder)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return digest


def _weights(models: Sequence[Model]) -> dict[str, torch.Tensor]:
    if len(models) == 1:
        return {name: value.contiguous() for name, value in models[0].state_dict().items()}
    return {f"{i}/{k}": v.contiguous() for i, model in enumerate(models) for k, v in model.state_dict().items()}


def load_model(folder: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Checkpoint:
    """The one model of a model folder; InputError for an ensemble, otherwise as `load_members`."""
    members = load_members(folder, dtype, device)
    if len(members) > 1:
        raise InputError(f"{folder} is an ensemble of {len(members)} models; a single model is needed")
    return members[0]


def load_members(
    folder: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> list[Checkpoint]:
    """Load a model folder, every member of an ensemble; `dtype` None keeps the precision of the stored weights.

    Raises InputError if the folder is missing, incomplete, of a newer format, or if its weights were changed.
    """
    folder = Path(folder)
    config = read_config(folder)
    weights_file = folder / WEIGHTS
    if not weights_file.is_file():
        raise InputError(f"{folder} has no {WEIGHTS}: the model folder is incomplete")
    digest = _sha256(weights_file)
    if digest != config["weights_sha256"]:
        raise InputError(f"{weights_file} is damaged or was changed: its checksum differs from the one in {CONFIG}")
    try:
        weights = load_file(weights_file)
    except SafetensorError as error:
        raise InputError(f"{weights_file} is not a readable safetensors file: {error}") from None
    floating = [w for w in weights.values() if w.dtype in (torch.float32, torch.float64)]
    # of the largest array: constants such as an intensity scale are kept in double precision
    stored = max(floating, key=torch.Tensor.numel).dtype if floating else torch.float32
    parsed = ModelConfig.parse(config["model"], f"{folder / CONFIG}: model")
    held = {name.partition("/")[0] for name in weights}
    if config["members"] > 1 and held != {str(i) for i in range(config["members"])}:
        raise InputError(f"{weights_file} does not hold the {config['members']} members that {CONFIG} speaks of")
    members = []
    for i in range(config["members"]):
        own = weights
        if config["members"] > 1:
            own = {k.removeprefix(f"{i}/"): v for k, v in weights.items() if k.startswith(f"{i}/")}
        model = build(parsed, dtype or stored)
        try:
            model.load_state_dict(own)
        except RuntimeError:
            raise InputError(f"{weights_file} does not fit the architecture in {folder / CONFIG}") from None
        members.append(Checkpoint(model.to(device).eval(), config["metadata"], _name(folder), digest[:12]))
    return members


def _name(folder: Path) -> str:
    """What to call a model: its folder, or that of the run it was made by."""
    path = folder.resolve()
    return path.parent.name if path.name == "model" and (path.parent / "config.yaml").is_file() else path.name


def merge_models(folders: Sequence[Path], target: Path) -> str:
    """Write an ensemble of trained models of one configuration and one training set; returns the hash of the weights.

    Raises InputError if they differ in architecture, data, split, broadening, intensity scale or the properties that
    they learned, or do not say what they were trained on: an ensemble's test molecules must be unseen by all of its
    members.
    """
    if len(folders) < 2:
        raise InputError("an ensemble needs at least two models")
    members = [load_model(folder) for folder in folders]
    first = members[0]
    for member, folder in zip(members, folders, strict=True):
        if "training" not in member.metadata:
            raise InputError(f"{folder} does not say what it was trained on: it cannot be part of an ensemble")
        if member.model.config != first.model.config:
            raise InputError(f"{folder} has another architecture than {folders[0]}: they cannot be one ensemble")
        for key in ("split", "data_sha256"):
            if member.metadata["training"].get(key) != first.metadata["training"].get(key):
                raise InputError(f"{folder} and {folders[0]} were trained on different data ({key} differs)")
        for key in ("edge", "shift_eV", "broadening", "intensity_scale"):
            if member.metadata.get(key) != first.metadata.get(key):
                raise InputError(f"{folder} and {folders[0]} were trained on different spectra ({key} differs)")
        if _learned(member) != _learned(first):
            raise InputError(
                f"{folder} learned {', '.join(_learned(member)) or 'no property'}, {folders[0]} "
                f"{', '.join(_learned(first)) or 'no property'}: they cannot be one ensemble"
            )
    trainings = [member.metadata["training"] for member in members]
    outdated = ("calibration", "metrics")  # they belong to the single member
    metadata = {
        **{key: value for key, value in first.metadata.items() if key not in outdated},
        "parameters": sum(parameter_count(member.model) for member in members),
        "training": {
            **trainings[0],
            "members": [{"seed": t["config"]["train"]["seed"], "epoch": t["epoch"]} for t in trainings],
        },
    }
    return save_model(target, [member.model for member in members], metadata)


def _learned(member: Checkpoint) -> list[str]:
    """The properties with labels in its training; none for a model of spectra."""
    return sorted((member.metadata.get("statistics") or {}).get("labels") or ())


def add_metadata(folder: Path, **entries: Any) -> None:
    """Add entries to the metadata of a model folder, or replace them; InputError if it cannot be written."""
    path = Path(folder) / CONFIG
    config = read_config(folder)
    config["metadata"].update(entries)
    partial = path.with_name(f".{CONFIG}.partial")
    try:
        partial.write_text(_json(config), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _json(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=1, ensure_ascii=False) + "\n"


def read_config(folder: Path) -> dict[str, Any]:
    """The contents of a model folder's config.json, migrated to the present format."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} is not a model folder: it has no {CONFIG}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        number = config["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path} is not the description of an equispec model") from None
    if not isinstance(number, int) or number < min(MIGRATIONS, default=FORMAT):
        raise InputError(f"{path} has the unknown format {number!r}; this version of equispec reads format {FORMAT}")
    if number > FORMAT:
        raise InputError(f"{path} has format {number}; this version of equispec reads up to format {FORMAT}: update it")
    while number < FORMAT:
        config = MIGRATIONS[number](config)
        number += 1
    missing = [key for key in KINDS if key not in config]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}")
    for key, kind in KINDS.items():
        if not isinstance(config[key], kind):
            raise InputError(f"{path}: {key} = {config[key]!r} is not what a model folder has there")
    if not isinstance(config.setdefault("members", 1), int) or config["members"] < 1:
        raise InputError(f"{path}: members = {config['members']!r}; a number from 1 is needed")
    _Metadata.parse(config["metadata"], f"{path}: metadata")
    return config


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
