"""What Lightning's callbacks lack for resuming: a metrics table that survives it, stopping that stays stopped."""

import csv
import os
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, WeightAveraging
from torch import Tensor


class LastingEarlyStopping(EarlyStopping):
    """Early stopping after which a resumed run stays stopped, where Lightning's would train one more epoch."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.stopped_epoch > 0 or self.wait_count >= self.patience:
            trainer.should_stop = True


class WarmedAverage(WeightAveraging):
    """The exponential average of the weights; its decay rises to the one given, so that it soon forgets the start.

    After n steps it is (1 + n) / (10 + n) at most.
    """

    def __init__(self, decay: float) -> None:
        def update(averaged: list[Tensor], current: list[Tensor], n: Tensor | int) -> None:
            steps = float(n)
            weight = 1 - min(decay, (1 + steps) / (10 + steps))
            for mean, new in zip(averaged, current, strict=True):
                mean.lerp_(new, weight)

        super().__init__(use_buffers=False, multi_avg_fn=torch.no_grad()(update))


class MetricsTable(pl.Callback):
    """Writes one row per epoch to metrics.csv; on resuming, rows of the epochs to be repeated are dropped."""

    def __init__(self, path: Path, metrics: tuple[str, ...]) -> None:
        self.path = path
        self.columns = ("epoch", "step", "lr", *metrics)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rows = []
        if self.path.exists() and trainer.current_epoch > 0:
            with self.path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < trainer.current_epoch]
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, self.path)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        row = {name: f"{float(metrics[name]):.6g}" for name in self.columns if name in metrics}
        row |= {"epoch": str(trainer.current_epoch), "step": str(trainer.global_step)}
        row["lr"] = f"{trainer.optimizers[0].param_groups[0]['lr']:.6g}"
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)
