"""Checks of energies, forces and other properties: sound models pass, each mistake is found by the right check."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from equispec.checkpoint import save_model
from equispec.errors import InputError
from equispec.features import NodeFeatures
from equispec.graph import AtomGraph, edge_vectors, sum_per_system
from equispec.predict import Predictor, load
from equispec.workflows.check_result import CheckResult
from equispec.workflows.checks import check_model, failed
from equispec.workflows.probes import clear_of, molecular_crystal, recoloured
from property_models import ALL, ENERGY, STATISTICS, property_model, saved

EVERYTHING = (*ALL, {"name": "spatial-extent"})
OF_ENERGY = {"forces", "net force", "net torque", "stress", "periodic images", "distance", "second derivatives"}
OF_ENERGY |= {"Hessian symmetric", "acoustic sum rule", "slope at the cutoff"}
OF_ALL = {"rotation", "rotoinversion", "translation", "permutation", "batch", "isolated atom", "precision"}
OF_ALL |= {"smooth at the cutoff"}
OF_DIPOLES = {"charges", "dipole and origin", "dipole magnitude", "dipole derivatives"}
OF_POLARIZABILITIES = {"symmetric tensor", "isotropic part", "positive tensor", "polarizability derivatives"}

Output = dict[str, Tensor]
Change = Callable[[Tensor, AtomGraph], Tensor]


def names(results: list[CheckResult]) -> set[str]:
    return {result.name for result in results}


def sound(folder: Path, heads=ENERGY, **options) -> Predictor:
    return load(saved(folder / "model", heads, **options), device="cpu", dtype="float64")


def broken(predictor: Predictor, **changes: Change) -> Predictor:
    """The predictor with some quantities of its heads tampered with."""
    for head in predictor.members[0].model.heads.values():
        _tamper(head, changes)
    return predictor


def _tamper(head: torch.nn.Module, changes: dict[str, Change]) -> None:
    forward = head.forward

    def tampered(features: NodeFeatures, graph: AtomGraph) -> Output:
        found = forward(features, graph)
        return {name: changes[name](value, graph) if name in changes else value for name, value in found.items()}

    head.forward = tampered


def after(predictor: Predictor, **changes: Callable[[np.ndarray], np.ndarray]) -> Predictor:
    """The predictor with some quantities tampered with after the model."""
    evaluate = predictor.evaluate

    def tampered(graph: AtomGraph, asked):
        found, spread = evaluate(graph, asked)
        return {name: changes[name](value) if name in changes else value for name, value in found.items()}, spread

    predictor.evaluate = tampered
    return predictor


def test_a_sound_model_keeps_all_promises(tmp_path: Path) -> None:
    results = check_model(sound(tmp_path, EVERYTHING, statistics=STATISTICS))
    assert names(failed(results)) == set()
    assert names(results) == OF_ALL | OF_ENERGY | OF_DIPOLES | OF_POLARIZABILITIES
    assert {result.name for result in results if result.verdict == "info"} == {"positive tensor"}
    exact = [result for result in results if result.limit == 1e-10]
    assert len(exact) > 12
    assert all(result.text.endswith(".") for result in results)


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (ENERGY, OF_ALL | OF_ENERGY),
        (({"name": "dipole"},), OF_ALL | OF_DIPOLES),
        (({"name": "polarizability"},), OF_ALL | OF_POLARIZABILITIES),
        (({"name": "scalar", "targets": ["homo", "gap"], "aggregation": "mean"},), OF_ALL),
        (({"name": "spatial-extent"},), OF_ALL),
    ],
    ids=["energy", "dipole", "polarizability", "scalar", "spatial-extent"],
)
def test_models_are_asked_for_what_they_have(tmp_path: Path, heads, expected: set[str]) -> None:
    results = check_model(sound(tmp_path, heads))
    assert names(results) == expected
    assert not failed(results)


@pytest.mark.parametrize("backbone", [{"name": "dyad-painn"}, {"vectors": False}, {"cutoff": 2.5}], ids=str)
def test_other_backbones(tmp_path: Path, backbone) -> None:
    assert not failed(check_model(sound(tmp_path, backbone=backbone)))


def test_a_run_folder_and_an_ensemble(tmp_path: Path) -> None:
    saved(tmp_path / "run" / "model", dtype=torch.float32)
    (tmp_path / "run" / "config.yaml").write_text("")
    saved(tmp_path / "other", seed=1, dtype=torch.float32)
    assert not failed(check_model(tmp_path / "run"))
    assert not failed(check_model([tmp_path / "run", tmp_path / "other"]))


def test_large_energies_leave_the_forces_as_exact(tmp_path: Path) -> None:
    predictor = sound(tmp_path)
    predictor.members[0].model.heads["energy"].references[:] = -2e5  # eV per atom
    results = check_model(predictor)
    assert not failed(results)
    (forces,) = [result for result in results if result.name == "forces"]
    assert forces.limit is not None
    assert forces.limit < 0.1


@pytest.mark.parametrize("elements", [[8], [1, 26]], ids=str)
def test_probes_have_only_elements_that_the_model_has_seen(tmp_path: Path, elements: list[int]) -> None:
    predictor = sound(tmp_path, statistics={**STATISTICS, "elements": elements})
    model = predictor.members[0].model
    seen = set()
    forward = model.forward

    def watched(graph: AtomGraph) -> Output:
        seen.update(graph.z.tolist())
        return forward(graph)

    model.forward = watched
    assert not failed(check_model(predictor))
    assert seen == set(elements)


def test_a_model_with_a_small_table_of_elements(tmp_path: Path) -> None:
    assert not failed(check_model(sound(tmp_path, backbone={"elements": 7})))  # up to carbon; it says nothing else


def test_a_model_of_spectra_and_energies_is_checked_for_both(tmp_path: Path) -> None:
    spectra = {"name": "square-tensor", "channels": 2, "cutoff": 4.0, "grid": {"start": 284.0, "stop": 300.0, "n": 5}}
    results = check_model(sound(tmp_path, ({"name": "energy"}, spectra)))
    assert not failed(results)
    assert {"C2v site", "forces"} <= names(results)
    assert [result.name for result in results].count("rotation") == 2


def shifted(value: Tensor, graph: AtomGraph) -> Tensor:
    """Plus the x coordinates of the atoms."""
    return value + sum_per_system(graph.pos[:, 0], graph)


def handed(value: Tensor, graph: AtomGraph) -> Tensor:
    """Plus a pseudoscalar, which mirror images do not share."""
    r = edge_vectors(graph)
    i = graph.edge_index[0]
    z = graph.z[graph.edge_index[1]].to(r.dtype)[:, None]
    zero = torch.zeros_like(graph.pos)
    a, b, c = (zero.index_add(0, i, w * torch.exp(-(r**2).sum(1, keepdim=True)) * r) for w in (1.0, z, z**2))
    return value + 1e-3 * sum_per_system((a * torch.linalg.cross(b, c)).sum(1), graph)


def numbered(value: Tensor, graph: AtomGraph) -> Tensor:
    """The first atom of a structure counts."""
    first = torch.searchsorted(graph.system, torch.arange(graph.n_systems, device=graph.z.device))
    return value + 0.01 * graph.z[first]


def crowded(value: Tensor, graph: AtomGraph) -> Tensor:
    return value * (1 + 0.01 * graph.n_systems)


def constant(value: Tensor, _: AtomGraph) -> Tensor:
    return value + 0.1


def halved_gradient(value: Tensor, _: AtomGraph) -> Tensor:
    return 0.5 * value + 0.5 * value.detach()


def counted_neighbours(value: Tensor, graph: AtomGraph) -> Tensor:
    degree = torch.bincount(graph.edge_index[0], minlength=graph.n_atoms).to(value.dtype)
    return value + 0.01 * sum_per_system(degree, graph)


def kinked(value: Tensor, graph: AtomGraph) -> Tensor:
    """Plus a pair term that ends with a slope at 4 Å."""
    term = 0.01 * (4.0 - edge_vectors(graph).norm(dim=1))
    return value + sum_per_system(value.new_zeros(graph.n_atoms).index_add(0, graph.edge_index[0], term), graph)


def alone_infinite(value: Tensor, graph: AtomGraph) -> Tensor:
    return value / (torch.bincount(graph.system) - 1).sign()


class Spring(torch.autograd.Function):
    """½ x², whose gradient x forgets that it depends on x."""

    @staticmethod
    def forward(context, x: Tensor) -> Tensor:
        context.save_for_backward(x.detach())
        return 0.5 * x**2

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        return gradient * context.saved_tensors[0].detach().clone()


def forgetful(value: Tensor, graph: AtomGraph) -> Tensor:
    """Plus springs whose second derivatives are lost."""
    d = edge_vectors(graph).norm(dim=1)
    term = 0.01 * (1 - d / 4.0) ** 3 * Spring.apply(d - 1.0)
    return value + sum_per_system(value.new_zeros(graph.n_atoms).index_add(0, graph.edge_index[0], term), graph)


SYMMETRIES = {"rotation", "rotoinversion", "translation", "permutation", "batch"}


@pytest.mark.parametrize(
    ("change", "expected", "kept"),
    [
        (
            shifted,
            {"rotation", "rotoinversion", "translation", "net force", "periodic images", "distance", "isolated atom"},
            {"forces", "permutation", "batch", "acoustic sum rule", "smooth at the cutoff"},
        ),
        (handed, {"rotoinversion"}, {"rotation", "translation", "permutation", "forces", "net force", "net torque"}),
        (numbered, {"permutation", "distance", "periodic images"}, {"rotation", "translation", "forces", "batch"}),
        (crowded, {"batch"}, {"net force", "net torque", "acoustic sum rule", "Hessian symmetric"}),
        (constant, {"distance", "periodic images"}, SYMMETRIES | {"forces", "stress", "second derivatives"}),
        (halved_gradient, {"forces", "stress"}, SYMMETRIES | {"net force", "net torque", "distance"}),
        (counted_neighbours, {"smooth at the cutoff"}, SYMMETRIES | {"forces", "distance", "slope at the cutoff"}),
        (kinked, {"slope at the cutoff"}, SYMMETRIES | {"forces", "net force", "net torque", "stress", "distance"}),
        (alone_infinite, {"isolated atom"}, SYMMETRIES | OF_ENERGY),
        (forgetful, {"second derivatives"}, SYMMETRIES | {"forces", "stress", "net force", "isolated atom"}),
    ],
)
def test_a_broken_energy_is_found_out(tmp_path: Path, change: Change, expected: set[str], kept: set[str]) -> None:
    results = check_model(broken(sound(tmp_path), energy=change))
    wrong = names(failed(results))
    assert expected <= wrong
    assert not wrong & kept
    assert all("breaks this rule" in result.text for result in failed(results))
    json.dumps([result.measured for result in results], allow_nan=False)


@pytest.mark.parametrize(
    ("name", "change", "expected", "kept"),
    [
        ("forces", lambda f: 1.0001 * f, {"forces"}, {"net force", "net torque", "stress", *SYMMETRIES}),
        ("forces", lambda f: f + 1e-3, {"forces", "net force"}, {"translation", "permutation", "batch", "stress"}),
        ("forces", lambda f: f + 1e-3 * np.roll(f, 1, axis=1), {"forces", "rotation"}, {"net force", "stress"}),
        ("stress", lambda s: 1.001 * s, {"stress"}, {"forces", "periodic images", *SYMMETRIES}),
        ("stress", np.triu, {"stress"}, {"forces", "periodic images", *SYMMETRIES}),
    ],
)
def test_broken_forces_and_stresses_are_found_out(
    tmp_path: Path, name: str, change, expected: set[str], kept: set[str]
) -> None:
    wrong = names(failed(check_model(after(sound(tmp_path), **{name: change}))))
    assert expected <= wrong
    assert not wrong & kept


def test_the_failing_property_is_named(tmp_path: Path) -> None:
    predictor = sound(tmp_path, ({"name": "energy"}, {"name": "dipole"}))
    results = {r.name: r for r in check_model(broken(predictor, charges=numbered_atoms))}
    assert results["permutation"].verdict == "fail"
    assert "(charges)" in results["permutation"].text
    assert results["translation"].verdict == "pass"


def numbered_atoms(value: Tensor, graph: AtomGraph) -> Tensor:
    first = torch.searchsorted(graph.system, graph.system)
    return value + 0.01 * (torch.arange(graph.n_atoms) - first)


def about_the_origin(value: Tensor, graph: AtomGraph) -> Tensor:
    """A dipole of charges that do not sum to zero."""
    return value + 0.01 * sum_per_system(graph.pos, graph)


def axial(value: Tensor, graph: AtomGraph) -> Tensor:
    """A vector that inversion does not turn round: it is even in the positions."""
    weight = graph.z.to(value.dtype)[:, None]
    centre = sum_per_system(graph.pos, graph) / torch.bincount(graph.system)[:, None]
    r = graph.pos - centre[graph.system]
    first, second = sum_per_system(weight * r, graph), sum_per_system(weight * r * r.norm(dim=1, keepdim=True), graph)
    return value + 0.01 * torch.linalg.cross(first, second)


@pytest.mark.parametrize(
    ("name", "change", "expected", "kept"),
    [
        ("charges", lambda q, _: q + 0.01, {"charges"}, SYMMETRIES | {"dipole and origin", "dipole magnitude"}),
        ("dipole", about_the_origin, {"translation", "dipole and origin"}, {"rotation", "charges", "batch"}),
        ("dipole", axial, {"rotoinversion"}, {"rotation", "translation", "permutation", "charges"}),
        ("dipole_magnitude", lambda d, _: 2 * d, {"dipole magnitude"}, SYMMETRIES | {"charges", "dipole derivatives"}),
        ("dipole", halved_gradient, {"dipole derivatives"}, SYMMETRIES | OF_DIPOLES - {"dipole derivatives"}),
    ],
)
def test_a_broken_dipole_is_found_out(
    tmp_path: Path, name: str, change: Change, expected: set[str], kept: set[str]
) -> None:
    wrong = names(failed(check_model(broken(sound(tmp_path, ({"name": "dipole"},)), **{name: change}))))
    assert expected <= wrong
    assert not wrong & kept


def lopsided(value: Tensor, _: AtomGraph) -> Tensor:
    return value + 0.1 * torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 0]], dtype=value.dtype)


@pytest.mark.parametrize(
    ("name", "change", "expected", "kept"),
    [
        (
            "polarizability",
            lopsided,
            {"symmetric tensor", "rotation"},
            {"translation", "permutation", "isotropic part"},
        ),
        ("isotropic_polarizability", lambda a, _: 1.1 * a, {"isotropic part"}, SYMMETRIES | {"symmetric tensor"}),
        ("polarizability", halved_gradient, {"polarizability derivatives"}, SYMMETRIES | {"symmetric tensor"}),
    ],
)
def test_a_broken_polarizability_is_found_out(
    tmp_path: Path, name: str, change: Change, expected: set[str], kept: set[str]
) -> None:
    wrong = names(failed(check_model(broken(sound(tmp_path, ({"name": "polarizability"},)), **{name: change}))))
    assert expected <= wrong
    assert not wrong & kept


def test_numbers_too_large_for_single_precision_are_found_out(tmp_path: Path) -> None:
    predictor = sound(tmp_path)
    head = predictor.members[0].model.heads["energy"]
    head.network[-1].bias += 1e4  # taken off again behind the network
    head.mean -= 1e4
    assert names(failed(check_model(predictor))) == {"precision"}


def test_what_a_model_does_not_promise_is_told(tmp_path: Path) -> None:
    free = {"charge_correction": False, "origin": "zero"}
    results = check_model(sound(tmp_path, ({"name": "dipole", **free}, {"name": "polarizability", "origin": "zero"})))
    told = {result.name: result for result in results if result.verdict == "info"}
    assert not failed(results)
    assert told.keys() == {"translation", "charges", "positive tensor"}
    assert (
        "dipole, dipole_magnitude, polarizability, isotropic_polarizability from the origin" in told["translation"].text
    )
    assert told["translation"].measured > 0.1
    assert told["translation"].row[3] == ""
    assert {r.name for r in results if r.name == "translation" and r.verdict == "pass"} == {"translation"}  # charges


@pytest.mark.parametrize(
    "head",
    [
        {"name": "dipole", "origin": "zero"},
        {"name": "dipole", "charge_correction": False},
        {"name": "dipole", "atomic_dipoles": False},
        {"name": "polarizability", "origin": "zero", "centre_nu": True},
    ],
    ids=str,
)
def test_other_forms_of_heads_keep_what_they_promise(tmp_path: Path, head) -> None:
    results = check_model(sound(tmp_path, (head,)))
    assert not failed(results)
    if head["name"] == "dipole":
        (origin,) = [result for result in results if result.name == "dipole and origin"]
        assert origin.measured < 1e-12


def test_single_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="float64"):
        check_model(load(saved(tmp_path / "model", dtype=torch.float32)))


def test_weights_that_are_no_numbers_are_found_out(tmp_path: Path) -> None:
    model = property_model(EVERYTHING)
    with torch.no_grad():
        model.backbone.embedding.weight[6] = torch.nan
    save_model(tmp_path / "model", model, {})
    with pytest.raises(InputError, match="C6H6: the energy that the model gives is not a finite number"):
        check_model(tmp_path / "model")


def test_structures_clear_of_the_cutoff() -> None:
    for radius in (1.5, 3.0, 4.0, 5.0, 10.0):
        crystal = clear_of(molecular_crystal(), radius)
        far = crystal.repeat(2 * int(np.ceil(radius / 3.5)) + 1)
        distances = np.linalg.norm(far.positions[:, None] - far.positions[len(far) // 2 :][:4][None], axis=2)
        assert np.abs(distances - radius).min() > 4e-3
        assert crystal.pbc.all()
    assert recoloured(molecular_crystal(), [1, 14]).numbers.tolist() == [1, 14, 1, 1]  # COH2
