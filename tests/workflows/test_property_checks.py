"""Checks of properties: sound models pass, mistakes are found by the right check (energies: test_energy_checks.py)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tampering import OF_ALL, OF_ENERGY, SYMMETRIES, Change, Output, broken, halved_gradient, names, sound
from torch import Tensor

from equispec.checkpoint import save_model
from equispec.errors import InputError
from equispec.graph import AtomGraph, sum_per_system
from equispec.predict import load
from equispec.workflows.checks import check_model, failed
from equispec.workflows.probes import clear_of, molecular_crystal, recoloured
from property_models import ALL, ENERGY, STATISTICS, property_model, saved

EVERYTHING = (*ALL, {"name": "spatial-extent"})
SO3 = {"features": 12, "degrees": [1, 2]}
OF_DIPOLES = {"charges", "dipole and origin", "dipole magnitude", "dipole derivatives"}
OF_POLARIZABILITIES = {"symmetric tensor", "isotropic part", "positive tensor", "polarizability derivatives"}


def test_a_sound_model_keeps_all_promises(tmp_path: Path) -> None:
    results = check_model(sound(tmp_path, EVERYTHING))
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


@pytest.mark.parametrize(
    "backbone", [{"name": "dyad-painn"}, {"vectors": False}, {"cutoff": 2.5}, {"name": "so3krates", **SO3}], ids=str
)
def test_other_backbones(tmp_path: Path, backbone) -> None:
    assert not failed(check_model(sound(tmp_path, backbone=backbone)))


def test_a_network_for_molecules_only(tmp_path: Path) -> None:
    results = check_model(sound(tmp_path, backbone={"name": "so3krates", **SO3, "non_local": True}))
    assert not failed(results)
    assert names(results) == OF_ALL | OF_ENERGY - {"stress", "periodic images"}
    (distance,) = (result for result in results if result.name == "distance")
    assert distance.verdict == "info"
    assert distance.measured > 1e-6


def test_the_published_form_of_so3krates_breaks_rules(tmp_path: Path) -> None:
    """Mirror images differ; norms have cones, where forces on symmetric molecules are rounding errors."""
    published = {"name": "so3krates", **SO3, "preset": "paper"}
    cones = check_model(sound(tmp_path / "cones", backbone=published))
    assert {"rotation", "rotoinversion"} <= names(failed(cones))
    assert "rounding errors" in cones[-1].text
    smooth = check_model(sound(tmp_path / "smooth", backbone={**published, "norm_eps": 0.01}))
    assert "rotoinversion" in names(failed(smooth))
    assert "rotation" not in names(failed(smooth))
    assert "cones" not in names(smooth)


def test_a_run_folder_and_an_ensemble(tmp_path: Path) -> None:
    saved(tmp_path / "run" / "model", dtype=torch.float32)
    (tmp_path / "run" / "config.yaml").write_text("")
    saved(tmp_path / "other", seed=1, dtype=torch.float32)
    assert not failed(check_model(tmp_path / "run"))
    assert not failed(check_model([tmp_path / "run", tmp_path / "other"]))


def test_an_ensemble_tells_the_length_of_the_mean_dipole(tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(seed), ({"name": "dipole"},), seed) for seed in range(2)]
    results = {result.name: result for result in check_model(folders)}
    assert not failed(list(results.values()))
    assert results["dipole magnitude"].verdict == "pass"


def test_an_ensemble_is_probed_with_what_all_members_know(tmp_path: Path) -> None:
    folders = [saved(tmp_path / "a"), saved(tmp_path / "b", seed=1, backbone={"elements": 7})]  # up to carbon
    assert not failed(check_model(folders))


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
    assert not failed(check_model(sound(tmp_path, backbone={"elements": 7}, statistics=None)))  # up to carbon


def test_a_model_of_spectra_and_energies_is_checked_for_both(tmp_path: Path) -> None:
    spectra = {"name": "square-tensor", "channels": 2, "cutoff": 4.0, "grid": {"start": 284.0, "stop": 300.0, "n": 5}}
    results = check_model(sound(tmp_path, ({"name": "energy"}, spectra)))
    assert not failed(results)
    assert {"C2v site", "forces"} <= names(results)
    assert [result.name for result in results].count("rotation") == 2


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
