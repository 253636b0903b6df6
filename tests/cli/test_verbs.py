"""Every verb but xas: what it prints and writes."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule

import equispec as package
from equispec.checkpoint import load_model
from equispec.cli import app
from equispec.data.properties import PropertySample, write_properties
from equispec.data.sample import Failure, Sample
from equispec.data.split import SplitConfig
from equispec.data.store import StickStore, write_store
from equispec.predict import load
from equispec.spectra import EDGES

from .conftest import DIRECTIONAL, TENSOR, Result, write_model

Run = Callable[..., Result]
STORE = Path(__file__).resolve().parents[2] / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5"
SCORES = {"tensor": 0.25, "isotropic": 0.15, "anisotropic": 0.1}
SPECTRA = {"n": 21, "mean": 0.3, "percentiles": {"0": 0.1, "100": 2.0}, "threshold": 0.1, "share_below": 0.3}
METRICS = {"split": "test", "molecules": 3, "sites": 7, "native": {**SCORES, "spectra": SPECTRA}}
VERBS = [
    (verb,) for verb in ("xas", "predict", "relax", "md", "label", "train", "eval", "check", "attention", "doctor")
]
VERBS += [("models", verb) for verb in ("list", "info", "path", "import", "merge", "calibrate")]
VERBS += [("data", verb) for verb in ("inspect", "convert", "split")]


def test_the_verbs_are_these() -> None:
    words = {(command.name or command.callback.__name__,) for command in app.registered_commands if command.callback}
    for group in app.registered_groups:
        commands = group.typer_instance.registered_commands if group.typer_instance else []
        words |= {(str(group.name), str(c.name or c.callback.__name__)) for c in commands if c.callback}
    assert words == set(VERBS)


@pytest.mark.parametrize("words", VERBS)
def test_every_verb_has_an_example_of_itself(equispec: Run, words: tuple[str, ...]) -> None:
    result = equispec(*words, "--help")
    assert result.code == 0
    assert f"  equispec {' '.join(words)}" in result.out.partition("Example")[2]


def test_help_and_version(equispec: Run) -> None:
    assert "xas" in equispec("--help").out
    assert equispec("--version") == Result(0, f"equispec {package.__version__}\n", "")
    bare = equispec()
    assert bare.code == 2
    assert bare.out == equispec("--help").out


def test_the_installed_program_returns_the_exit_code(work: Path) -> None:
    program = Path(sys.executable).with_name("equispec")
    run = subprocess.run([program, "data", "inspect", "nothing.h5"], check=False, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.splitlines() == ["Error: nothing.h5: no such file; a stick store (HDF5) is needed"]


@pytest.mark.parametrize("verb", ["doctor", "models list --json", "--help"])
def test_a_reader_that_leaves_is_no_error_of_ours(work: Path, verb: str) -> None:
    program = Path(sys.executable).with_name("equispec")
    run = subprocess.run(f"{program} {verb} | true", check=False, shell=True, capture_output=True, text=True)
    assert run.stderr == ""


def test_doctor(equispec: Run) -> None:
    found = json.loads(equispec("doctor", "--json").out)
    assert found["torch"]["found"] == torch.__version__
    assert found["rdkit"]["ok"]
    assert "cpu" in found["devices"]["found"]
    assert "lightning" in equispec("doctor").out


def test_doctor_says_how_to_get_what_is_missing(equispec: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equispec.workflows.doctor.EXTRAS", {"no-such-package": ("nothing", "chem")})
    assert "missing (needed for nothing); get it with: pip install 'equispec[chem]'" in equispec("doctor").out


def test_models_list_info_path(equispec: Run, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "shipped" / "small", TENSOR, citation="us", metrics=METRICS)
    monkeypatch.setattr("equispec.predict.SHIPPED", tmp_path / "shipped")
    listed = equispec("models", "list").out
    assert "small" in listed
    assert "3 molecules, 7 sites" in listed
    assert [m["name"] for m in json.loads(equispec("models", "list", "--json").out)["models"]] == ["small"]
    assert equispec("models", "path", "small").out == f"{folder}\n"
    told = equispec("models", "info", "small").out
    for fact in ("C-K edge, 284 to 300 eV", "H C O", "MIT", "us", "0.25 = 0.15 isotropic", "30% of 21"):
        assert fact in told
    assert json.loads(equispec("models", "info", folder, "--json").out)["metadata"]["licence"] == "MIT"


def test_import_of_foreign_weights(equispec: Run, work: Path) -> None:
    """A checkpoint in the form of the published code, with weights of our own, becomes a model that predicts."""
    torch.save({"model_state_dict": foreign_weights(f=8, blocks=1, n_radial=8, energies=33)}, "weights.pt")
    arguments = ("models", "import", "isd-painn", "weights.pt", "-o", "imported")
    result = equispec(*arguments, "--set", "cutoff=5.0", "--set", "grid=[284, 300]")
    assert result.code == 0, result.err
    predictor = load("imported", dtype="float64")
    assert predictor.directional
    assert predictor.members[0].model.cutoff == 5.0
    assert predictor.energies[[0, -1]].tolist() == [284.0, 300.0]
    assert equispec("xas", "ethanol.xyz", "-m", "imported", "--pol", "z", "-o", "a.csv").code == 0
    assert "unknown key 'cutof'" in equispec(*arguments, "--set", "cutof=5.0").err


def foreign_weights(f: int, blocks: int, n_radial: int, energies: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shapes = {"invariant_atom_emb.embeddings.weight": (9, f), "equivariant_atom_emb.embeddings.weight": (9, f)}
    for block in range(blocks):
        message, update = f"message_layers.{block}", f"update_layers.{block}"
        shapes |= {f"{message}.x_layernorm.{kind}": (f,) for kind in ("weight", "bias")}
        for name, rows, columns in (("x_proj.0", f, f), ("x_proj.2", 3 * f, f), ("rbf_proj", 3 * f, n_radial)):
            shapes |= {f"{message}.{name}.weight": (rows, columns), f"{message}.{name}.bias": (rows,)}
        shapes[f"{update}.vec_proj.weight"] = (2 * f, f)
        for name, rows, columns in (("xvec_proj.0", f, 2 * f), ("xvec_proj.2", 3 * f, f)):
            shapes |= {f"{update}.{name}.weight": (rows, columns), f"{update}.{name}.bias": (rows,)}
        shapes[f"upd_out_scalar_scale_{block}.scale_factor"] = ()
    shapes |= {"out_invariant.0.weight": (energies, f), "out_invariant.0.bias": (energies,)}
    weights = {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}
    return {**weights, "radial_basis.rbf.offset": torch.linspace(0, 1, n_radial)}


def test_data_inspect(equispec: Run) -> None:
    found = json.loads(equispec("data", "inspect", STORE, "--json").out)
    assert found["molecules"] > 200
    told = equispec("data", "inspect", STORE).out
    assert f"{found['sites']:,}" in told
    assert found["sha256"] in told


def test_data_inspect_of_a_property_store(equispec: Run, work: Path) -> None:
    water = molecule("H2O")
    attributes = dict.fromkeys(("method", "units", "protocol", "source", "licence", "citation"), "invented")
    properties = {"energy": np.asarray(-137.97), "charges": np.array([-0.6, 0.3, 0.3])}
    sample = PropertySample(1, "O", water.numbers.astype(np.int64), water.positions, 0, 1, properties)
    write_properties("a.h5", [sample], attributes, [(2, "no end in 250 cycles"), (7, "no end in 9 cycles")])
    found = json.loads(equispec("data", "inspect", "a.h5", "--json").out)
    assert found["properties"]["energy"] == {"unit": "eV", "range": [-137.97, -137.97]}
    told = equispec("data", "inspect", "a.h5").out
    for text in ("-137.97 to -137.97 eV", "-0.6 to 0.3 e", "H 2, O 1", "2: no end in … cycles (2)", found["sha256"]):
        assert text in told


def test_data_inspect_of_a_folder(equispec: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards with their counts, failures by reason, provenance that differs; environments name the edge's element."""
    oxygen = replace(EDGES["C-K"], name="O-K", element="O", z=8)
    monkeypatch.setitem(EDGES, "O-K", oxygen)
    with StickStore(STORE) as store:
        methanol = next(sample for sample in store if sample.smiles == "CO")
    carbon, (z, pos) = methanol.sites[0], (methanol.z, methanol.pos)
    (atom,) = np.flatnonzero(z == 8)
    site = replace(carbon, atom=int(atom), equivalent=())
    attributes = {
        "edge": "O-K",
        "energy_shift": -6.6,
        "units": "eV",
        "licence": "MIT",
        "citation": "us",
        "source": "us",
    }
    failures = [Failure(7, 0, "the gap is 0.31 eV"), Failure(7, 1, "the gap is 0.2 eV"), Failure(8, 0, "not converged")]
    Path("set").mkdir()
    for name, molecule_id, some in (("a", 1, failures), ("b", 2, [])):
        sample = Sample(molecule_id, "CO", z, pos, (site,))
        settings = {"protocol": "tp-dft", "settings_sha256": name * 8, "program": "PySCF 2.14"}
        write_store(f"set/{name}.h5", [sample], {**attributes, **settings}, some)
    result = equispec("data", "inspect", "set")
    assert result.code == 0, result.err
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    for line in (
        "labelled sites 2",
        "failed sites 3: the gap is … eV (2), not converged (1)",
        "environments O(C H) 2",
        "program PySCF 2.14",
        "settings sha256 aaaaaaaa (1 of 2 files)",
        "settings sha256 bbbbbbbb (1 of 2 files)",
    ):
        assert line in lines
    rows = [line.split() for line in lines if line.startswith(("a.h5", "b.h5"))]
    assert [row[:4] for row in rows] == [["a.h5", "1", "1", "3"], ["b.h5", "1", "1", "0"]]
    found = json.loads(equispec("data", "inspect", "set", "--json").out)
    assert found["failures"] == {"the gap is … eV": 2, "not converged": 1}
    assert found["bytes"] == sum(path.stat().st_size for path in Path("set").iterdir())
    assert [shard["provenance"]["settings_sha256"] for shard in found["shards"]] == ["aaaaaaaa", "bbbbbbbb"]


def test_data_split_is_that_of_training(equispec: Run, work: Path) -> None:
    result = equispec("data", "split", STORE, "--kind", "random", "--seed", "3", "-o", "split.json")
    assert result.code == 0
    found = json.loads(Path("split.json").read_text())
    from equispec.train.spectra.config import SpectraDataConfig
    from equispec.train.spectra.data import read_splits

    config = SpectraDataConfig(store=STORE, split=SplitConfig(seed=3))
    assert {name: found[name] for name in ("train", "valid", "test")} == {
        name: [sample.id for sample in samples] for name, samples in read_splits(config).items()
    }
    assert found["split"] == {"kind": "random", "seed": 3, "valid": 0.15, "test": 0.15}
    assert str(len(found["test"])) in result.out


def test_check_prints_a_table_and_fails_on_broken_promises(
    equispec: Run, work: Path, tmp_path: Path, directional_model: Path, tensor_model: Path
) -> None:
    kept = equispec("check", tensor_model)
    assert kept.code == 0, kept.out
    assert "rotation" in kept.out
    assert json.loads(equispec("check", tensor_model, "--json").out)["passed"]
    crooked = {**DIRECTIONAL, "backbone": {**DIRECTIONAL["backbone"], "symmetric_message": False}}
    broken = equispec("check", write_model(tmp_path / "crooked", crooked))
    assert broken.code == 1
    assert "fail" in broken.out


def test_from_configuration_to_spectrum(equispec: Run, work: Path) -> None:
    """train, continue from its weights, eval, check, models info, xas: the whole way, with a small model."""
    values = {"data": {"store": str(STORE), "train_sites": 40}, "model": TENSOR}
    values["train"] = {"epochs": 1, "batch_size": 8, "patience": None}
    Path("small.yaml").write_text(yaml.safe_dump(values))
    first = equispec("train", "small.yaml", "--set", "train.lr=2e-3")
    assert first.code == 0, first.err
    assert "runs/small/model" in first.err
    assert load_model(Path("runs/small/model")).metadata["training"]["config"]["train"]["lr"] == 2e-3

    frozen = ("--set", "train.lr=1e-12", "--set", "train.ema=null", "--set", "train.weight_decay=0")
    assert equispec("train", "small.yaml", "--init", "runs/small", "-o", "again", *frozen).code == 0
    before, after = load("runs/small").members[0].model, load("again").members[0].model
    for name, weight in before.named_parameters():
        torch.testing.assert_close(dict(after.named_parameters())[name], weight, rtol=0, atol=1e-6)

    judged = equispec("eval", "runs/small", STORE, "--report", "report")
    assert judged.code == 0, judged.err
    assert "paper-broad" in judged.out
    scores = json.loads(Path("report/metrics.json").read_text())["scores"]
    assert scores["model"]["native"]["tensor"] > 0
    assert "trained on" in equispec("models", "info", "runs/small").out
    assert equispec("xas", "ethanol.xyz", "-m", "runs/small", "-o", "a.h5", "--plot", "a.png").code == 0
