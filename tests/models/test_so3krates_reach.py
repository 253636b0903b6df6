"""So3krates: whom non-local attention sees and where it is looked for, and how far the influence of an atom reaches."""

import numpy as np
import pytest
import torch
from small_so3krates import (
    VARIANTS,
    Molecule,
    assert_close,
    atoms,
    cumulene,
    energy,
    energy_and_forces,
    graph_of,
    largest,
    loss,
    molecule,
    molecules,
    network,
    states,
)
from torch import Tensor

from equispec.derivatives import evaluate
from equispec.model import Model
from equispec.nn.cutoff import polynomial_envelope
from equispec.nn.pair_attention import PairIndex
from equispec.nn.sphc import Degrees
from equispec.nn.sphc_neighbors import NonLocalCut, all_pairs


def test_B12_without_non_local_weights_all_pairs_are_those_within_the_cutoff(monkeypatch: pytest.MonkeyPatch) -> None:
    structures = molecules(20)
    for preset in ("physics", "paper"):
        local, other = network(preset=preset), network(preset=preset, non_local=True)
        assert_different(local, other, structures)
        with monkeypatch.context() as patch:
            patch.setattr("equispec.nn.sphc_neighbors.polynomial_envelope", lambda x, p: torch.zeros_like(x))
            for a, b in zip(energy_and_forces(other, *structures), energy_and_forces(local, *structures), strict=True):
                assert_close(a, b, 1e-12)


def assert_different(a: Model, b: Model, structures: list[Molecule]) -> None:
    assert largest(energy(a, *structures) - energy(b, *structures)) > 1e-6


def shares(chi: Tensor, cut: float | None = None, include_self: bool = False) -> Tensor:
    """φ~ as a table, of one structure with these SPHCs."""
    n, m = chi.shape
    graph = graph_of(network(), atoms([6] * n, 3.0 * np.arange(n)[:, None] * np.eye(3)[0]))
    first, second = all_pairs(graph)
    receiver = torch.stack([first, second])
    index = PairIndex.of(receiver, receiver.flip(0), n, 12)
    norm = Degrees(((m - 1) // 2,)).double().total_norm
    found = NonLocalCut(norm, cut, include_self).weights(chi[first] - chi[second], index, graph)
    table = torch.zeros(n, n, dtype=chi.dtype)
    table[index.receiver.flatten(), index.sender.flatten()] = found.flatten()
    return table


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("cut", [None, 0.1])
def test_B12_non_local_weights_are_the_formula(cut: float | None, include_self: bool) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        n = 2 + seed
        chi = torch.randn(n, 3, dtype=torch.float64)
        d = (chi[:, None] - chi).norm(dim=2)
        weights = torch.exp(d)
        if not include_self:
            weights.fill_diagonal_(0)
        expected = polynomial_envelope(weights / weights.sum(1, keepdim=True) / (cut or 1 / n), 6).fill_diagonal_(0)
        assert_close(shares(chi, cut, include_self), expected, 1e-12)


def test_B12_two_atoms_and_equal_distances_have_no_non_local_pairs() -> None:
    for seed in range(20):
        model = network(seed, preset="paper", non_local=True)
        for structure in (molecule(seed, 2), atoms([6] * 4, [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])):
            for state in states(model, structure)[1:]:
                assert not state.non_local.any()
    corners = torch.eye(5, dtype=torch.float64)[[4, 0, 3, 2, 1]]
    for size in (1e-3, 1.0, 1e3):
        assert not shares(size * corners).any()


def test_B12_the_nearest_pair_is_inside() -> None:
    """Also among distances at which exp overflows."""
    chi = torch.tensor([[0, 0, 0], [0.1, 0, 0], [8, 0, 0], [0, 9, 0], [0, 0, 10]], dtype=torch.float64)
    for size in (1.0, 300.0):
        table = shares(size * chi)
        assert table[0, 1] > 0.99
        assert table[1, 0] > 0.99
        assert table.isfinite().all()


@pytest.mark.parametrize("name", ["paper, non-local", "equations"])
def test_B12_pairs_that_are_looked_for_are_all_that_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large molecules: the same energies, forces and gradients of their loss, in blocks of any size."""
    model = network(**VARIANTS[name])
    structures = [molecule(0, 1), molecule(1, 2), *molecules(12)]

    def results() -> tuple[Tensor, ...]:
        value = loss(model, graph_of(model, *structures))
        gradients = torch.autograd.grad(value, list(model.parameters()), materialize_grads=True)
        return *energy_and_forces(model, *structures), *gradients

    expected = results()
    monkeypatch.setattr("equispec.models.so3krates.SEARCH_FROM", 0)
    for block in (2**18, 200):
        monkeypatch.setattr("equispec.nn.sphc_neighbors.BLOCK", block)
        for a, b in zip(results(), expected, strict=True):
            assert_close(a, b, 1e-11)
        pairs = states(model, *structures)[-1].among.index.receiver.shape[1]
        assert pairs < len(all_pairs(graph_of(model, *structures))[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("search_from", [0, 10_000])
@pytest.mark.parametrize("name", VARIANTS)
def test_D1_a_cuda_device_gives_the_same(name: str, search_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Energies and forces of all variants, non-local pairs listed or looked for."""
    monkeypatch.setattr("equispec.models.so3krates.SEARCH_FROM", search_from)
    model = network(**VARIANTS[name])
    graph = graph_of(model, *molecules(12))
    expected = evaluate(model, graph, ["energy", "forces"])
    found = evaluate(model.cuda(), graph.to("cuda"), ["energy", "forces"])
    for key, value in expected.items():
        assert_close(found[key].cpu(), value, 1e-10)


def test_B12_energies_of_distant_molecules_add_up_in_local_models_alone() -> None:
    """The non-local one is not size-extensive: all atoms of a structure share one softmax."""
    local, other = network(), network(non_local=True)
    for seed in range(20):
        (z1, pos1), (z2, pos2) = molecule(seed, 7), molecule(seed + 50, 9)
        together = (np.concatenate([z1, z2]), np.vstack([pos1, pos2 + np.array([100.0, 0, 0])]))
        parts = [energy(model, (z1, pos1), (z2, pos2)).sum()[None] for model in (local, other)]
        assert_close(energy(local, together), parts[0], 1e-12)
        assert largest(energy(other, together) - parts[1]) > 1e-6


@pytest.mark.parametrize("preset", ["physics", "paper"])
def test_B13_reach_of_a_local_model(preset: str) -> None:
    """Elements reach an atom over as many bonds as there are layers, positions over one more: that of the start."""
    for blocks in (1, 2, 3):
        for seed in range(7):
            model, random = network(seed, blocks=blocks, cutoff=1.6, preset=preset), np.random.default_rng(seed)
            pos = np.arange(7)[:, None] * [1.3, 0, 0] + random.uniform(-0.1, 0.1, (7, 3))
            z, shift = np.array([6, 7, 8, 6, 8, 7, 6]), np.array([0, 0.1, 0.05])
            rows = np.eye(7, dtype=bool)[1:]
            moved = [(z, pos + row[:, None] * shift) for row in rows]
            changed = [(np.where(row, 1, z), pos) for row in rows]
            first = states(model, (z, pos), *moved, *changed)[-1].f.view(13, 7, -1)[:, 0]
            by_position, by_element = ((first[1:] - first[0]).abs().amax(1) > 1e-12).view(2, 6).tolist()
            assert by_position == [atom <= blocks + 1 for atom in range(1, 7)]
            assert by_element == [atom <= blocks for atom in range(1, 7)]


def test_B13_a_non_local_model_reaches_further() -> None:
    found = []
    for seed in range(7):
        model = network(seed, blocks=2, cutoff=1.6, non_local=True, preset="paper")
        pos = np.arange(7)[:, None] * [1.3, 0, 0] + np.random.default_rng(seed).uniform(-0.1, 0.1, (7, 3))
        z = np.array([6, 7, 8, 6, 8, 7, 6])
        before, after = (states(model, (z, pos + d * (np.arange(7)[:, None] == 6)))[-1].f[0] for d in (0, [0, 0.1, 0]))
        found.append(largest(after - before))
    assert np.median(found) > 1e-6


def test_B13_rotors_at_the_ends_of_a_chain() -> None:
    """Energy over the dihedral angle: flat in a local model whose reach is too short, and only there."""
    angles = np.linspace(0, np.pi / 2, 4)
    depths = {}
    for name, options in {"local": {}, "non-local": {"non_local": True}, "far": {"cutoff": 9.0}}.items():
        spread = []
        for seed in range(7):
            model = network(seed, **{"cutoff": 1.7, "degrees": (1, 2), **options})
            energies = energy(model, *[cumulene(7, angle) for angle in angles])
            spread.append((energies - energies[0]).abs().max().item())
        depths[name] = spread
    assert max(depths["local"]) <= 1e-12
    assert max(depths["non-local"]) > 1e-6
    assert min(depths["far"]) > 1e-8
