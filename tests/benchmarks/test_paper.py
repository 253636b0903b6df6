"""The evaluations of the ISD-PaiNN paper: their numerics on numbers one can check, and every command on tiny models."""

import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path

import ablations
import amino_acids
import benzene
import extrapolation
import fig1
import fig2
import learning_curve
import numpy as np
import page
import pytest
import so3krates_spectra
import spectra_study
import splits
import study
import timing
import torch

from equispec.data.store import StickStore, write_store
from equispec.errors import InputError
from equispec.model import ModelConfig, build
from equispec.predict import load
from equispec.spectra import isotropic_part
from equispec.workflows import probes
from equispec.workflows.evaluation import EvaluationResult, evaluate

REFERENCE = Path(__file__).resolve().parents[2] / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5"
TINY = ["model.backbone.features=8", "model.backbone.blocks=1", "train.epochs=2", "train.patience=null"]
SETTINGS = [word for setting in TINY for word in ("--set", setting)]


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An eighth of the first part of the reference set in a folder of its own."""
    folder = tmp_path_factory.mktemp("store") / "part"
    folder.mkdir()
    write(folder / "part.h5", slice(0, 278, 8))
    return folder


def write(path: Path, chosen: slice) -> Path:
    with StickStore(REFERENCE) as store:
        write_store(path, [store[i] for i in range(len(store))[chosen]], attributes(store))
    return path


def attributes(store: StickStore) -> dict[str, str | float]:
    return {name: value for name, value in store.attributes.items() if not name.startswith("format")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def asked(part: Path, runs: Path, config: str = "ck-tensor.yaml", *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    study.training_arguments(config)(parser)
    return parser.parse_args([str(part), "--runs", str(runs), *SETTINGS, *more])


@pytest.fixture(scope="module")
def model(part: Path, runs: Path) -> Path:
    return study.trained(asked(part, runs), "ck-tensor-random", ["data.split.kind=random"])


@pytest.fixture(scope="module")
def result(model: Path, part: Path) -> EvaluationResult:
    return evaluate(model, part)


# --- numerics --------------------------------------------------------------------------------------------------------


def test_power_law() -> None:
    n = np.array([100, 300, 1000, 5000])
    a, b = spectra_study.fit_power_law(n, 7.0 * n**-0.4)
    assert (a, b) == (pytest.approx(7.0), pytest.approx(0.4))
    assert 7.0 * spectra_study.crossing(a, b, 0.05) ** -0.4 == pytest.approx(0.05)
    assert spectra_study.crossing(1.0, -0.1, 0.05) == np.inf  # errors that grow never get there
    assert spectra_study.crossing(1.0, 1e-6, 0.05) == np.inf
    for bad in ([100], [100, 0]):
        with pytest.raises(InputError, match="a power law needs"):
            spectra_study.fit_power_law(bad, [1.0] * len(bad))
    with pytest.raises(InputError, match="a power law needs"):
        spectra_study.fit_power_law([1, 2], [1.0, 0.0])


def test_resampled_need_surrounds_the_fit() -> None:
    """Every molecule with the same share of bad spectra: no scatter; with unlike ones: scatter about the fit."""
    sizes = [100, 200, 400]
    share = 0.8 * np.array(sizes, dtype=float) ** -0.2
    even = np.stack([np.tile([30.0, 1, 1, 30 * s], (20, 1)) for s in share])
    need = spectra_study.crossing(*spectra_study.fit_power_law(sizes, share), 0.05)
    np.testing.assert_allclose(learning_curve.resampled_need(sizes, even), need, rtol=1e-6)
    unlike = even.copy()
    unlike[:, ::2, 3] *= np.linspace(0.1, 1.9, 10)
    low, middle, high = learning_curve.resampled_need(sizes, unlike)
    assert low < middle < high
    assert learning_curve.resampled_need([100], even[:1]) == []
    assert learning_curve.resampled_need(sizes, even * [1, 1, 1, 0]) == []  # nothing above the threshold: no law


def test_floor_is_the_best_that_a_direction_blind_network_can_do(result: EvaluationResult) -> None:
    reference = result.reference
    along = np.stack([reference[..., c, c] for c in range(3)], axis=1)
    expected = np.mean((along - along.mean(axis=1, keepdims=True)) ** 2)
    assert spectra_study.figures(result, ablations.FLOOR)["native"] == pytest.approx(expected)
    assert ablations.anisotropy(reference) == pytest.approx(expected)
    blind = isotropic_part(reference)[..., None, None] * np.eye(3)
    for offset in (0.0, 0.05, -0.05):
        error = np.mean([(blind[..., c, c] + offset - reference[..., c, c]) ** 2 for c in range(3)])
        assert error == pytest.approx(expected + offset**2)


def test_examples_stand_at_their_percentiles(result: EvaluationResult) -> None:
    for resolution in ("native", "paper-broad"):
        found = spectra_study.at_percentiles(result, resolution, (0, 50, 75, 100))
        errors = np.sort(result.errors["model"][resolution].axes.ravel())
        np.testing.assert_allclose(found["sorted"], errors, rtol=1e-3)
        assert found["share"] == np.mean(errors < 0.1)
        for example in found["examples"]:
            at = errors[round(example["percentile"] / 100 * (len(errors) - 1))]
            assert example["mse"] == pytest.approx(at, rel=1e-4)
            difference = np.subtract(example["predicted"], example["reference"])
            # the drawn spectra are broadened with mirrored ends, the errors with nothing beyond the ends
            assert np.mean(difference**2) == pytest.approx(at, rel=1e-3 if resolution == "native" else 0.2, abs=1e-4)


def test_molecular_spectra_are_sums_over_the_calculated_sites(result: EvaluationResult) -> None:
    predicted, reference = spectra_study.molecular_sums(result)
    m = max(range(len(result.samples)), key=lambda k: len(result.samples[k].sites))
    sites = [k for k, (molecule, _) in enumerate(result.site_index) if molecule == m]
    assert len(sites) > 1
    np.testing.assert_allclose(reference[m, 1], result.reference[sites][..., 1, 1].sum(0))
    errors = spectra_study.native_and_broad(result, predicted, reference)
    assert errors["native"][m, 1] == pytest.approx(np.mean((predicted[m, 1] - reference[m, 1]) ** 2))
    assert errors["paper-broad"].mean() < errors["native"].mean()


def test_rotations_are_read_off_the_positions() -> None:
    pos = probes.benzene().positions
    a = np.radians(36.0)
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    found = benzene.rotation(pos, pos @ turn.T + [1.0, -2.0, 0.5])
    np.testing.assert_allclose(found, turn, atol=1e-12)
    assert benzene.angle_about_x(found) == pytest.approx(36.0)
    with pytest.raises(InputError, match="not turned about x"):
        benzene.angle_about_x(turn[[1, 2, 0]][:, [1, 2, 0]])
    with pytest.raises(InputError, match="not one rigid molecule"):
        benzene.rotation(pos, 1.01 * pos)


# --- the ablations break what they are meant to break ----------------------------------------------------------------


@pytest.fixture(scope="module", params=list(ablations.VARIANTS))
def ablated(request: pytest.FixtureRequest, part: Path, runs: Path) -> tuple[str, Path]:
    embedding, message = ablations.VARIANTS[request.param]
    switches = [f"model.backbone.directional_embedding={embedding}", f"model.backbone.symmetric_message={message}"]
    arguments = asked(part, runs, "ck-directional.yaml")
    return request.param, study.trained(arguments, request.param.replace(" ", "-"), switches)


def spectrum(model: Path, direction: list[float]) -> np.ndarray:
    return load(model, dtype="float64").along(probes.probe_molecules()["alanine"], direction)


@pytest.mark.filterwarnings("ignore::equispec.errors.DomainWarning")
def test_without_directional_embedding_the_spectrum_does_not_see_the_direction(ablated: tuple[str, Path]) -> None:
    name, folder = ablated
    x, z = spectrum(folder, [1, 0, 0]), spectrum(folder, [0.0, 0.6, 0.8])
    assert (np.abs(x - z).max() == 0) == (name in ("without directional embedding", "without both"))


@pytest.mark.filterwarnings("ignore::equispec.errors.DomainWarning")
def test_without_symmetric_message_the_spectrum_is_not_even(ablated: tuple[str, Path]) -> None:
    name, folder = ablated
    there, back = spectrum(folder, [0.36, 0.48, 0.8]), spectrum(folder, [-0.36, -0.48, -0.8])
    odd = np.abs(there - back).max()
    assert odd > 1e-6 if name == "without symmetric message" else odd < 1e-12


def test_recipe_is_small() -> None:
    config = study.load_config(study.ROOT / "configs" / "ck-directional.yaml", ablations.RECIPE)
    with torch.device("meta"):
        assert sum(p.numel() for p in build(ModelConfig.parse(config.model.model_dump(), "model")).parameters()) < 2.5e5


# --- cached trainings and files --------------------------------------------------------------------------------------


def test_finished_trainings_are_looked_up(part: Path, runs: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(study, "start", refuse)
    monkeypatch.setattr(study, "resume", refuse)
    assert study.trained(asked(part, runs), "ck-tensor-random", ["data.split.kind=random"]) == model
    with pytest.raises(AssertionError, match="trained again"):
        study.trained(asked(part, runs), "ck-tensor-random", ["data.split.kind=random", "train.seed=1"])


def test_interrupted_trainings_are_continued(part: Path, runs: Path, model: Path) -> None:
    run = model.parent
    before = (model / "weights.safetensors").read_bytes()
    hidden = run / "hidden"
    model.rename(hidden)
    assert study.trained(asked(part, runs), "ck-tensor-random", ["data.split.kind=random"]) == model
    assert (model / "weights.safetensors").read_bytes() == before


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stores like those of the rotated benzene, the amino acids and the larger molecules."""
    folder = tmp_path_factory.mktemp("extra")
    with StickStore(REFERENCE) as store:
        atoms = probes.benzene()
        site = store[10].sites[0]
        turned = []
        for k, angle in enumerate(np.radians([0, 45, 90])):
            turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
            sites = tuple(
                replace(site, atom=a, equivalent=(), dipole=(site.dipole @ turn.T).astype(np.float32)) for a in range(6)
            )
            sample = replace(store[10], id=9000 + k, z=atoms.numbers.astype(np.int64), pos=atoms.positions @ turn.T)
            turned.append(replace(sample, sites=sites))
        write_store(folder / "benzene.h5", turned[::-1], attributes(store))
    write(folder / "larger.h5", slice(-4, None))
    return {"benzene": folder / "benzene.h5", "larger": folder / "larger.h5"}


def test_every_study_leaves_its_files(
    part: Path, runs: Path, model: Path, extra: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter(range(100))
    monkeypatch.setattr(timing, "label_site", lambda *_, **__: next(made))
    training = [str(part), "--runs", str(runs), *SETTINGS]
    known = [str(model), str(part)]
    commands = {
        fig1: known,
        fig2: known,
        splits: training,
        ablations: training,
        learning_curve: [*training, "--sites", "12", "30"],
        benzene: [str(model), str(extra["benzene"])],
        amino_acids: [str(model), str(extra["larger"])],
        extrapolation: [*known, str(extra["larger"])],
        timing: [*known, "--molecules", "1", "--runs", str(tmp_path)],
    }
    folder = tmp_path / "docs"
    for module, words in commands.items():
        module.STUDY.main([*words, "-o", str(folder)])
    text = (folder / "README.md").read_text()
    pictures = [word.partition(")")[0] for word in text.split("](")[1:]]
    assert len(pictures) == len(set(pictures)) == 10
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [f"## {s.title}" for s in sorted((m.STUDY for m in commands), key=lambda s: s.order)]
    for module in commands:
        with (folder / f"{module.STUDY.name}.csv").open(newline="") as file:
            rows = list(csv.reader(file))
        assert len(rows) > 1
        assert len({len(row) for row in rows}) == 1
    turned = study.read(folder, "benzene")["results"]
    assert turned["angles"] == [0.0, 45.0, 90.0]
    assert turned["deviation"] < 1e-6
    assert next(made) == len(study.read(folder, "timing")["results"]["sizes"])

    # the page is made again from the JSON files, without a model
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        if path.suffix != ".json":
            path.unlink()
    monkeypatch.setattr("sys.argv", ["page.py", str(folder)])
    page.main()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_equal_carbons_are_calculated_once(extra: dict[str, Path], tmp_path: Path) -> None:
    known = timing.Known(tmp_path / "times.json", "fast")
    with StickStore(extra["benzene"]) as store:
        sample = store[0]
    known.times = {f"fast {sample.id} 0": 2.0}
    assert len(sample.sites) == 6
    assert known.seconds(sample, 1) == 2.0


def test_bad_input_is_one_sentence(part: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        fig1.STUDY.main(["no-such-model", str(part), "-o", str(tmp_path / "docs")])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("fig1.py: unknown model 'no-such-model'")
    assert not (tmp_path / "docs").exists()


def test_one_word_changes_the_backbone(part: Path, runs: Path, tmp_path: Path) -> None:
    name = so3krates_spectra.STUDY.name
    settings = [*SETTINGS, "--set", "model.backbone.features=12"]
    so3krates_spectra.STUDY.main([str(part), "--runs", str(runs), *settings, "-o", str(tmp_path)])
    rows = study.read(tmp_path, name)["results"]["rows"]
    assert rows["So3krates"]["parameters"] != rows["PaiNN"]["parameters"]
    for row in rows.values():
        assert row["sorted"] == sorted(row["sorted"])
        assert row["sorted"][0] < row["paper-broad"] < row["sorted"][-1]
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_commands_on_the_page_do_not_name_this_machine() -> None:
    given = [str(study.ROOT / "data" / "x"), "-o", "/somewhere", "--runs", "/else", "--set", "a=1"]
    assert fig1.STUDY.command(given) == "python benchmarks/paper/fig1.py data/x --set a=1"


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (1.0, "1.00"), (12.34, "12.3"), (12345.6, "12,346"), (3, "3"), (None, "–")]
)
def test_cells(value: float | int | None, text: str) -> None:
    assert study.cell(value) == text


def test_results_are_plain_json() -> None:
    assert json.dumps(study.plain(np.array([[1 / 3, 2e-9]]))) == "[[0.33333, 2e-09]]"
