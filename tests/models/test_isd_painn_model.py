"""ISD-PaiNN: the published equations written as loops, its symmetries and what breaks them, counts and edge cases."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from equispec.data.atoms import graph_from_arrays
from equispec.errors import InputError
from equispec.graph import AtomGraph, collate
from equispec.model import ModelConfig, build, parameter_count
from equispec.models.isd_painn import ISDPaiNN, ISDPaiNNConfig

SMALL = {"features": 6, "blocks": 2, "n_radial": 5, "cutoff": 3.5}
Z = np.array([6, 8, 1, 1, 7])
POS = np.array([[0.0, 0.0, 0.0], [1.2, 0.1, 0.0], [-0.6, 0.9, 0.1], [-0.5, -0.9, 0.3], [0.2, -0.3, 1.4]])
DIRECTION = np.array([0.3, -2.0, 0.7])
FORMS = {
    "default": ISDPaiNNConfig(**SMALL),
    "published": ISDPaiNNConfig.published(**SMALL),
    "paper": ISDPaiNNConfig.paper(**SMALL),
    "no symmetric message": ISDPaiNNConfig(symmetric_message=False, **SMALL),
    "no directional embedding": ISDPaiNNConfig(directional_embedding=False, **SMALL),
    "neither": ISDPaiNNConfig(directional_embedding=False, symmetric_message=False, **SMALL),
    "sign only": ISDPaiNNConfig(sign_only=True, **SMALL),
    "bessel": ISDPaiNNConfig(radial="bessel", **SMALL),
}
EVEN = ("default", "published", "paper", "bessel")


def model(config: ISDPaiNNConfig) -> ISDPaiNN:
    """A float64 model whose weights are a formula, so that its numbers never change."""
    torch.set_default_dtype(torch.float64)
    try:
        network = ISDPaiNN(config)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for k, (_, p) in enumerate(sorted(network.named_parameters())):
            p.copy_(0.7 * torch.sin(torch.arange(p.numel(), dtype=torch.float64) * (k + 1.7) + k).view_as(p))
        for b, update in enumerate(network.updates):
            update.scale.fill_(1.1 - 0.2 * b)
    return network


def graph(pos=POS, direction=DIRECTION, z=Z, cutoff: float = SMALL["cutoff"]) -> AtomGraph:
    molecule = graph_from_arrays(np.asarray(z), np.asarray(pos, dtype=float), cutoff, dtype=torch.float64)
    return molecule.with_data(direction=torch.as_tensor(np.asarray(direction, dtype=float))[None])


def run(network: ISDPaiNN, molecule: AtomGraph) -> tuple[Tensor, Tensor]:
    """Scalars and vectors after the last block; the network itself returns the scalars, which are invariant."""
    s, v = network.initial(molecule)
    edges = network.edges(molecule)
    for message, update in zip(network.messages, network.updates, strict=True):
        s, v = update(*message(s, v, edges))
    assert torch.equal(s, network(molecule).scalar)
    return s, v


def reference(network: ISDPaiNN, z: np.ndarray, pos: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The update and message equations with loops over atoms and pairs."""
    c, w = network.config, {k: v.detach().numpy() for k, v in network.state_dict().items()}
    f = c.features
    root = {k: math.sqrt(1 / k) if c.scaled else 1.0 for k in (2, 3, f)}

    def act(x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x)) / (0.6 if c.scaled else 1)

    def net(name: str, x: np.ndarray) -> np.ndarray:
        return w[f"{name}.2.weight"] @ act(w[f"{name}.0.weight"] @ x + w[f"{name}.0.bias"]) + w[f"{name}.2.bias"]

    def norm(t: int, x: np.ndarray) -> np.ndarray:
        if not c.layer_norm:
            return x
        y = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return y * w[f"messages.{t}.norm.weight"] + w[f"messages.{t}.norm.bias"]

    def filters(t: int, d: float) -> np.ndarray:
        x = d / c.cutoff
        cut = 0.5 * (math.cos(math.pi * x) + 1) if c.envelope == "cosine" else 1 - 21 * x**5 + 35 * x**6 - 15 * x**7
        if c.radial == "bessel":
            basis = np.sin(np.arange(1, c.n_radial + 1) * np.pi * x) / d
        else:
            basis = np.exp(-0.5 * ((x - np.linspace(0, 1, c.n_radial)) * (c.n_radial - 1)) ** 2)
        bias = w[f"messages.{t}.filter.bias"]
        return w[f"messages.{t}.filter.weight"] @ (basis * cut) + bias * (cut if c.cut_bias else 1)

    s, v = w["scalar_embedding.weight"][z - 1].copy(), np.zeros((len(z), 3, f))
    if c.directional_embedding:
        v += (n / np.linalg.norm(n))[:, None] * w["vector_embedding.weight"][z - 1][:, None, :]
    for t in range(c.blocks):
        ds, dv = np.zeros_like(s), np.zeros_like(v)
        for i in range(len(z)):
            for j in range(len(z)):
                d = np.linalg.norm(pos[j] - pos[i])
                if i == j or d >= c.cutoff:
                    continue
                u = (pos[j] - pos[i]) / d
                m_s, m_vs, m_vv = (net(f"messages.{t}.phi", norm(t, s[j])) * filters(t, d)).reshape(3, f)
                if c.symmetric_message:
                    along = u @ v[j]
                    m_vs = m_vs * (np.sign(along) if c.sign_only else along)
                ds[i] += m_s
                dv[i] += (v[j] * m_vv * root[3] + np.outer(u, m_vs)) * root[f]
        s, v = (s + ds) * root[2], v + dv
        for i in range(len(z)):
            p, q = np.split(v[i] @ w[f"updates.{t}.mix.weight"].T, 2, axis=1)
            x = net(f"updates.{t}.gate", np.concatenate([s[i], np.sqrt((q**2).sum(0))]))
            s[i] += (x[:f] + x[f : 2 * f] * (p * q).sum(0) * root[f]) * root[2]
            v[i] += x[2 * f :] * p
        s *= w[f"updates.{t}.scale"]
    return s, v


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_equations(form: str, gradients: bool) -> None:
    network = model(FORMS[form])
    with torch.set_grad_enabled(gradients):
        s, v = run(network, graph())
    expected = reference(network, Z, POS, DIRECTION)
    np.testing.assert_allclose(s.detach(), expected[0], atol=1e-11)
    np.testing.assert_allclose(v.detach(), expected[1], atol=1e-11)


def test_golden_numbers() -> None:
    """Numbers of the first version; they may only change together with a new format of the model folder."""
    s, v = run(model(FORMS["published"]), graph())
    np.testing.assert_allclose(
        s[0, :4].detach(), [-5.878164239110932, 12.419945605185049, -8.215346604380992, 8.907009775440095], atol=1e-12
    )
    np.testing.assert_allclose(
        v[0, :, 0].detach(), [2.857242449885511, -16.56341555929939, 7.352122393541387], atol=1e-12
    )


@pytest.mark.parametrize(("layers", "total"), [(1, 24_048_896), (2, 24_311_552)])
def test_published_parameter_count(layers: int, total: int) -> None:
    head = {"name": "directional-spectrum", "layers": layers, "grid": {"start": 288, "stop": 310, "n": 256}}
    config = ModelConfig.parse({"backbone": ISDPaiNNConfig.published(), "heads": [head]})
    with torch.device("meta"):
        assert parameter_count(build(config)) == total


def rotation(seed: int = 1) -> np.ndarray:
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return q * np.linalg.det(q)


def features(network: ISDPaiNN, pos: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        s, v = run(network, graph(pos, direction))
    return s.numpy(), v.numpy()


@pytest.mark.parametrize("form", EVEN)
def test_symmetries(form: str) -> None:
    """s: even in n and in G; v: odd in n, even in G; both follow rotations of G with n, and ignore translations."""
    network = model(FORMS[form])
    s, v = features(network, POS, DIRECTION)
    assert np.abs(v).max() > 1e-2
    r = rotation()
    shift = np.array([3.0, -1.0, 2.0])
    for pos, n, v_expected in (
        (-POS, DIRECTION, v),
        (POS, -DIRECTION, -v),
        (-POS, -DIRECTION, -v),
        (POS @ r.T, r @ DIRECTION, np.einsum("ab,nbf->naf", r, v)),
        (POS + shift, DIRECTION, v),
        (POS, 7.0 * DIRECTION, v),
    ):
        s_found, v_found = features(network, pos, n)
        np.testing.assert_allclose(s_found, s, atol=1e-11)
        np.testing.assert_allclose(v_found, v_expected, atol=1e-11)


def test_symmetries_of_the_blocks() -> None:
    """Each message and update block by itself: v -> -v leaves Δs and flips Δv; rotations commute."""
    network = model(FORMS["default"])
    random = np.random.default_rng(2)
    s, v = torch.as_tensor(random.normal(size=(5, 6))), torch.as_tensor(random.normal(size=(5, 3, 6)))
    r = torch.as_tensor(rotation())
    edges, turned = network.edges(graph()), network.edges(graph(POS @ r.numpy().T))
    for block, arguments, rotated in (
        (network.messages[0], (edges,), (turned,)),
        (network.updates[0], (), ()),
    ):
        s_1, v_1 = block(s, v, *arguments)
        s_2, v_2 = block(s, -v, *arguments)
        assert torch.allclose(s_2, s_1, atol=1e-12)
        assert torch.allclose(v_2, -v_1, atol=1e-12)
        s_3, v_3 = block(s, torch.einsum("ab,nbf->naf", r, v), *rotated)
        assert torch.allclose(s_3, s_1, atol=1e-12)
        assert torch.allclose(v_3, torch.einsum("ab,nbf->naf", r, v_1), atol=1e-12)


def test_plain_message_is_not_even() -> None:
    """Negative test: PaiNN's own message gives n and -n different spectra."""
    network = model(FORMS["no symmetric message"])
    assert np.abs(features(network, POS, DIRECTION)[0] - features(network, POS, -DIRECTION)[0]).max() > 1e-3


@pytest.mark.parametrize("form", ["no directional embedding", "neither"])
def test_without_directional_embedding_the_direction_is_lost(form: str) -> None:
    network = model(FORMS[form])
    s, v = features(network, POS, DIRECTION)
    np.testing.assert_array_equal(s, features(network, POS, np.roll(DIRECTION, 1))[0])
    assert (np.abs(v).max() == 0) == (form == "no directional embedding")


@pytest.mark.parametrize("form", ["default", "published"])
def test_continuity_at_the_cutoff(form: str) -> None:
    """The default form is smooth; the published one jumps, because its filters' biases are not cut off."""
    network = model(FORMS[form])

    def total(distance: float) -> float:
        pos = [[0.0, 0, 0], [distance, 0, 0], [0.0, 1.0, 0], [distance, 0.2, 1.0]]
        with torch.no_grad():
            return network(graph(pos, z=[6, 8, 1, 1])).scalar.sum().item()

    jump = abs(total(SMALL["cutoff"] - 1e-7) - total(SMALL["cutoff"] + 1e-7))
    assert jump < 1e-6 if form == "default" else jump > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_isolated_atom_and_finite_gradients(form: str) -> None:
    network = model(FORMS[form])
    lonely = graph([[0.0, 0, 0], [9.0, 0, 0]], z=[6, 9])
    assert lonely.n_edges == 0
    for structure in (lonely, graph()):
        structure.pos.requires_grad_()
        s, v = run(network, structure)
        total = s.sum() + v.sum()
        for g in torch.autograd.grad(total, [structure.pos, *network.parameters()], allow_unused=True):
            assert g is None or bool(g.isfinite().all())


def test_batch_equals_singles_each_with_its_direction() -> None:
    network = model(FORMS["default"])
    singles = [graph(), graph(direction=[0, 0, 1.0]), graph([[0.0, 0, 0]], [1, 0, 0], [6]), graph(direction=[1, 1, 1])]
    found = run(network, collate(singles))
    for value, expected in zip(found, zip(*(run(network, one) for one in singles), strict=True), strict=True):
        assert torch.allclose(value, torch.cat(expected), atol=1e-12)


def test_direction_is_checked_and_not_changed() -> None:
    network = model(FORMS["default"])
    molecule = graph()
    before = molecule.system_data["direction"].clone()
    network(molecule)
    assert torch.equal(molecule.system_data["direction"], before)
    with pytest.raises(InputError, match="zero"):
        network(graph(direction=[0, 0, 0]))
    with pytest.raises(InputError, match="direction"):
        network(graph_from_arrays(Z, POS, SMALL["cutoff"], dtype=torch.float64))


@pytest.mark.parametrize("form", ["default", "paper"])
def test_twice_differentiable(form: str) -> None:
    network = model(FORMS[form].model_copy(update={"features": 3, "n_radial": 3}))
    molecule = graph(POS[:3], z=Z[:3])

    def value(pos: Tensor) -> Tensor:
        s, v = run(network, AtomGraph(**{**vars(molecule), "pos": pos}))
        return s.sum() + v.square().sum()

    pos = molecule.pos.clone().requires_grad_()
    assert torch.autograd.gradcheck(value, pos)
    assert torch.autograd.gradgradcheck(value, pos)
