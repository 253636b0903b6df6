"""The published ISD-PaiNN code's own numbers (random weights, float64), through a checkpoint file and the importer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from equispec.checkpoint import load_model
from equispec.data.atoms import graph_from_arrays
from equispec.graph import AtomGraph, along_directions, collate
from equispec.importers import import_isd_painn
from equispec.model import Model

pytestmark = pytest.mark.shared

TOLERANCE = 1e-11
FILES = (
    "base",
    "two_out_layers",
    "fitted_scale",
    "no_symmetric_message",
    "zero_init",
    "zero_init_no_symmetric_message",
    "sign_factor",
)

Arrays = dict[str, np.ndarray]
Case = tuple[Model, Arrays]


@pytest.fixture(scope="module", params=FILES)
def case(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The stored arrays of one file and the model made from its weights the way a user would."""
    with np.load(shared / "parity" / "isd_painn" / f"{request.param}.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    state = {name[2:]: torch.as_tensor(value) for name, value in arrays.items() if name.startswith("w/")}
    folder = tmp_path_factory.mktemp(request.param)
    bare = request.param == "two_out_layers"
    torch.save(state if bare else {"epoch": 7, "model_state_dict": state}, folder / "checkpoint.pt")
    options = {
        "cutoff": float(arrays["hp/cutoff"]),
        "symmetric_message": bool(arrays["hp/symmetric_message"]),
        "sign_only": bool(arrays["hp/message_factor_normalize"]),
    }
    import_isd_painn(folder / "checkpoint.pt", folder / "model", options)
    return load_model(folder / "model", dtype=torch.float64).model, arrays


def graph_of(arrays: Arrays, name: str, cutoff: float) -> AtomGraph:
    graph = graph_from_arrays(arrays[f"{name}/z"], arrays[f"{name}/pos"], cutoff, dtype=torch.float64)
    return graph.with_atom_data(absorber=torch.ones(graph.n_atoms, dtype=torch.bool))  # stored for all elements


def directions_of(arrays: Arrays) -> Tensor:
    return torch.as_tensor(arrays["directions"])


def record(modules: nn.ModuleList, into: list[tuple[Tensor, Tensor]]) -> list:
    return [module.register_forward_hook(lambda _m, _i, out: into.append(out)) for module in modules]


def test_sizes_and_switches_are_inferred(case: Case) -> None:
    model, arrays = case
    config = model.backbone.config
    assert config.features == arrays["hp/hidden_channels"]
    assert config.blocks == arrays["hp/num_layers"]
    assert config.n_radial == arrays["hp/num_rbf"]
    assert config.n_elements == arrays["hp/num_elements"]
    assert config.max_neighbors == arrays["hp/max_neighbors"]
    assert config.directional_embedding == (not arrays.get("hp/zero_initialization", False))
    head = model.config.heads[0]
    assert head.energy_grid.n == arrays["hp/out_channels"]
    assert head.layers == arrays["hp/num_out_layers"]
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters + config.blocks == arrays["hp/n_parameters"]  # the reference counts its scale factors


def test_outputs(case: Case) -> None:
    model, arrays = case
    for name in arrays["cases"]:
        graph = graph_of(arrays, str(name), model.cutoff)
        with torch.no_grad():
            out = model(along_directions(graph, directions_of(arrays)))["absorption"]
        expected = arrays[f"{name}/out"]
        np.testing.assert_allclose(out.view(expected.shape).numpy(), expected, rtol=0, atol=TOLERANCE, err_msg=name)


def test_intermediate_features(case: Case) -> None:
    model, arrays = case
    for name in map(str, arrays["cases"]):
        graph = graph_of(arrays, name, model.cutoff)
        graph = along_directions(graph, directions_of(arrays)[-1:])
        after_message: list[tuple[Tensor, Tensor]] = []
        after_update: list[tuple[Tensor, Tensor]] = []
        hooks = [*record(model.backbone.messages, after_message), *record(model.backbone.updates, after_update)]
        with torch.no_grad():
            initial = model.backbone.initial(graph)
            model(graph)
        for hook in hooks:
            hook.remove()
        found = {
            "s_init": initial[0],
            "v_init": initial[1],
            "s_after_message": torch.stack([s for s, _ in after_message]),
            "v_after_message": torch.stack([v for _, v in after_message]),
            "s_after_update": torch.stack([s for s, _ in after_update]),
            "v_after_update": torch.stack([v for _, v in after_update]),
        }
        for key, value in found.items():
            message = f"{name}/{key}"
            np.testing.assert_allclose(value.numpy(), arrays[message], rtol=0, atol=TOLERANCE, err_msg=message)


def test_edges_and_radial_basis(case: Case) -> None:
    model, arrays = case
    for name in map(str, arrays["cases"]):
        edges = model.backbone.edges(graph_of(arrays, name, model.cutoff))
        sender, receiver = arrays[f"{name}/edge_index"]
        order = np.lexsort((sender, receiver))
        np.testing.assert_array_equal(edges.receiver.numpy(), receiver[order])
        np.testing.assert_array_equal(edges.sender.numpy(), sender[order])
        np.testing.assert_allclose(edges.direction, arrays[f"{name}/edge_vector"][order], atol=1e-14)
        np.testing.assert_allclose(edges.basis[:, :-1], arrays[f"{name}/edge_rbf"][order], atol=1e-14)
        assert (edges.basis[:, -1] == 1).all()


def test_batch_with_one_direction_per_molecule(case: Case) -> None:
    model, arrays = case
    if "batch/z" not in arrays:
        return  # two of the files hold one
    graphs = []
    for i, direction in enumerate(torch.as_tensor(arrays["batch/direction"])):
        atoms = arrays["batch/batch"] == i
        graph = graph_from_arrays(
            arrays["batch/z"][atoms], arrays["batch/pos"][atoms], model.cutoff, dtype=torch.float64
        )
        graph = graph.with_atom_data(absorber=torch.ones(graph.n_atoms, dtype=torch.bool))
        graphs.append(graph.with_data(direction=direction[None]))
    with torch.no_grad():
        out = model(collate(graphs))["absorption"]
    np.testing.assert_allclose(out.numpy(), arrays["batch/out"], rtol=0, atol=TOLERANCE)


def test_gradient_by_positions(case: Case) -> None:
    model, arrays = case
    for name in map(str, arrays["cases"]):
        if f"{name}/dsumout_dpos_fd" not in arrays:
            continue
        graph = along_directions(graph_of(arrays, name, model.cutoff), directions_of(arrays)[-1:])
        graph.pos.requires_grad_()
        gradient = torch.autograd.grad(model(graph)["absorption"].sum(), graph.pos)[0]
        np.testing.assert_allclose(gradient, arrays[f"{name}/dsumout_dpos_fd"], rtol=0, atol=2e-8, err_msg=name)
