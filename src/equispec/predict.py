"""Predictor: a loaded model, or an ensemble, that turns structures into spectra and properties as NumPy arrays."""

from collections.abc import Sequence
from pathlib import Path

import torch

from equispec.checkpoint import load_members
from equispec.errors import InputError
from equispec.property_predictor import PropertyPredictor
from equispec.spectra_predictor import SpectraPredictor

SHIPPED = Path(__file__).parent / "assets" / "models"
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


class Predictor(SpectraPredictor, PropertyPredictor):
    """One or more models of the same kind, ready to predict. Made by `equispec.load`.

    `spectrum` and `spectra` are for models with a head for spectra; `predict`, `properties` and `calculator` for those
    with heads for properties, whose names are `quantities`.
    """


def shipped_models() -> dict[str, Path]:
    """Name -> folder of the models that come with the package."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob("*/config.json"))}


def model_folder(name: str | Path) -> Path:
    """The folder of a shipped model or of a model on disk; InputError lists the shipped ones if there is neither."""
    shipped = shipped_models()
    if str(name) in shipped:
        return shipped[str(name)]
    path = Path(name)
    if (path / "config.yaml").is_file() and (path / "model").is_dir():  # a run folder
        return path / "model"
    if path.is_dir():
        return path
    raise InputError(f"unknown model {str(name)!r}: neither a model folder nor a shipped model ({', '.join(shipped)})")


def load(
    model: str | Path | Sequence[str | Path], device: str = "auto", dtype: str | torch.dtype | None = None
) -> Predictor:
    """Load a shipped model by name, a model folder, or several as an ensemble whose predictions are averaged.

    `device`: "auto" (an accelerator where there is one), "cpu", "cuda", ...; `dtype`: "float32", "float64" or None for
    the stored precision. Raises InputError for an unknown name or a damaged folder, or if members do not match.

    >>> import equispec
    >>> equispec.load("ck-tensor").edge
    'C-K'
    """
    precision = PRECISIONS.get(dtype) if isinstance(dtype, str) else dtype
    if dtype is not None and precision not in PRECISIONS.values():
        raise InputError(f"unknown dtype {str(dtype)!r}; allowed: {', '.join(PRECISIONS)}")
    names = [model] if isinstance(model, str | Path) else list(model)
    if not names:
        raise InputError("an ensemble needs at least one model")
    place = _device(device)
    members = [member for name in names for member in load_members(model_folder(name), precision, place)]
    for member in members:
        member.model.requires_grad_(False)  # forces need the gradients of positions, which cost less alone
    return Predictor(members)


def _device(name: str) -> torch.device:
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    found += ["mps"] if torch.backends.mps.is_available() else []
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device  # the only way to learn whether it can be used
    except (RuntimeError, AssertionError):
        raise InputError(f"cannot use the device {name!r}; there are auto, {', '.join(found)} here") from None
