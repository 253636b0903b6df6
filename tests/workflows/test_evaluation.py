"""Evaluation: figures worked out a second way, splits, baselines, files, and what is refused."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from small_models import Trained

from equispec.checkpoint import load_model, save_model
from equispec.data.store import StickStore, write_store
from equispec.errors import InputError
from equispec.predict import load
from equispec.spectra import broaden_sticks, gaussian_matrix
from equispec.spectra.broaden import Broadening
from equispec.spectra.grid import EDGES
from equispec.workflows.baselines import BASELINES
from equispec.workflows.evaluation import MODEL, EvaluationResult, evaluate
from equispec.workflows.evaluation_plots import median_molecule, molecular_errors, plot_evaluation
from equispec.workflows.evaluation_report import COLUMNS, markdown, metrics, score_rows, write_report

FILES = {
    "metrics.json",
    "metrics.csv",
    "per_site.csv",
    "report.md",
    "timing.json",
    "percentiles-native.png",
    "percentiles-paper-broad.png",
    "median-molecule.png",
}


@pytest.fixture(scope="module")
def result(tensor_model: Trained) -> EvaluationResult:
    return evaluate(tensor_model.model, tensor_model.store)


def with_metadata(trained: Trained, folder: Path, **changes) -> Path:
    """A copy of a model whose metadata is changed; None removes an entry."""
    checkpoint = load_model(trained.model)
    metadata = {**checkpoint.metadata, **changes}
    save_model(folder, checkpoint.model, {name: value for name, value in metadata.items() if value is not None})
    return folder


def test_errors_of_every_site_worked_out_one_by_one(result: EvaluationResult, tensor_model: Trained) -> None:
    metadata = load_model(tensor_model.model).metadata
    grid = EDGES["C-K"].grid
    filter_matrix = gaussian_matrix(grid.energies, 0.453)
    predictor = load(tensor_model.model)
    row = 0
    with StickStore(tensor_model.store) as store:
        samples = [sample for sample in store if sample.id in metadata["training"]["split"]["test"]]
    assert [sample.id for sample in result.samples] == [sample.id for sample in samples]
    for sample in samples:
        spectra = predictor.spectrum(Atoms(sample.z, sample.pos))
        for site in sample.sites:
            sticks = (site.energy, site.dipole, grid, Broadening(0.5, 4.5, 10.0), site.ionization_potential, -6.6)
            reference = broaden_sticks(*sticks) / metadata["intensity_scale"]
            difference = spectra.site(site.atom).tensor - reference
            for resolution in ("native", "paper-broad"):
                errors = result.errors[MODEL][resolution]
                if resolution == "paper-broad":
                    difference = np.einsum("ef,fab->eab", filter_matrix, difference)
                for axis in range(3):
                    assert errors.axes[row, axis] == pytest.approx(np.mean(difference[:, axis, axis] ** 2), rel=1e-5)
                trace = np.trace(difference, axis1=1, axis2=2)
                full = np.mean((2 * (difference**2).sum((1, 2)) + trace**2) / 15)
                assert errors.tensor.total[row] == pytest.approx(full, rel=1e-5)
                assert errors.tensor.isotropic[row] == pytest.approx(np.mean((trace / 3) ** 2), rel=1e-5)
            row += 1
    assert row == result.data["sites"] == len(result.predicted)


def test_scores_summarise_the_errors(result: EvaluationResult) -> None:
    for by_resolution, scores in ((result.errors[name], result.scores[name]) for name in result.errors):
        for resolution, errors in by_resolution.items():
            flat, found = np.sort(errors.axes.ravel()), scores[resolution]
            assert found.spectra.n == 3 * result.data["sites"]
            assert found.spectra.mean == pytest.approx(flat.mean())
            assert (found.spectra.percentiles[0], found.spectra.percentiles[100]) == (flat[0], flat[-1])
            assert found.spectra.percentiles[50] == pytest.approx(np.median(flat))
            assert found.spectra.share_below == np.mean(flat < 0.1)
            assert found.isotropic + found.anisotropic == pytest.approx(found.tensor)


def test_normalisation_and_baselines(result: EvaluationResult) -> None:
    assert list(result.errors) == [MODEL, *BASELINES]
    assert 0.5 < result.reference.trace(axis1=2, axis2=3).mean() / 3 < 2.0
    blind = result.scores["oracle, isotropic part of the reference"]["native"]
    assert blind.isotropic == pytest.approx(0, abs=1e-20)
    reference = result.reference
    mean = np.trace(reference, axis1=2, axis2=3) / 3
    floor = np.mean([(reference[..., a, a] - mean) ** 2 for a in range(3)])
    assert blind.spectra.mean == pytest.approx(floor)
    global_mean = result.scores["global mean"]["native"]
    assert global_mean.anisotropic == pytest.approx(blind.anisotropic)  # both predict an isotropic tensor
    assert global_mean.isotropic > 0


def test_splits_of_the_model(tensor_model: Trained) -> None:
    split = json.loads((tensor_model.run / "split.json").read_text())
    train = evaluate(tensor_model.run, tensor_model.store, "train")
    assert {sample.id for sample in train.samples} == set(split["train"])
    assert "not a measure" in train.notes[0]
    nearest = train.scores["5 nearest sites, local frame"]["native"]
    assert nearest.spectra.percentiles[50] < 1e-3  # each site finds itself
    assert "optimistic" in evaluate(tensor_model.run, tensor_model.store, "valid").notes[0]
    with pytest.raises(InputError, match="unknown split 'tset': the model knows train, valid, test, all"):
        evaluate(tensor_model.model, tensor_model.store, "tset")
    with pytest.raises(InputError, match="choose one of its splits"):
        evaluate(tensor_model.model, tensor_model.store, "all")


def test_the_same_data_in_several_files(result: EvaluationResult, tensor_model: Trained, tmp_path: Path) -> None:
    with StickStore(tensor_model.store) as store:
        attributes = {name: value for name, value in store.attributes.items() if not name.startswith("format")}
        samples = list(store)
    write_store(tmp_path / "a.h5", samples[::2], attributes)
    write_store(tmp_path / "b.h5", samples[1::2], attributes)
    split = evaluate(tensor_model.model, tmp_path)
    np.testing.assert_array_equal(split.reference, result.reference)
    assert split.scores == result.scores
    assert any("not those the model was trained on" in note for note in split.notes)
    shutil.copy(tensor_model.store, tmp_path / "a.h5")
    (tmp_path / "b.h5").unlink()
    assert evaluate(tensor_model.model, tmp_path).notes == result.notes


def test_other_data(tensor_model: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StickStore(tensor_model.store) as store:
        attributes = {name: value for name, value in store.attributes.items() if not name.startswith("format")}
        samples = list(store)
    foreign = tmp_path / "foreign.h5"
    moved = [replace(samples[0], id=900001), replace(samples[-1], id=900002), replace(samples[-2], sites=())]
    write_store(foreign, moved, attributes)
    result = evaluate(tensor_model.model, foreign, "all")
    assert [sample.id for sample in result.samples] == [900001, 900002]
    assert list(result.errors) == [MODEL, "oracle, isotropic part of the reference"]
    assert any("not those the model was trained on" in note for note in result.notes)
    assert any("baselines could not be fitted" in note for note in result.notes)
    with pytest.raises(InputError, match=r"the test split of the model .* molecule .*, or --split all for other data$"):
        evaluate(tensor_model.model, foreign)
    other_scale = tmp_path / "scale.h5"
    write_store(other_scale, samples, {**attributes, "energy_shift": -1.0})
    assert any("shift" in note for note in evaluate(tensor_model.model, other_scale).notes)
    monkeypatch.setitem(EDGES, "N-K", replace(EDGES["C-K"], name="N-K", element="N", z=7))
    other_edge = tmp_path / "edge.h5"
    write_store(other_edge, [replace(samples[0], sites=())], {**attributes, "edge": "N-K"})
    with pytest.raises(InputError, match="holds N-K spectra; the model predicts the C-K edge"):
        evaluate(tensor_model.model, other_edge)
    unlabelled = tmp_path / "unlabelled.h5"
    write_store(unlabelled, [replace(samples[0], sites=())], attributes)
    with pytest.raises(InputError, match="labelled site"):
        evaluate(tensor_model.model, unlabelled, "all")


def test_models_that_cannot_be_evaluated(tensor_model: Trained, tmp_path: Path) -> None:
    silent = with_metadata(tensor_model, tmp_path / "silent", broadening=None)
    with pytest.raises(InputError, match="lacks broadening"):
        evaluate(silent, tensor_model.store)
    other = with_metadata(tensor_model, tmp_path / "other", shift_eV=1.0)
    with pytest.raises(InputError, match="shift_eV differs"):
        evaluate([tensor_model.model, other], tensor_model.store)
    untrained = with_metadata(tensor_model, tmp_path / "untrained", training=None)
    with pytest.raises(InputError, match="unknown split 'test': the model knows all"):
        evaluate(untrained, tensor_model.store)
    assert evaluate(untrained, tensor_model.store, "all").data["molecules"] == 28


def test_ensembles_are_tested_on_what_no_member_has_seen(tensor_model: Trained, tmp_path: Path) -> None:
    training = load_model(tensor_model.model).metadata["training"]
    split = {**training["split"], "test": training["split"]["test"][:2]}
    narrow = with_metadata(tensor_model, tmp_path / "narrow", training={**training, "split": split})
    both = evaluate([tensor_model.model, narrow], tensor_model.store)
    assert [sample.id for sample in both.samples] == split["test"]
    alone = evaluate(narrow, tensor_model.store)
    np.testing.assert_allclose(both.predicted, alone.predicted, rtol=1e-5, atol=1e-6)
    assert both.model["members"] == 2
    assert "# Evaluation of run, narrow, an ensemble of 2\n" in markdown(both)


def test_molecules_outside_the_domain_are_counted(tensor_model: Trained, tmp_path: Path) -> None:
    statistics = {**load_model(tensor_model.model).metadata["statistics"], "max_heavy_atoms": 0}
    narrow = with_metadata(tensor_model, tmp_path / "narrow", statistics=statistics)
    result = evaluate(narrow, tensor_model.store)
    n = len(result.samples)
    assert f"{n} of the {n} molecules lie outside what the model was trained on." in result.notes


def test_directional_model(directional_model: Trained) -> None:
    result = evaluate(directional_model.model, directional_model.store)
    predictor = load(directional_model.model)
    sample = result.samples[0]
    sites = [site.atom for site in sample.sites]
    for axis, n in enumerate(np.eye(3)):  # the spectra along x, y, z are those of the model itself
        exact = predictor.along(Atoms(sample.z, sample.pos), n.tolist(), sites)
        np.testing.assert_allclose(result.predicted[: len(sites), :, axis, axis], exact, rtol=1e-5, atol=1e-5)
    scores = result.directional
    assert scores is not None
    assert 0 < scores.quadraticity < 1
    assert 0 <= scores.negative <= 1
    assert "not bound to be quadratic" in markdown(result)
    assert metrics(result)["directional"] == {"quadraticity": scores.quadraticity, "negative": scores.negative}


def test_report(result: EvaluationResult, tensor_model: Trained, tmp_path: Path) -> None:
    paths = write_report(result, tmp_path / "new" / "a")
    assert {path.name for path in paths} == FILES == {path.name for path in (tmp_path / "new" / "a").iterdir()}
    again = write_report(evaluate(tensor_model.model, tensor_model.store), tmp_path / "b")
    for one, other in zip(paths, again, strict=True):
        if one.name != "timing.json":
            assert one.read_bytes() == other.read_bytes(), one.name
    written = json.loads(paths[0].read_text())
    assert written["scores"]["model"]["native"]["spectra"]["percentiles"].keys() == {"0", "50", "95", "100"}
    assert written["data"]["sites"] == len(result.predicted)
    with paths[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row)[:2] for row in score_rows(result)] == [(row["prediction"], row["resolution"]) for row in rows]
    assert tuple(rows[0]) == COLUMNS
    assert float(rows[0]["mean"]) == pytest.approx(result.scores[MODEL]["native"].spectra.mean, rel=1e-5)
    with paths[2].open(newline="") as file:
        sites = list(csv.DictReader(file))
    assert [(int(row["molecule"]), int(row["atom"])) for row in sites] == [
        (result.samples[m].id, atom) for m, atom in result.site_index
    ]
    column = [float(row["paper-broad_mse_z"]) for row in sites]
    np.testing.assert_allclose(column, result.errors[MODEL]["paper-broad"].axes[:, 2], rtol=1e-5)
    page = paths[3].read_text()
    assert all(f"]({name})" in page for name in FILES if name.endswith(".png"))
    assert json.loads((tmp_path / "b" / "timing.json").read_text())["batched_ms"] > 0


def test_report_that_cannot_be_written(result: EvaluationResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        write_report(result, tmp_path / "file")


def test_pictures_show_the_percentiles(result: EvaluationResult) -> None:
    for resolution in ("native", "paper-broad"):
        figure = plot_evaluation(result, resolution)
        sorted_axis, *panels = figure.axes
        curve = sorted_axis.lines[0].get_ydata()
        errors = np.sort(result.errors[MODEL][resolution].axes.ravel())
        np.testing.assert_array_equal(curve, errors)
        shown = [axis.get_title(loc="left") for axis in panels]
        n = len(errors) - 1
        for title, percentile in zip(shown, (0, 50, 95, 100), strict=True):
            assert f"{percentile} %,  MSE {errors[round(percentile / 100 * n)]:.3g}" in title


def test_median_molecule(result: EvaluationResult) -> None:
    errors = molecular_errors(result)
    assert len(errors) == len(result.samples)
    order = np.argsort(errors, kind="stable")
    assert median_molecule(result) == order[round(0.5 * (len(errors) - 1))]
    sites = [k for k, (m, _) in enumerate(result.site_index) if m == 0]
    difference = (result.predicted - result.reference)[sites].sum(axis=0)
    assert errors[0] == pytest.approx(np.mean([difference[:, a, a] ** 2 for a in range(3)]))
