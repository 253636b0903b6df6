"""Mistakes in energies, forces and stresses are found by the right check."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tampering import OF_ENERGY, SYMMETRIES, Change, after, broken, halved_gradient, names, sound
from torch import Tensor

from equispec.graph import AtomGraph, edge_vectors, sum_per_system
from equispec.workflows.checks import check_model, failed


def shifted(value: Tensor, graph: AtomGraph) -> Tensor:
    """Plus the x coordinates of the atoms."""
    return value + sum_per_system(graph.pos[:, 0], graph)


def handed(value: Tensor, graph: AtomGraph) -> Tensor:
    """Plus a pseudoscalar, which mirror images do not share."""
    r = edge_vectors(graph)
    i = graph.edge_index[0]
    z = graph.z[graph.edge_index[1]].to(r.dtype)[:, None]
    zero = torch.zeros_like(graph.pos)
    a, b, c = (zero.index_add(0, i, w * torch.exp(-(r**2).sum(1, keepdim=True)) * r) for w in (1.0, z, z**2))
    return value + 1e-3 * sum_per_system((a * torch.linalg.cross(b, c)).sum(1), graph)


def numbered(value: Tensor, graph: AtomGraph) -> Tensor:
    """The first atom of a structure counts."""
    first = torch.searchsorted(graph.system, torch.arange(graph.n_systems, device=graph.z.device))
    return value + 0.01 * graph.z[first]


def crowded(value: Tensor, graph: AtomGraph) -> Tensor:
    return value * (1 + 0.01 * graph.n_systems)


def constant(value: Tensor, _: AtomGraph) -> Tensor:
    return value + 0.1


def counted_neighbours(value: Tensor, graph: AtomGraph) -> Tensor:
    degree = torch.bincount(graph.edge_index[0], minlength=graph.n_atoms).to(value.dtype)
    return value + 0.01 * sum_per_system(degree, graph)


def kinked(value: Tensor, graph: AtomGraph) -> Tensor:
    """Plus a pair term that ends with a slope at 4 Å."""
    term = 0.01 * (4.0 - edge_vectors(graph).norm(dim=1))
    return value + sum_per_system(value.new_zeros(graph.n_atoms).index_add(0, graph.edge_index[0], term), graph)


def alone_infinite(value: Tensor, graph: AtomGraph) -> Tensor:
    return value / (torch.bincount(graph.system) - 1).sign()


class Spring(torch.autograd.Function):
    """½ x², whose gradient x forgets that it depends on x."""

    @staticmethod
    def forward(context, x: Tensor) -> Tensor:
        context.save_for_backward(x.detach())
        return 0.5 * x**2

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        return gradient * context.saved_tensors[0].detach().clone()


def forgetful(value: Tensor, graph: AtomGraph) -> Tensor:
    """Plus springs whose second derivatives are lost."""
    d = edge_vectors(graph).norm(dim=1)
    term = 0.01 * (1 - d / 4.0) ** 3 * Spring.apply(d - 1.0)
    return value + sum_per_system(value.new_zeros(graph.n_atoms).index_add(0, graph.edge_index[0], term), graph)


@pytest.mark.parametrize(
    ("change", "expected", "kept"),
    [
        (
            shifted,
            {"rotation", "rotoinversion", "translation", "net force", "periodic images", "distance", "isolated atom"},
            {"forces", "permutation", "batch", "acoustic sum rule", "smooth at the cutoff"},
        ),
        (handed, {"rotoinversion"}, {"rotation", "translation", "permutation", "forces", "net force", "net torque"}),
        (numbered, {"permutation", "distance", "periodic images"}, {"rotation", "translation", "forces", "batch"}),
        (crowded, {"batch"}, {"net force", "net torque", "acoustic sum rule", "Hessian symmetric"}),
        (constant, {"distance", "periodic images"}, SYMMETRIES | {"forces", "stress", "second derivatives"}),
        (halved_gradient, {"forces", "stress"}, SYMMETRIES | {"net force", "net torque", "distance"}),
        (counted_neighbours, {"smooth at the cutoff"}, SYMMETRIES | {"forces", "distance", "slope at the cutoff"}),
        (kinked, {"slope at the cutoff"}, SYMMETRIES | {"forces", "net force", "net torque", "stress", "distance"}),
        (alone_infinite, {"isolated atom"}, SYMMETRIES | OF_ENERGY),
        (forgetful, {"second derivatives"}, SYMMETRIES | {"forces", "stress", "net force", "isolated atom"}),
    ],
)
def test_a_broken_energy_is_found_out(tmp_path: Path, change: Change, expected: set[str], kept: set[str]) -> None:
    results = check_model(broken(sound(tmp_path), energy=change))
    wrong = names(failed(results))
    assert expected <= wrong
    assert not wrong & kept
    assert all("breaks this rule" in result.text for result in failed(results))
    json.dumps([result.measured for result in results], allow_nan=False)


@pytest.mark.parametrize(
    ("name", "change", "expected", "kept"),
    [
        ("forces", lambda f: 1.0001 * f, {"forces"}, {"net force", "net torque", "stress", *SYMMETRIES}),
        ("forces", lambda f: f + 1e-3, {"forces", "net force"}, {"translation", "permutation", "batch", "stress"}),
        ("forces", lambda f: f + 1e-3 * np.roll(f, 1, axis=1), {"forces", "rotation"}, {"net force", "stress"}),
        ("stress", lambda s: 1.001 * s, {"stress"}, {"forces", "periodic images", *SYMMETRIES}),
        ("stress", np.triu, {"stress"}, {"forces", "periodic images", *SYMMETRIES}),
    ],
)
def test_broken_forces_and_stresses_are_found_out(
    tmp_path: Path, name: str, change, expected: set[str], kept: set[str]
) -> None:
    wrong = names(failed(check_model(after(sound(tmp_path), **{name: change}))))
    assert expected <= wrong
    assert not wrong & kept
