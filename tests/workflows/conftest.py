"""Small models, trained for two epochs on a small part of the reference set."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import DIRECTIONAL, REFERENCE, TENSOR, Trained

from equispec.checkpoint import save_model
from equispec.data.store import StickStore, write_store
from equispec.model import ModelConfig, build
from equispec.train.config import parse_config
from equispec.train.run import start


def part_of_the_reference_set(path: Path, part: slice) -> Path:
    with StickStore(REFERENCE) as store:
        attributes = {name: store.attributes[name] for name in store.attributes if not name.startswith("format")}
        write_store(path, [store[i] for i in range(len(store))[part]], attributes)
    return path


@pytest.fixture(scope="session")
def small_part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return part_of_the_reference_set(tmp_path_factory.mktemp("store") / "part.h5", slice(0, 28))


def trained(model: dict[str, Any], store: Path, run: Path) -> Trained:
    data = {"store": store, "split": {"seed": 1, "valid": 0.2, "test": 0.25}}
    config = {"data": data, "model": model, "train": {"epochs": 2, "batch_size": 4, "patience": None}}
    start(parse_config(config), run, progress=False)
    return Trained(run, store)


@pytest.fixture(scope="session")
def tensor_model(small_part: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(TENSOR, small_part, tmp_path_factory.mktemp("tensor") / "run")


@pytest.fixture(scope="session")
def directional_model(small_part: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(DIRECTIONAL, small_part, tmp_path_factory.mktemp("directional") / "run")


@pytest.fixture
def fresh(tmp_path: Path):
    """A function that writes a model folder with fresh weights; `changes` are options of the backbone."""

    def write(config: dict[str, Any], **changes: Any) -> Path:
        torch.manual_seed(2)
        model = build(ModelConfig.parse({**config, "backbone": {**config["backbone"], **changes}}))
        with torch.no_grad():  # zero biases would hide mistakes
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(0, 0.1)
        save_model(tmp_path / "fresh", model, {"edge": "C-K"})
        return tmp_path / "fresh"

    return write
