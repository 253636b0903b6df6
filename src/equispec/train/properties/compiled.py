"""Loss and gradient of a batch as one compiled function: forces need second derivatives, which no compiled model has.

The whole computation, both derivatives included, is written down once as a list of operations for each combination of
sizes of a batch, and compiled from that list. It pays where all batches are alike, as those of a trajectory.
"""

from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from equispec.graph import AtomGraph
from equispec.model import Model

MOST = 8  # combinations of sizes that are compiled; other batches are worked off as they are


class CompiledGradient:
    """A loss `objective(model, graph)` whose gradient by the weights comes with it."""

    def __init__(self, objective: Any) -> None:
        self.objective = objective
        self._functions: dict[tuple[int, ...], Any] = {}

    def __call__(self, model: Model, graph: AtomGraph) -> Tensor:
        """The loss; its backward pass hands out the gradients that were computed with it."""
        sizes = (graph.n_atoms, graph.n_edges, graph.n_systems)
        names, weights = zip(*model.named_parameters(), strict=True)
        tensors = _tensors(graph)
        if sizes not in self._functions:
            if len(self._functions) == MOST:
                return self.objective(model, graph)
            step = self._step(model, graph, names)
            traced = make_fx(step)([w.detach() for w in weights], tensors)
            self._functions[sizes] = torch.compile(traced, dynamic=False)
        return _WithGradients.apply(self._functions[sizes], tensors, *weights)  # type: ignore[return-value]

    def _step(self, model: Model, like: AtomGraph, names: tuple[str, ...]) -> Any:
        def step(weights: list[Tensor], tensors: list[Tensor]) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                tracked = [w.detach().requires_grad_() for w in weights]
                loss = torch.func.functional_call(
                    _Call(model, self.objective),
                    {f"model.{name}": w for name, w in zip(names, tracked, strict=True)},
                    (_graph(like, tensors),),
                )
                gradients = torch.autograd.grad(loss, tracked, allow_unused=True, materialize_grads=True)
            return loss.detach(), *gradients

        return step


class _Call(torch.nn.Module):
    """The objective as a module, so that its weights can be replaced."""

    def __init__(self, model: Model, objective: Any) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, graph: AtomGraph) -> Tensor:
        return self.objective(self.model, graph)


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Any, tensors: list[Tensor], *weights: Tensor) -> Tensor:
        loss, *gradients = function([w.detach() for w in weights], tensors)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Any:
        return None, None, *(g * gradient[0].to(g.dtype) for g in ctx.saved_tensors)


def _tensors(graph: AtomGraph) -> list[Tensor]:
    own = [graph.z, graph.pos, graph.edge_index, graph.edge_shift, graph.cell, graph.system]
    return [*own, *graph.atom_data.values(), *graph.system_data.values()]


def _graph(like: AtomGraph, tensors: list[Tensor]) -> AtomGraph:
    own, rest = tensors[:6], tensors[6:]
    n = len(like.atom_data)
    atoms, systems = (
        dict(zip(like.atom_data, rest[:n], strict=True)),
        dict(zip(like.system_data, rest[n:], strict=True)),
    )
    return AtomGraph(*own, atom_data=atoms, system_data=systems)
