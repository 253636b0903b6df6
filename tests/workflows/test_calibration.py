"""Calibration of trained models: what it stores, what undoes it, and what evaluation makes of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from small_models import Trained

from equispec.checkpoint import add_metadata, load_model, merge_models, read_config, save_model
from equispec.data.store import StickStore, write_store
from equispec.errors import ConfigError, DomainWarning, InputError
from equispec.predict import load
from equispec.workflows.calibration import calibrate
from equispec.workflows.coverage import quantities, regions
from equispec.workflows.evaluation import evaluate
from equispec.workflows.evaluation_report import markdown, metrics, record_metrics, write_report


@pytest.fixture(scope="module")
def members(tensor_model: Trained, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The trained model, and another that differs in its last digits but in nothing else."""
    folder = tmp_path_factory.mktemp("members")
    shutil.copytree(tensor_model.model, folder / "a")
    other = load_model(tensor_model.model)
    rng = np.random.default_rng(0)
    for parameter in other.model.parameters():
        parameter.data *= 1 + 0.05 * float(rng.normal())
    save_model(folder / "b", other.model, other.metadata)
    return [folder / "a", folder / "b"]


@pytest.fixture(scope="module")
def calibrated(members: list[Path], tensor_model: Trained) -> Path:
    folder = members[0].parent / "both"
    merge_models(members, folder)
    calibrate(folder, tensor_model.store)
    return folder


def test_the_band_rests_on_the_validation_molecules_alone(calibrated: Path, tensor_model: Trained) -> None:
    calibration = load(calibrated).calibration
    assert calibration is not None
    ids = load_model(tensor_model.model).metadata["training"]["split"]
    with StickStore(tensor_model.store) as store:
        sites = {name: [s for s in store if s.id in ids[name]] for name in ids}
    assert (calibration.split, calibration.molecules) == ("valid", len(sites["valid"]))
    assert calibration.sites == sum(len(sample.sites) for sample in sites["valid"])
    assert sum(calibration.domain.environments["C"].values()) == sum((s.z == 6).sum() for s in sites["train"])
    assert calibration.band.levels == (0.5, 0.68, 0.8, 0.9, 0.95)


def test_coverage_on_the_calibration_split_is_the_level(calibrated: Path, tensor_model: Trained) -> None:
    coverage = evaluate(calibrated, tensor_model.store, "valid").coverage
    assert coverage is not None
    for name, by_level in coverage.nominal.items():
        for level, held in by_level.items():
            assert level - 0.07 < held <= min(1.0, level + 0.2), name  # corrected for the small number of molecules


def test_calibrating_again_changes_nothing(calibrated: Path, tensor_model: Trained) -> None:
    before = (calibrated / "config.json").read_bytes()
    calibrate(calibrated, tensor_model.store)
    assert (calibrated / "config.json").read_bytes() == before


def test_predictions_carry_the_band(calibrated: Path) -> None:
    predictor = load(calibrated)
    ethanol = molecule("CH3CH2OH")
    spectra = predictor.spectrum(ethanol)
    assert spectra.band is not None
    assert spectra.band.level == 0.9
    assert spectra.meta["flagged_sites"] == []
    values = [next(load(folder).spectra([ethanol])).tensor for folder in sorted(calibrated.parent.glob("[ab]"))]
    departure = np.stack(values) - np.mean(values, axis=0)
    tensor, spread = next(predictor.spread([ethanol]))
    np.testing.assert_allclose(tensor, spectra.tensor)
    np.testing.assert_allclose(spread, np.einsum("mseac,msecb->seab", departure, departure), atol=1e-6)
    assert predictor.calibration is not None
    expected = predictor.calibration.band.band(spectra.energy, tensor, spread)
    np.testing.assert_allclose(spectra.site_half_width("x"), expected.of_sites("x"), rtol=1e-10)
    # batches and single structures agree, and a wider level is wider
    (wide,) = predictor.spectra([ethanol], level=0.95)
    assert (wide.half_width("z") >= spectra.half_width("z")).all()  # type: ignore[operator]
    batch = list(predictor.spectra([molecule("CH4"), ethanol]))
    np.testing.assert_allclose(batch[1].half_width("z"), spectra.half_width("z"), rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match=r"level 0.7 of the band: calibrated are 0.5"):
        next(predictor.spectra([ethanol], level=0.7))


def test_unknown_surroundings_are_flagged(calibrated: Path) -> None:
    predictor = load(calibrated)
    with pytest.warns(DomainWarning, match="site 0: carbon bonded to H H H, seen 0 times in training"):
        spectra = predictor.spectrum(Atoms("CH3", molecule("CH3").positions))
    assert spectra.meta["flagged_sites"] == [0]
    assert spectra.meta["outside_domain"] == predictor.concerns(molecule("CH3"))


def test_merging_and_several_folders_have_no_band(calibrated: Path, members: list[Path], tensor_model: Trained) -> None:
    calibrate(members[0], tensor_model.store)
    record_metrics(evaluate(members[0], tensor_model.store), [str(members[0])])
    single = load(members[0])
    assert single.calibration is not None
    assert single.calibration.band.spread == 0.0
    together = load([str(folder) for folder in members])
    assert together.calibration is None
    assert together.spectrum(molecule("CH4")).band is None
    with pytest.raises(InputError, match=r"has no band: it is not calibrated"):
        next(together.spectra([molecule("CH4")], level=0.9))
    merged = calibrated.parent / "merged"
    merge_models(members, merged)
    assert not {"calibration", "metrics"} & set(read_config(merged)["metadata"])
    assert evaluate(merged, tensor_model.store).coverage is None


def test_saving_and_loading_keep_the_calibration(calibrated: Path, tmp_path: Path) -> None:
    shutil.copytree(calibrated, tmp_path / "copy")
    assert load(tmp_path / "copy").calibration == load(calibrated).calibration
    broken = read_config(calibrated)["metadata"]["calibration"]
    broken["band"]["scales"][0]["direction"].pop()
    shutil.copytree(calibrated, tmp_path / "other")
    add_metadata(tmp_path / "other", calibration=broken)
    with pytest.raises(ConfigError, match=r"31 knots, but not as many factors") as error:
        load(tmp_path / "other")
    assert len(str(error.value)) < 400
    broken["band"].pop("knots")
    add_metadata(tmp_path / "copy", calibration=broken)
    with pytest.raises(ConfigError, match=r"calibration\.band\.knots"):
        load(tmp_path / "copy")


def test_directional_models_are_calibrated_as_well(directional_model: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(directional_model.model, folder)
    calibrate(folder, directional_model.store)
    spectra = load(folder).spectrum(molecule("CH4"))
    assert spectra.band is not None
    assert (spectra.half_width([1, 1, 0]) >= 0).all()  # type: ignore[operator]


def test_refused(tensor_model: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tensor_model.model, folder)
    before = (folder / "config.json").read_bytes()
    with pytest.raises(InputError, match="the errors of training molecules say nothing"):
        calibrate(folder, tensor_model.store, "train")
    with pytest.raises(InputError, match=r"unknown split 'all': the model knows train, valid, test$"):
        calibrate(folder, tensor_model.store, "all")
    with pytest.raises(InputError, match="no such file"):
        calibrate(folder, tmp_path / "none.h5")
    with StickStore(tensor_model.store) as store:
        attributes = {name: value for name, value in store.attributes.items() if not name.startswith("format")}
        write_store(tmp_path / "moved.h5", list(store), {**attributes, "energy_shift": 0.0})
        write_store(tmp_path / "few.h5", [store[0]], attributes)
    with pytest.raises(InputError, match=r"the valid split of the model .*; give the data it was trained on$"):
        calibrate(folder, tmp_path / "few.h5")
    with pytest.raises(InputError, match=r"energy shift of 0 eV, the data of the model one of -6\.6 eV"):
        calibrate(folder, tmp_path / "moved.h5")
    assert (folder / "config.json").read_bytes() == before
    add_metadata(folder, training={})
    with pytest.raises(InputError, match="does not say which molecules it was trained on"):
        calibrate(folder, tensor_model.store)


def test_a_recorded_coverage_goes_with_its_band(calibrated: Path, tensor_model: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(calibrated, folder)
    record_metrics(evaluate(folder, tensor_model.store), [str(folder)])
    recorded = read_config(folder)["metadata"]["metrics"]
    calibrate(folder, tensor_model.store, "test")
    assert "coverage" in recorded
    assert read_config(folder)["metadata"]["metrics"] == {k: v for k, v in recorded.items() if k != "coverage"}


def test_coverage_is_counted_as_documented(calibrated: Path, tensor_model: Trained) -> None:
    result = evaluate(calibrated, tensor_model.store)
    coverage = result.coverage
    assert coverage is not None
    assert list(coverage.shares) == ["site, isotropic", "site, x y z", "molecule, isotropic", "molecule, x y z"]
    assert list(coverage.shares["site, x y z"]) == ["overall", "pre-edge", "edge", "continuum"]
    predictor = load(calibrated)
    held, widths = [], []
    inside = (result.energy > 289.99) & (result.energy < 296.99)
    for m, sample in enumerate(result.samples):
        rows = [k for k, (owner, _) in enumerate(result.site_index) if owner == m]
        spectra = predictor.spectrum(Atoms(sample.z, sample.pos)).select([site.atom for site in sample.sites])
        error = np.einsum("eaa->e", (result.predicted - result.reference)[rows].sum(0)) / 3
        width = spectra.half_width("iso")
        assert width is not None
        held.append((np.abs(error) <= width)[inside])
        widths.append(width[inside])
    share = coverage.shares["molecule, isotropic"]["edge"]
    assert share.coverage == pytest.approx(np.mean(held), abs=2e-3)
    assert share.half_width == pytest.approx(np.mean(widths), rel=1e-3)


def test_a_band_too_narrow_is_found_out(calibrated: Path, tensor_model: Trained) -> None:
    result = evaluate(calibrated, tensor_model.store)
    band = next(load(calibrated).spectra([Atoms(s.z, s.pos) for s in result.samples[:1]])).band
    assert band is not None
    n = len(band.isotropic)
    where = regions("C-K", result.energy)["overall"]
    for shift, expected in ((0.99, 1.0), (1.01, 0.0)):
        reference = np.zeros((n, len(result.energy), 3, 3))
        predicted = shift * band.isotropic[..., None, None] * np.eye(3)
        error, width = quantities(band, predicted, reference, np.zeros(n, dtype=int))["site, isotropic"]
        assert (error <= width)[:, where].mean() == expected


def test_reports_show_the_coverage(calibrated: Path, tensor_model: Trained, tmp_path: Path) -> None:
    result = evaluate(calibrated, tensor_model.store)
    files = {path.name for path in write_report(result, tmp_path)}
    assert "calibration.png" in files
    assert (tmp_path / "calibration.png").stat().st_size > 10_000
    page = markdown(result)
    assert "## Uncertainty" in page
    assert "| molecule, x y z |" in page
    assert "The flag of an unknown domain fires on" in page
    plain = json.loads(json.dumps(metrics(result)))["coverage"]
    assert result.coverage is not None
    assert plain["nominal"]["site, isotropic"]["0.9"] == result.coverage.nominal["site, isotropic"][0.9]
    assert plain["shares"]["site, x y z"]["pre-edge"].keys() == {"coverage", "half_width"}


def test_without_calibration_there_is_no_coverage(tensor_model: Trained) -> None:
    result = evaluate(tensor_model.model, tensor_model.store)
    assert result.coverage is None
    assert "Uncertainty" not in markdown(result)
