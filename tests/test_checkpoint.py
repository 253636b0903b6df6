"""Model folders: whole or not at all, never unpickled, tamper-evident; ensembles in one folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

from equispec.checkpoint import (
    CONFIG,
    FORMAT,
    WEIGHTS,
    add_metadata,
    load_members,
    load_model,
    merge_models,
    save_model,
)
from equispec.errors import ConfigError, InputError
from equispec.model import Model, ModelConfig, build, parameter_count
from equispec.predict import load
from property_models import STATISTICS, property_model

GRID = {"start": 284.0, "stop": 300.0, "n": 9}


def model(seed: int = 0, features: int = 8) -> Model:
    torch.manual_seed(seed)
    backbone = {"name": "painn", "features": features, "blocks": 1, "cutoff": 4.0}
    head = {"name": "square-tensor", "channels": 2, "cutoff": 4.0, "grid": GRID}
    return build(ModelConfig.parse({"backbone": backbone, "heads": [head]}))


def metadata(seed: int = 0, split: tuple[int, ...] = (1, 2)) -> dict:
    training = {"split": {"train": list(split)}, "data_sha256": "x", "epoch": 3, "config": {"train": {"seed": seed}}}
    return {"edge": "C-K", "parameters": 5, "intensity_scale": 1.0, "training": training}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", model(), metadata())
    return tmp_path / "model"


def test_round_trip_keeps_weights_metadata_and_units(folder: Path) -> None:
    loaded = load_model(folder)
    assert loaded.metadata == metadata()
    assert loaded.name == "model"
    assert all(torch.equal(value, loaded.model.state_dict()[name]) for name, value in model().state_dict().items())
    config = json.loads((folder / CONFIG).read_text())
    assert config["format"] == FORMAT
    assert config["units"] == {"absorption_tensor": "1/eV"}


def test_replacing_keeps_the_card_and_refuses_other_folders(folder: Path, tmp_path: Path) -> None:
    (folder / "CARD.md").write_text("what this is")
    save_model(folder, model(1), metadata())
    assert (folder / "CARD.md").read_text() == "what this is"
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="not a model folder"):
        save_model(tmp_path / "mine", model(), metadata())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "model"]  # nothing half-written


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-10]), "checksum differs"),
        (lambda f: (f / WEIGHTS).unlink(), "incomplete"),
        (lambda f: (f / CONFIG).write_text("{"), "not the description"),
        (lambda f: (f / CONFIG).write_text("[]"), "not the description"),
        (lambda f: (f / CONFIG).unlink(), "not a model folder"),
        (lambda f: edit(f, format=FORMAT + 1), "update it"),
        (lambda f: edit(f, format=0), "unknown format 0"),
        (lambda f: edit(f, format="1"), "unknown format '1'"),
        (lambda f: edit(f, metadata=None), "lacks metadata"),
        (lambda f: edit(f, metadata=[]), r"metadata = \[\] is not what"),
        (lambda f: edit(f, metadata={"statistics": {}}), "metadata: 'statistics.elements'"),
        (lambda f: edit(f, metadata={"statistics": {"elements": "CH"}}), "metadata: 'statistics.elements' = 'CH'"),
        (lambda f: edit(f, metadata={"broadening": {"fwhm": 0.5, "width": 1}}), "metadata: "),
        (lambda f: edit(f, metadata={"shift_eV": "x"}), "metadata: 'shift_eV' = 'x'"),
        (lambda f: edit(f, members=0), "members = 0; a number from 1"),
        (lambda f: edit(f, members="2"), "members = '2'"),
        (lambda f: edit(f, members=2), "does not hold the"),
    ],
)
def test_damaged_folder_is_refused(folder: Path, damage, message: str) -> None:
    damage(folder)
    with pytest.raises(InputError, match=message):
        load_model(folder)


def test_an_older_format_is_migrated_step_by_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["network"] = config.pop("model")
    (folder / CONFIG).write_text(json.dumps({**config, "format": FORMAT - 2}))
    steps = {
        FORMAT - 2: lambda c: {**c, "model": c["network"], "metadata": {"edge": "?"}},
        FORMAT - 1: lambda c: {**c, "metadata": {**c["metadata"], "edge": "C-K"}},
    }
    monkeypatch.setattr("equispec.checkpoint.MIGRATIONS", steps)
    assert load_model(folder).metadata == {"edge": "C-K"}


def test_changed_architecture_is_refused(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["model"]["backbone"]["features"] = 16
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(InputError, match="does not fit the architecture"):
        load_model(folder)
    config["model"]["backbone"]["colour"] = "red"
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        load_model(folder)


def edit(folder: Path, **changes) -> None:
    config = {**json.loads((folder / CONFIG).read_text()), **changes}
    (folder / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def test_merged_ensemble_averages_its_members(tmp_path: Path) -> None:
    folders = [tmp_path / f"m{i}" for i in range(3)]
    for i, each in enumerate(folders):
        save_model(each, model(i), metadata(i))
    merge_models(folders, tmp_path / "ensemble")
    assert len(load_members(tmp_path / "ensemble")) == 3
    ethanol = molecule("CH3CH2OH")
    singles = np.mean([load(each).spectrum(ethanol).tensor for each in folders], axis=0)
    together = load(tmp_path / "ensemble").spectrum(ethanol).tensor
    assert np.abs(together - singles).max() < 1e-6
    assert np.abs(load([str(f) for f in folders]).spectrum(ethanol).tensor - together).max() < 1e-6
    with pytest.raises(InputError, match="ensemble of 3"):
        load_model(tmp_path / "ensemble")


def test_merged_models_of_properties_average_their_predictions(tmp_path: Path) -> None:
    training = {"split": {"train": [1]}, "data_sha256": "x", "epoch": 3, "config": {"train": {"seed": 0}}}
    learned = {**STATISTICS, "labels": {"energy": 1, "forces": 1}}
    heads = ({"name": "energy"}, {"name": "dipole"})
    folders = [tmp_path / f"m{i}" for i in range(3)]
    for i, each in enumerate(folders):
        made = property_model(heads, i)
        made.heads["energy"].mean += 100.0 * i  # constants differ from member to member
        save_model(each, made, {"statistics": learned, "data": {"method": "here"}, "training": training})
    merge_models(folders, tmp_path / "ensemble")
    ethanol = molecule("CH3CH2OH")
    singles = [load(each).predict(ethanol) for each in folders]
    together = load(tmp_path / "ensemble").predict(ethanol)
    for name in ("energy", "forces", "dipole"):
        np.testing.assert_allclose(together[name], np.mean([single[name] for single in singles], axis=0), atol=1e-10)
    assert together.spread["energy"][0] > 100
    merged = load_members(tmp_path / "ensemble")[0].metadata
    assert merged["data"] == {"method": "here"}
    assert merged["statistics"] == learned
    assert merged["parameters"] == 3 * parameter_count(property_model(heads))
    assert merged["training"]["members"] == 3 * [{"seed": 0, "epoch": 3}]


@pytest.mark.parametrize(
    ("labels", "message"),
    [({"energy": 1}, "m1 learned energy, .*m0 energy, forces: they cannot"), (None, "m1 learned no property, .*m0 en")],
)
def test_members_must_have_learned_the_same_properties(tmp_path: Path, labels, message: str) -> None:
    training = {"split": {"train": [1]}, "data_sha256": "x", "epoch": 3, "config": {"train": {"seed": 0}}}
    for i, known in enumerate(({"energy": 1, "forces": 1}, labels)):
        statistics = {**STATISTICS, **({"labels": known} if known else {})}
        save_model(tmp_path / f"m{i}", property_model(seed=i), {"statistics": statistics, "training": training})
    with pytest.raises(InputError, match=message):
        merge_models([tmp_path / "m0", tmp_path / "m1"], tmp_path / "ensemble")
    assert not (tmp_path / "ensemble").exists()


def test_ensemble_of_models_that_do_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "wider", model(0, features=16), metadata())
    save_model(tmp_path / "other", model(1), metadata(split=(3, 4)))
    with pytest.raises(InputError, match="another architecture"):
        merge_models([folder, tmp_path / "wider"], tmp_path / "ensemble")
    with pytest.raises(InputError, match="split differs"):
        merge_models([folder, tmp_path / "other"], tmp_path / "ensemble")
    save_model(tmp_path / "scaled", model(1), {**metadata(), "intensity_scale": 2.0})
    with pytest.raises(InputError, match="different spectra \\(intensity_scale differs"):
        merge_models([folder, tmp_path / "scaled"], tmp_path / "ensemble")
    save_model(tmp_path / "imported", model(1), {"edge": "C-K"})
    with pytest.raises(InputError, match="does not say what it was trained on"):
        merge_models([folder, tmp_path / "imported"], tmp_path / "ensemble")
    with pytest.raises(InputError, match="at least two"):
        merge_models([folder], tmp_path / "ensemble")
    assert not (tmp_path / "ensemble").exists()


def test_pickle_in_place_of_weights_is_never_read(folder: Path) -> None:
    torch.save({"backbone": "x"}, folder / WEIGHTS)
    with pytest.raises(InputError, match="checksum"):
        load_model(folder)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="not a model folder"):
        load_model(folder)


def test_metadata_can_be_added_without_touching_the_weights(folder: Path) -> None:
    before = load_model(folder)
    add_metadata(folder, metrics={"native": 0.5})
    after = load_model(folder)
    assert after.metadata == {**before.metadata, "metrics": {"native": 0.5}}
    assert after.hash == before.hash
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]


def test_ensemble_with_members_left_over_is_refused(folder: Path) -> None:
    save_model(folder, [model(0), model(1), model(2)], metadata())
    edit(folder, members=2)
    with pytest.raises(InputError, match="does not hold the 2 members"):
        load_members(folder)
