"""Training on properties, on energies and forces that are known exactly: springs between all atoms."""

import csv
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from equispec.checkpoint import load_model
from equispec.data.atoms import graph_from_arrays
from equispec.data.properties import PropertySample, PropertyStore, write_properties
from equispec.derivatives import evaluate
from equispec.errors import ConfigError, InputError
from equispec.graph import collate
from equispec.predict import load
from equispec.train.callbacks import WarmedAverage
from equispec.train.config import load_config
from equispec.train.properties.compiled import CompiledGradient
from equispec.train.properties.config import LossConfig
from equispec.train.properties.data import label_key
from equispec.train.properties.module import Objective
from equispec.train.properties.task import prepare
from equispec.train.run import LAST, resume, start
from equispec.workflows.property_evaluation import evaluate_properties

Z = np.array([8, 1, 1, 1])
REST = 1.4 + 0.5 * (Z[:, None] + Z[None] == 2)
OFFSET = -2000.0
PROGRAM = "from equispec.cli import main; main()"
TEXTS = dict.fromkeys(("method", "units", "protocol", "source", "licence", "citation"), "springs, made up for tests")


def springs(pos: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces (eV/Å) of springs between all pairs."""
    vectors = pos[None] - pos[:, None]
    d = np.linalg.norm(vectors, axis=-1) + np.eye(len(pos))
    stretch = (d - REST) * (1 - np.eye(len(pos)))
    return OFFSET + float((stretch**2).sum() / 4), np.einsum("ij,ijk->ik", stretch / d, vectors)


def frames(n: int, seed: int = 0) -> list[tuple[np.ndarray, float, np.ndarray]]:
    random = np.random.default_rng(seed)
    home = np.array([[0, 0, 0], [1.4, 0, 0], [-0.4, 1.3, 0], [-0.4, -0.4, 1.3]])
    shaken = [home + random.normal(0, 0.12, (4, 3)) for _ in range(n)]
    return [(pos, *springs(pos)) for pos in shaken]


def store_of(path: Path, n: int = 60, with_energy: int | None = None) -> Path:
    """`with_energy`: only the first of them have an energy."""
    samples = []
    for i, (pos, energy, forces) in enumerate(frames(n)):
        labels = {"forces": forces, "dipole": pos.sum(0) * 0.1}
        if with_energy is None or i < with_energy:
            labels["energy"] = np.asarray(energy)
        samples.append(PropertySample(i, "", Z, pos, 0, 1, labels))
    write_properties(path, samples, TEXTS)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    values = {
        "data": {"store": str(store_of(tmp_path / "springs.h5")), "split": {"train": 40, "valid": 10}},
        "model": {
            "backbone": {"name": "painn", "features": 16, "blocks": 2, "n_radial": 8, "cutoff": 4.0},
            "heads": [{"name": "energy"}],
        },
        "train": {"epochs": 30, "batch_size": 8, "lr": 0.003, "ema": 0.9, "losses": {"energy": 0.05, "forces": 0.95}},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_energies_and_forces_are_learned(config: Path, tmp_path: Path) -> None:
    folder = start(load_config(config, ["train.epochs=60"]), tmp_path / "run", progress=False)
    evaluation = evaluate_properties(str(tmp_path / "run"), tmp_path / "springs.h5")
    assert evaluation.structures == 10
    for score in evaluation.scores:
        assert score.mae < (0.25 if score.name == "forces" else 0.4) * score.spread, score
    found = rows(tmp_path / "run")
    assert float(found[-1]["valid_forces_mae"]) < 0.4 * float(found[0]["valid_forces_mae"])
    assert set(found[0]) >= {"epoch", "lr", "train_loss", "valid_loss", "valid_smooth", "valid_energy_mae"}
    metadata = load_model(folder).metadata
    assert metadata["quantities"] == ["energy", "forces", "stress"]
    assert metadata["statistics"]["labels"] == {"energy": 40, "forces": 40}
    assert metadata["statistics"]["elements"] == [1, 8]
    assert metadata["statistics"]["bonds"] == ["H-O"]
    assert metadata["statistics"]["spreads"]["energy"] > 0
    pos, energy, _ = frames(1)[0]
    from ase import Atoms

    assert load(folder).predict([Atoms(Z, pos)], ["energy"])["energy"][0] == pytest.approx(energy, abs=0.3)


def test_the_constant_of_an_energy_from_forces_alone(config: Path, tmp_path: Path) -> None:
    start(load_config(config, ["train.losses={forces: 1}"]), tmp_path / "run", progress=False)
    evaluation = evaluate_properties(str(tmp_path / "run"), tmp_path / "springs.h5", "train")
    assert abs(evaluation.score("energy").bias) < 1e-6  # the energies were not trained on


def test_an_absent_label_is_no_zero(config: Path, tmp_path: Path) -> None:
    """Half of the energies missing: the errors of those that are there are as before, the others count for nothing."""
    sparse = store_of(tmp_path / "sparse.h5", with_energy=30)
    start(load_config(config, [f"data.store={sparse}"]), tmp_path / "run", progress=False)
    labels = load_model(tmp_path / "run" / "model").metadata["statistics"]["labels"]
    assert labels["forces"] == 40
    assert 10 <= labels["energy"] <= 30
    score = evaluate_properties(str(tmp_path / "run"), sparse).score("energy")
    assert score.mae < 1.0  # a zero would be 2000 eV away
    task = prepare(load_config(config, [f"data.store={sparse}", "train.losses={energy: 1}"]))
    for graph in task.train.dataset.items:
        label = graph.system_data["label:energy"]
        assert label.isnan().all() or (label + 2000).abs().max() < 5


def test_a_whole_batch_without_a_label_gives_no_gradient(config: Path, tmp_path: Path) -> None:
    sparse = store_of(tmp_path / "sparse.h5", with_energy=30)
    task = prepare(load_config(config, [f"data.store={sparse}", "train.losses={energy: 1}"]))
    without = [g for g in task.train.dataset.items if g.system_data["label:energy"].isnan().all()]
    loss = task.module.objective(task.model, without[0])
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is None or not p.grad.any() for p in task.model.parameters())


def test_the_objective_does_not_depend_on_the_batches(config: Path) -> None:
    """Every label weighs the same whatever batch it comes in."""
    task = prepare(load_config(config))
    items = task.train.dataset.items[:8]
    whole = task.module.objective(task.model, collate(items))
    parts = [task.module.objective(task.model, collate(part)) for part in (items[:3], items[3:])]
    torch.testing.assert_close(whole, sum(parts), rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiled_gradients_are_the_same(config: Path) -> None:
    task = prepare(load_config(config, ["model.backbone.blocks=1", "model.backbone.features=8"]))
    graph = collate(task.train.dataset.items[:4])
    weights = list(task.model.parameters())
    expected = torch.autograd.grad(task.module.objective(task.model, graph), weights, allow_unused=True)
    loss = CompiledGradient(task.module.objective)(task.model, graph)
    (2 * loss).backward()
    torch.testing.assert_close(loss.detach(), task.module.objective(task.model, graph).detach(), rtol=1e-5, atol=0)
    for weight, gradient in zip(weights, expected, strict=True):
        wanted = torch.zeros_like(weight) if gradient is None else 2 * gradient
        torch.testing.assert_close(weight.grad, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()) + 1e-12)


def test_the_learning_rate_falls_on_plateaus_of_the_smoothed_loss(config: Path, tmp_path: Path) -> None:
    settings = [
        "train.schedule=plateau",
        "train.plateau={patience: 1, smoothing: 0.5, min_lr: 1.0e-4}",
        "train.patience=12",
    ]
    start(
        load_config(config, [*settings, "train.lr=0.03", "train.ema=null", "train.epochs=40"]),
        tmp_path / "run",
        progress=False,
    )
    found = rows(tmp_path / "run")
    rates = [float(row["lr"]) for row in found]
    assert rates[0] == 0.03
    assert min(rates) < 0.03
    assert all(b in (a, a / 2) or b == 1e-4 for a, b in itertools.pairwise(rates))
    smooth = [float(row["valid_smooth"]) for row in found]
    loss = [float(row["valid_loss"]) for row in found]
    assert smooth[1] == pytest.approx(0.5 * smooth[0] + 0.5 * loss[1], rel=1e-4)


def test_killed_and_resumed_run_ends_with_the_same_bits(config: Path, tmp_path: Path) -> None:
    settings = ["train.schedule=plateau", "train.plateau={patience: 3}", "train.epochs=40", "train.patience=null"]
    start(load_config(config, settings), tmp_path / "whole", progress=False)
    killed = tmp_path / "killed"
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-c", PROGRAM, "train", str(config), *words, "-o", str(killed)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300  # a busy machine takes long to begin
    while not ((killed / LAST).is_file() and len(rows(killed)) >= 5):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(rows(killed)) < 40
    resume(killed, progress=False)
    assert rows(killed) == rows(tmp_path / "whole")
    weights = [(run / "model" / "weights.safetensors").read_bytes() for run in (killed, tmp_path / "whole")]
    assert weights[0] == weights[1]


def test_an_interrupted_run_says_how_to_go_on(config: Path, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    # jobs in the background inherit that they ignore interrupts
    program = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {PROGRAM}"
    command = [sys.executable, "-c", program, "train", str(config), "--set", "train.epochs=4000", "-o", str(run)]
    process = subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not ((run / LAST).is_file() and len(rows(run)) >= 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert told.splitlines()[-1] == f"go on with: equispec train --resume {run}"
    assert "Traceback" not in told
    assert not (run / "model").exists()


def test_a_model_to_start_from_says_the_same_at_first(config: Path, tmp_path: Path) -> None:
    """Its numbers are in units of its own training set, whatever those of the new one are."""
    start(load_config(config), tmp_path / "first", progress=False)
    other = store_of(tmp_path / "other.h5", n=33)
    settings = [f"data.store={other}", "data.split={train: 20, valid: 5}", f"train.init={tmp_path / 'first'}"]
    task = prepare(load_config(config, settings))
    graph = task.train.dataset.items[0]
    first = load_model(tmp_path / "first" / "model").model
    expected = evaluate(first, graph, ["forces"])["forces"]
    torch.testing.assert_close(evaluate(task.model, graph, ["forces"])["forces"], expected)


def test_numbers_of_structures_of_other_data_mean_nothing(config: Path, tmp_path: Path) -> None:
    start(load_config(config, ["train.epochs=1"]), tmp_path / "first", progress=False)
    other = store_of(tmp_path / "other.h5", n=59)
    prepare(load_config(config, [f"data.store={other}", f"train.init={tmp_path / 'first'}", "data.split.seed=1"]))


def test_the_average_of_the_weights_forgets_the_start() -> None:
    average, end = torch.zeros(1), torch.ones(1)
    update = WarmedAverage(0.999)._kwargs["multi_avg_fn"]
    for n in range(1, 101):
        update([average], [end], torch.tensor(n))
    assert float(average) > 0.999  # a plain average with this decay would still be at 0.1


def test_forces_alone_need_no_energies(config: Path, tmp_path: Path) -> None:
    bare = store_of(tmp_path / "bare.h5", with_energy=0)
    settings = [f"data.store={bare}", "train.losses={forces: 1}", "train.epochs=1"]
    start(load_config(config, settings), tmp_path / "run", progress=False)
    evaluation = evaluate_properties(str(tmp_path / "run"), bare)
    assert {score.name for score in evaluation.scores} == {"forces"}


def test_a_validation_split_without_labels_is_refused(config: Path, tmp_path: Path) -> None:
    first = store_of(tmp_path / "first.h5", with_energy=40)
    settings = [f"data.store={first}", "data.split={kind: blocks, train: 40, valid: 10}", "train.losses={energy: 1}"]
    with pytest.raises(InputError, match="no structure of the valid split has energy"):
        prepare(load_config(config, settings))


def test_crystals_with_stress_and_molecules_without(config: Path) -> None:
    """A molecule has no stress, and its lack spoils no gradient."""
    task = prepare(load_config(config))
    crystal = graph_from_arrays(Z, frames(1)[0][0], 4.0, 5 * np.eye(3))
    label = torch.zeros(1, 3, 3, dtype=torch.float64)
    given = crystal.with_data(**{label_key("stress"): label})
    bare = task.train.dataset.items[0].with_data(**{label_key("stress"): label + torch.nan})
    objective = Objective({"stress": LossConfig()}, {"stress": 1.0}, {"stress": 9.0})
    objective(task.model, collate([given, bare])).backward()
    gradients = [p.grad for p in task.model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_starting_from_a_model_that_has_seen_the_test_set_is_refused(config: Path, tmp_path: Path) -> None:
    start(load_config(config, ["train.epochs=1"]), tmp_path / "first", progress=False)
    settings = [f"train.init={tmp_path / 'first'}", "train.epochs=1"]
    start(load_config(config, settings), tmp_path / "second", progress=False)
    with pytest.raises(InputError, match=r"it was trained on .* of the molecules to test on"):
        prepare(load_config(config, [*settings, "data.split.seed=1"]))


def test_a_run_knows_its_data_whatever_is_said_of_them(config: Path, tmp_path: Path) -> None:
    folder = start(load_config(config, ["train.epochs=1"]), tmp_path / "run", progress=False)
    store = PropertyStore(tmp_path / "springs.h5")
    assert load_model(folder).metadata["training"]["data_sha256"] == store.content_sha256
    write_properties(tmp_path / "springs.h5", store, {**TEXTS, "source": "told in other words"})
    assert PropertyStore(tmp_path / "springs.h5").sha256 != store.sha256
    assert evaluate_properties(str(tmp_path / "run"), tmp_path / "springs.h5").split == "test"
    resume(tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="of the molecules to test on"):
        prepare(load_config(config, [f"train.init={tmp_path / 'run'}", "data.split.seed=1"]))
    prepare(load_config(config, [f"data.sha256={store.content_sha256}"]))
    with pytest.raises(InputError, match="the data have changed"):
        prepare(load_config(config, [f"data.sha256={store.sha256}"]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.losses={energi: 1}", "unknown label 'energi'; known labels: energy, forces"),
        ("train.losses={energy: -1}", "greater than 0"),
        ("train.losses={}", "at least 1"),
        ("train.losses={dipole: 1}", "does not predict dipole; it has energy, forces, stress"),
        ("train.losses={energy: 1, stress: 1}", "no structure of the training split has stress"),
        ("model.heads=[{name: dipole}]", "forces follow from an energy; add the head 'energy'|energy"),
        ("model.backbone.elements=5", "atomic number 8; this model knows elements up to 4"),
        ("train.loss_power=0.5", "unknown key 'train.loss_power'|unknown key"),
        ("data.sha256=abc", "the data have changed"),
        ("data.split={train: 400, valid: 10}", "400"),
    ],
)
def test_what_cannot_be_trained(config: Path, setting: str, message: str) -> None:
    with pytest.raises((ConfigError, InputError), match=message):
        prepare(load_config(config, [setting]))


def test_heads_of_both_kinds_are_refused(config: Path) -> None:
    with pytest.raises(ConfigError, match="on spectra or on properties, not on both"):
        load_config(config, ["model.heads=[{name: energy}, {name: square-tensor}]"])


def test_hdgnn_is_not_compiled(config: Path) -> None:
    sizes = "features: 4, blocks: 1, degree: 2, hidden: 8, cutoff: 4.0"
    backbone = f"model.backbone={{name: hdgnn, {sizes}, gradients: true, envelope: true, roll: axis}}"
    prepare(load_config(config, [backbone]))
    with pytest.raises(ConfigError, match=r"train\.compile: how hdgnn groups its edges"):
        prepare(load_config(config, [backbone, "train.compile=true"]))


def test_a_network_of_molecules_only(config: Path) -> None:
    backbone = "model.backbone={name: so3krates, features: 12, blocks: 1, cutoff: 4.0, degrees: [1], non_local: true}"
    prepare(load_config(config, [backbone]))
    with pytest.raises(ConfigError, match=r"train\.compile: the pairs of a non-local model"):
        prepare(load_config(config, [backbone, "train.compile=true"]))
    store = PropertyStore(load_config(config).data.store)
    cell, pbc = 9.0 * np.eye(3), np.ones(3, bool)
    write_properties(store.path, [replace(sample, cell=cell, pbc=pbc) for sample in store], TEXTS)
    with pytest.raises(InputError, match="periodic structures, for which the backbone of the model has no meaning"):
        prepare(load_config(config, [backbone]))
