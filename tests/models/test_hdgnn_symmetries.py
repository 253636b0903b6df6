"""HDGNN: what is strictly equivariant in it, what is not and by how much, and every switch of its ablations."""

from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from torch import Tensor

from equispec.data.atoms import graph_from_arrays
from equispec.graph import AtomGraph, collate
from equispec.model import Model, ModelConfig, build, parameter_count
from equispec.models.hdgnn import HDGNNConfig
from equispec.models.hdgnn.message import Attention
from equispec.models.hdgnn.update import DegreeLinear, DegreeNorm, SampledOutput, SphereUpdate
from equispec.nn.so3 import wigner_d
from equispec.nn.sphere import SphereGrid
from random_rotations import rotations

SMALL = {"features": 6, "blocks": 2, "degree": 4, "hidden": 12, "invariants": 8, "edge_features": 8, "n_radial": 16}
FORMS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "linear": {"pathway": "linear"},
    "fully-tp": {"pathway": "none", "product": "full"},
    "full product": {"product": "full"},
    "unrestricted": {"pathway": "unrestricted", "product": "none"},
    "no product": {"product": "none"},
    "shared product weights": {"product_weights": "shared"},
    "softmax": {"attention": "softmax"},
    "fixed": {"attention": [0.3, 0.3, 0.3, 0.1]},
    "no layer norm": {"layer_norm": False},
    "node linear": {"node_linear": True},
    "unshared": {"shared": False},
    "rotated input": {"pathway_input": "rotated"},
    "whole tensors": {"mmax": 4},
    "fifth branch": {"full_degree_branch": True},
    "two resolutions": {"resolutions": 2, "near": 2},
    "no excitation": {"excitation": "none"},
    "invariants": {"invariant_weight": 0.1},
    "paper-code": {"preset": "paper-code", **SMALL},
}


def network(seed: int = 1, **changes: Any) -> Model:
    torch.manual_seed(seed)
    backbone = {"name": "hdgnn", **SMALL, **changes}
    config = {"backbone": backbone, "heads": [{"name": "energy", "layers": 1, "offset": "none"}]}
    model = build(ModelConfig.parse(config), torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.2)
    return model.eval()


def molecule(seed: int = 0, n: int = 6) -> AtomGraph:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*3 * [np.arange(3)]), axis=-1).reshape(-1, 3)
    pos = 1.6 * grid[rng.permutation(27)[:n]] + rng.uniform(-0.3, 0.3, (n, 3))
    return graph(rng.choice([1, 6, 8], n), pos)


def graph(z: Any, pos: Any, **more: Any) -> AtomGraph:
    return graph_from_arrays(np.asarray(z), torch.as_tensor(pos), 8.0, dtype=torch.float64, **more)


def energy(model: Model, g: AtomGraph) -> Tensor:
    with torch.no_grad():
        return model(g)["energy"]


def turned(x: Tensor, matrix: Tensor) -> Tensor:
    blocks = wigner_d(matrix, round(x.shape[1] ** 0.5) - 1)
    return torch.cat([d @ x[:, k * k : (k + 1) ** 2] for k, d in enumerate(blocks)], dim=1)


def rotation_error(model: Model, number: int = 8) -> float:
    """Mean of |E(Qx) - E(x)| over the spread of energies."""
    structures = [molecule(seed) for seed in range(number)]
    plain = torch.cat([energy(model, g) for g in structures])
    after = torch.cat(
        [energy(model, graph(g.z, g.pos @ q.T)) for g, q in zip(structures, rotations(number), strict=True)]
    )
    return float((after - plain).abs().mean() / plain.std())


@pytest.fixture
def double() -> Any:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


# --- strict parts ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("part", [DegreeNorm, DegreeLinear])
def test_C2_C10_maps_of_one_atom_by_degree_are_equivariant(part: Any) -> None:
    module = part(4, 6)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(5, 25, 6)
    for q in rotations(5):
        assert (module(turned(x, q)) - turned(module(x), q)).abs().max() < 1e-10


@pytest.mark.usefixtures("double")
def test_C10_the_norm_makes_every_degree_of_size_one() -> None:
    norm, x = DegreeNorm(3, 64), torch.randn(7, 16, 64, requires_grad=True)
    found = norm(x)
    for degree in range(4):
        part = found[:, degree**2 : (degree + 1) ** 2]
        assert ((part**2).mean((1, 2)) - 1).abs().max() < 1e-4
    torch.testing.assert_close(norm(5 * x), found, atol=1e-4, rtol=0)
    first = torch.cat([x[:, :1], torch.zeros(7, 15, 64)], dim=1).detach().requires_grad_()
    assert (norm(first)[:, 1:] == 0).all()
    (gradient,) = torch.autograd.grad(norm(first).square().sum(), first)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("form", ["linear", "fully-tp"])
@pytest.mark.parametrize("roll", ["random", "axis"])
def test_C2_messages_without_free_networks_are_equivariant_whatever_the_roll(form: str, roll: str) -> None:
    model = network(**FORMS[form], full_degree_branch=form == "linear", eval_roll=roll)
    torch.manual_seed(5)
    with torch.no_grad():
        g, x = molecule(), torch.randn(6, 25, 6, dtype=torch.float64)
        expected = summed(model, g, x)
        for q in rotations(5):
            found = summed(model, graph(g.z, g.pos @ q.T), turned(x, q))
            assert (found - turned(expected, q)).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.parametrize("axis", range(3))
def test_C5_messages_of_linear_networks_pass_the_poles_smoothly(axis: int) -> None:
    """Of two atoms in a row along an axis and of rows that are tilted by little, to four sides."""
    model = network(**FORMS["linear"])
    torch.manual_seed(5)
    x = torch.randn(2, 25, 6, dtype=torch.float64)

    def message(tilt: Tensor) -> Tensor:
        way = torch.nn.functional.normalize(torch.eye(3, dtype=torch.float64)[axis] + tilt, dim=0)
        return summed(model, graph([6, 8], torch.stack([0 * way, 1.3 * way])), x)

    sides = [sign * torch.eye(3, dtype=torch.float64)[k] for k in range(3) if k != axis for sign in (1, -1)]
    with torch.no_grad():
        straight = message(torch.zeros(3, dtype=torch.float64))
        steps = [[float((message(size * side) - straight).abs().max()) for size in (1e-8, 1e-4)] for side in sides]
    for small, large in steps:
        assert small < 1e-6 * float(straight.abs().max())
        assert 1e3 * small < large < 1e5 * small


def summed(model: Model, g: AtomGraph, x: Tensor) -> Tensor:
    """Messages of the first layer."""
    backbone: Any = model.backbone
    layer = backbone.layers[0]
    distance, (edges,) = backbone.edges(g, None)
    c = layer.scalars(backbone.basis(distance), g)
    return layer.messages[0](x, c, backbone.embedding(g.z), edges)


def test_C2_what_is_left_of_a_linear_network_is_the_grid_and_the_points() -> None:
    errors = [
        rotation_error(network(pathway="linear", excitation="none", grid_resolution=n, samples=samples))
        for n, samples in ((1, 128), (2, 512), (3, 4096))
    ]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 1e-4


@pytest.mark.usefixtures("double")
def test_C9_the_error_of_the_update_falls_with_the_grid() -> None:
    config = HDGNNConfig(**{**SMALL, "features": 16, "degree": 6, "excitation": "none"})
    errors = []
    for resolution in (1, 2, 3):
        torch.manual_seed(0)
        update = SphereUpdate(config, SphereGrid(6, resolution))
        x, m, q = 0.3 * torch.randn(4, 49, 16), 0.3 * torch.randn(4, 49, 16), rotations(1)[0]
        with torch.no_grad():
            expected = turned(update(x, m), q)
            errors.append(float((update(turned(x, q), turned(m, q)) - expected).abs().max() / expected.abs().max()))
    assert 1e-3 < errors[0] < 0.1
    assert errors[1] < 1e-2 * errors[0]
    assert errors[2] < 1e-6


@pytest.mark.usefixtures("double")
def test_C9_the_error_of_the_output_falls_with_the_points() -> None:
    errors = []
    for samples in (64, 128, 256, 1024):
        torch.manual_seed(0)
        output = SampledOutput(HDGNNConfig(**{**SMALL, "features": 16, "samples": samples}))
        x = torch.randn(20, 25, 16)
        with torch.no_grad():
            expected = output(x)
            errors.append(float((output(turned(x, rotations(1)[0])) - expected).abs().mean() / expected.std()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


def test_C11_attention() -> None:
    g = molecule()
    for kind, check in {
        "sigmoid": lambda a: ((a > 0) & (a < 1)).all(),
        "softmax": lambda a: (a.sum(1) - 1).abs().max() < 1e-12,
        (0.3, 0.3, 0.3, 0.1): lambda a: a[0, :, 0].tolist() == [0.3, 0.3, 0.3, 0.1],
    }.items():
        model: Any = network(attention=kind)
        distance, (edges,) = model.backbone.edges(g, None)
        c = model.backbone.layers[0].scalars(model.backbone.basis(distance), g)
        attention: Attention = model.backbone.layers[0].messages[0].attention
        found = attention(c, model.backbone.embedding(g.z), edges)
        assert found.shape == (g.n_edges, 4, 6)
        assert check(found)


def test_C11_without_attention_to_free_networks_the_message_is_that_of_the_product() -> None:
    only = network(attention=[0.0, 0.0, 0.0, 1.0], excitation="none", grid_resolution=3, samples=2048)
    assert rotation_error(only) < 5e-4  # of the points
    assert rotation_error(network(attention=[1.0, 0.0, 0.0, 1.0], grid_resolution=3, samples=2048)) > 1e-3


# --- the whole network -----------------------------------------------------------------------------------------------


def test_C6_networks_of_the_split_and_of_the_rotated_input_agree_where_they_are_linear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from equispec.models.hdgnn import pathways

    monkeypatch.setattr(pathways, "silu", lambda x: x)
    models = [network(pathway_input=kind) for kind in ("split", "rotated")]
    for model in models:
        for name, parameter in model.named_parameters():
            if ".turned.first.bias" in name or ".turned.second.bias" in name:
                torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(energy(models[0], molecule()), energy(models[1], molecule()), atol=1e-10, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_C7_what_holds_exactly_for_every_form(form: str) -> None:
    model = network(**FORMS[form], **({"eval_roll": "axis"} if form == "paper-code" else {}))
    g, other = molecule(1), molecule(2, 4)
    expected = energy(model, g)
    assert (energy(model, graph(g.z, g.pos + 3.0)) - expected).abs() < 1e-10
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert (energy(model, graph(g.z[order], g.pos[order])) - expected).abs() < 1e-10
    both = energy(model, collate([other, g]))
    torch.testing.assert_close(both, torch.cat([energy(model, other), expected]), atol=1e-10, rtol=0)


@pytest.mark.parametrize("roll", ["seeded", "local"])
def test_C7_other_rolls_do_not_depend_on_the_batch(roll: str) -> None:
    model, g, other = network(eval_roll=roll), molecule(1), molecule(2, 4)
    both = torch.cat([energy(model, other), energy(model, g)])
    torch.testing.assert_close(energy(model, collate([other, g])), both, atol=1e-10, rtol=0)


def test_C7_atoms_in_another_image_of_a_crystal() -> None:
    cell = np.diag([3.1, 3.7, 9.0]) + 0.2
    pos = np.array([[0.1, 0.2, 0.3], [1.5, 1.2, 1.1]])
    model = network()
    expected = energy(model, graph([6, 8], pos, cell=cell, pbc=np.array([True, True, True])))
    moved = pos + np.array([[0, 0, 0], [1, -2, 0]]) @ cell
    found = energy(model, graph([6, 8], moved, cell=cell, pbc=np.array([True, True, True])))
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_C8_the_whole_network_is_not_equivariant_and_a_linear_one_nearly() -> None:
    fine = {"grid_resolution": 3, "samples": 1024, "excitation": "none"}
    whole, linear = rotation_error(network(**fine)), rotation_error(network(pathway="linear", **fine))
    assert whole > 1e-3
    assert linear < 0.1 * whole
    model, g = network(eval_roll="random"), molecule()
    assert (energy(model, g) - energy(model, g)).abs() > 1e-8  # frames are drawn anew


def test_C12_one_resolution_is_two_where_all_edges_are_near() -> None:
    one, two = network(), network(resolutions=2, near=12)
    state = {name: value for name, value in two.state_dict().items() if ".messages.1." not in name}
    one.load_state_dict(state)
    torch.testing.assert_close(energy(one, molecule()), energy(two, molecule()), atol=1e-12, rtol=0)
    near_two = network(resolutions=2, near=2)
    near_two.load_state_dict(two.state_dict())
    assert (energy(near_two, molecule()) - energy(two, molecule())).abs() > 1e-6


@pytest.mark.parametrize("resolutions", [1, 2])
def test_C13_equal_distances_do_not_decide_by_the_order_of_atoms(resolutions: int) -> None:
    """Shells of 8, 6 and 12 neighbours: the fourth nearest is one of eight."""
    model = network(resolutions=resolutions, near=4)
    crystal = bulk("Fe", cubic=True) * (2, 2, 2)

    def value(order: np.ndarray, shift: float) -> Tensor:
        pos = crystal.positions[order] + shift
        g = graph_from_arrays(crystal.numbers, pos, 4.5, crystal.cell.array, crystal.pbc, dtype=torch.float64)
        return energy(model, g)

    rng, expected = np.random.default_rng(0), value(np.arange(16), 0.0)
    for shift in (0.0, 0.123):
        assert (value(rng.permutation(16), shift) - expected).abs() < 1e-10


@pytest.mark.parametrize("form", ["baseline", "two resolutions", "paper-code"])
@pytest.mark.parametrize(
    ("z", "pos"),
    [
        ([6], [[0, 0, 0]]),
        ([6, 8], [[0, 0, 0], [0, 0, 1.1]]),
        ([8, 6, 8], [[0, 0, -1.2], [0, 0, 0], [0, 0, 1.2]]),
        ([6, 1, 1, 1, 1], [[0, 0, 0], [0.6, 0.6, 0.6], [-0.6, -0.6, 0.6], [-0.6, 0.6, -0.6], [0.6, -0.6, -0.6]]),
    ],
)
def test_C13_degenerate_structures_have_finite_energies_and_gradients(form: str, z: Any, pos: Any) -> None:
    for dtype in (torch.float64, torch.float32):
        model = network(**FORMS[form], **({"eval_roll": "axis"} if form == "paper-code" else {})).to(dtype)
        g = graph(z, np.array(pos, dtype=float)).to(dtype=dtype)
        found = model(g)["energy"]
        model.zero_grad()
        found.sum().backward()
        assert torch.isfinite(found).all()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        assert torch.equal(found, model(g)["energy"])


def test_C14_derivatives_are_offered_only_where_they_are_right() -> None:
    from equispec.derivatives import available, evaluate

    assert available(network()) == ("energy",)
    model = network(gradients=True, envelope=True, roll="axis")
    assert available(model) == ("energy", "forces", "stress")
    g, h = molecule(3), 1e-5
    forces = evaluate(model, g, ["forces"])["forces"]
    for atom, axis in ((0, 0), (2, 1), (5, 2)):
        step = torch.zeros_like(g.pos)
        step[atom, axis] = h
        slope = (energy(model, graph(g.z, g.pos + step)) - energy(model, graph(g.z, g.pos - step))) / (2 * h)
        assert abs(float(slope + forces[atom, axis])) < 1e-7


@pytest.mark.parametrize("pathway", [{}, {"pathway": "unrestricted", "product": "none"}, {"pathway_input": "rotated"}])
def test_C14_nothing_jumps_where_an_edge_changes_its_frame(pathway: dict[str, Any]) -> None:
    """OH on its way to the z axis: energies and forces beside one another agree, and the slope is the force."""
    from equispec.derivatives import evaluate

    model = network(gradients=True, envelope=True, roll="axis", **pathway)

    def at(cosine: float) -> AtomGraph:
        sine = (1 - cosine**2) ** 0.5
        return graph([8, 1, 6], [[0, 0, 0], [0.6 * sine, 0.8 * sine, cosine], [0.3, -1.4, 0.2]])

    h, cosines = 1e-5, np.array([-0.95, -0.9, -0.8, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97])
    for cosine in cosines:
        below, here, above = (at(cosine + step) for step in (-h, 0, h))
        forces = evaluate(model, here, ["forces"])["forces"]
        slope = (energy(model, above) - energy(model, below)) / (2 * h)
        along = (above.pos - below.pos)[1] / (2 * h)
        assert abs(float(slope + forces[1] @ along)) < 1e-7 * max(1.0, float(forces.abs().max())), cosine
        before, after = (evaluate(model, one, ["forces"])["forces"] for one in (below, above))
        assert (after - before).abs().max() < 1e-2 * forces.abs().max(), cosine


def test_C15_energies_jump_at_the_cutoff_without_an_envelope() -> None:
    def jump(model: Model) -> float:
        one, two = (
            energy(model, graph([6, 1, 8, 1], [[0, 0, 0], [0, 1.1, 0], [d, 0, 0], [d, 0, 1.0]]))
            for d in (8 - 1e-6, 8 + 1e-6)
        )
        return float((one - two).abs())

    assert jump(network()) > 1e-5
    assert jump(network(envelope=True)) < 1e-9


def test_C16_single_precision() -> None:
    model, g = network(), molecule()
    exact = energy(model, g)
    single = energy(model.float(), g.to(dtype=torch.float32))
    assert abs(float(single / exact) - 1) < 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_C17_every_form_learns(form: str) -> None:
    torch.manual_seed(0)
    model = network(**FORMS[form]).float().train()
    batch = collate([molecule(seed) for seed in range(16)]).to(dtype=torch.float32)
    target = torch.linspace(-1, 1, 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    losses = []
    for _ in range(20):
        loss = (model(batch)["energy"].float() - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_forms_have_networks_of_their_own() -> None:
    counts = {form: parameter_count(network(**changes)) for form, changes in FORMS.items()}
    same = ("softmax", "rotated input")  # the same weights, used in another way
    different = [count for form, count in counts.items() if form not in same]
    assert len(set(different)) == len(different)
