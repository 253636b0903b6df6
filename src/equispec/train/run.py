"""One training run: a folder with the configuration, the split, the metrics, the checkpoints and the model.

RUN/config.yaml  split.json  metrics.csv  checkpoints/{last,best}.ckpt  tensorboard/  model/
"""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from equispec.checkpoint import save_model
from equispec.errors import InputError
from equispec.model import Model
from equispec.train.base import OptimConfig
from equispec.train.callbacks import LastingEarlyStopping, MetricsTable, WarmedAverage
from equispec.train.config import Training, load_config
from equispec.train.module import TrainingModule
from equispec.train.properties import task as properties
from equispec.train.spectra import task as spectra
from equispec.train.spectra.config import SpectraTraining
from equispec.train.task import Task, seen

LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"


def start(config: Training, run: Path, progress: bool = True) -> Path:
    """Train from the beginning in a new run folder; returns the model folder. InputError if the folder is in use."""
    if run.exists() and not run.is_dir():
        raise InputError(f"the run folder {run} is a file; choose another place with -o")
    if run.exists() and any(run.iterdir()):
        raise InputError(
            f"the run folder {run} is not empty; choose another with -o, or continue it with --resume {run}"
        )
    config = with_data_noted(config)
    task = _task(config)  # first, so that a mistake in the configuration leaves no folder
    try:
        run.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (run / "config.yaml").write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the run folder {run}: {error.strerror}") from None
    return _fit(config, task, run, None, progress)


def resume(run: Path, progress: bool = True) -> Path:
    """Continue a run that was killed, to the same weights as if it had not been; returns the model folder."""
    if not (run / "config.yaml").is_file():
        raise InputError(f"{run} is not a run folder: it has no config.yaml")
    config = with_data_noted(load_config(run / "config.yaml"))
    last = run / LAST
    task = _task(config)
    if not last.is_file():
        return _fit(config, task, run, None, progress)
    _check_checkpoint(last, task.model)
    return _fit(config, task, run, last, progress)


def _task(config: Training) -> Task:
    return spectra.prepare(config) if isinstance(config, SpectraTraining) else properties.prepare(config)


def with_data_noted(config: Training) -> Training:
    """The configuration with the hash of the data, so that a run knows its own again."""
    if isinstance(config, SpectraTraining):
        return spectra.with_data_noted(config)
    return properties.with_data_noted(config)


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


def _fit(config: Training, task: Task, run: Path, checkpoint: Path | None, progress: bool) -> Path:
    trainer = _trainer(config.train, task.module, run, progress)
    with warnings.catch_warnings():
        # a handful of batches in the main process is what a small set needs
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # that is what resuming means
        try:
            trainer.fit(task.module, task.train, task.valid, ckpt_path=checkpoint)
        except SystemExit:  # what Lightning makes of an interruption
            raise KeyboardInterrupt from None
    lowest = getattr(trainer.checkpoint_callback, "best_model_score", None)
    if lowest is not None and not torch.isfinite(lowest):
        raise InputError(f"the run {run} never had a finite error of the validation molecules; try a smaller train.lr")
    return _save_best(config, run, task, _device_name(trainer.strategy.root_device))


def _trainer(config: OptimConfig, module: TrainingModule, run: Path, progress: bool) -> pl.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its advertisements are not our users' concern
    callbacks: list[Callback] = [MetricsTable(run / "metrics.csv", module.metrics)]
    if config.ema is not None:
        callbacks.append(WarmedAverage(config.ema))
    if config.patience is not None:
        callbacks.append(
            LastingEarlyStopping(module.judged_by, patience=config.patience, check_on_train_epoch_end=True)
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
        max_epochs=config.epochs,
        gradient_clip_val=config.clip,
        callbacks=callbacks,
        logger=TensorBoardLogger(run, name="tensorboard", version=""),
        enable_progress_bar=progress,
        enable_model_summary=False,
        inference_mode=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,  # epoch averages are what is logged
    )


def _device_name(device: torch.device) -> str:
    """What a network was trained on, for its metadata: cpu, or the name of the accelerator."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _save_best(config: Training, run: Path, task: Task, device: str) -> Path:
    """Put the best averaged weights into the model and write the model folder and the split."""
    model, initial = task.model, task.initial
    saved = torch.load(run / BEST, weights_only=True, map_location="cpu")
    state = saved["state_dict"]
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    task.finish()
    (run / "split.json").write_text(json.dumps(task.ids) + "\n", encoding="utf-8")
    training = {
        "config": config.model_dump(mode="json", exclude={"data": {"store", "sha256"}}),
        "data_sha256": config.data.sha256,
        "epoch": saved["epoch"],
        "device": device,
        "split": task.ids,
        "initial": initial and {"model": initial.name, "hash": initial.hash, "seen": sorted(seen(initial))},
    }
    save_model(run / "model", model.cpu(), {**task.metadata, "training": training})
    return run / "model"
