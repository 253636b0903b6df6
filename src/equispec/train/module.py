"""What the Lightning modules of all trainings share: the optimiser, its schedule, the smoothed validation loss."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from equispec.model import Model
from equispec.train.base import OptimConfig


class TrainingModule(pl.LightningModule):
    """Trains `model`; subclasses log `train_loss`, and report validation losses with `add_validation_loss`.

    `metrics`: names of what is logged, the columns of the metrics table.
    """

    metrics: tuple[str, ...] = ()

    def __init__(self, model: Model, config: OptimConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self._smoothed: float | None = None
        self._validation: list[tuple[float, int]] = []
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    def add_validation_loss(self, total: Tensor, n: int) -> None:
        """The sum of the losses of a validation batch, and what it counts."""
        self._validation.append((float(total), n))

    def on_validation_epoch_end(self) -> None:
        """Log `valid_loss`, and as `valid_smooth` its exponential average over the epochs."""
        loss = sum(total for total, _ in self._validation) / max(sum(n for _, n in self._validation), 1)
        self._validation.clear()
        s = self.config.plateau.smoothing
        self._smoothed = loss if self._smoothed is None else s * self._smoothed + (1 - s) * loss
        self.log("valid_loss", loss, prog_bar=True)
        self.log("valid_smooth", self._smoothed)
        if self._plateau is not None:
            self._plateau.step(self._smoothed)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The smoothed loss and the count of the epochs without progress last through being killed."""
        checkpoint["smoothed"] = self._smoothed
        checkpoint["plateau"] = None if self._plateau is None else self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """They go on where they were."""
        self._smoothed = checkpoint.get("smoothed")
        self._plateau_state = checkpoint.get("plateau")

    @property
    def judged_by(self) -> str:
        """The metric that early stopping and the plateau look at."""
        return "valid_smooth" if self.config.schedule == "plateau" else "valid_loss"

    def configure_optimizers(self) -> Any:
        """AdamW or Adam; the learning rate falls as a cosine over all steps, on plateaus, or stays."""
        config = self.config
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
        if config.schedule == "constant":
            return optimizer
        if config.schedule == "plateau":
            plateau = config.plateau
            # stepped here, not by the trainer, which would do so after the checkpoint of the epoch is written
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=plateau.factor, patience=plateau.patience, threshold=0, min_lr=plateau.min_lr
            )
            if self._plateau_state is not None:
                self._plateau.load_state_dict(self._plateau_state)
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}
