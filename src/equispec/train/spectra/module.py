"""The Lightning module: one step of training, the validation metrics, the optimiser."""

from dataclasses import replace

import torch
from torch import Tensor

from equispec.graph import along_directions
from equispec.model import Model
from equispec.spectra import PAPER_SIGMA, EnergyGrid, gaussian_matrix
from equispec.train.module import TrainingModule
from equispec.train.spectra.config import SpectraOptimConfig
from equispec.train.spectra.data import Batch
from equispec.train.spectra.losses import multiresolution, site_error, tempered


class SpectraModule(TrainingModule):
    """Trains a model of site spectra on absorption tensors, whether it predicts T(E) or S(E; n).

    `diagonal`: only xx, yy and zz of the tensors are known; then nothing else of a predicted T(E) is judged.
    """

    smoothing: Tensor
    metrics = ("train_loss", "valid_loss", "valid_mse", "valid_mse_paper_broad")

    def __init__(
        self, model: Model, config: SpectraOptimConfig, grid: EnergyGrid, sites_per_batch: float, diagonal: bool = False
    ) -> None:
        super().__init__(model, config)
        self.options = config
        self.diagonal = diagonal
        self.sites_per_batch = sites_per_batch
        self.register_buffer(
            "smoothing",
            torch.as_tensor(gaussian_matrix(grid.energies, PAPER_SIGMA), dtype=torch.float32),
            persistent=False,
        )

    def residual(self, batch: Batch, directions: Tensor) -> Tensor:
        """Predicted minus reference: T(E) [sites, E, 3, 3], or spectra [directions · sites, E].

        The latter where the model predicts them, along `directions`, or only they are known, along x, y and z.
        """
        if self.model.directional:
            return directional_residual(self.model, batch, directions)
        residual = self.model(batch.graph)["absorption_tensor"] - batch.tensor
        if self.diagonal:
            return residual.diagonal(dim1=2, dim2=3).permute(2, 0, 1).flatten(0, 1)
        return residual

    def site_losses(self, residual: Tensor) -> Tensor:
        """The error of each site (and direction) that training lowers and validation judges by, [sites]."""
        return multiresolution(residual, self.smoothing, self.options.smooth_loss)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum over the labelled sites divided by a constant, so that every label weighs the same whatever its batch."""
        # what is dropped, displacements and random directions depend on (seed, step) alone, for resuming to be exact
        torch.manual_seed(self.options.seed * 1_000_003 + self.global_step)
        if self.options.position_noise > 0:
            pos = batch.graph.pos
            moved = pos + self.options.position_noise * torch.randn_like(pos)
            batch = batch._replace(graph=replace(batch.graph, pos=moved))
        losses = self.site_losses(self.residual(batch, self._training_directions(batch_idx)))
        self.log("train_loss", losses.mean(), on_step=False, on_epoch=True, prog_bar=True, batch_size=len(losses))
        directions = len(losses) // len(batch.tensor)  # 1 for a whole tensor
        return tempered(losses, self.options.loss_power).sum() / (self.sites_per_batch * directions)

    def _training_directions(self, batch_idx: int) -> Tensor:
        axes = torch.eye(3, device=self.device)
        match self.options.directions:
            case "separate":
                return axes[batch_idx % 3][None]
            case "random":  # three orthogonal directions
                return torch.linalg.qr(torch.randn(3, 3)).Q.to(self.device)
            case _:
                return axes

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """`valid_loss` (like `train_loss`) and, in the metric of the reports, the native and the smoothed error."""
        residual = self.residual(batch, torch.eye(3, device=self.device))
        smooth = torch.einsum("ef,sf...->se...", self.smoothing, residual)
        losses = self.site_losses(residual)
        self.add_validation_loss(losses.sum(), len(losses))
        values = {
            "valid_mse": site_error(residual),
            "valid_mse_paper_broad": site_error(smooth),
        }
        for name, value in values.items():
            self.log(name, value.mean(), prog_bar=name != "valid_mse", batch_size=len(residual))


def directional_residual(model: Model, batch: Batch, directions: Tensor) -> Tensor:
    """Predicted minus reference S(E; n) for each direction, [directions · sites, E]."""
    graph = along_directions(batch.graph, directions)
    target = torch.einsum("da,seab,db->dse", directions, batch.tensor, directions)
    return model(graph)["absorption"] - target.flatten(0, 1)
