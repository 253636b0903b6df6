"""What a run needs to know of what it trains: spectra or properties."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from equispec.checkpoint import Checkpoint, load_model
from equispec.data.properties import PropertyStore
from equispec.errors import InputError
from equispec.model import Model
from equispec.predict import model_folder
from equispec.train.module import TrainingModule


@dataclass(frozen=True)
class Task:
    """A model before its first step, the batches it learns from and is judged by, and what is written with it.

    `ids`: structures by split; `metadata` of the model folder; `finish` is called with the best weights in the model.
    """

    model: Model
    module: TrainingModule
    train: DataLoader[Any]
    valid: DataLoader[Any]
    ids: dict[str, list[int]]
    metadata: dict[str, Any]
    initial: Checkpoint | None
    finish: Callable[[], None] = lambda: None


def starting_point(init: str | None, test: list[int], store: PropertyStore | None = None) -> Checkpoint | None:
    """The model to start from; InputError if it has seen what is to be tested on.

    `store`: the data, where the numbers of their structures mean nothing in other data.
    """
    if init is None:
        return None
    initial = load_model(model_folder(init))
    same = store is None or store.goes_by(initial.metadata.get("training", {}).get("data_sha256"))
    if same and (spoilt := sorted(seen(initial) & set(test))):
        raise InputError(
            f"the run cannot start from model {initial.name!r}: it was trained on {len(spoilt)} of the molecules to "
            f"test on, such as {spoilt[0]}; use the split that it was trained with"
        )
    return initial


def take_over(model: Model, initial: Checkpoint) -> None:
    """All weights of a model of the same architecture, with the constants of its backbone and the scales of its heads.

    A network's numbers mean something in its own units only; offsets stay those of the new training set.
    """
    own, given = dict(model.named_parameters()), dict(initial.model.named_parameters())
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in given.items()}:
        raise InputError(
            f"the run cannot start from model {initial.name!r}: its architecture differs from the configuration's"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(given[name])
        model.backbone.load_state_dict(initial.model.backbone.state_dict())
        for name, head in model.heads.items():
            if isinstance(scale := getattr(head, "scale", None), torch.Tensor):
                scale.copy_(initial.model.heads[name].scale)  # type: ignore[index, arg-type]


def seen(model: Checkpoint) -> set[int]:
    """The molecules that a model, and those it started from, were trained or stopped by, as far as it says."""
    training = model.metadata.get("training", {})
    split, initial = training.get("split", {}), training.get("initial") or {}
    return {*split.get("train", ()), *split.get("valid", ()), *initial.get("seen", ())}
