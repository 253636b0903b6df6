"""The head of the electronic spatial extent with random weights in float64: equation, origin and slopes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from equispec.data.atoms import graph_from_atoms
from equispec.graph import AtomGraph, collate
from equispec.model import Model, ModelConfig, build


def network(**backbone) -> Model:
    torch.manual_seed(4)
    config = {
        "backbone": {"name": "painn", "features": 12, "cutoff": 4.0, **backbone},
        "heads": [{"name": "spatial-extent"}],
    }
    return build(ModelConfig.parse(config), torch.float64)


def head(model: Model) -> Any:
    return model.heads["spatial-extent"]


def graph(name: str) -> AtomGraph:
    return graph_from_atoms(molecule(name), 4.0, dtype=torch.float64)


@pytest.mark.parametrize("backbone", [{}, {"vectors": False}], ids=str)
def test_equation(backbone: dict) -> None:
    model, names = network(**backbone), ("CH3CH2OH", "H2O", "CH4")
    batch = collate([graph(name) for name in names])
    with torch.no_grad():
        found = model(batch)["spatial_extent"].numpy()
        weights = head(model).weight(model.backbone(batch).scalar)[:, 0].numpy()
    for k, name in enumerate(names):
        atoms = molecule(name)
        squares = ((atoms.positions - atoms.get_center_of_mass()) ** 2).sum(1)
        assert found[k] == pytest.approx((weights[batch.system.numpy() == k] * squares).sum(), abs=1e-12)


def test_grows_with_the_square_of_the_size_where_atoms_do_not_see_each_other() -> None:
    model = network()
    near, far = (
        model(graph_from_atoms(Atoms("OH", [[0, 0, 0], [0, 0, d]]), 4.0, dtype=torch.float64)) for d in (5.0, 15.0)
    )
    assert far["spatial_extent"].item() / near["spatial_extent"].item() == pytest.approx(9.0)


def test_no_dependence_on_the_origin_of_the_coordinates() -> None:
    model, structure = network(), graph("CH3CH2OH")
    moved = replace(structure, pos=structure.pos + torch.tensor([1.5, -20.0, 7.0], dtype=torch.float64))
    np.testing.assert_allclose(model(moved)["spatial_extent"].item(), model(structure)["spatial_extent"].item())


@pytest.mark.parametrize("name", ["CH4", "C6H6", "O"])
def test_slopes_are_finite_and_sum_to_zero(name: str) -> None:
    model, structure = network(), graph(name)
    structure.pos.requires_grad_()
    slope, *rest = torch.autograd.grad(
        model(structure)["spatial_extent"].sum(), [structure.pos, *model.parameters()], allow_unused=True
    )
    assert slope.sum(0).abs().max() < 1e-12
    assert all(gradient is None or gradient.isfinite().all() for gradient in rest)


def test_head_is_for_molecules() -> None:
    assert head(network()).molecular
