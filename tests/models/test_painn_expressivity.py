"""What PaiNN can tell apart and what it cannot (section 3 of the paper): angles, torsions, torsions of long rods.

Networks have random weights, in double precision: what a network does not resolve then, no training can teach it.
"""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from equispec.data.atoms import graph_from_arrays
from equispec.graph import AtomGraph, edge_vectors
from equispec.models.painn import PaiNN, PaiNNConfig
from equispec.nn.norms import distances_and_directions

BOND, CUTOFF = 1.5, 2.5  # Å; the next but one atom of a bent chain is 2.6 Å away
SEEDS = range(3)
BLIND = ({"vector_propagation": False}, {"vectors": False})
ROUNDING, RESOLVED = 1e-13, 1e-10  # relative changes of the features: below the one, or above the other


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(seed: int, **switches) -> PaiNN:
    torch.manual_seed(seed)
    return PaiNN(PaiNNConfig.parse({"cutoff": CUTOFF, "features": 32, **switches}))


def rod(dihedral: float, inner: int = 2) -> np.ndarray:
    """`inner` atoms on a line and one at either end, bent off by 60°; turned by `dihedral` degrees about the line.

    Two inner atoms make the chain of Fig. 1.
    """
    line = np.arange(inner)[:, None] * np.array([BOND, 0.0, 0.0])
    along, across = BOND / 2, BOND * math.sqrt(3) / 2
    turn = math.radians(dihedral)
    first = line[0] + [-along, across, 0.0]
    last = line[-1] + [along, across * math.cos(turn), across * math.sin(turn)]
    return np.vstack([first, line, last])


def graph(pos: np.ndarray) -> AtomGraph:
    return graph_from_arrays(np.full(len(pos), 6), pos, CUTOFF, dtype=torch.float64)


def change(model: PaiNN, one: np.ndarray, other: np.ndarray) -> float:
    """Of the scalar features of all atoms, relative."""
    with torch.no_grad():
        a, b = model(graph(one)).scalar, model(graph(other)).scalar
    return ((a - b).norm() / a.norm()).item()


def test_squared_sum_of_directions_is_the_sum_of_all_cosines() -> None:
    """Table 1: ‖Σ_j û_ij‖² = Σ_jk cos α_jik, with cosines from nothing but distances (law of cosines)."""
    pos = np.random.default_rng(0).normal(scale=1.5, size=(9, 3))
    molecule = graph(pos)
    _, u = distances_and_directions(edge_vectors(molecule))
    receiver, sender = molecule.edge_index.numpy()
    d = np.linalg.norm(pos[:, None] - pos, axis=2)
    counts = []
    for i in range(len(pos)):
        near = sender[receiver == i]
        a, b, opposite = d[i, near][:, None], d[i, near][None], d[np.ix_(near, near)]
        cosines = (a**2 + b**2 - opposite**2) / (2 * a * b)
        assert u[receiver == i].sum(0).square().sum().item() == pytest.approx(cosines.sum(), abs=1e-12)
        counts.append(len(near))
    assert max(counts) >= 3  # there were angles to sum


@pytest.mark.parametrize("inner", [2, 3, 4])
def test_rods_differ_in_nothing_but_the_torsion(inner: int) -> None:
    """The premise of all tests below: same neighbours, distances and angles within the cutoff."""
    cis, trans = graph(rod(0.0, inner)), graph(rod(180.0, inner))
    assert torch.equal(cis.edge_index, trans.edge_index)
    assert cis.n_edges == 2 * (inner + 1)  # bonds, and nothing else
    angles = []
    for one in (cis, trans):
        d, u = distances_and_directions(edge_vectors(one))
        assert torch.allclose(d, torch.full_like(d, BOND), atol=1e-14)
        at_one_atom = one.edge_index[0][:, None] == one.edge_index[0]
        angles.append(torch.where(at_one_atom, u @ u.T, 0.0))
    assert torch.allclose(*angles, atol=1e-14)
    ends = [np.linalg.norm(pos[0] - pos[-1]) for pos in (rod(0.0, inner), rod(180.0, inner))]
    assert ends[1] > ends[0] + 0.1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("inner", [2, 3, 4, 5])
def test_directions_travel_a_bond_per_block(inner: int, seed: int) -> None:
    """The directions of both ends must meet on one atom: (inner + 1) / 2 blocks, rounded up, and not one fewer."""
    needed = math.ceil((inner + 1) / 2)
    ends = rod(0.0, inner), rod(180.0, inner)
    assert change(network(seed, blocks=needed), *ends) > RESOLVED
    assert change(network(seed, blocks=needed - 1), *ends) < ROUNDING


@pytest.mark.parametrize("seed", SEEDS)
def test_norms_alone_resolve_the_torsion(seed: int) -> None:
    """Without the scalar product of eq. 9 the norm ‖Vv‖ still contracts vectors of two atoms."""
    assert change(network(seed, scalar_product=False), rod(0.0), rod(180.0)) > RESOLVED


@pytest.mark.parametrize("blocks", range(1, 7))
@pytest.mark.parametrize("switches", BLIND, ids=str)
def test_no_depth_helps_without_propagated_vectors(switches: dict, blocks: int) -> None:
    """Every v_i holds its own bond directions only: all that contractions can yield are angles, the same in both."""
    for seed in SEEDS:
        model = network(seed, blocks=blocks, **switches)
        assert max(change(model, rod(0.0), rod(angle)) for angle in (30.0, 90.0, 180.0)) < ROUNDING


@pytest.mark.parametrize(("switches", "turns"), [({}, True), *((blind, False) for blind in BLIND)], ids=str)
def test_torque_about_the_middle_bond(switches: dict, turns: bool) -> None:
    """Forces show it, too: a network that does not see the torsion never turns the chain."""
    model = network(0, **switches)
    chain = graph(rod(70.0))
    chain.pos.requires_grad_()
    forces = -torch.autograd.grad(model(chain).scalar.square().sum(), chain.pos)[0]
    torque = torch.linalg.cross(chain.pos, forces)[3, 0].abs().item()
    assert (torque > 1e-8) == turns
    assert forces.abs().max() > 1e-3  # it does see bonds and angles
    if not turns:
        assert torque < 1e-12


def test_angles_are_seen_by_vectors_in_one_block() -> None:
    """Where scalars alone see distances only: water opened at equal bonds."""

    def water(angle: float) -> np.ndarray:
        half = math.radians(angle) / 2
        x, y = 0.96 * math.sin(half), 0.96 * math.cos(half)
        return np.array([[0.0, 0.0, 0.0], [x, y, 0.0], [-x, y, 0.0]])

    bent = water(104.5), water(120.0)
    short = {"blocks": 1, "cutoff": 1.3}  # hydrogens do not see each other
    found = {}
    for name, switches in (("vectors", {}), ("own", {"vector_propagation": False}), ("scalars", {"vectors": False})):
        model = network(0, **short, **switches)
        with torch.no_grad():
            graphs = [graph_from_arrays(np.array([8, 1, 1]), pos, 1.3, dtype=torch.float64) for pos in bent]
            a, b = (model(one).scalar for one in graphs)
        found[name] = ((a - b).norm() / a.norm()).item()
    assert found["vectors"] > RESOLVED
    assert found["own"] > RESOLVED
    assert found["scalars"] < ROUNDING


def test_mirror_images_are_the_same() -> None:
    """The limit of PaiNN itself: scalars are invariant under reflection, so +φ and -φ are one."""
    model = network(0)
    assert change(model, rod(60.0), rod(-60.0)) < ROUNDING
    assert change(model, rod(60.0), rod(61.0)) > RESOLVED
