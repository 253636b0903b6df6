"""Forces, stress, Hessian and other derivatives against finite differences, and differentiated once more."""

import numpy as np
import pytest
import torch
from torch import Tensor

from equispec.data.atoms import graph_from_arrays
from equispec.derivatives import available, evaluate, hessian, jacobian
from equispec.errors import InputError
from equispec.graph import AtomGraph, collate
from equispec.model import Model, ModelConfig, build

STEP = 1e-5
CELL = np.array([[4.1, 0, 0], [0.3, 4.4, 0], [-0.2, 0.5, 4.8]])


@pytest.fixture(params=["painn", "dyad-painn"])
def model(request: pytest.FixtureRequest) -> Model:
    torch.manual_seed(1)
    heads = [{"name": "energy"}]
    if request.param == "painn":  # the other backbone has no vectors
        heads += [{"name": "dipole"}, {"name": "polarizability"}]
    backbone = {"name": request.param, "features": 8, "blocks": 2, "cutoff": 4.0}
    model = build(ModelConfig.parse({"backbone": backbone, "heads": heads}), torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return model.eval()


def molecule(pos: np.ndarray | None = None) -> AtomGraph:
    random = np.random.default_rng(2)
    points = np.array([[0, 0, 0], [1.2, 0, 0], [0, 1.3, 0], [0, 0, 1.1], [1.1, 1.2, 0.9]]) if pos is None else pos
    points = points + (random.uniform(-0.1, 0.1, points.shape) if pos is None else 0)
    return graph_from_arrays(np.array([6, 8, 7, 1, 1]), points, 4.0, dtype=torch.float64)


def crystal(strain: np.ndarray | None = None) -> AtomGraph:
    deformation = np.eye(3) if strain is None else np.eye(3) + strain
    pos = np.array([[0.1, 0.2, 0.3], [1.5, 1.4, 1.2], [2.9, 3.0, 2.6]]) @ deformation
    return graph_from_arrays(np.array([6, 8, 1]), pos, 4.0, CELL @ deformation, dtype=torch.float64)


def value(model: Model, graph: AtomGraph, name: str) -> Tensor:
    with torch.no_grad():
        return evaluate(model, graph, [name])[name]


def numerical(model: Model, graph: AtomGraph, name: str) -> Tensor:
    """∂(quantity)/∂(positions) by central differences, with [atoms, 3] as the last two axes."""
    rows = []
    for atom in range(graph.n_atoms):
        for axis in range(3):
            moved = []
            for sign in (1, -1):
                pos = graph.pos.clone()
                pos[atom, axis] += sign * STEP
                moved.append(value(model, molecule(pos.numpy()), name))
            rows.append((moved[0] - moved[1]) / (2 * STEP))
    result = torch.stack(rows, dim=-1)
    return result.reshape(*result.shape[:-1], graph.n_atoms, 3)


def test_forces_are_minus_the_gradient(model: Model) -> None:
    graph = molecule()
    expected = -numerical(model, graph, "energy")[0]
    torch.testing.assert_close(value(model, graph, "forces"), expected, rtol=0, atol=1e-7)
    assert expected.abs().max() > 1e-3


def test_stress_is_the_derivative_by_strain(model: Model) -> None:
    graph = crystal()
    volume = abs(np.linalg.det(CELL))
    expected = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            strain = np.zeros((3, 3))
            strain[a, b] += STEP / 2
            strain[b, a] += STEP / 2
            plus, minus = (value(model, crystal(sign * strain), "energy") for sign in (1, -1))
            expected[a, b] = float(plus - minus) / (2 * STEP) / volume
    found = value(model, graph, "stress")[0]
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=0, atol=1e-8)
    assert np.abs(expected).max() > 1e-5


def test_a_molecule_has_no_stress(model: Model) -> None:
    assert value(model, molecule(), "stress").isnan().all()


def test_forces_of_a_batch_with_stress_are_those_without(model: Model) -> None:
    graph = collate([crystal(), crystal(0.02 * np.eye(3))])
    alone = evaluate(model, graph, ["forces"])["forces"]
    both = evaluate(model, graph, ["energy", "forces", "stress"])
    torch.testing.assert_close(both["forces"], alone, rtol=0, atol=1e-12)
    single = evaluate(model, crystal(0.02 * np.eye(3)), ["stress"])["stress"]
    torch.testing.assert_close(both["stress"][1:], single, rtol=0, atol=1e-12)


def test_hessian_and_tensor_derivatives(model: Model) -> None:
    graph = molecule()
    second = hessian(model, graph)
    expected = -numerical(model, graph, "forces")  # [atoms, 3, atoms, 3]
    torch.testing.assert_close(second, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(second, second.permute(2, 3, 0, 1), rtol=0, atol=1e-12)
    assert second.sum(2).abs().max() < 1e-10  # moving all atoms costs nothing
    for name in {"dipole", "polarizability"} & set(available(model)):
        expected = numerical(model, graph, name)[0]
        torch.testing.assert_close(jacobian(model, graph, name), expected, rtol=0, atol=1e-7)


def test_the_loss_of_forces_has_a_gradient_by_the_weights(model: Model) -> None:
    graph, weight = molecule(), model.heads["energy"].network[0].weight

    def loss() -> Tensor:
        return evaluate(model, graph, ["forces"], create_graph=True)["forces"].square().sum()

    gradient = torch.autograd.grad(loss(), weight)[0]
    for row, column in ((0, 0), (3, 5)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[row, column] += sign * STEP
            values.append(float(loss().detach()))
            with torch.no_grad():
                weight[row, column] -= sign * STEP
        assert float(gradient[row, column]) == pytest.approx((values[0] - values[1]) / (2 * STEP), rel=1e-5, abs=1e-9)


def test_what_is_asked_for_is_what_comes(model: Model) -> None:
    graph = molecule()
    before = graph.pos.clone()
    found = evaluate(model, graph, ["forces", "energy"])
    assert list(found) == ["forces", "energy"]
    assert not any(tensor.requires_grad for tensor in found.values())
    assert not graph.pos.requires_grad
    assert (graph.pos == before).all()
    assert set(available(model)) >= {"energy", "forces", "stress"}
    with pytest.raises(InputError, match="does not predict homo; it has energy"):
        evaluate(model, graph, ["homo"])
    with pytest.raises(InputError, match="one structure at a time, not of 2"):
        hessian(model, collate([graph, graph]))
