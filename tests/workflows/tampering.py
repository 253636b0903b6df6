"""Models of properties, sound and tampered with, and the names of their checks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equispec.features import NodeFeatures
from equispec.graph import AtomGraph
from equispec.predict import Predictor, load
from equispec.workflows.check_result import CheckResult
from property_models import ENERGY, STATISTICS, saved

SYMMETRIES = {"rotation", "rotoinversion", "translation", "permutation", "batch"}
OF_ENERGY = {"forces", "net force", "net torque", "stress", "periodic images", "distance", "second derivatives"}
OF_ENERGY |= {"Hessian symmetric", "acoustic sum rule", "slope at the cutoff"}
OF_ALL = {"rotation", "rotoinversion", "translation", "permutation", "batch", "isolated atom", "precision"}
OF_ALL |= {"smooth at the cutoff"}

Output = dict[str, Tensor]
Change = Callable[[Tensor, AtomGraph], Tensor]


def names(results: list[CheckResult]) -> set[str]:
    return {result.name for result in results}


def sound(folder: Path, heads=ENERGY, **options) -> Predictor:
    options = {"statistics": STATISTICS, **options}
    return load(saved(folder / "model", heads, **options), device="cpu", dtype="float64")


def broken(predictor: Predictor, **changes: Change) -> Predictor:
    """The predictor with some quantities of its heads tampered with."""
    for head in predictor.members[0].model.heads.values():
        _tamper(head, changes)
    return predictor


def _tamper(head: torch.nn.Module, changes: dict[str, Change]) -> None:
    forward = head.forward

    def tampered(features: NodeFeatures, graph: AtomGraph) -> Output:
        found = forward(features, graph)
        return {name: changes[name](value, graph) if name in changes else value for name, value in found.items()}

    head.forward = tampered


def after(predictor: Predictor, **changes: Callable[[np.ndarray], np.ndarray]) -> Predictor:
    """The predictor with some quantities tampered with after the model."""
    evaluate = predictor.evaluate

    def tampered(graph: AtomGraph, asked):
        found, spread = evaluate(graph, asked)
        return {name: changes[name](value) if name in changes else value for name, value in found.items()}, spread

    predictor.evaluate = tampered
    return predictor


def halved_gradient(value: Tensor, _: AtomGraph) -> Tensor:
    return 0.5 * value + 0.5 * value.detach()
