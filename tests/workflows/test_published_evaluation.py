"""Evaluation on published data, of which only xx, yy and zz of the tensors are known."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from small_models import Trained

from equispec.checkpoint import load_model
from equispec.data.convert import convert
from equispec.data.published import PUBLISHED_INTENSITY
from equispec.data.readers.published import read_published_spectra
from equispec.data.sample import Sample
from equispec.errors import DataWarning, InputError
from equispec.train.config import load_config
from equispec.train.run import start
from equispec.workflows.calibration import calibrate
from equispec.workflows.catalogue import describe, facts
from equispec.workflows.evaluation import MODEL, EvaluationResult, evaluate
from equispec.workflows.evaluation_report import markdown, metrics, record_metrics, score_rows, write_report
from equispec.workflows.reference_data import Targets
from published_files import write_published

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "isd-painn-published.yaml"
TENSOR = [
    "model.backbone={name: dyad-painn, features: 8, blocks: 1, n_radial: 8, cutoff: 4.0}",
    "model.heads=[{name: dyad-tensor, channels: 2, grid: {start: 288.0, stop: 310.0, n: 256}}]",
]
DIRECTIONAL = ["model.backbone.blocks=1", "model.backbone.features=16"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    files = write_published(folder)
    with pytest.warns(DataWarning):
        convert("published-eigen", files.eigen, folder / "store.h5", files.extxyz)
    return folder / "store.h5"


@pytest.fixture(scope="module", params=["tensor", "directional"])
def trained(request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    run = tmp_path_factory.mktemp(request.param) / "run"
    settings = TENSOR if request.param == "tensor" else DIRECTIONAL
    settings = [*settings, f"data.store={store}", "data.split.test=0.4", "train.epochs=1"]
    start(load_config(CONFIG, settings), run, progress=False)
    return Trained(run, store)


@pytest.fixture(scope="module")
def result(trained: Trained) -> EvaluationResult:
    return evaluate(trained.model, trained.store)


def test_errors_are_those_of_the_published_spectra(result: EvaluationResult, trained: Trained) -> None:
    """The reference is what the paper prepares; errors along x, y and z and their two parts are worked out anew."""
    files = read_published_spectra(trained.store.parent / "site_spectra_0.5eV.hdf5")
    theirs = {(s.site.molecule, s.site.atom): s.on_grid() / PUBLISHED_INTENSITY for s in files}
    errors = result.errors[MODEL]["native"]
    for s, (m, atom) in enumerate(result.site_index):
        expected = theirs[result.samples[m].id, atom]
        reference = result.reference[s].diagonal(axis1=1, axis2=2).T
        assert abs(reference - expected).max() < 6e-3 * expected.max()
        difference = result.predicted[s].diagonal(axis1=1, axis2=2).T - reference
        np.testing.assert_allclose(errors.axes[s], (difference**2).mean(1), rtol=1e-9)
        mean = difference.mean(0)
        assert errors.tensor.isotropic[s] == pytest.approx((mean**2).mean(), rel=1e-9)
        assert errors.tensor.anisotropic[s] == pytest.approx(((difference - mean) ** 2).mean(), rel=1e-9)
    scores = result.scores[MODEL]["native"]
    assert scores.isotropic + scores.anisotropic == pytest.approx(scores.spectra.mean)


def test_nothing_is_said_of_components_that_are_not_known(
    result: EvaluationResult, trained: Trained, tmp_path: Path
) -> None:
    assert all(by[r].tensor is None for by in result.scores.values() for r in by)
    names = ["global mean", "mean per bonded elements", "oracle, isotropic part of the reference"]
    assert list(result.scores) == [MODEL, *names]
    assert any("Only xx, yy and zz" in note for note in result.notes)
    assert any("divided by 0.00011704 (published)" in note for note in result.notes)
    assert metrics(result)["data"]["components"] == "diagonal"
    assert all(row[-3] is None for row in score_rows(result))
    write_report(result, tmp_path / "report")
    for name, column in (("metrics.csv", "tensor"), ("per_site.csv", "native_tensor")):
        with (tmp_path / "report" / name).open(newline="") as file:
            table = list(csv.DictReader(file))
        assert {row[column] for row in table} == {""}
        assert all(float(row[column.replace("tensor", "isotropic")]) >= 0 for row in table)
    found = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert found["scores"][MODEL]["native"]["tensor"] is None
    assert "None" not in markdown(result)
    record_metrics(result, [str(trained.model)])
    assert load_model(trained.model).metadata["metrics"]["native"]["tensor"] is None
    said = dict(facts(describe(trained.model)))
    assert "isotropic" in said["tensor MSE, native"]
    assert "=" not in said["tensor MSE, native"]


def test_a_model_of_other_data_needs_their_ionisation_potentials(tensor_model: Trained, store: Path) -> None:
    with pytest.raises(InputError, match="no ionisation potential"):
        evaluate(tensor_model.model, store, "all")


def test_bands_rest_on_the_known_components(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown components are zero in the reference; they must not pass for errors of the model."""
    shutil.copytree(trained.model, tmp_path / "model")
    before = calibrate(tmp_path / "model", trained.store)
    tensors = Targets.tensors

    def disturbed(self: Targets, samples: Sequence[Sample]) -> np.ndarray:
        found = tensors(self, samples)
        return found + 7.0 * (1.0 - np.eye(3))

    monkeypatch.setattr(Targets, "tensors", disturbed)
    assert calibrate(tmp_path / "model", trained.store) == before
