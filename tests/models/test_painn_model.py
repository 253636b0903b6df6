"""PaiNN: the paper's equations written as loops, parameter counts, ablations and edge cases."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from equispec.data.atoms import graph_from_arrays
from equispec.graph import AtomGraph, collate, edge_vectors
from equispec.models.painn import PaiNN, PaiNNConfig
from equispec.nn import vector_messages
from equispec.nn.norms import distances_and_directions

SMALL = {"features": 6, "blocks": 2, "n_radial": 5, "cutoff": 3.0, "elements": 10}
MOLECULE = (
    np.array([6, 8, 1, 1, 7]),
    np.array([[0.0, 0.0, 0.0], [1.2, 0.1, 0.0], [-0.6, 0.9, 0.1], [-0.5, -0.9, 0.3], [0.2, -0.3, 1.4]]),
)
SWITCHES = (
    {},
    {"radial": "gaussian"},
    {"scalar_product": False},
    {"vector_propagation": False},
    {"scalar_product": False, "vector_propagation": False},
    {"vectors": False},
    {"share_filters": True, "share_interactions": True},
)


def model(**changes) -> PaiNN:
    """A small float64 model whose weights are a formula, so that its numbers never change."""
    torch.set_default_dtype(torch.float64)
    try:
        network = PaiNN(PaiNNConfig(**{**SMALL, **changes}))
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for k, (_, p) in enumerate(sorted(network.named_parameters())):
            p.copy_(0.5 * torch.sin(torch.arange(p.numel(), dtype=torch.float64) * (k + 1.7) + k).view_as(p))
    return network


def graph(z=MOLECULE[0], pos=MOLECULE[1], cutoff: float = SMALL["cutoff"]) -> AtomGraph:
    return graph_from_arrays(np.asarray(z), np.asarray(pos, dtype=float), cutoff, dtype=torch.float64)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def reference(network: PaiNN, z: np.ndarray, pos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eqs 7-10 with loops over atoms and pairs."""
    c, w = network.config, {k: v.detach().numpy() for k, v in network.state_dict().items()}
    n, f = len(z), c.features

    def net(name: str, x: np.ndarray) -> np.ndarray:
        hidden = silu(w[f"{name}.0.weight"] @ x + w[f"{name}.0.bias"])
        return w[f"{name}.2.weight"] @ hidden + w[f"{name}.2.bias"]

    def basis(d: float) -> np.ndarray:
        if c.radial == "bessel":
            return np.sin(np.arange(1, c.n_radial + 1) * np.pi * d / c.cutoff) / d
        width = c.cutoff / (c.n_radial - 1)
        return np.exp(-0.5 * ((d - width * np.arange(c.n_radial)) / width) ** 2)

    s, v = w["embedding.weight"][z].copy(), np.zeros((n, 3, f))
    for t in range(c.blocks):
        tf, ti = t % len(network.filters), t % len(network.messages)
        ds, dv = np.zeros_like(s), np.zeros_like(v)
        for i in range(n):
            for j in range(n):
                r = pos[j] - pos[i]
                d = np.linalg.norm(r)
                if i == j or d >= c.cutoff:
                    continue
                filters = w[f"filters.{tf}.weight"] @ basis(d) + w[f"filters.{tf}.bias"]
                x = net(f"messages.{ti}.phi", s[j]) * filters * 0.5 * (math.cos(math.pi * d / c.cutoff) + 1)
                ds[i] += x[:f]
                if c.vectors:
                    dv[i] += np.outer(r / d, x[f : 2 * f])
                if c.vectors and c.vector_propagation:
                    dv[i] += v[j] * x[2 * f :]
        s, v = s + ds, v + dv
        for i in range(n):
            if not c.vectors:
                s[i] += net(f"updates.{ti}.a", s[i])
                continue
            mixed = v[i] @ w[f"updates.{ti}.mix.weight"].T
            p, q = mixed[:, :f], mixed[:, f:]
            a = net(f"updates.{ti}.a", np.concatenate([s[i], np.sqrt((q**2).sum(0) + 1e-8)]))
            s[i] += a[:f] + (a[f : 2 * f] * (p * q).sum(0) if c.scalar_product else 0)
            v[i] += a[-f:] * p
    return s, v


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_equations(switches: dict, gradients: bool) -> None:
    network = model(**switches)
    with torch.set_grad_enabled(gradients):
        features = network(graph())
    s, v = reference(network, *MOLECULE)
    np.testing.assert_allclose(features.scalar.detach(), s, atol=1e-12)
    if network.config.vectors:
        np.testing.assert_allclose(features.vector.detach(), v, atol=1e-12)
    else:
        assert features.vector is None
        assert network.widths.vector is None


def test_golden_numbers() -> None:
    """Numbers of the first version; they may only change together with a new format of the model folder."""
    features = model()(graph())
    scalars = [
        1.867633744022425,
        -2.935143519363106,
        1.9658187551930768,
        -0.07765030424388004,
        -0.32126585535346275,
        0.39558949861729215,
    ]
    vector = [-0.05354289081530672, 0.010158316320893666, 0.027806484291113605]
    np.testing.assert_allclose(features.scalar[0].detach(), scalars, atol=1e-12)
    np.testing.assert_allclose(features.vector[0, :, 0].detach(), vector, atol=1e-12)


def test_tiles_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    network, batch = model(), collate([graph()] * 9)
    whole = network(batch).vector.detach()
    monkeypatch.setattr("equispec.nn.pairs.TILE_ELEMENTS", 0)  # the smallest tiles
    assert len(network.edges(batch).tiles) > 1
    assert torch.allclose(network(batch).vector.detach(), whole, atol=1e-13)


def test_edges_without_mirror_images() -> None:
    """A list in another order is worked off edge by edge; the filters of pairs change nothing but the time."""
    network, molecule = model(), graph()
    order = torch.arange(molecule.n_edges - 1, -1, -1)
    reordered = replace(molecule, edge_index=molecule.edge_index[:, order], edge_shift=molecule.edge_shift[order])
    ways, found = [], []
    for batch in (molecule, reordered):
        pos = batch.pos.clone().requires_grad_()
        batch = replace(batch, pos=pos)
        ways.append(network.edges(batch).direction.shape[1])
        features = network(batch)
        found.append((features.scalar, features.vector, *torch.autograd.grad(features.scalar.sum(), pos)))
    assert ways == [2, 1]
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-13)


@pytest.mark.parametrize(("elements", "total"), [(100, 589_057), (94, 588_289)])
def test_parameter_count(elements: int, total: int) -> None:
    """3 (11F² + 71F) + F²/2 + F + 1 + elements · F for F = 128, with the energy network F -> F/2 -> 1."""
    f = 128
    network = PaiNN(PaiNNConfig(elements=elements))
    assert sum(p.numel() for p in network.parameters()) + f * f // 2 + f + 1 == total


@pytest.mark.parametrize("propagation", [True, False])
def test_isolated_atom_and_no_edges(propagation: bool) -> None:
    network = model(vector_propagation=propagation)
    lonely = graph([6, 8], [[0.0, 0, 0], [9.0, 0, 0]])
    assert lonely.n_edges == 0
    lonely.pos.requires_grad_()
    features = network(lonely)
    assert torch.equal(features.vector, torch.zeros_like(features.vector))
    gradients = torch.autograd.grad(features.scalar.sum(), list(network.parameters()), allow_unused=True)
    assert all(g is None or g.isfinite().all() for g in gradients)


def test_batch_equals_singles() -> None:
    network = model()
    singles = [graph(), graph([6], [[0.0, 0, 0]]), graph([8, 1], [[0.0, 0, 0], [0.0, 0, 1.0]])]
    batch = network(collate(singles))
    for kind in ("scalar", "vector"):
        expected = torch.cat([getattr(network(one), kind) for one in singles])
        assert torch.allclose(getattr(batch, kind), expected, atol=1e-13)


@pytest.mark.parametrize("radial", ["bessel", "gaussian"])
def test_value_and_slope_vanish_at_the_cutoff(radial: str) -> None:
    network = model(radial=radial)

    def energy(distance: float) -> tuple[float, float]:
        pair = graph([6, 8, 1], [[0.0, 0, 0], [distance, 0, 0], [0.0, 1.0, 0]])
        pair.pos.requires_grad_()
        total = network(pair).scalar.sum()
        slope = torch.autograd.grad(total, pair.pos)[0][1, 0]
        return total.item(), slope.item()

    inside, outside = energy(SMALL["cutoff"] - 1e-6), energy(SMALL["cutoff"] + 1e-6)
    assert inside[0] == pytest.approx(outside[0], abs=1e-9)
    assert inside[1] == pytest.approx(outside[1], abs=1e-3)


def chains() -> tuple[AtomGraph, AtomGraph]:
    """Four equal atoms in a zigzag with equal bonds and angles, cis and trans; only bonded atoms are neighbours."""
    bond, angle = 1.0, math.radians(120)
    kink = bond * np.array([-math.cos(angle), math.sin(angle), 0])
    middle = np.array([[0.0, 0, 0], [bond, 0, 0]])
    cis = np.stack([middle[0] + kink * [-1, 1, 1], *middle, middle[1] + kink])
    trans = np.stack([middle[0] + kink * [-1, 1, 1], *middle, middle[1] + kink * [1, -1, 1]])
    return graph([6] * 4, cis, 1.5), graph([6] * 4, trans, 1.5)


@pytest.mark.parametrize(
    ("switches", "distinguished"),
    [
        ({}, True),
        ({"blocks": 1}, False),
        ({"vectors": False}, False),
        ({"vector_propagation": False, "blocks": 4}, False),
    ],
    ids=str,
)
def test_chains_of_figure_1(switches: dict, distinguished: bool) -> None:
    """Same distances and angles: only vectors that travel two bonds tell cis from trans (paper, Fig. 1)."""
    network = model(cutoff=1.5, **switches)
    cis, trans = (network(chain).scalar.sum(0) for chain in chains())
    assert ((cis - trans).abs().max().item() > 1e-4) == distinguished
    if not distinguished:
        assert torch.allclose(cis, trans, atol=1e-12)


def test_angle_identity_of_table_1() -> None:
    """‖Σ_j û_ij‖² = Σ_jk cos α_jik."""
    molecule = graph()
    _, u = distances_and_directions(edge_vectors(molecule))
    for i in range(molecule.n_atoms):
        own = u[molecule.edge_index[0] == i]
        cosines = (own @ own.T).sum()
        assert own.sum(0).square().sum().item() == pytest.approx(cosines.item(), abs=1e-12)


def test_twice_differentiable() -> None:
    network = model(features=3, blocks=2, n_radial=3)
    molecule = graph(MOLECULE[0][:3], MOLECULE[1][:3])

    def value(pos: Tensor) -> Tensor:
        features = network(AtomGraph(**{**vars(molecule), "pos": pos}))
        return features.scalar.sum() + features.vector.square().sum()

    pos = molecule.pos.clone().requires_grad_()
    assert torch.autograd.gradcheck(value, pos)
    assert torch.autograd.gradgradcheck(value, pos)


def test_third_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training on Hessians: against automatic differentiation of the plain equations."""
    network = model(features=3, n_radial=3)

    def gradients() -> list[Tensor]:
        molecule = graph()
        pos = molecule.pos.requires_grad_()
        energy = network(molecule).scalar.sum()
        (forces,) = torch.autograd.grad(energy, pos, create_graph=True)
        (row,) = torch.autograd.grad(forces[0, 0], pos, create_graph=True)
        return list(torch.autograd.grad(row.square().sum(), [pos, *network.parameters()], materialize_grads=True))

    found = gradients()
    monkeypatch.setattr("equispec.nn.vector_messages._Sums.apply", vector_messages._plain_sums)
    for a, b in zip(found, gradients(), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)
