"""So3krates where it is delicate: cutoffs, last neighbours, symmetric geometries, and a training run."""

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import molecule as molecule_of
from ase.calculators.emt import EMT
from small_so3krates import (
    SMALL,
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
    network,
    rotation,
    states,
)

import equispec
from equispec.checkpoint import save_model
from equispec.data.atoms import check_structure
from equispec.data.convert import convert
from equispec.data.properties import PropertySample, write_properties
from equispec.derivatives import evaluate
from equispec.errors import InputError
from equispec.graph import AtomGraph
from equispec.model import Model, ModelConfig, build
from equispec.nn.sphc import Degrees
from equispec.train.config import load_config
from equispec.train.run import start
from equispec.workflows.property_evaluation import PropertyEvaluation, evaluate_properties

LOCAL_AND_NOT = {"physics": {}, "paper": {"preset": "paper"}, "paper, non-local": VARIANTS["paper, non-local"]}
local_and_not = pytest.mark.parametrize("options", LOCAL_AND_NOT.values(), ids=LOCAL_AND_NOT)


def of_ase(name: str) -> Molecule:
    found = molecule_of(name)
    return found.numbers, found.positions


CO2 = atoms([6, 8, 8], [[0, 0, 0], [0, 0, 1.2], [0, 0, -1.2]])
SYMMETRIC = {
    "one neighbour": atoms([6, 8], [[0, 0, 0], [0, 0, 1.2]]),
    "identical": atoms([7, 7], [[0, 0, 0], [0, 0, 1.1]]),
    "CO2": CO2,
    "HCN": atoms([1, 6, 7], [[0, 0, -1.1], [0, 0, 0], [0, 0, 1.2]]),
    "collinear": atoms([6, 6, 6], [[0, 0, 0], [1.2, 0, 0], [2.4, 0, 0]]),
    "planar cumulene": cumulene(4),
    "twisted cumulene": cumulene(5, np.pi / 2),
    "square": atoms([6, 1, 1, 1, 1], 1.1 * np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])),
    "octahedron": atoms([16] + [9] * 6, 1.6 * np.vstack([np.zeros((1, 3)), np.eye(3), -np.eye(3)])),
    "cube": atoms([6] * 8, 1.4 * np.array(list(product([0, 1], repeat=3)))),
    "benzene": of_ase("C6H6"),
    "methane": of_ase("CH4"),
}
EMPTY = {"single": atoms([6], [[0, 0, 0]]), "apart": atoms([6, 8], [[0, 0, 0], [0, 0, 9]])}


def crossing(seed: int) -> tuple[Molecule, int, np.ndarray, float]:
    """A molecule, an atom of it, the direction to another atom and their distance; both have nearer neighbours."""
    for attempt in range(seed, 10_000, 100):
        z, pos = molecule(attempt, 8)
        d = np.linalg.norm(pos[:, None] - pos, axis=2)
        for i, j in np.argwhere((d > 2.2) & (d < 3.5)):
            others = np.delete(d[[i, j]], [i, j], axis=1).min(1)
            if i < j and (others < d[i, j] - 0.5).all():
                return (z, pos), int(j), (pos[j] - pos[i]) / d[i, j], float(d[i, j])
    raise AssertionError


@local_and_not
def test_B6_pairs_cross_the_cutoff_smoothly(options: dict) -> None:
    """Energies without a step or a kink; the steps of forces shrink with the distance from the cutoff."""
    for seed in range(20):
        (z, pos), mover, u, cutoff = crossing(seed)
        model, steps = network(seed, cutoff=cutoff, **options), [1e-3, 1e-4, 1e-5, 1e-6, 1e-7]
        moved = np.stack([[pos, pos]] * len(steps))
        moved[:, :, mover] += np.array(steps)[:, None, None] * [-u, u]
        edges = [graph_of(model, (z, p)).n_edges for p in moved[-1]]
        assert edges[1] == edges[0] - 2
        energies, forces = energy_and_forces(model, *[(z, p) for p in moved.reshape(-1, len(z), 3)])
        energies, forces = energies.view(-1, 2), forces.view(len(steps), 2, len(z), 3)
        jumps = (forces[:, 1] - forces[:, 0]).abs().amax((1, 2))
        work = forces.sum(1)[:, mover] @ torch.as_tensor(u) * torch.tensor(steps)
        for e, jump, step in zip(steps, jumps, energies[:, 1] - energies[:, 0] + work, strict=True):
            assert abs(step) <= 20 * e**2 + 1e-14
            assert jump <= 3 * max(jumps[0] / steps[0], 1) * e + 1e-12


@pytest.mark.parametrize("last", ["dimer", "molecule"])
def test_B7_a_last_neighbour_leaves(last: str) -> None:
    """Energies jump by design of `sphc_norm: paper`, and do not with `smooth`."""
    for seed in range(20):
        others = (np.zeros((0,), dtype=int), np.zeros((0, 3))) if last == "dimer" else molecule(seed, 5)
        for norm, jumps in (("paper", True), ("smooth", False)):
            model, e = network(seed, sphc_norm=norm), 1e-6
            reach = model.cutoff + others[1][:, 0].max(initial=0.0)
            # beyond all others along x, in line with the outermost one
            line = others[1][others[1][:, 0].argmax(), 1:] if last == "molecule" else np.zeros(2)
            anchor = np.array([[0.0, 0, 0]]) if last == "dimer" else np.zeros((0, 3))
            z = np.concatenate([[6] * len(anchor), others[0], [1]]).astype(int)

            def at(d: float, parts=(anchor, others[1]), line=line) -> np.ndarray:
                return np.vstack([*parts, [[d, *line]]])

            inside, outside = energy(model, (z, at(reach - e)), (z, at(reach + e)))
            assert graph_of(model, (z, at(reach - e))).n_edges == graph_of(model, (z, at(reach + e))).n_edges + 2
            assert (abs(inside - outside).item() > 1e-4) == jumps
            if not jumps:
                assert abs(inside - outside) <= 1e-8


def finite_everywhere(model: Model, *structures: Molecule) -> bool:
    graph = graph_of(model, *structures)
    gradients = torch.autograd.grad(loss(model, graph), list(model.parameters()), materialize_grads=True)
    return all(x.isfinite().all() for x in (*energy_and_forces(model, *structures), *gradients))


DEGENERATE = {
    **VARIANTS,
    "degree 0": {"degrees": (0,)},
    "paper, degree 0": {"degrees": (0,), "preset": "paper"},
    "paper, deep": {"blocks": 4, "preset": "paper"},
    "paper, normalised": {"preset": "paper", "feature_layer_norm": True, "sphc_layer_norm": True},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("options", DEGENERATE.values(), ids=DEGENERATE)
def test_B9_degenerate_geometries_give_finite_numbers(options: dict, dtype: torch.dtype) -> None:
    """As they are, turned (symmetries hold but for rounding errors), and slightly shaken."""
    model, random = network(1, dtype=dtype, **options), np.random.default_rng(0)
    structures = [*EMPTY.values(), *SYMMETRIC.values()]
    turned = [(z, pos @ rotation(seed).T) for seed in range(2) for z, pos in structures]
    shaken = [(z, pos + size * random.normal(size=pos.shape)) for size in (1e-6, 1e-3) for z, pos in structures]
    assert finite_everywhere(model, *structures, *turned, *shaken)


@pytest.mark.parametrize("options", DEGENERATE.values(), ids=DEGENERATE)
def test_B9_no_pairs_at_all(options: dict) -> None:
    model = network(**options)
    for structures in ([EMPTY["single"]], [EMPTY["apart"]], [*EMPTY.values()] * 2):
        assert graph_of(model, *structures).n_edges == 0
        assert finite_everywhere(model, *structures)
        assert all(not state.chi.any() for state in states(model, *structures))
    assert not energy_and_forces(model, EMPTY["single"])[1].any()


@pytest.mark.parametrize("options", DEGENERATE.values(), ids=DEGENERATE)
def test_B9_no_atoms(options: dict) -> None:
    model = network(**options)
    graph = graph_of(model, EMPTY["single"])
    none = torch.zeros(0, dtype=torch.long)
    for system in (graph.cell, graph.cell[:0]):
        empty = AtomGraph(none, graph.pos[:0], graph.edge_index, graph.edge_shift, system, none)
        assert model(empty)["energy"].tolist() == [0.0] * len(system)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_memory_is_linear_in_the_pairs(options: dict) -> None:
    """What the gradient keeps, per pair of atoms, is no more where each has four times as many others."""
    model, kept = network(cutoff=99.0, **options), []
    for n in (10, 40):
        graph, n_bytes = graph_of(model, (np.full(n, 6), 3.0 * np.random.default_rng(0).normal(size=(n, 3)))), []
        graph.pos.requires_grad_()

        def counted(x: torch.Tensor, n_bytes: list[int] = n_bytes) -> torch.Tensor:
            n_bytes.append(x.nbytes)
            return x

        with torch.autograd.graph.saved_tensors_hooks(counted, lambda x: x):
            model(graph)
        kept.append(sum(n_bytes) / graph.n_edges)
    assert kept[1] < kept[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_B9_tiny_sphcs_have_finite_derivatives(dtype: torch.dtype) -> None:
    """Rounding errors of symmetric geometries, and products of them, down to the smallest numbers there are."""
    degrees = Degrees((1, 2, 3)).to(dtype)
    for exponent in range(0, -46, -1):
        chi = (torch.randn(4, 15, dtype=dtype) * 10.0**exponent).requires_grad_()
        value = degrees.norms(chi).sum() + degrees.total_norm(chi).sum()
        (gradient,) = torch.autograd.grad(value, chi, create_graph=True)
        (second,) = torch.autograd.grad((gradient * torch.randn_like(gradient)).sum(), chi)
        assert gradient.isfinite().all()
        assert second.isfinite().all()


def test_B9_coincident_atoms_are_refused(tmp_path: Path) -> None:
    pair = Atoms("CO", [[0.0, 0, 0], [0, 0, 0]])
    with pytest.raises(InputError, match=r"0\.000 Å apart"):
        check_structure(pair, "file")
    save_model(tmp_path / "model", network(), {})
    with pytest.raises(InputError, match=r"0\.000 Å apart"):
        equispec.load(tmp_path / "model").predict(pair)


def bent(displacement: float) -> Molecule:
    z, pos = CO2
    return z, pos + displacement * np.eye(3)[0] * [[1], [0], [0]]


@pytest.mark.parametrize("non_local", [False, True], ids=["local", "non-local"])
def test_B10_forces_of_a_linear_molecule(non_local: bool) -> None:
    """With an eps none on the atom in the middle, and bending forces that are proportional to the displacement."""
    for seed in range(20):
        model = network(seed, norm_eps=0.01, non_local=non_local)
        _, found = energy_and_forces(model, *[bent(d) for d in (0.0, 1e-6, 1e-4, -1e-4)])
        forces, *bending = found.view(4, 3, 3)
        assert largest(forces[0]) <= 1e-12
        assert largest(forces[:, :2]) <= 1e-12
        assert_close(forces[1], -forces[2], 1e-12)
        tiny, small, other_way = (x[0, 0].item() for x in bending)
        assert other_way == pytest.approx(-small, abs=1e-12)
        assert small == pytest.approx(100 * tiny, rel=1e-2)
        assert 0 < abs(small) < 1e-2


def test_B10_without_eps_the_bending_force_jumps() -> None:
    jumps = []
    for seed in range(20):
        model = network(seed, norm_eps=0.0)
        _, forces = energy_and_forces(model, *[bent(d) for d in (0.0, -1e-6, 1e-6)])
        assert forces.isfinite().all()
        before, after = forces[[3, 6], 0].tolist()
        assert before == pytest.approx(-after, abs=1e-9)
        jumps.append(abs(after - before))
    assert max(jumps) > 1e-3


@pytest.mark.parametrize("eps", [0.0, 0.01])
def test_B11_norms_at_zero(eps: float) -> None:
    degrees = Degrees((1, 2), eps).double()
    chi = torch.zeros(3, 8, dtype=torch.float64)
    chi[1] = torch.randn(8, dtype=torch.float64)
    chi[2, :3] = 1.0
    chi.requires_grad_()
    values = torch.cat([degrees.norms(chi), degrees.total_norm(chi)[:, None]], dim=1)
    assert not values[0].any()
    exact = torch.stack([chi[:, :3].norm(dim=1), chi[:, 3:].norm(dim=1), chi.norm(dim=1)], dim=1)
    assert_close(values, (exact.square() + eps**2).sqrt() - eps, 1e-14)
    (gradient,) = torch.autograd.grad(values.sum(), chi, create_graph=True)
    assert not gradient[0].any()
    assert not gradient[2, 3:].any()
    (second,) = torch.autograd.grad(gradient.square().sum(), chi, create_graph=True)
    (third,) = torch.autograd.grad(second.square().sum(), chi)
    assert all(x.isfinite().all() for x in (gradient, second, third))


@pytest.mark.parametrize("eps", [0.0, 0.01])
def test_B11_directions_are_never_longer_than_one(eps: float) -> None:
    degrees = Degrees((1, 2), eps).double()
    unit = torch.randn(8, dtype=torch.float64)
    unit = unit / degrees.expand(torch.stack([unit[:3].norm(), unit[3:].norm()]))
    for size in (0.0, 1e-12, 1e-6, 1e-4, 1e-2, 1.0, 1e3):
        expected = size / np.sqrt(size**2 + eps**2) if size else 0.0
        assert_close(degrees.directions(size * unit), expected * unit, 1e-9)


def shaken_ethanol(n: int) -> list[PropertySample]:
    """Energies and forces of effective medium theory, at some 300 K."""
    samples = []
    for seed in range(n):
        atoms = molecule_of("CH3CH2OH")
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        labels = {"energy": np.asarray(atoms.get_potential_energy()), "forces": atoms.get_forces()}
        samples.append(PropertySample(seed, "", atoms.numbers, atoms.positions, 0, 1, labels))
    return samples


def test_B16_training(tmp_path: Path) -> None:
    """The loss falls more than fivefold."""
    texts = dict.fromkeys(("method", "units", "protocol", "source", "licence", "citation"), "EMT, for tests")
    write_properties(tmp_path / "ethanol.h5", shaken_ethanol(14), texts)
    values = {
        "data": {"store": str(tmp_path / "ethanol.h5"), "split": {"train": 10, "valid": 4}},
        "model": {"backbone": {**SMALL, "features": 24}, "heads": [{"name": "energy"}]},
        "train": {"epochs": 18, "batch_size": 5, "lr": 0.01, "losses": {"energy": 0.01, "forces": 0.99}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    start(load_config(tmp_path / "config.yaml"), tmp_path / "run", progress=False)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert min(losses[-5:]) < losses[0] / 5


@pytest.mark.shared
def test_B16_the_paper_s_network_learns_ethanol(shared: Path) -> None:
    """Fifty structures, 200 steps: the loss of the forces falls more than fivefold."""
    losses, _ = fit_of_forces(shared, structures=50, batch=4, steps=200, blocks=3, lr=1e-3)
    assert np.mean(losses[-20:]) < np.mean(losses[:5]) / 5


@pytest.mark.shared
@pytest.mark.slow
def test_B16_five_structures_are_learned_by_heart(shared: Path) -> None:
    """To a mean absolute error of the forces below 0.1 kcal/mol/Å."""
    _, error = fit_of_forces(shared, structures=5, batch=5, steps=1800, blocks=2, lr=3e-3)
    assert error < 0.1


@pytest.fixture(scope="module")
def ethanol(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> PropertyEvaluation:
    """The shipped network on the frames of MD17 that it was not trained on."""
    store = tmp_path_factory.mktemp("md17") / "ethanol.h5"
    convert("md17", shared / "data" / "md17" / "ethanol_random2000.npz", store)
    return evaluate_properties("md17-ethanol-so3krates", store)


@pytest.mark.shared
def test_the_shipped_network_on_ethanol(ethanol: PropertyEvaluation) -> None:
    """No worse than it was."""
    assert (ethanol.split, ethanol.structures) == ("test", 900)
    assert ethanol.score("energy").in_unit("kcal/mol").mae < 0.056
    assert ethanol.score("forces").in_unit("kcal/mol/Å").mae < 0.147


@pytest.mark.shared
def test_B17_ethanol_energies(ethanol: PropertyEvaluation) -> None:
    """Within 1.3 times the paper's error."""
    assert ethanol.score("energy").in_unit("kcal/mol").mae < 1.3 * 0.052


@pytest.mark.shared
@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="0.145 after 550 epochs, 1.5 times the paper's error (docs/so3krates-paper)",
)
def test_B17_ethanol_forces(ethanol: PropertyEvaluation) -> None:
    """Within 1.3 times the paper's error."""
    assert ethanol.score("forces").in_unit("kcal/mol/Å").mae < 1.3 * 0.096


def fit_of_forces(
    shared: Path, structures: int, batch: int, steps: int, blocks: int, lr: float
) -> tuple[list[float], float]:
    """Losses of all steps, in the mean square of the forces, and the last mean absolute error in kcal/mol/Å."""
    with np.load(shared / "data" / "md17" / "ethanol_random2000.npz") as file:
        z, pos = file["z"], file["R"][:structures]
        forces = torch.as_tensor(file["F"][:structures], dtype=torch.float32)
    torch.manual_seed(0)
    config = {"backbone": {"name": "so3krates", "blocks": blocks}, "heads": [{"name": "energy", "hidden": 132}]}
    model = build(ModelConfig.parse(config), torch.float32)
    scale = float(forces.std())
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng, losses, error = np.random.default_rng(0), [], float("nan")
    for _ in range(steps):
        chosen = rng.choice(structures, batch, replace=False)
        graph = graph_of(model, *((z, pos[k]) for k in chosen))
        found = evaluate(model, graph, ["forces"], create_graph=True)["forces"]
        residual = found - forces[chosen].flatten(0, 1) / scale
        value = residual.square().mean()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(value.item())
        error = residual.detach().abs().mean().item() * scale
    return losses, error
