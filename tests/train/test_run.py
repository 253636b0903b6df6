"""A run from configuration to model folder, killed and resumed."""

import csv
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

from equispec.checkpoint import WEIGHTS, Checkpoint, load_model
from equispec.data.statistics import SpectrumStatistics
from equispec.data.store import StickStore, write_store
from equispec.errors import ConfigError, InputError
from equispec.model import Model, ModelConfig, build
from equispec.predict import load
from equispec.train.config import load_config
from equispec.train.run import BEST, LAST, resume, start
from equispec.train.spectra.config import SpectraTraining
from equispec.train.spectra.data import fixed_loader
from equispec.train.spectra.module import SpectraModule
from equispec.train.spectra.task import THIN, prepare, start_from

SCRIPT = """
import sys, torch
from pathlib import Path
from equispec.train.config import load_config
from equispec.train.run import start
torch.set_num_threads(1)
start(load_config(Path(sys.argv[1]), sys.argv[3:]), Path(sys.argv[2]), progress=False)
"""


def epochs(run: Path) -> list[int]:
    with (run / "metrics.csv").open(newline="") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


@pytest.fixture
def finished(small_config: Path, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    start(load_config(small_config), run, progress=False)
    return run


def test_run_folder_holds_everything_a_reader_needs(finished: Path) -> None:
    assert epochs(finished) == list(range(6))
    with (finished / "metrics.csv").open(newline="") as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0]
    split = json.loads((finished / "split.json").read_text())
    assert sorted(number for part in split.values() for number in part) == list(range(1, 13))
    metadata = load_model(finished / "model").metadata
    assert metadata["training"]["split"] == split
    expected = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    assert metadata["training"]["device"] == expected
    assert metadata["statistics"]["elements"] == sorted(metadata["statistics"]["elements"])
    assert metadata["intensity_scale"] > 0


@pytest.mark.parametrize("average", ["0.9", "null"])
def test_model_folder_holds_the_weights_that_were_validated(small_config: Path, tmp_path: Path, average: str) -> None:
    """The lowest validation loss of the table is that of the shipped weights, averaged or not."""
    run, config = tmp_path / "run", load_config(small_config, [f"train.ema={average}", "train.lr=0.01"])
    start(config, run, progress=False)
    with (run / "metrics.csv").open(newline="") as file:
        lowest = min(float(row["valid_loss"]) for row in csv.DictReader(file))
    assert mean_loss(config, load_model(run / "model").model, "valid") == pytest.approx(lowest, rel=1e-5)
    present = torch.load(run / BEST, weights_only=True).get("current_model_state")
    if average == "null":
        assert present is None
        return
    # the loss can tell the average from the weights it is an average of
    assert present is not None
    model = load_model(run / "model").model
    model.load_state_dict({k.removeprefix("model."): v for k, v in present.items()})
    assert mean_loss(config, model, "valid") != pytest.approx(lowest, rel=1e-3)


def mean_loss(config: SpectraTraining, model: Model, split: str) -> float:
    task = prepare(config)
    datasets = {"train": task.train.dataset, "valid": task.valid.dataset}
    module = SpectraModule(model, config.train, config.model.heads[0].energy_grid, 1.0).eval()
    losses = []
    with torch.no_grad():
        for batch in fixed_loader(datasets[split], 1):
            losses.append(module.site_losses(model(batch.graph)["absorption_tensor"] - batch.tensor))
    return float(torch.cat(losses).mean())


def test_trained_model_predicts_a_spectrum(finished: Path) -> None:
    spectra = load(finished).spectrum(molecule("CH3OH"))
    assert spectra.tensor.shape == (1, 33, 3, 3)
    assert np.linalg.eigvalsh(spectra.tensor).min() >= -1e-12


def test_killed_and_resumed_run_ends_with_the_same_bits(small_config: Path, tmp_path: Path) -> None:
    settings = ["train.epochs=30", "train.patience=30"]
    whole = tmp_path / "whole"
    start(load_config(small_config, settings), whole, progress=False)

    killed = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(small_config), str(killed), *settings]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "metrics.csv").exists() or len(epochs(killed)) < 5:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 5 <= len(epochs(killed)) < 30
    assert not (killed / "model").exists()

    resume(killed, progress=False)
    assert epochs(killed) == epochs(whole)
    assert (killed / "model" / WEIGHTS).read_bytes() == (whole / "model" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("directions", ["together", "separate", "random"])
def test_directional_model_trains_with_every_choice_of_directions(
    small_config: Path, tmp_path: Path, directions: str
) -> None:
    config = load_config(
        small_config,
        [
            "model.backbone={name: isd-painn, features: 8, blocks: 1, n_radial: 8, cutoff: 4.0}",
            "model.heads=[{name: directional-spectrum, grid: {start: 284.0, stop: 300.0, n: 33}}]",
            f"train.directions={directions}",
            *("train.epochs=12", "train.lr=0.005", "train.position_noise=0"),
        ],
    )
    start(config, tmp_path / "run", progress=False)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    steps_per_epoch = int(rows[0]["step"])
    assert steps_per_epoch % 3 == 0 if directions == "separate" else steps_per_epoch < 12


def test_table_shows_the_mean_error_of_the_training_sites(small_config: Path, tmp_path: Path) -> None:
    """Whatever the sizes of the batches, the last of which is smaller: the figure compares with `valid_loss`."""
    settings = ["train.epochs=1", "train.lr=1e-12", "train.position_noise=0", "train.batch_size=5"]
    head = "model.heads=[{name: dyad-tensor, channels: 2, grid: {start: 284.0, stop: 300.0, n: 33}}]"  # no dropout
    config = load_config(small_config, [*settings, head])
    start(config, tmp_path / "run", progress=False)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    found = mean_loss(config, load_model(tmp_path / "run" / "model").model, "train")
    assert float(row["train_loss"]) == pytest.approx(found, rel=1e-4)


def test_run_that_stopped_early_stays_stopped_when_resumed(small_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    start(load_config(small_config, ["train.lr=0.3", "train.epochs=40", "train.patience=1"]), run, progress=False)
    done, weights = epochs(run), (run / "model" / WEIGHTS).read_bytes()
    assert len(done) < 40
    resume(run, progress=False)
    assert epochs(run) == done
    assert (run / "model" / WEIGHTS).read_bytes() == weights


def test_run_that_diverges_at_once_leaves_no_model(small_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(InputError, match=r"try a smaller train\.lr"):
        start(load_config(small_config, ["train.lr=1e30", "train.ema=null"]), run, progress=False)
    assert not (run / "model").exists()


def test_run_may_start_from_a_model_but_not_from_one_that_saw_its_test_molecules(
    finished: Path, small_config: Path, tmp_path: Path
) -> None:
    first = load_model(finished / "model")
    start(load_config(small_config, [f"train.init={finished}", "train.lr=1e-12"]), tmp_path / "next", progress=False)
    second = load_model(tmp_path / "next" / "model")
    for name, value in second.model.named_parameters():
        assert torch.allclose(value, first.model.get_parameter(name), atol=1e-6), name
    split = first.metadata["training"]["split"]
    seen = sorted([*split["train"], *split["valid"]])
    assert second.metadata["training"]["initial"] == {"model": finished.name, "hash": first.hash, "seen": seen}

    other = ["data.split={seed: 1, valid: 0.25, test: 0.25}"]
    for initial in (finished, tmp_path / "next"):
        with pytest.raises(InputError, match=r"was trained on \d+ of the molecules to test on"):
            start(load_config(small_config, [*other, f"train.init={initial}"]), tmp_path / "spoilt", progress=False)
    assert not (tmp_path / "spoilt").exists()
    wider = ["model.backbone.features=16", f"train.init={finished}"]
    with pytest.raises(InputError, match="architecture differs"):
        start(load_config(small_config, wider), tmp_path / "spoilt", progress=False)


def test_energies_that_the_first_spectra_did_not_reach_continue_the_last_that_they_did() -> None:
    parts = {"backbone": {"name": "painn", "features": 8}, "heads": [{"name": "square-tensor", "cutoff": 5.0}]}
    model = build(ModelConfig.parse(parts, "model"))
    head: Any = next(iter(model.heads.values()))
    n, known = head.n_energies, head.n_energies // 2
    mean = np.ones(n)
    flat = SpectrumStatistics(1.0, 1.0, mean, (1, 6), 1, 1, 1)
    short = np.where(np.arange(n) < known, mean, 0.9 * THIN)
    initial = Checkpoint(model, {"statistics": {"mean_spectrum": short.tolist()}}, "first", "")
    before = head.coefficients[-1].weight.detach().clone().view(n, -1)
    start_from(model, initial, flat)
    after = head.coefficients[-1].weight.view(n, -1)
    assert torch.equal(after[:known], before[:known])
    assert (after[known:] == before[known - 1]).all()


def test_run_uses_the_data_it_began_with(small_config: Path, small_store: Path, tmp_path: Path) -> None:
    """A folder that grows between start and resume changes nothing; a file that changes is refused."""
    folder, run = tmp_path / "set", tmp_path / "run"
    folder.mkdir()
    with StickStore(small_store) as store:
        samples, sha256 = list(store), store.sha256
        attributes = {name: value for name, value in store.attributes.items() if not name.startswith("format")}
    write_store(folder / "a.h5", samples[::2], attributes)
    write_store(folder / "b.h5", samples[1::2], attributes)
    settings = [f"data.store={folder}", "train.epochs=2"]
    start(load_config(small_config, settings), run, progress=False)
    (tmp_path / "one.yaml").write_text(small_config.read_text())
    start(load_config(tmp_path / "one.yaml", settings[1:]), tmp_path / "one", progress=False)
    weights = (run / "model" / WEIGHTS).read_bytes()
    assert weights == (tmp_path / "one" / "model" / WEIGHTS).read_bytes()  # of the same molecules in a single file
    training = load_model(run / "model").metadata["training"]
    with StickStore(folder) as store:
        assert training["data_sha256"] == store.sha256
    assert training["config"]["data"]["shards"] == ["a.h5", "b.h5"]
    assert load_model(tmp_path / "one" / "model").metadata["training"]["data_sha256"] == sha256

    write_store(folder / "c.h5", [replace(samples[0], id=99)], attributes)
    shutil.rmtree(run / "model")
    (run / LAST).unlink()  # as if killed before the first epoch had ended
    resume(run, progress=False)
    assert (run / "model" / WEIGHTS).read_bytes() == weights
    write_store(folder / "b.h5", samples[3::2], attributes)
    with pytest.raises(InputError, match="the data have changed: the content hash is"):
        resume(run, progress=False)


def test_damaged_or_foreign_checkpoints_are_not_resumed(finished: Path, small_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "other"
    (run / LAST).parent.mkdir(parents=True)
    (run / "config.yaml").write_text((finished / "config.yaml").read_text())
    whole = (finished / LAST).read_bytes()
    for content in (b"", b"junk", whole[: len(whole) // 2], pickle.dumps(print)):
        (run / LAST).write_bytes(content)
        with pytest.raises(InputError, match=r"last\.ckpt is damaged or not a checkpoint of a run"):
            resume(run, progress=False)
    (run / LAST).write_bytes(whole)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("features: 8", "features: 16"))
    assert text != (run / "config.yaml").read_text()
    with pytest.raises(InputError, match="does not fit the model"):
        resume(run, progress=False)
    assert {path.name for path in run.iterdir()} == {"config.yaml", "checkpoints"}


def test_occupied_run_folder_is_refused(small_config: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        start(load_config(small_config), tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="not a run folder"):
        resume(tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.learning_rate=1e-3", "unknown key 'train.learning_rate'; known keys: .*lr"),
        ("model.backbone.cutoff=-1", "model.backbone: 'cutoff' = -1"),
        ("model.backbone.name=paint", "unknown name 'paint'; known names: painn"),
        ("model.heads=[]", "at least one head"),
        ("train.lr=fast", "'train.lr' = 'fast'"),
        ("nonsense", "write it as key=value"),
    ],
)
def test_wrong_settings_are_named(small_config: Path, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(small_config, [setting])
