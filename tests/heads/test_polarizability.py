"""The polarizability head on PaiNN with random weights in float64: equation, symmetry, origins and slopes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

from equispec.data.atoms import graph_from_atoms
from equispec.derivatives import jacobian
from equispec.errors import ConfigError
from equispec.graph import AtomGraph, collate
from equispec.model import Model, ModelConfig, build

SHIFT = torch.tensor([1.5, -20.0, 7.0], dtype=torch.float64)
FORMS = [{}, {"centre_nu": True}, {"origin": "zero", "centre_nu": True}]


def network(backbone: dict | None = None, **options) -> Model:
    torch.manual_seed(4)
    config = {
        "backbone": {"name": "painn", "features": 12, "cutoff": 4.0, **(backbone or {})},
        "heads": [{"name": "polarizability", **options}],
    }
    model = build(ModelConfig.parse(config), torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return model


def head(model: Model) -> Any:
    return model.heads["polarizability"]


def graph(name: str) -> AtomGraph:
    return graph_from_atoms(molecule(name), 4.0, dtype=torch.float64)


def tensor(model: Model, structure: AtomGraph) -> np.ndarray:
    with torch.no_grad():
        return model(structure)["polarizability"][0].numpy()


@pytest.mark.parametrize("centred", [False, True])
def test_equation_14(centred: bool) -> None:
    model, atoms, structure = network(centre_nu=centred), molecule("CH3CH2OH"), graph("CH3CH2OH")
    with torch.no_grad():
        terms = head(model).atomic_terms(model.backbone(structure))
    alpha0, nu = (term.numpy() for term in terms)
    expected = np.zeros((3, 3))
    for i, r in enumerate(atoms.positions - atoms.get_center_of_mass()):
        own = nu[i] - nu.mean(0) if centred else nu[i]
        expected += alpha0[i] * np.eye(3) + np.outer(own, r) + np.outer(r, own)
    np.testing.assert_allclose(tensor(model, structure), expected, atol=1e-12)


def test_symmetric_and_a_third_of_the_trace() -> None:
    batch = collate([graph(name) for name in ("CH3CH2OH", "H2O", "CH3CONH2")])
    found = network()(batch)
    alpha = found["polarizability"]
    assert torch.equal(alpha, alpha.mT)
    assert torch.allclose(found["isotropic_polarizability"], alpha.diagonal(dim1=1, dim2=2).mean(1), atol=1e-13)


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_trace_does_not_change_with_the_orientation_and_the_tensor_turns(options: dict) -> None:
    model, structure = network(**options), graph("CH3CH2OH")
    matrix = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double()).Q
    before, after = model(structure), model(replace(structure, pos=structure.pos @ matrix.T))
    for name in ("isotropic_polarizability", "polarizability"):
        expected = before[name] if name != "polarizability" else matrix @ before[name] @ matrix.T
        assert torch.allclose(after[name], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_no_dependence_on_the_origin_of_the_coordinates(options: dict) -> None:
    model, structure = network(**options), graph("CH3CH2OH")
    moved = replace(structure, pos=structure.pos + SHIFT)
    np.testing.assert_allclose(tensor(model, moved), tensor(model, structure), atol=1e-12)


def test_raw_positions_with_uncentred_vectors_depend_on_it() -> None:
    """As the equation says: α changes by Σν ⊗ t + t ⊗ Σν."""
    model, structure = network(origin="zero"), graph("CH3CH2OH")
    with torch.no_grad():
        nu = head(model).atomic_terms(model.backbone(structure))[1].sum(0)
    change = tensor(model, replace(structure, pos=structure.pos + SHIFT)) - tensor(model, structure)
    np.testing.assert_allclose(change, np.outer(nu, SHIFT) + np.outer(SHIFT, nu), atol=1e-11)
    assert np.abs(change).max() > 1e-2


def test_symmetry_of_the_molecule_is_that_of_the_tensor() -> None:
    model = network()
    methane = tensor(model, graph("CH4"))
    np.testing.assert_allclose(methane, methane[0, 0] * np.eye(3), atol=1e-12)
    carbon_dioxide = tensor(model, graph("CO2"))  # along z
    np.testing.assert_allclose(carbon_dioxide[0, 0], carbon_dioxide[1, 1], atol=1e-12)
    assert abs(carbon_dioxide[2, 2] - carbon_dioxide[0, 0]) > 1e-3


@pytest.mark.parametrize("name", ["CH4", "C6H6", "CO2", "H2", "O"])
def test_slopes_at_symmetric_geometries_are_finite(name: str) -> None:
    model, structure = network(), graph(name)
    structure.pos.requires_grad_()
    total = model(structure)["polarizability"].square().sum()
    gradients = torch.autograd.grad(total, [structure.pos, *model.parameters()], allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_derivatives_do_not_see_a_translation() -> None:
    derivative = jacobian(network(), graph("CH3OH"), "polarizability")
    assert derivative.shape == (3, 3, 6, 3)
    assert derivative.abs().max() > 1e-3
    assert derivative.sum(2).abs().max() < 1e-12


def test_needs_vectors_and_molecules() -> None:
    with pytest.raises(ConfigError, match="needs vector features"):
        network({"vectors": False})
    assert head(network()).molecular
