"""The weights in files of other programs, read without executing anything, and put into a model."""

import hashlib
import pickle
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from equispec.errors import InputError
from equispec.model import Model

Weights = dict[str, Tensor]

UNREADABLE = (FileNotFoundError, IsADirectoryError, PermissionError)
SAVE_ALONE = "save the state dict alone"
CONTAINERS = ("model_state_dict", "state_dict")  # where training programs keep the weights in their checkpoints


def read_state_dict(file: Path, advice: str = SAVE_ALONE) -> Weights:
    """The tensors of a checkpoint of torch.save, of a safetensors or of an npz file (there of "w/..." if it has any).

    `advice` is what users of that program are told to do with a file that holds other objects than plain data and
    tensors. Raises InputError for such a file, one that is missing or damaged, and for weights that are not finite
    numbers.
    """
    read = READERS.get(file.suffix.lower(), _read_checkpoint)
    try:
        state = read(file, advice)
    except UNREADABLE as error:
        raise InputError(f"cannot read the checkpoint {file}: {error.strerror}") from None
    weights = {str(name).removeprefix("module."): value for name, value in state.items()}
    for name, value in weights.items():
        if not value.is_floating_point() or not bool(value.isfinite().all()):
            raise InputError(f"{file}: {name} must hold finite floating-point numbers")
    return weights


def _read_checkpoint(file: Path, advice: str) -> Weights:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE:
        raise
    except pickle.UnpicklingError:
        raise InputError(
            f"{file} is refused: it is not a checkpoint of torch.save, or holds objects that would run code when read; "
            f"{advice}"
        ) from None
    except Exception:  # damaged files fail in many ways
        raise InputError(f"{file} is damaged or not a checkpoint written by torch.save") from None
    state = content
    if isinstance(content, dict):
        state = next((content[name] for name in CONTAINERS if name in content), content)
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(
            f"{file} holds neither {' nor '.join(f'`{n}`' for n in CONTAINERS)} nor a state dict of tensors"
        )
    return state


def _read_npz(file: Path, _advice: str) -> Weights:
    try:
        with file.open("rb") as content, np.load(content, allow_pickle=False) as stored:
            names = [name for name in stored.files if name.startswith("w/")] or stored.files
            return {name.removeprefix("w/"): torch.as_tensor(stored[name]) for name in names}
    except (ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile):
        raise InputError(f"{file} is damaged or not an npz file of arrays of numbers") from None


def _read_safetensors(file: Path, _advice: str) -> Weights:
    try:
        return load_file(file)
    except SafetensorError:
        raise InputError(f"{file} is damaged or not a safetensors file") from None


READERS: dict[str, Callable[[Path, str], Weights]] = {".npz": _read_npz, ".safetensors": _read_safetensors}


def check_names(weights: Weights, expected: Collection[str], known: Collection[str], kind: str, file: Path) -> None:
    """InputError unless all `expected` names are there, and no others but `known` ones; `kind`: what it should be."""
    missing = sorted(set(expected) - weights.keys())
    surplus = sorted(weights.keys() - set(expected) - set(known))
    if missing or surplus:
        found = [f"lacks {_some(missing)}"] if missing else []
        found += [f"has the unknown {_some(surplus)}"] if surplus else []
        raise InputError(f"{file} is not {kind}: it {' and '.join(found)}")


def check_matrix(weights: Weights, name: str, file: Path) -> None:
    """InputError unless this weight is a matrix."""
    if weights[name].ndim != 2:
        raise InputError(f"{file}: {name} has the shape {list(weights[name].shape)}; a matrix is needed")


def load_into(model: Model, weights: Weights, file: Path) -> None:
    """Put weights under our names into a model; InputError for a wrong shape."""
    own = model.state_dict()
    for name, value in weights.items():
        if value.shape != own[name].shape:
            shapes = f"{list(value.shape)}; {list(own[name].shape)} is needed"
            raise InputError(f"{file}: the weight that becomes {name} has the shape {shapes}")
    model.load_state_dict(weights)


def imported_from(file: Path) -> dict[str, Any]:
    """Where the weights come from, for the metadata of a model."""
    return {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
