"""Deviations of predictions when structures are turned and frames are drawn anew."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from equispec.errors import InputError
from equispec.predict import Predictor, load
from equispec.property_predictor import Properties
from equispec.workflows.checks import check_model, failed
from equispec.workflows.deviation import deviation, rolled
from equispec.workflows.prediction import Question, run
from property_models import ENERGY, STATISTICS, saved

BACKBONE = {
    "name": "hdgnn",
    "features": 8,
    "blocks": 2,
    "degree": 3,
    "hidden": 16,
    "invariants": 16,
    "edge_features": 16,
    "n_radial": 32,
    "cutoff": 4.0,
}


class FirstX(Predictor):
    """E is the x coordinate of the first atom, whatever the cell."""

    def __init__(self) -> None:
        self.members = []

    def properties(
        self, structures: Iterable[Atoms], names: Sequence[str] | None = None, batch_atoms: int = 0
    ) -> Iterator[Properties]:
        for atoms in structures:
            yield Properties(atoms, {"energy": np.array(atoms.positions[0, 0])}, {}, ())


def test_C8_the_mean_of_what_a_rotation_changes() -> None:
    """Mean of |1 - cos θ| over the sphere is 1."""
    found = deviation(FirstX(), [Atoms("H", [[2.0, 0, 0]])], rotations=4000)
    assert found.roll == 0
    assert found.rotation == found.both == pytest.approx(2.0, rel=0.03)


def test_cells_turn_with_their_atoms(tmp_path: Path) -> None:
    crystal = bulk("C", "diamond", 3.567)
    crystal.rattle(0.1, seed=1)
    painn = load(saved(tmp_path / "painn", statistics={**STATISTICS, "periodic": True}))
    found = deviation(painn, [crystal])
    assert max(found.roll, found.rotation, found.both) < 1e-10


def test_C8_frames_and_rotations_change_what_is_predicted(tmp_path: Path) -> None:
    predictor = load(saved(tmp_path / "hdgnn", backbone=BACKBONE, statistics=STATISTICS))
    found = deviation(predictor, [molecule("CH3CH2OH")])
    assert min(found.roll, found.rotation, found.both) > 1e-8
    with rolled(predictor, "random"):
        assert predictor.members[0].model.backbone.edges.eval_roll == "random"
    assert predictor.members[0].model.backbone.edges.eval_roll == "axis"
    assert deviation(predictor, [molecule("CH3CH2OH")]).rotation == found.rotation


def test_checks_tell_deviations_and_judge_what_holds_exactly(tmp_path: Path) -> None:
    heads = ({"name": "energy"}, {"name": "dipole"}, {"name": "direct-forces"})
    known = {**STATISTICS, "spreads": {"energy": 2.0}}
    results = check_model(load(saved(tmp_path / "hdgnn", heads, backbone=BACKBONE, statistics=known), dtype="float64"))
    assert failed(results) == []
    told = {result.name: result for result in results if result.verdict == "info"}
    assert {f"energy: MAD_{kind}" for kind in ("roll", "rot", "both")} <= told.keys()
    turned = told["energy: MAD_rot"]
    share = f"{turned.measured / 2:.2g} of its spread among the training structures."
    assert turned.text.endswith(f"eV on average when the molecule is turned, {share}")
    judged = {result.name for result in results if result.verdict == "pass"}
    assert {"translation", "permutation", "batch", "isolated atom", "precision"} <= judged


def test_frames_that_are_drawn_anew_are_checked_by_the_axes(tmp_path: Path) -> None:
    """As in the public code: what holds exactly for every model is not the draw's fault."""
    random = {**BACKBONE, "eval_roll": "random"}
    predictor = load(saved(tmp_path / "hdgnn", backbone=random, statistics=STATISTICS), dtype="float64")
    assert failed(check_model(predictor)) == []
    assert predictor.members[0].model.backbone.edges.eval_roll == "random"


def test_checks_of_derivatives_where_they_are_right(tmp_path: Path) -> None:
    smooth = {**BACKBONE, "gradients": True, "envelope": True, "roll": "axis"}
    results = check_model(load(saved(tmp_path / "hdgnn", backbone=smooth, statistics=STATISTICS), dtype="float64"))
    assert {result.name for result in failed(results)} <= {"precision"}
    judged = {result.name for result in results if result.verdict == "pass"}
    assert {"forces", "net force", "stress", "Hessian symmetric", "smooth at the cutoff"} <= judged


def test_predictions_tell_their_deviation(tmp_path: Path) -> None:
    """In the results, in frames and in JSON; not in tables, and not of models that have none."""
    predictor = load(saved(tmp_path / "hdgnn", backbone=BACKBONE, statistics=STATISTICS))
    water, question = molecule("H2O"), Question(deviation=True)
    (found,) = run(predictor, [water], question, [tmp_path / "a.xyz", tmp_path / "a.json"])
    expected = deviation(predictor, [water])
    for mads in (found.deviation["energy"], ase.io.read(tmp_path / "a.xyz").info["energy_mad"]):
        np.testing.assert_allclose(mads, [expected.roll, expected.rotation, expected.both], rtol=1e-6)
        assert (mads > 0).all()
    (told,) = json.loads((tmp_path / "a.json").read_text())["structures"]
    roll, rotation, both = found.deviation["energy"].tolist()
    assert told["deviation"] == {"energy": {"roll": roll, "rotation": rotation, "both": both}}
    with pytest.raises(InputError, match=r"a.csv: deviations go into .xyz, .extxyz, .json only"):
        list(run(predictor, [water], question, [tmp_path / "a.csv"]))
    painn = load(saved(tmp_path / "painn", statistics=STATISTICS))
    forces = Question(("forces",), deviation=True)
    with_forces = saved(
        tmp_path / "direct", [*ENERGY, {"name": "direct-forces"}], backbone=BACKBONE, statistics=STATISTICS
    )
    with pytest.raises(InputError, match="deviations are told of properties that are one number; asked for is forces"):
        list(run(load(with_forces), [water], forces))
    with pytest.raises(InputError, match="is equivariant by construction"):
        list(run(painn, [water], question))
    assert not (tmp_path / "a.csv").exists()
