"""check, models info, list, path and merge for models of energies and other properties."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from equispec.checkpoint import save_model
from equispec.predict import load
from property_models import ALL, STATISTICS, saved

Run = Callable[..., Any]
DATA = {"method": "PBE/def2-SVP", "source": "the archive", "licence": "CC-BY-4.0", "citation": "A. Author (2020)"}


def metadata(seed: int = 0) -> dict[str, Any]:
    losses = {
        "energy": {"weight": 0.05, "kind": "squared"},
        "forces": {"weight": 0.95, "kind": "squared"},
        "dipole": {"weight": 1.0, "kind": "absolute"},
    }
    return {
        "quantities": ["energy", "forces", "stress", "dipole"],
        "statistics": {**STATISTICS, "n_molecules": 3, "labels": {"energy": 3, "forces": 3, "dipole": 2}},
        "parameters": 4321,
        "data": DATA,
        "licence": "MIT",
        "training": {
            "config": {"train": {"seed": seed, "losses": losses}},
            "split": {"train": [0, 1, 2], "valid": [3], "test": [4, 5]},
            "data_sha256": "abc",
            "epoch": 17 + seed,
        },
    }


def a_run(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A run folder as a training leaves it."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("")
    saved(folder / "model", ALL, seed, torch.float32, **{**metadata(seed), **changes})
    return folder


def test_check_of_a_run(equispec: Run, work: Path) -> None:
    a_run(Path("runs/small"))
    kept = equispec("check", "runs/small")
    assert kept.code == 0, kept.out
    for name in ("forces", "stress", "rotoinversion", "charges", "symmetric tensor", "slope at the cutoff"):
        assert f" {name} " in kept.out
    assert "All promises kept." in kept.out
    found = json.loads(equispec("check", "runs/small", "--json").out)
    assert found["passed"]
    assert {check["verdict"] for check in found["checks"]} == {"pass", "info"}


def test_check_fails_for_weights_beyond_single_precision(equispec: Run, work: Path) -> None:
    model = Path("model")
    saved(model)
    crooked = load(model, dtype="float64").members[0].model
    crooked.heads["energy"].network[-1].bias += 1e4
    crooked.heads["energy"].mean -= 1e4
    save_model(model, crooked, {})
    result = equispec("check", model)
    assert result.code == 1
    assert "precision" in next(line for line in result.out.splitlines() if " fail " in line)


def test_info_of_a_run(equispec: Run, work: Path) -> None:
    a_run(Path("runs/small"))
    told = equispec("models", "info", "runs/small").out
    rows = {line[:20].strip(): line[20:].strip() for line in told.splitlines()[1:]}
    assert told.splitlines()[0].strip() == "small"
    assert rows["predicts"].startswith("energy (eV), forces (eV/Å), stress (eV/Å³), dipole (e·Å), charges (e), polar")
    expected = {
        "kind": "painn + energy + dipole + polarizability + scalar",
        "cutoff": "4 Å",
        "parameters": "4,321",
        "elements": "H C N O",
        "trained on": "3 structures",
        "structures": "molecules only",
        "labels": "energy of 3 structures, forces of 3 structures, dipole of 2 structures",
        "losses": "energy 0.05 (squared), forces 0.95 (squared), dipole 1 (absolute)",
        "set aside": "1 structures to stop the training, 2 structures to test",
        "best epoch": "17",
        "largest molecule": "9 heavy atoms",
        "charges": "neutral, +1",
        "spin multiplicities": "1, 2",
        "labels by": "PBE/def2-SVP",
        "data source": "the archive",
        "data licence": "CC-BY-4.0",
        "data citation": "A. Author (2020)",
        "licence": "MIT",
    }
    assert {name: rows[name] for name in expected} == expected
    assert rows["weights"].startswith("sha256 ")
    assert "edge" not in told
    found = json.loads(equispec("models", "info", "runs/small", "--json").out)
    assert found["name"] == "small"
    assert found["metadata"]["data"] == DATA


def test_info_of_an_imported_model_tells_what_is_known(equispec: Run, work: Path) -> None:
    origin = {"format": "schnetpack", "file": "weights.npz", "sha256": "123", "units": {"energy": "kcal/mol"}}
    saved(Path("imported"), imported_from=origin)
    told = equispec("models", "info", "imported").out
    assert "schnetpack, weights.npz (energy in kcal/mol), sha256 123" in told
    assert "energy (eV), forces (eV/Å), stress (eV/Å³)" in told
    for unknown in ("elements", "trained on", "labels", "charges", "best epoch", "parameters"):
        assert unknown not in told


def test_list_names_what_models_predict(equispec: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equispec.predict.SHIPPED", work / "shipped")
    saved(work / "shipped" / "field", **metadata())
    listed = equispec("models", "list").out
    assert "energy, forces, stress" in listed
    assert "3 structures" in listed
    assert equispec("models", "path", "field").out == f"{work / 'shipped' / 'field'}\n"


def test_merge_of_runs(equispec: Run, work: Path) -> None:
    runs = [a_run(Path(f"runs/{seed}"), seed) for seed in range(2)]
    assert equispec("models", "path", runs[0]).out == f"{runs[0] / 'model'}\n"
    merged = equispec("models", "merge", *runs, "-o", "both")
    assert merged.code == 0, merged.err
    told = equispec("models", "info", "both").out
    assert "ensemble of 2" in told
    assert "17, 18" in told
    assert equispec("check", "both").code == 0
    a_run(Path("runs/other"), 2, statistics={**STATISTICS, "labels": {"energy": 3}})
    refused = equispec("models", "merge", runs[0], "runs/other", "-o", "three")
    assert refused.code == 2
    assert "learned energy, " in refused.err
    assert not Path("three").exists()
