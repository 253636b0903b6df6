"""Every configuration in configs/ is one that runs: an epoch on a few molecules of the data that it is for."""

import csv
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from equispec.data.properties import PropertySample, write_properties
from equispec.quantities import QUANTITIES
from equispec.train.config import load_config
from equispec.train.run import start

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
SMALL = ["data.train_sites=12", "train.epochs=1", "model.backbone.blocks=1", "model.backbone.features=16"]


SPECTRA = [path for path in CONFIGS if path.stem.startswith(("ck-", "isd-painn"))]
SMALL_PROPERTIES = [
    *("train.epochs=1", "model.backbone.blocks=1", "model.backbone.features=12", "train.batch_size=3"),
    *("data.split={train: 9, valid: 3}", "train.compile=false"),
]


@pytest.fixture(scope="module")
def property_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up labels of every property for a molecule that moves."""
    random = np.random.default_rng(0)
    methanol = molecule("CH3OH")
    z, labels = np.asarray(methanol.numbers, dtype=np.int64), [q for q in QUANTITIES.values() if q.scope != "site"]
    samples = []
    for i in range(15):
        properties = {}
        for quantity in labels:
            shape = (*((len(z),) if quantity.scope == "atom" else ()), *map(int, quantity.shape))
            properties[quantity.name] = random.normal(size=shape)
        pos = methanol.positions + random.normal(0, 0.1, (len(z), 3))
        samples.append(PropertySample(i, "", z, pos, 0, 1, properties))
    path = tmp_path_factory.mktemp("store") / "properties.h5"
    texts = ("method", "units", "protocol", "source", "licence", "citation")
    write_properties(path, samples, dict.fromkeys(texts, "made up for tests"))
    return path


def check_run(config: Path, store: list[str], tmp_path: Path) -> None:
    folder = start(load_config(config, store), tmp_path / "run", progress=False)
    assert (folder / "config.json").is_file()
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["train_loss"]) < 100
    # one of its first comment lines says how to run it
    assert f"equispec train configs/{config.name}" in config.read_text(encoding="utf-8")


@pytest.mark.parametrize("config", [path for path in CONFIGS if path not in SPECTRA], ids=lambda path: path.stem)
def test_configuration_of_properties_runs(config: Path, property_store: Path, tmp_path: Path) -> None:
    check_run(config, [f"data.store={property_store}", *SMALL_PROPERTIES], tmp_path)


@pytest.mark.parametrize("config", SPECTRA, ids=lambda path: path.stem)
def test_configuration_runs(config: Path, published_store: Path, tmp_path: Path) -> None:
    elsewhere = {  # stores that are not shipped: ours in the same form
        "isd-painn-published": published_store,
        "ck-tensor-pretraining": REPOSITORY / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5",
    }
    store = elsewhere.get(config.stem)
    data = f"data.store={store}" if store else "data.shards=[ck-tp-pbe.h5]"
    check_run(config, [data, *SMALL], tmp_path)


@pytest.mark.parametrize(
    ("settings", "decay"),
    [([], 0.01), (["train.optimizer=adam"], 0.0), (["train.optimizer=adam", "train.weight_decay=0.1"], 0.1)],
)
def test_adam_decays_weights_only_if_told_to(settings: list[str], decay: float) -> None:
    assert load_config(REPOSITORY / "configs" / "md17_ethanol.yaml", settings).train.weight_decay == decay
