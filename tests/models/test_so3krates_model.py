"""So3krates: sizes, symmetries layer by layer, derivatives, batches, filters, mixing, and other orders of the sums."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_so3krates import (
    VARIANTS,
    Molecule,
    assert_close,
    backbone_of,
    energy,
    energy_and_forces,
    graph_of,
    largest,
    loss,
    molecule,
    molecules,
    network,
    rotation,
    states,
)
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from equispec.derivatives import evaluate, hessian
from equispec.graph import AtomGraph
from equispec.model import Model, ModelConfig, build, parameter_count
from equispec.nn.so3 import wigner_d

CASES = 20
MOLECULES = [molecule(18, 1), molecule(19, 2), *molecules(CASES - 2)]
SIZES = [len(z) for z, _ in MOLECULES]
variants = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def full_size(**options) -> Model:
    backbone = {"name": "so3krates", **options}
    return build(ModelConfig.parse({"backbone": backbone, "heads": [{"name": "energy", "hidden": 132}]}))


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 715_435),
        ({"preset": "paper"}, 715_435),
        ({"blocks": 3}, 373_162),
        ({"degrees": [0]}, 845_863),
        ({"degrees": [0, 1]}, 745_753),
        ({"degrees": [0, 1, 2]}, 715_435),
        ({"degrees": [0, 1, 2, 3]}, 702_673),
        ({"degrees": [1], "blocks": 4}, 574_205),
        ({"degrees": [1], "blocks": 4, "non_local": True}, 574_205),
        ({"interaction": "paper"}, 604_609),
    ],
    ids=str,
)
def test_B1_parameter_counts(options: dict, count: int) -> None:
    assert parameter_count(full_size(**options)) == count


def test_B1_parameter_counts_of_the_parts() -> None:
    model = full_size()
    backbone, head = backbone_of(model), model.heads["energy"]
    assert parameter_count(head) == 17_689
    assert parameter_count(backbone.embedding) == 13_200
    for layer in backbone.layers:
        assert parameter_count(layer) == 114_091
        assert parameter_count(layer.features.filter) == parameter_count(layer.geometry.filter) == 25_736
        projections = [layer.features.query, layer.features.key, layer.value]
        assert sum(parameter_count(part) for part in projections) == 13_464
        assert sum(parameter_count(part) for part in (layer.geometry.query, layer.geometry.key)) == 11_880
        assert parameter_count(layer.interaction) == 37_275


def test_B1_initial_weights() -> None:
    """Biases 0; variances 1 / fan-in, of every head its own; k 0.1²."""
    for name, parameter in full_size().named_parameters():
        if name.startswith("heads."):
            continue
        if name.endswith("bias"):
            assert not parameter.any(), name
            continue
        fan_in = parameter.shape[1]  # both of [out, in] and of [heads, in, out]; 132 channels of an embedding
        variance = 0.01 if name.endswith("mix.k") else 1 / fan_in
        spread = parameter.std().item() / variance**0.5
        assert spread == pytest.approx(1, abs=5 / parameter.numel() ** 0.5), name


@variants
def test_B2_energies_are_invariant_and_forces_turn_along(options: dict) -> None:
    model, moved, expected = network(**options), [], []
    before, forces = energy_and_forces(model, *MOLECULES)
    for seed, ((z, pos), own) in enumerate(zip(MOLECULES, forces.split(SIZES), strict=True)):
        order, matrix = np.random.default_rng(seed).permutation(len(z)), rotation(seed)
        moved.append((z[order], (pos @ matrix.T + [3.0, -2.0, 7.0])[order]))
        expected.append((own @ torch.as_tensor(matrix.T))[order.tolist()])
    after, turned = energy_and_forces(model, *moved)
    assert_close(after, before, 1e-12)
    assert_close(turned, torch.cat(expected), 1e-10)
    assert before.std() > 0.1  # neither is the same for all
    assert forces.abs().median() > 1e-3


@variants
def test_B2_forces_are_balanced(options: dict) -> None:
    _, forces = energy_and_forces(network(**options), *MOLECULES)
    for (_, pos), own in zip(MOLECULES, forces.split(SIZES), strict=True):
        assert largest(own.sum(0)) <= 1e-10 * largest(forces)
        assert largest(torch.linalg.cross(torch.as_tensor(pos), own).sum(0)) <= 1e-10 * largest(forces)


def inverted(structures: list[Molecule]) -> list[Molecule]:
    return [(z, -pos) for z, pos in structures]


@pytest.mark.parametrize("non_local", [False, True], ids=["local", "non-local"])
def test_B3_mirror_images_have_equal_energies(non_local: bool) -> None:
    model = network(parity=True, non_local=non_local)
    before, forces = energy_and_forces(model, *MOLECULES)
    after, others = energy_and_forces(model, *inverted(MOLECULES))
    assert_close(after, before, 1e-12)
    assert_close(others, -forces, 1e-10)


@pytest.mark.parametrize("degrees", [(1, 2, 3), (1, 2), (0, 1, 2)], ids=str)
def test_B3_mirror_images_differ_without_the_parity_rule(degrees: tuple[int, ...]) -> None:
    model, structures = network(parity=False, degrees=degrees), molecules(CASES, atoms=8)
    assert (energy(model, *structures) - energy(model, *inverted(structures))).abs().min() > 1e-8


@pytest.mark.parametrize("degrees", [(1,), (2,), (3,), (0,), (0, 1)], ids=str)
def test_B3_degrees_without_odd_couplings_need_no_rule(degrees: tuple[int, ...]) -> None:
    for parity in (True, False):
        model = network(parity=parity, degrees=degrees)
        assert_close(energy(model, *inverted(MOLECULES)), energy(model, *MOLECULES), 1e-12)


@variants
def test_B4_sphcs_turn_and_features_stay_in_every_layer(options: dict) -> None:
    model = network(**options)
    degrees = model.backbone.config.degrees
    matrices = [rotation(seed) for seed in range(CASES)]
    turned = [(z, pos @ matrix.T) for (z, pos), matrix in zip(MOLECULES, matrices, strict=True)]
    ds = wigner_d(torch.as_tensor(np.repeat(matrices, SIZES, axis=0)), degrees[-1])
    before, after = states(model, *MOLECULES), states(model, *turned)
    assert len(before) == len(after) == model.backbone.config.blocks + 1
    for a, b in zip(after, before, strict=True):
        assert_close(a.f, b.f, 1e-11)
        for degree in degrees:
            part = backbone_of(model).degrees.part(degree)
            assert b.chi[:, part].abs().median() > 1e-3
            assert_close(a.chi[:, part], torch.einsum("nab,nb->na", ds[degree], b.chi[:, part]), 1e-11)


def test_B4_the_direction_of_edges_is_a_matter_of_signs() -> None:
    """Edges the other way round: χ^(l) times (-1)^l, if k_(l1 l2 l3) is multiplied by (-1)^(l1 + l2 + l3)."""
    ours, theirs = network(parity=False), network(parity=False)
    signs = (-1.0) ** sum(torch.meshgrid(*[torch.tensor([1, 2, 3])] * 3, indexing="ij"))
    with torch.no_grad():
        for layer in theirs.backbone.layers:
            layer.interaction.mix.k *= signs
    parity = backbone_of(ours).degrees.parity
    reversed_edges = inverted(MOLECULES)  # all edge vectors change their signs, and nothing else
    for a, b in zip(states(theirs, *reversed_edges), states(ours, *MOLECULES), strict=True):
        assert_close(a.f, b.f, 1e-11)
        assert_close(a.chi * parity, b.chi, 1e-11)
    assert largest(states(ours, *reversed_edges)[-1].f - states(ours, *MOLECULES)[-1].f) > 1e-6


@variants
def test_B5_forces_are_finite_differences(options: dict) -> None:
    """Each molecule along a random direction of all its atoms."""
    model, h, random = network(**options), 1e-5, np.random.default_rng(0)
    _, forces = energy_and_forces(model, *MOLECULES)
    steps = [random.normal(size=pos.shape) for _, pos in MOLECULES]
    steps = [h * step / np.linalg.norm(step) for step in steps]

    def at(n: int) -> Tensor:
        return energy(model, *[(z, pos + n * step) for (z, pos), step in zip(MOLECULES, steps, strict=True)])

    numeric = (8 * (at(-1) - at(1)) - at(-2) + at(2)) / (12 * h)
    along = [(own * torch.as_tensor(step / h)).sum() for own, step in zip(forces.split(SIZES), steps, strict=True)]
    assert_close(torch.stack(along), numeric, 1e-8)


def force_loss(model: Model, graph: AtomGraph, few: bool) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """The loss as a function of the weights; `few`: of one of each kind."""
    kinds = ("embedding.weight", "features.filter.sphc_first.weight", "geometry.key.weight", "mix.k", "joint.weight")
    weights = {name: w for name, w in model.named_parameters() if not few or name.endswith(kinds)}

    def value(*replaced: Tensor) -> Tensor:
        given = {f"model.{name}": x for name, x in zip(weights, replaced, strict=True)}
        return torch.func.functional_call(Loss(model), given, (graph,))

    return value, tuple(w.detach().clone().requires_grad_() for w in weights.values())


class Loss(torch.nn.Module):
    """A module, so that the weights can be replaced."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, graph: AtomGraph) -> Tensor:
        return loss(self.model, graph)


TINY = {"features": 6, "blocks": 1, "heads": 2, "n_radial": 3, "radial_hidden": 3, "sphc_hidden": 3}


@variants
def test_B5_the_force_loss_is_differentiable_by_the_weights(options: dict) -> None:
    model = network(**TINY, **options)
    function, weights = force_loss(model, graph_of(model, molecule(3, 5), molecule(4, 3)), few=False)
    assert torch.autograd.gradcheck(function, weights, fast_mode=True)


@pytest.mark.parametrize("non_local", [False, True], ids=["local", "non-local"])
def test_B5_the_force_loss_is_differentiable_twice_by_the_weights(non_local: bool) -> None:
    model = network(**TINY, non_local=non_local)
    function, weights = force_loss(model, graph_of(model, molecule(3, 4)), few=True)
    assert len(weights) == 5
    assert torch.autograd.gradgradcheck(function, weights, fast_mode=True)


def test_B5_hessians_are_finite_differences_of_forces() -> None:
    for name in ("physics", "non-local", "normalised"):
        model, (z, pos) = network(**VARIANTS[name]), molecule(7, 5)
        second, h = hessian(model, graph_of(model, (z, pos))), 1e-5
        for atom, axis in ((0, 0), (3, 1), (4, 2)):
            step = np.zeros_like(pos)
            step[atom, axis] = h
            apart = energy_and_forces(model, (z, pos - step))[1] - energy_and_forces(model, (z, pos + step))[1]
            assert_close(second[atom, axis], apart / (2 * h), 1e-6)


@variants
def test_B8_structures_of_a_batch_do_not_see_each_other(options: dict) -> None:
    """Any sizes in any order, among them single atoms and pairs out of reach."""
    model, random = network(**options), np.random.default_rng(1)
    structures = [*MOLECULES[:10], (np.array([6, 8]), np.array([[0.0, 0, 0], [0, 0, 9]]))]
    singles = [energy_and_forces(model, structure) for structure in structures]
    for size in (2, 5, len(structures)):
        picked = random.permutation(len(structures))[:size]
        energies, forces = energy_and_forces(model, *[structures[k] for k in picked])
        assert_close(energies, torch.cat([singles[k][0] for k in picked]), 1e-12)
        assert_close(forces, torch.cat([singles[k][1] for k in picked]), 1e-12)


def permuted(model: Model, order: list[int]) -> Model:
    """The same network with its channels in another order, as far as its weights can say that."""
    other = build(model.config, torch.float64)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    features = len(order)
    for name, value in state.items():
        if name.endswith("embedding.weight"):
            state[name] = value[:, order]
        elif ".filter." in name and "_last." in name:
            state[name] = value[order]
        elif name.endswith(("query.weight", "key.weight", "value.weight")):
            square = torch.block_diag(*value)[order][:, order]
            size = value.shape[1]
            blocks = square.view(len(value), size, len(value), size)
            state[name] = torch.stack([blocks[h, :, h] for h in range(len(value))])
        elif name.endswith(("query.bias", "key.bias", "value.bias")):
            state[name] = value.flatten()[order].view_as(value)
        elif ".joint." in name:
            rows = [*order, *(features + k for k in order), *range(2 * features, len(value))]
            state[name] = value[rows]
            if value.ndim == 2:
                state[name] = state[name][:, [*order, *range(features, value.shape[1])]]
        elif ".mixed." in name:
            state[name] = value[order]
        elif name.endswith("network.0.weight"):
            state[name] = value[:, order]
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize("qkv", ["per-head", "identity"])
def test_B14_heads_are_contiguous(qkv: str) -> None:
    """Channels may change places within a head of features and of degrees (0-2, 3-5, ... and 0-3, 4-7, 8-11)."""
    model = network(qkv=qkv)
    expected = energy(model, *MOLECULES)
    within = [2, 0, 1, 3, 5, 4, 7, 6, 8, 11, 10, 9]
    assert_close(energy(permuted(model, within), *MOLECULES), expected, 1e-12)
    if qkv == "identity":  # all channels are alike but for the heads
        for across in ([0, 1, 3, 2], [0, 1, 2, 4, 3], [8, 1, 2, 3, 4, 5, 6, 7, 0]):
            order = across + list(range(len(across), 12))
            assert largest(energy(permuted(model, order), *MOLECULES) - expected) > 1e-6


def test_B14_the_radial_filter_is_a_constant_beyond_the_cutoff() -> None:
    model = network(non_local=True)
    backbone = backbone_of(model)
    everyone = states(model, (np.array([6, 8, 7]), np.array([[0.0, 0, 0], [1, 0, 0], [3.5, 0.4, 0]])))[-1].among
    assert everyone.cutoff.tolist().count(0.0) == 1
    far = everyone.basis[everyone.cutoff == 0]
    assert torch.equal(far, torch.zeros_like(far))
    for layer in backbone.layers:
        w, silu = layer.geometry.filter, torch.nn.functional.silu
        d = torch.rand(1, 3, dtype=torch.float64)
        constant = w.radial_last(silu(w.radial_first.bias))
        assert_close(w(far, d) - w.sphc_last(silu(w.sphc_first(d))), constant[None], 1e-13)


@pytest.mark.parametrize(("parity", "count"), [(False, 8), (True, 5)])
def test_B15_live_couplings(parity: bool, count: int) -> None:
    model = network(parity=parity)
    graph = graph_of(model, *MOLECULES)
    gradient = torch.autograd.grad(loss(model, graph), [layer.interaction.mix.k for layer in model.backbone.layers])
    live = [(1, 2, 1), (1, 2, 3), (1, 3, 2), (2, 3, 1), (2, 3, 3)]
    live += [] if parity else [(1, 2, 2), (1, 3, 3), (2, 3, 2)]
    assert len(live) == count
    for table in gradient:
        found = {tuple(x) for x in (table.nonzero() + 1).tolist()}  # l3, l1, l2
        assert found == {(l3, l1, l2) for l1, l2, l3 in live}


def test_B15_a_single_degree_does_not_mix() -> None:
    for degrees in ((0,), (1,), (3,)):
        layer = network(degrees=degrees).backbone.layers[0]
        chi = torch.randn(4, 2 * degrees[0] + 1, dtype=torch.float64)
        assert not layer.interaction.mix(chi).any()


def test_D2_the_same_seed_gives_the_same_numbers() -> None:
    def run() -> list[Tensor]:
        model = network(seed=5, non_local=True)
        graph = graph_of(model, *MOLECULES)
        return [*energy_and_forces(model, *MOLECULES), *torch.autograd.grad(loss(model, graph), model.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))
    assert not torch.equal(energy(network(seed=6), *MOLECULES), energy(network(seed=5), *MOLECULES))


@variants
def test_D4_without_gradients_and_with_tiles(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(**options)
    graph = graph_of(model, *MOLECULES)
    before = energy_and_forces(model, *MOLECULES)
    assert_close(energy(model, *MOLECULES), before[0], 1e-13)
    weights = torch.autograd.grad(loss(model, graph), list(model.parameters()), materialize_grads=True)
    monkeypatch.setattr("equispec.nn.pairs.TILE_ELEMENTS", 0)
    assert len(states(model, *MOLECULES)[-1].near.index.tiles) > 5
    for a, b in zip(energy_and_forces(model, *MOLECULES), before, strict=True):
        assert_close(a, b, 1e-12)
    tiled = torch.autograd.grad(loss(model, graph), list(model.parameters()), materialize_grads=True)
    for a, b in zip(tiled, weights, strict=True):
        assert_close(a, b, 1e-10)


@variants
def test_D4_edges_without_mirror_images(options: dict) -> None:
    """A list in another order is worked off edge by edge."""
    model = network(**options)
    graph = graph_of(model, *MOLECULES)
    order = torch.arange(graph.n_edges - 1, -1, -1)
    reordered = replace(graph, edge_index=graph.edge_index[:, order], edge_shift=graph.edge_shift[order])
    found = [evaluate(model, g, ["energy", "forces"]) for g in (graph, reordered)]
    for name in ("energy", "forces"):
        assert_close(found[1][name], found[0][name], 1e-12)


def test_D4_written_down_for_a_compiler() -> None:
    """As for `train.compile`; edges are then worked off one by one."""
    model = network(blocks=1)
    graphs = [graph_of(model, (z, pos * size)) for size in (1.0, 1.001) for z, pos in [molecule(3, 5)]]

    def energy_and_gradient(pos: Tensor) -> tuple[Tensor, Tensor]:
        found = evaluate(model, replace(graphs[0], pos=pos), ["energy", "forces"])
        return found["energy"], found["forces"]

    traced = make_fx(energy_and_gradient)(graphs[0].pos)
    for graph in graphs:
        for a, b in zip(traced(graph.pos), energy_and_gradient(graph.pos), strict=True):
            assert_close(a, b, 1e-12)
