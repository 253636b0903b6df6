"""Every configuration in configs/ is one that runs: an epoch on a few molecules of the data that it is for."""

import csv
from pathlib import Path

import pytest

from equispec.train.config import load_config
from equispec.train.run import start

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
SMALL = ["data.train_sites=12", "train.epochs=1", "model.backbone.blocks=1", "model.backbone.features=16"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_configuration_runs(config: Path, published_store: Path, tmp_path: Path) -> None:
    elsewhere = {  # stores that are not shipped: ours in the same form
        "isd-painn-published": published_store,
        "ck-tensor-pretraining": REPOSITORY / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5",
    }
    store = elsewhere.get(config.stem)
    data = f"data.store={store}" if store else "data.shards=[ck-tp-pbe.h5]"
    folder = start(load_config(config, [data, *SMALL]), tmp_path / "run", progress=False)
    assert (folder / "config.json").is_file()
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["train_loss"]) < 10
    # one of its first comment lines says how to run it
    assert f"equispec train configs/{config.name}" in config.read_text(encoding="utf-8")
