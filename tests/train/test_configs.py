"""Every configuration in configs/ is one that runs: an epoch on a few molecules of the reference set."""

import csv
from pathlib import Path

import pytest

from equispec.train.config import load_config
from equispec.train.run import start

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
SMALL = [
    "data.shards=[ck-tp-pbe.h5]",
    "data.train_sites=12",
    "train.epochs=1",
    "model.backbone.blocks=1",
    "model.backbone.features=16",
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_configuration_runs(config: Path, tmp_path: Path) -> None:
    folder = start(load_config(config, SMALL), tmp_path / "run", progress=False)
    assert (folder / "config.json").is_file()
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["train_loss"]) < 10
    # its first comment line but one says how to run it
    assert f"equispec train configs/{config.name}" in config.read_text(encoding="utf-8")
