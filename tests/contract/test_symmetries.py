"""What every backbone with every head must obey: tiny random models in float64 on small asymmetric molecules."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from equispec.checkpoint import load_model, save_model
from equispec.data.atoms import graph_from_arrays
from equispec.errors import ConfigError
from equispec.graph import AtomGraph, collate
from equispec.heads import HEADS
from equispec.model import Model, ModelConfig, build
from equispec.models import MODELS
from equispec.quantities import QUANTITIES

TOLERANCE = 1e-10
SMALL_BACKBONE = {"features": 12, "blocks": 2, "cutoff": 4.0}
# what some backbones need beyond that, to be small, and to have derivatives
SMALL_PARTS = {
    "hdgnn": {
        "degree": 2,
        "hidden": 8,
        "invariants": 8,
        "edge_features": 8,
        "n_radial": 10,
        "samples": 32,
        "gradients": True,
        "envelope": True,
        "roll": "axis",
    }
}
SMALL_GRID = {"start": 280.0, "stop": 290.0, "n": 7}
# site-spectrum heads take a grid; narrow ones keep the tests quick
SMALL_HEAD = {
    "energy": {},
    "scalar": {"targets": ["homo", "gap"], "aggregation": "mean"},
    "dipole": {},
    "polarizability": {},
    "spatial-extent": {},
    "direct-forces": {},
    "directional-spectrum": {"grid": SMALL_GRID},
    "dyad-tensor": {"grid": SMALL_GRID, "channels": 3},
    "square-tensor": {"grid": SMALL_GRID, "channels": 3, "cutoff": 4.0},
}
# quantities of a system that are not the sum, or of atoms that are not those, of molecules far from each other
NOT_ADDITIVE = {
    "charges": "they are shifted so that the whole system has its total charge",
    "dipole": "charges flow between the molecules, as above",
    "dipole_magnitude": "the length of a sum",
    "polarizability": "vectors of the atoms times their distances to one centre of mass",
    "isotropic_polarizability": "as the tensor",
    "spatial_extent": "squared distances to one centre of mass",
    "homo": "an average over the atoms",
    "gap": "as homo",
}


def combinations() -> Iterator[tuple[str, str]]:
    for backbone, head in product(MODELS, HEADS):
        try:
            small_model(backbone, head)
        except ConfigError as error:
            if "does not provide" not in str(error):
                raise
            continue  # the head needs features that the backbone does not have
        yield backbone, head


def small_model(backbone: str, head: str) -> Model:
    torch.manual_seed(3)
    options = {**SMALL_BACKBONE, **SMALL_PARTS.get(backbone, {})}
    config = {"backbone": {"name": backbone, **options}, "heads": [{"name": head, **SMALL_HEAD[head]}]}
    model = build(ModelConfig.parse(config), torch.float64)
    with torch.no_grad():  # zero biases would hide mistakes
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return model.eval()


def molecule(seed: int = 0, n: int = 7) -> AtomGraph:
    """An asymmetric cluster whose atoms keep their distance, with a direction for models that want one."""
    random = np.random.default_rng(seed)
    grid = np.array(list(product(range(3), repeat=3)), dtype=float)
    pos = 1.5 * grid[random.permutation(27)[:n]] + random.uniform(-0.25, 0.25, (n, 3))
    z = random.choice([1, 6, 7, 8], n)
    z[:2] = 6
    return with_graph(z, pos, torch.as_tensor(random.normal(size=3)))


def with_graph(z: np.ndarray, pos: np.ndarray | Tensor, direction: Tensor) -> AtomGraph:
    return graph_from_arrays(z, pos, SMALL_BACKBONE["cutoff"], dtype=torch.float64).with_data(direction=direction[None])


def rotation(seed: int) -> Tensor:
    """A proper rotation."""
    q = torch.linalg.qr(torch.as_tensor(np.random.default_rng(seed).normal(size=(3, 3)))).Q
    return q * torch.linalg.det(q)


def transformed(name: str, value: Tensor, matrix: Tensor) -> Tensor:
    """The value of a quantity after the structure was transformed by an orthogonal matrix, from the quantity table."""
    quantity = QUANTITIES[name]
    if quantity.parity == -1 and quantity.rank % 2 == 0:
        value = value * torch.linalg.det(matrix)
    for axis in range(value.ndim - quantity.rank, value.ndim):
        value = torch.tensordot(value, matrix, dims=([axis], [1])).movedim(-1, axis)
    return value


def outputs(model: Model, graph: AtomGraph) -> dict[str, Tensor]:
    with torch.no_grad():
        return model(graph)


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = TOLERANCE) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].shape == b[name].shape
        assert (a[name] - b[name]).abs().max() <= tolerance * max(1.0, float(a[name].abs().max())), name


def only_if_equivariant(model: Model) -> None:
    if model.approximate:
        pytest.skip("equivariant in parts alone; these, and how far the whole is not: test_hdgnn_symmetries.py")


pytestmark = pytest.mark.parametrize(("backbone", "head"), list(combinations()))


@pytest.mark.parametrize("improper", [1.0, -1.0], ids=["rotation", "rotoinversion"])
def test_equivariance(backbone: str, head: str, improper: float) -> None:
    model = small_model(backbone, head)
    only_if_equivariant(model)
    for seed in range(5):
        graph, matrix = molecule(seed), rotation(seed) * improper
        turned = with_graph(graph.z.numpy(), graph.pos @ matrix.T, graph.system_data["direction"][0] @ matrix.T)
        expected = {name: transformed(name, value, matrix) for name, value in outputs(model, graph).items()}
        assert_same(outputs(model, turned), expected)


def test_inversion_of_structure_alone_and_of_direction_alone(backbone: str, head: str) -> None:
    model, graph = small_model(backbone, head), molecule()
    only_if_equivariant(model)
    n = graph.system_data["direction"][0]
    inverted = outputs(model, with_graph(graph.z.numpy(), -graph.pos, n))
    expected = outputs(model, graph)
    even = {name: value for name, value in expected.items() if QUANTITIES[name].parity == 1}
    assert_same({name: inverted[name] for name in even}, even)
    assert_same(outputs(model, graph.with_data(direction=-n[None])), expected)


def test_translation_and_permutation(backbone: str, head: str) -> None:
    model, graph = small_model(backbone, head), molecule()
    n, z = graph.system_data["direction"][0], graph.z.numpy()
    expected = outputs(model, graph)
    assert_same(outputs(model, with_graph(z, graph.pos + torch.tensor([3.0, -2.0, 7.0]), n)), expected)
    order = np.random.default_rng(1).permutation(len(z))
    permuted = outputs(model, with_graph(z[order], graph.pos[torch.as_tensor(order)], n))
    for name, value in expected.items():
        scope = QUANTITIES[name].scope
        if scope == "site":
            element = next(iter(model.heads.values())).element
            rank = np.argsort(np.flatnonzero(z == element))
            index = {int(atom): int(i) for i, atom in zip(rank, np.flatnonzero(z == element), strict=True)}
            picked = [index[int(atom)] for atom in order if z[atom] == element]
        else:
            picked = order.tolist() if scope == "atom" else [0]
        assert_same({name: permuted[name]}, {name: value[picked]})


def test_batch_equals_singles(backbone: str, head: str) -> None:
    model = small_model(backbone, head)
    graphs = [molecule(seed, n) for seed, n in ((0, 7), (1, 4), (2, 9))]
    singles = [outputs(model, graph) for graph in graphs]
    joined = {name: torch.cat([single[name] for single in singles]) for name in singles[0]}
    assert_same(outputs(model, collate(graphs)), joined, 1e-12)


def test_distant_molecules_do_not_see_each_other(backbone: str, head: str) -> None:
    model, near, far = small_model(backbone, head), molecule(0), molecule(1)
    n = near.system_data["direction"][0]
    both = with_graph(torch.cat([near.z, far.z]).numpy(), torch.cat([near.pos, far.pos + 100.0]), n)
    alone = [outputs(model, graph.with_data(direction=n[None])) for graph in (near, far)]
    together = outputs(model, both)
    for name in together.keys() - NOT_ADDITIVE.keys():
        if QUANTITIES[name].scope == "system":
            assert_same({name: together[name]}, {name: alone[0][name] + alone[1][name]})
        else:
            assert_same({name: together[name]}, {name: torch.cat([alone[0][name], alone[1][name]])})


def test_isolated_atom_and_no_edges(backbone: str, head: str) -> None:
    model = small_model(backbone, head)
    n = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
    for pos in ([[0.0, 0, 0]], [[0.0, 0, 0], [50.0, 0, 0]]):
        graph = with_graph(np.full(len(pos), 6), np.array(pos), n)
        graph.pos.requires_grad_(True)
        values = model(graph)
        loss = sum(value.square().sum() for value in values.values())
        model.zero_grad()
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert all(torch.isfinite(value).all() for value in values.values())


def test_structures_without_an_absorbing_atom_have_no_sites(backbone: str, head: str) -> None:
    model, water = small_model(backbone, head), molecule(2, 4)
    water = with_graph(np.array([8, 1, 1, 7]), water.pos, water.system_data["direction"][0])
    for name, value in outputs(model, water).items():
        expected = outputs(model, molecule())[name].shape
        assert QUANTITIES[name].scope != "site" or value.shape == (0, *expected[1:])
    joined, parts = outputs(model, collate([water, molecule()])), (outputs(model, water), outputs(model, molecule()))
    assert_same(joined, {name: torch.cat([part[name] for part in parts]) for name in joined}, 1e-12)


def test_gradient_by_positions_matches_finite_differences(backbone: str, head: str) -> None:
    model, graph = small_model(backbone, head), molecule(4, 5)
    weights = {name: torch.randn(value.shape, dtype=value.dtype) for name, value in outputs(model, graph).items()}

    def scalar(pos: Tensor) -> Tensor:
        values = model(replace(graph, pos=pos))
        return torch.stack([(values[name] * weights[name]).sum() for name in values]).sum()

    pos = graph.pos.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(scalar(pos), pos)
    h = 1e-5
    with torch.no_grad():
        for atom, axis in ((0, 0), (1, 2), (4, 1)):
            step = torch.zeros_like(pos)
            step[atom, axis] = h
            numeric = (scalar(pos + step) - scalar(pos - step)) / (2 * h)
            assert abs(numeric - gradient[atom, axis]) <= 1e-7 * max(1.0, abs(float(gradient.abs().max())))


def test_smooth_when_an_atom_crosses_the_cutoff(backbone: str, head: str) -> None:
    model = small_model(backbone, head)
    n = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    r = SMALL_BACKBONE["cutoff"]

    def at(d: float) -> dict[str, Tensor]:
        # the travelling atom keeps a neighbour of its own, and the carbon keeps one too
        pos = [[0, 0, 0], [0, 1.1, 0], [d, 0, 0], [d, 0, 1.0]]
        return outputs(model, with_graph(np.array([6, 1, 8, 1]), np.array(pos, dtype=float), n))

    # no jump of the value or of the slope: beyond the cutoff the straight line from before goes on
    near, nearer = at(r - 3e-6), at(r - 1e-6)
    assert_same(at(r + 1e-6), {name: 2 * nearer[name] - near[name] for name in near}, 1e-9)


def test_inputs_are_not_changed(backbone: str, head: str) -> None:
    model, graph = small_model(backbone, head), molecule()
    before = [x.clone() for x in (graph.z, graph.pos, graph.edge_index, graph.system_data["direction"])]
    outputs(model, graph)
    after = (graph.z, graph.pos, graph.edge_index, graph.system_data["direction"])
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_float32_is_close_to_float64(backbone: str, head: str) -> None:
    model, graph = small_model(backbone, head), molecule()
    exact = outputs(model, graph)
    single = outputs(model.float(), graph.to(dtype=torch.float32))
    assert_same({name: value.double() for name, value in single.items()}, exact, 1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_D1_a_cuda_device_gives_the_same(backbone: str, head: str) -> None:
    model, graph = small_model(backbone, head), molecule()
    expected = outputs(model, graph)
    found = outputs(model.cuda(), graph.to("cuda"))
    assert_same({name: value.cpu() for name, value in found.items()}, expected)


def test_saved_and_loaded_model_gives_the_same(backbone: str, head: str, tmp_path) -> None:
    model, graph = small_model(backbone, head), molecule()
    digest = save_model(tmp_path / "model", model, {"edge": "C-K"})
    loaded = load_model(tmp_path / "model")
    assert digest.startswith(loaded.hash)
    assert loaded.model.config == model.config
    assert_same(outputs(loaded.model, graph), outputs(model, graph), 0.0)
