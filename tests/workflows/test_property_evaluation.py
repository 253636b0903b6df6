"""Errors of property models: counted over the labels there are, in units people quote, on the split the model knows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

from equispec.checkpoint import save_model
from equispec.data.properties import PropertySample, PropertyStore, write_properties
from equispec.errors import DataWarning, InputError
from equispec.model import ModelConfig, build
from equispec.predict import load
from equispec.units import DEBYE, KCAL_PER_MOL
from equispec.workflows.property_evaluation import evaluate_properties
from equispec.workflows.property_report import remarks, score_rows, write_report

TEXTS = dict.fromkeys(("method", "units", "protocol", "source", "licence", "citation"), "made up for tests")
NAMES = ("H2O", "CH4", "CH3OH", "NH3", "HCN", "C2H4")
TRAINED_ON = {"train": [0, 1], "valid": [2], "test": [3, 4, 5]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    heads = [{"name": "energy"}, {"name": "dipole"}]
    config = {"backbone": {"name": "painn", "features": 8, "blocks": 1, "cutoff": 4.0}, "heads": heads}
    folder = tmp_path_factory.mktemp("models") / "small"
    save_model(folder, build(ModelConfig.parse(config)), {"training": {"split": TRAINED_ON, "data_sha256": "unknown"}})
    return folder


@pytest.fixture(scope="module")
def store(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the model itself says, with known errors: energies 10 meV too high, forces by 0.1 eV/Å along x."""
    predictor, samples = load(model), []
    for i, name in enumerate(NAMES):
        atoms = molecule(name)
        found = predictor.predict([atoms], ["energy", "forces", "dipole"])
        labels = {
            "energy": np.asarray(found["energy"][0] - 0.01),
            "forces": np.asarray(found["forces"][0], dtype=float) - [0.1, 0, 0],
            "dipole": np.asarray(found["dipole"][0], dtype=float) - [0, 0.3 * DEBYE, 0.4 * DEBYE],
        }
        if i == 4:
            del labels["energy"]
        z = np.asarray(atoms.numbers, dtype=np.int64)
        samples.append(PropertySample(i, "", z, atoms.positions.copy(), 0, 1, labels))
    path = tmp_path_factory.mktemp("store") / "labels.h5"
    write_properties(path, samples, TEXTS)
    return path


def test_errors_are_counted_over_the_labels_there_are(model: Path, store: Path) -> None:
    found = evaluate_properties(str(model), store, "all")
    assert (found.split, found.structures) == ("all", 6)
    energy, forces = found.score("energy"), found.score("forces")
    assert (energy.n, forces.n) == (5, 3 * sum(len(molecule(name)) for name in NAMES))
    assert energy.mae == pytest.approx(0.01, abs=1e-6)
    assert energy.bias == pytest.approx(0.01, abs=1e-6)
    assert forces.mae == pytest.approx(0.1 / 3, abs=1e-5)
    assert forces.rmse == pytest.approx(0.1 / np.sqrt(3), abs=1e-5)
    assert forces.vector == pytest.approx(0.1, abs=1e-5)
    assert energy.vector is None


def test_errors_in_the_units_people_quote(model: Path, store: Path) -> None:
    found = evaluate_properties(str(model), store, "all")
    assert found.score("energy").in_unit("meV").mae == pytest.approx(10, abs=1e-3)
    assert found.score("energy").in_unit("kcal/mol").mae == pytest.approx(0.01 / KCAL_PER_MOL, abs=1e-4)
    assert found.score("dipole").in_unit("D").vector == pytest.approx(0.5, abs=1e-5)
    units = [row[1] for row in score_rows(found) if row[0] == "forces"]
    assert units == ["eV/Å", "meV/Å", "kcal/mol/Å"]


def test_the_split_of_the_model_holds_for_its_own_data_only(store: Path, model: Path, tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match=r"labels.h5: .* not the data that small says .* all 6 structures are tested"):
        other = evaluate_properties(str(model), store, "test")
    assert (other.split, other.structures) == ("all", 6)
    write_report(other, tmp_path / "report")
    for name in ("README.md", "metrics.json"):
        assert "the test split is unknown" in (tmp_path / "report" / name).read_text()
    own = tmp_path / "own"
    config = {"split": TRAINED_ON, "data_sha256": PropertyStore(store).sha256}
    save_model(own, load(model).members[0].model, {"training": config})
    found = evaluate_properties(str(own), store, "test")
    assert (found.split, found.structures) == ("test", 3)
    assert evaluate_properties(str(own), store, "train").structures == 2
    with pytest.raises(InputError, match="unknown split 'tset'; the model knows train, valid, test; or take all"):
        evaluate_properties(str(own), store, "tset")
    assert evaluate_properties(str(own), store, "all").structures == 6


def test_data_are_known_by_their_structures_and_labels(store: Path, model: Path, tmp_path: Path) -> None:
    noted = {"split": TRAINED_ON, "data_sha256": PropertyStore(store).content_sha256}
    save_model(tmp_path / "own", load(model).members[0].model, {"training": noted})
    write_properties(tmp_path / "again.h5", PropertyStore(store), {**TEXTS, "method": "told in other words"})
    for path in (store, tmp_path / "again.h5"):
        found = evaluate_properties(str(tmp_path / "own"), path)
        assert (found.split, found.structures, found.notes) == ("test", 3, ())
    samples = list(PropertyStore(store))
    samples[0] = replace(samples[0], properties={"energy": np.asarray(1.0)})
    write_properties(tmp_path / "changed.h5", samples, TEXTS)
    with pytest.warns(DataWarning, match="the test split is unknown"):
        evaluate_properties(str(tmp_path / "own"), tmp_path / "changed.h5")
    strange = [tmp_path / "own", model]  # a member that was trained on other data may have seen the test split
    with pytest.warns(DataWarning, match="own, small says"):
        assert evaluate_properties(strange, store).split == "all"


def test_nothing_to_compare(model: Path, store: Path, tmp_path: Path) -> None:
    sample = PropertyStore(store)[0]
    other = PropertySample(0, "", sample.z, sample.pos, 0, 1, {"homo": np.asarray(-7.0)})
    write_properties(tmp_path / "homo.h5", [other], TEXTS)
    with pytest.raises(InputError, match=r"holds homo; the model predicts energy, .*: nothing to compare"):
        evaluate_properties(str(model), tmp_path / "homo.h5")
    with pytest.raises(InputError, match=r"predicts spectra; .* holds properties"):
        evaluate_properties("ck-tensor", store)


def test_the_report(model: Path, store: Path, tmp_path: Path) -> None:
    found = evaluate_properties(str(model), store, "all")
    write_report(found, tmp_path / "report")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"README.md", "metrics.json", "parity.png"}
    content = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert content["model_hash"] == load(model).hash
    assert {row["unit"] for row in content["customary"] if row["name"] == "energy"} == {"meV", "kcal/mol"}
    assert "| energy | meV | 10 |" in (tmp_path / "report" / "README.md").read_text()


def test_adsorption_energies_within_the_threshold(tmp_path: Path) -> None:
    """EwT: two of three errors are 0.02 eV at most."""
    torch.manual_seed(0)
    heads = [{"name": "scalar", "targets": ["adsorption_energy"]}]
    config = {"backbone": {"name": "painn", "features": 8, "blocks": 1, "cutoff": 4.0}, "heads": heads}
    save_model(tmp_path / "model", build(ModelConfig.parse(config)), {})
    predictor, samples = load(tmp_path / "model"), []
    for i, error in enumerate((0.019, -0.001, 0.021)):
        atoms = molecule(NAMES[i])
        label = np.asarray(predictor.predict([atoms], ["adsorption_energy"])["adsorption_energy"][0] - error)
        z = np.asarray(atoms.numbers, dtype=np.int64)
        samples.append(PropertySample(i, "", z, atoms.positions.copy(), 0, 1, {"adsorption_energy": label}))
    write_properties(tmp_path / "labels.h5", samples, TEXTS)
    found = evaluate_properties(predictor, tmp_path / "labels.h5", "all")
    assert found.score("adsorption_energy").within == pytest.approx(2 / 3)
    assert found.score("adsorption_energy").in_unit("meV").within == pytest.approx(2 / 3)
    assert remarks(found) == ["EwT: 66.67% of the adsorption energies are within 0.02 eV."]
