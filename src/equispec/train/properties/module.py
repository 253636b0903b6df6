"""The Lightning module of property models: errors of whatever labels there are, per label."""

from collections.abc import Mapping

import torch
from torch import Tensor

from equispec.derivatives import evaluate
from equispec.graph import AtomGraph
from equispec.model import Model
from equispec.quantities import QUANTITIES
from equispec.train.module import TrainingModule
from equispec.train.properties.compiled import CompiledGradient
from equispec.train.properties.config import LossConfig, PropertyOptimConfig
from equispec.train.properties.data import label_key


class Objective(torch.nn.Module):
    """The loss of a batch: Σ_labels weight · Σ |error / unit|^p / (labels expected in a batch).

    Dividing by a constant makes every label weigh the same whatever batch it comes in. `units`: label -> what its
    errors are divided by; `expected`: label -> mean number of its components in a batch.
    """

    def __init__(
        self, losses: Mapping[str, LossConfig], units: Mapping[str, float], expected: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.losses, self.units, self.expected = losses, units, expected

    def forward(self, model: Model, graph: AtomGraph) -> Tensor:
        """The loss, differentiable by the weights."""
        total = torch.zeros((), dtype=torch.float64, device=graph.pos.device)
        for name, (error, _) in self.errors(model, graph, create_graph=True).items():
            total = total + self.losses[name].weight / self.expected[name] * error
        return total

    def errors(self, model: Model, graph: AtomGraph, create_graph: bool) -> dict[str, tuple[Tensor, Tensor]]:
        """Label -> Σ |error / unit|^p and the number of components it is over; absent labels do not count."""
        found = {}
        for name, (residual, known) in residuals(model, graph, list(self.losses), create_graph).items():
            scaled = residual / self.units[name]
            error = scaled.square() if self.losses[name].kind == "squared" else scaled.abs()
            found[name] = error.sum(), known.sum()
        return found


def residuals(model: Model, graph: AtomGraph, names: list[str], create_graph: bool) -> dict[str, tuple[Tensor, Tensor]]:
    """Predicted minus given, zero where nothing is given, and where something is, in the shape of the label."""
    predicted = evaluate(model, graph, names, create_graph)
    found = {}
    for name in names:
        label = (graph.atom_data if QUANTITIES[name].scope == "atom" else graph.system_data)[label_key(name)]
        known = label.isfinite()
        found[name] = torch.where(known, predicted[name] - label.nan_to_num(), 0.0), known
    return found


class PropertyModule(TrainingModule):
    """Trains a model on properties and reports mean absolute errors in the units of quantities.py."""

    def __init__(self, model: Model, config: PropertyOptimConfig, objective: Objective) -> None:
        super().__init__(model, config)
        self.objective = objective
        self.metrics = ("train_loss", "valid_loss", "valid_smooth", *(f"valid_{name}_mae" for name in config.losses))
        self._compiled = CompiledGradient(objective) if config.compile else None

    def training_step(self, batch: AtomGraph, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        # what is dropped depends on (seed, step) alone, for resuming to be exact
        torch.manual_seed(self.config.seed * 1_000_003 + self.global_step)
        loss = self.objective(self.model, batch) if self._compiled is None else self._compiled(self.model, batch)
        self.log("train_loss", loss.detach(), on_step=False, on_epoch=True, prog_bar=True, batch_size=batch.n_systems)
        return loss

    def validation_step(self, batch: AtomGraph, batch_idx: int) -> None:
        """The loss as in training, and the mean absolute error of every label."""
        loss = 0.0
        for name, (residual, known) in residuals(self.model, batch, list(self.objective.losses), False).items():
            scaled = residual / self.objective.units[name]
            loss_config, n = self.objective.losses[name], int(known.sum())
            error = scaled.square().sum() if loss_config.kind == "squared" else scaled.abs().sum()
            per_molecule = self.objective.expected[name] / self.config.batch_size
            loss += loss_config.weight / per_molecule * error
            if n:
                self.log(f"valid_{name}_mae", residual.abs().sum() / n, batch_size=n, prog_bar=True)
        self.add_validation_loss(torch.as_tensor(loss), batch.n_systems)
