"""One training run: a folder with the configuration, the split, the metrics, the checkpoints and the model.

RUN/config.yaml  split.json  metrics.csv  checkpoints/{last,best}.ckpt  tensorboard/  model/
"""

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from equispec.checkpoint import Checkpoint, load_model, save_model
from equispec.data.statistics import SpectrumStatistics
from equispec.data.store import StickStore
from equispec.errors import ConfigError, InputError
from equispec.heads.spectrum_config import SiteSpectrumConfig
from equispec.heads.tensor_spectrum import SquareTensorHead
from equispec.model import Model, build, parameter_count
from equispec.predict import model_folder
from equispec.spectra import Broadening
from equispec.train.callbacks import LastingEarlyStopping, MetricsTable
from equispec.train.config import DataConfig, TrainingConfig, load_config
from equispec.train.data import LabelledData, SpectraDataset, fixed_loader, load_reference, read_data, train_loader
from equispec.train.module import SpectraModule

LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"
THIN = 1 / 3  # a spectrum has ended where its mean intensity is below this share of that of another


def start(config: TrainingConfig, run: Path, progress: bool = True) -> Path:
    """Train from the beginning in a new run folder; returns the model folder. InputError if the folder is in use."""
    if run.exists() and not run.is_dir():
        raise InputError(f"the run folder {run} is a file; choose another place with -o")
    if run.exists() and any(run.iterdir()):
        raise InputError(
            f"the run folder {run} is not empty; choose another with -o, or continue it with --resume {run}"
        )
    config = _with_data_noted(config)
    prepared = _prepare(config)  # first, so that a mistake in the configuration leaves no folder
    try:
        run.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (run / "config.yaml").write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the run folder {run}: {error.strerror}") from None
    return _fit(config, prepared, run, None, progress)


def resume(run: Path, progress: bool = True) -> Path:
    """Continue a run that was killed, to the same weights as if it had not been; returns the model folder."""
    if not (run / "config.yaml").is_file():
        raise InputError(f"{run} is not a run folder: it has no config.yaml")
    config = _with_data_noted(load_config(run / "config.yaml"))
    last = run / LAST
    prepared = _prepare(config)
    if not last.is_file():
        return _fit(config, prepared, run, None, progress)
    _check_checkpoint(last, prepared.model)
    return _fit(config, prepared, run, last, progress)


def _with_data_noted(config: TrainingConfig) -> TrainingConfig:
    """Which data a run uses, for a store that may grow while it trains, or between being killed and resumed."""
    path, shards = config.data.store, config.data.shards
    with StickStore(path, shards) as store:
        names = tuple(shard.path.name for shard in store.shards) if path.is_dir() else None
        noted = {"shards": names, "sha256": config.data.sha256 or store.sha256}
    return config.model_copy(update={"data": config.data.model_copy(update=noted)})


def _check_checkpoint(path: Path, model: Model) -> None:
    """InputError unless the file holds a state of the training of this model; nothing in it is executed."""
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        shapes = {k: v.shape for k, v in saved["state_dict"].items() if k.startswith("model.")}
        complete = {"pytorch-lightning_version", "epoch", "optimizer_states", "loops"} <= saved.keys()
    except Exception:  # damaged files fail in many ways
        complete, shapes = False, {}
    if not complete:
        raise InputError(f"{path} is damaged or not a checkpoint of a run; remove it to train from the beginning")
    if shapes != {f"model.{k}": v.shape for k, v in model.state_dict().items()}:
        raise InputError(f"{path} does not fit the model in {path.parents[1] / 'config.yaml'}: was that file changed?")


@dataclass(frozen=True)
class _Prepared:
    """What a run works with: the model before its first step, and the data."""

    model: Model
    data: LabelledData
    statistics: SpectrumStatistics
    datasets: dict[str, SpectraDataset]
    initial: Checkpoint | None


def _prepare(config: TrainingConfig) -> _Prepared:
    head = config.model.heads[0]
    assert isinstance(head, SiteSpectrumConfig)
    grid = head.energy_grid
    broadening = Broadening(**config.data.broadening.model_dump())
    initial = None if config.train.init is None else load_model(model_folder(config.train.init), torch.float32)
    data = read_data(config.data)
    if (edge := data.attributes["edge"]) != head.edge:
        raise ConfigError(f"{config.data.store} holds {edge} spectra; the model is for the {head.edge} edge")
    splits = data.splits
    if initial is not None and (spoilt := sorted(_seen(initial) & {sample.id for sample in splits["test"]})):
        raise InputError(
            f"the run cannot start from model {initial.name!r}: it was trained on {len(spoilt)} of the molecules to "
            f"test on, such as {spoilt[0]}; use the split that it was trained with"
        )
    shift = data.attributes["energy_shift"]
    references = {name: load_reference(splits[name], grid, broadening, shift) for name in ("train", "valid")}
    tensors, scale = np.concatenate(references["train"].tensors), _intensity_scale(config.data, data)
    statistics = SpectrumStatistics.measure(splits["train"], tensors, scale)

    # all randomness is here: the weights. The order of the data comes from (seed, epoch) alone
    torch.manual_seed(config.train.seed)
    model = build(config.model)
    if model.directional and data.diagonal and config.train.directions == "random":
        raise ConfigError(f"{config.data.store} has spectra along x, y and z only: train.directions cannot be random")
    for module in model.heads.values():
        module.initialise(statistics)  # type: ignore[operator]
    if initial is not None:
        _start_from(model, initial, statistics)
    datasets = {
        name: SpectraDataset(reference, statistics.intensity_scale, model.cutoff, model.max_neighbors)
        for name, reference in references.items()
    }
    return _Prepared(model, data, statistics, datasets, initial)


def _intensity_scale(config: DataConfig, data: LabelledData) -> float | None:
    """What intensities are divided by; None: their mean."""
    if isinstance(config.normalization, float):
        return config.normalization
    if config.normalization == "mean":
        return None
    if "published_intensity" not in data.attributes:
        raise ConfigError(f"{config.store} comes with no published constant: data.normalization is mean or a number")
    return data.attributes["published_intensity"]


def _start_from(model: Model, initial: Checkpoint, statistics: SpectrumStatistics) -> None:
    """Take over all weights of a model of the same architecture; buffers stay those of the new training set.

    Where its spectra end before the new ones do, coefficients that it never needed would leave a sawtooth: the last
    ones that it did need take their places.
    """
    own, given = dict(model.named_parameters()), dict(initial.model.named_parameters())
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in given.items()}:
        raise InputError(
            f"the run cannot start from model {initial.name!r}: its architecture differs from the configuration's"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(given[name])
    for head in model.heads.values():
        if isinstance(head, SquareTensorHead):
            learned = np.flatnonzero(
                np.asarray(initial.metadata["statistics"]["mean_spectrum"]) >= THIN * statistics.mean_spectrum
            )
            if len(learned):
                head.extend_from(int(learned[-1]) + 1)


def _seen(model: Checkpoint) -> set[int]:
    """The molecules that a model, and those it started from, were trained or stopped by, as far as it says."""
    training = model.metadata.get("training", {})
    split, initial = training.get("split", {}), training.get("initial") or {}
    return {*split.get("train", ()), *split.get("valid", ()), *initial.get("seen", ())}


def _fit(config: TrainingConfig, prepared: _Prepared, run: Path, checkpoint: Path | None, progress: bool) -> Path:
    head = config.model.heads[0]
    assert isinstance(head, SiteSpectrumConfig)
    model, statistics = prepared.model, prepared.statistics
    sites_per_batch = statistics.n_sites / statistics.n_molecules * config.train.batch_size
    module = SpectraModule(model, config.train, head.energy_grid, sites_per_batch, prepared.data.diagonal)
    repeats = 3 if model.directional and config.train.directions == "separate" else 1
    trainer = _trainer(config, run, progress)
    with warnings.catch_warnings():
        # a handful of batches in the main process is what a small set needs
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # that is what resuming means
        trainer.fit(
            module,
            train_loader(prepared.datasets["train"], config.train.batch_size, config.train.seed, repeats),
            fixed_loader(prepared.datasets["valid"], config.train.batch_size),
            ckpt_path=checkpoint,
        )
    lowest = getattr(trainer.checkpoint_callback, "best_model_score", None)
    if lowest is not None and not torch.isfinite(lowest):
        raise InputError(f"the run {run} never had a finite error of the validation molecules; try a smaller train.lr")
    return _save_best(config, run, prepared)


def _trainer(config: TrainingConfig, run: Path, progress: bool) -> pl.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its advertisements are not our users' concern
    callbacks: list[Callback] = [MetricsTable(run / "metrics.csv")]
    if config.train.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=config.train.ema, use_buffers=False))
    if config.train.patience is not None:
        callbacks.append(
            LastingEarlyStopping("valid_loss", patience=config.train.patience, check_on_train_epoch_end=True)
        )
    folder = run / "checkpoints"
    common: dict[str, Any] = {"dirpath": folder, "save_on_train_epoch_end": True, "enable_version_counter": False}
    # the epoch ends, validation included, before either is written: a resumed run begins with the next epoch
    # whole checkpoints: only into these does the moving average put its weights in place of the present ones
    callbacks.append(ModelCheckpoint(filename="best", monitor="valid_loss", **common))
    callbacks.append(ModelCheckpoint(filename="last", **common))
    if progress:
        callbacks.append(RichProgressBar())
    return pl.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=config.train.epochs,
        gradient_clip_val=config.train.clip,
        callbacks=callbacks,
        logger=TensorBoardLogger(run, name="tensorboard", version=""),
        enable_progress_bar=progress,
        enable_model_summary=False,
        inference_mode=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,  # epoch averages are what is logged
    )


def _save_best(config: TrainingConfig, run: Path, prepared: _Prepared) -> Path:
    """Put the best averaged weights into the model and write the model folder and the split."""
    model, statistics, initial = prepared.model, prepared.statistics, prepared.initial
    attributes = prepared.data.attributes
    saved = torch.load(run / BEST, weights_only=True, map_location="cpu")
    state = saved["state_dict"]
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    ids = {name: [sample.id for sample in samples] for name, samples in prepared.data.splits.items()}
    (run / "split.json").write_text(json.dumps(ids) + "\n", encoding="utf-8")
    head = config.model.heads[0]
    assert isinstance(head, SiteSpectrumConfig)
    metadata = {
        "edge": head.edge,
        "shift_eV": attributes["energy_shift"],
        "broadening": config.data.broadening.model_dump(),
        "intensity_unit": f"1/eV; times intensity_scale: {attributes.get('intensity_unit', '(e a0)^2/eV')}",
        "intensity_scale": statistics.intensity_scale,
        "normalization": config.data.normalization,
        "statistics": statistics.to_dict(),
        "parameters": parameter_count(model),
        "training": {
            "config": config.model_dump(mode="json", exclude={"data": {"store", "sha256"}}),
            "data_sha256": config.data.sha256,
            "epoch": saved["epoch"],
            "split": ids,
            "initial": initial and {"model": initial.name, "hash": initial.hash, "seen": sorted(_seen(initial))},
        },
        "licence": "MIT",
        "citation": "K. Shibata and T. Mizoguchi, Digital Discovery 3, 649 (2024), doi:10.1039/d4dd00021h",
    }
    save_model(run / "model", model.cpu(), metadata)
    return run / "model"
