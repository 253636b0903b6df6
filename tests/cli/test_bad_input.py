"""Malformed input of every kind: exit code 2, one sentence that says what is wrong, and nothing left behind."""

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write

from equispec.checkpoint import CONFIG, WEIGHTS

from .conftest import DIRECTIONAL, GRID, TENSOR, write_model

STORE = Path(__file__).resolve().parents[2] / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5"
Arguments = list[Any]
Case = Callable[[Path], Arguments]  # prepares files in a folder and returns the arguments; M stands for a good model
M = object()


def structure(content: str | bytes | Atoms | list[Atoms], name: str = "bad.xyz", *more: Any) -> Case:
    """`equispec xas` of a file with this content."""

    def prepare(folder: Path) -> Arguments:
        if isinstance(content, str | bytes):
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            write(folder / name, content)
        return ["xas", name, "-m", M, "-o", "out.h5", *more]

    return prepare


def good(*options: Any) -> Case:
    """`equispec xas` of a good structure with bad options."""
    return lambda folder: ["xas", "ethanol.xyz", "-m", M, *options]


def model(damage: Callable[[Path], Any]) -> Case:
    """`equispec xas` with a damaged model."""

    def prepare(folder: Path) -> Arguments:
        damage(write_model(folder / "model", TENSOR))
        return ["xas", "ethanol.xyz", "-m", "model", "-o", "out.csv"]

    return prepare


def config(*options: Any, **changes: dict[str, Any]) -> Case:
    """`equispec train` of a configuration with a mistake."""

    def prepare(folder: Path) -> Arguments:
        values: dict[str, Any] = {"data": {"store": str(STORE)}, "model": TENSOR, "train": {"epochs": 1}}
        for part, change in changes.items():
            values[part] = {**values[part], **change}
        (folder / "config.yaml").write_text(yaml.safe_dump(values))
        return ["train", "config.yaml", "-o", "run", *options]

    return prepare


def checkpoint(content: Callable[[Path], Any], *options: Any) -> Case:
    """`equispec models import` of a bad checkpoint."""

    def prepare(folder: Path) -> Arguments:
        content(folder / "weights.pt")
        return ["models", "import", "isd-painn", "weights.pt", "-o", "imported", *options]

    return prepare


def plainly(*arguments: Any) -> Case:
    return lambda folder: list(arguments)


class RunsCode:
    """What pickle makes of it is a call: it would write a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch attacked",)


def moved(shift: np.ndarray) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.positions[0] = atoms.positions[1] + shift
    return atoms


def change_config(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(values | changes))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


FRAMES = [molecule("CH4"), molecule("C2H6")]
OTHER_GRID = {**TENSOR, "heads": [{**TENSOR["heads"][0], "grid": {**GRID, "n": 41}}]}


def ensemble(folder: Path) -> Arguments:
    write_model(folder / "other", OTHER_GRID)
    return ["xas", "ethanol.xyz", "-m", M, "-m", "other"]


def too_heavy(folder: Path) -> Arguments:
    write_model(folder / "light", DIRECTIONAL)
    write(folder / "heavy.xyz", Atoms("CU", [[0, 0, 0], [0, 0, 2]]))
    return ["xas", "heavy.xyz", "-m", "light"]


def bad_third_frame(folder: Path) -> Arguments:
    write(folder / "frames.xyz", [*FRAMES, molecule("H2O")])
    return ["xas", "frames.xyz", "-m", M, "-o", "out.h5"]


def cut_trajectory(folder: Path) -> Arguments:
    write(folder / "frames.xyz", FRAMES)
    text = (folder / "frames.xyz").read_text().splitlines(keepends=True)
    (folder / "frames.xyz").write_text("".join(text[:-3]))
    return ["xas", "frames.xyz", "-m", M, "-o", "out.json"]


def used_run_folder(folder: Path) -> Arguments:
    (folder / "run").mkdir()
    (folder / "run" / "notes.txt").write_text("precious")
    return config()(folder)


def other_architecture(folder: Path) -> Arguments:
    write_model(folder / "other", {**TENSOR, "backbone": {**TENSOR["backbone"], "features": 10}})
    return config("--init", "other")(folder)


CASES: dict[str, tuple[Case, str]] = {
    # structures
    "missing file": (plainly("xas", "nothing.xyz", "-m", M, "-o", "out.h5"), "nothing.xyz: no such file"),
    "folder": (lambda folder: ["xas", folder, "-m", M], "is a folder"),
    "empty file": (structure(""), "bad.xyz: the file is empty"),
    "garbled file": (structure("3\nwater?\nC 0 0 zero\n"), "bad.xyz: not readable as"),
    "binary rubbish": (structure(bytes(range(256)) * 4), "bad.xyz: "),
    "unknown format": (structure("some text", "bad.qqq"), "bad.qqq: unknown structure format.*xyz"),
    "no atoms": (structure("0\n\n"), "bad.xyz, frame 1: an empty frame"),
    "no carbon": (structure(molecule("H2O")), "no C atom, so there is no C-K edge"),
    "element beyond the model's": (too_heavy, "atomic number 92; this model knows elements up to 9"),
    "two atoms in one place": (structure(moved(np.array([0.0, 0.1, 0.2]))), "0.224 Å apart; at least 0.5 Å"),
    "NaN coordinates": (structure("2\n\nC 0 0 nan\nO 0 0 1.1\n"), "atom 0 .*coordinate that is not a number"),
    "atoms that lie far apart": (structure("2\n\nC 0 0 0\nO 0 0 1e300\n"), "extends over 1e.300 Å; at most 10000 Å"),
    "charge of three numbers": (
        structure(Atoms("CO", [[0, 0, 0], [0, 0, 1.1]], info={"charge": np.arange(3)}), "bad.extxyz"),
        r"charge = \[0 1 2\]: one number is needed",
    ),
    "periodic": (structure(bulk("C"), "bad.cif"), "periodic, but the model is for molecules"),
    "bad frame in the middle": (bad_third_frame, "frames.xyz, frame 3: no C atom"),
    "cut trajectory": (cut_trajectory, "frames.xyz: not readable as .* after frame 1"),
    "no structure": (plainly("xas", "-m", M), "no structure is given"),
    "bad SMILES": (plainly("xas", "--smiles", "c1ccc", "-m", M), "SMILES 'c1ccc': not a valid SMILES"),
    # questions
    "zero direction": (good("--pol", "0,0,0"), "zero vector"),
    "unknown direction": (good("--pol", "up"), "polarisation 'up' is not understood; allowed are 'iso'"),
    "two components": (good("--pol", "1,0"), "three"),
    "direction not finite": (good("--pol", "nan,0,1"), "finite"),
    "unknown edge": (good("--edge", "Xe-K"), "unknown edge 'Xe-K'; known edges: C-K"),
    "site out of range": (good("--site", "99"), "atom 99 is not a C atom; allowed: 0, 1"),
    "negative site": (good("--site", "-1"), "atom -1 is not a C atom"),
    "site of another element": (good("--site", "2"), "atom 2 is not a C atom"),
    "site that is no number": (good("--site", "first"), "sites 'first'"),
    "site twice": (good("--site", "0,0"), "named twice"),
    "two widths": (good("--sigma", "0.2", "--fwhm", "0.3"), "either by sigma or by fwhm"),
    "negative width": (good("--fwhm", "-1"), "fwhm = -1.0 eV: it must be positive"),
    "width beyond the spectrum": (good("--sigma", "1e9"), "at most 82.5 eV is possible, five times"),
    "astronomic shift": (good("--shift", "1e20"), "at most 1e\\+06 eV"),
    "endless shift": (good("--shift", "inf"), "shift = inf eV: it must be finite"),
    "shift that is no number": (good("--shift", "much"), "'--shift'.*number"),
    "unknown device": (good("--device", "abacus"), "device 'abacus'"),
    # outputs
    "unknown suffix": (good("-o", "out.xlsx"), r"unknown suffix '.xlsx'; known ones are .csv, .h5"),
    "unknown suffix of a plot": (good("--plot", "out.gif"), r"unknown suffix '.gif'.*.png, .svg"),
    "output into nowhere": (good("-o", "nowhere/out.csv"), "cannot write nowhere/out.csv: there is no folder nowhere"),
    "output over a folder": (
        lambda folder: (folder / "out.csv").mkdir() or good("-o", "out.csv")(folder),
        "cannot write out.csv: it is a folder",
    ),
    "output over the input": (
        structure(molecule("CH4"), "in.json", "-o", "in.json"),
        "in.json is one of the structure",
    ),
    "several structures in a table": (
        structure(FRAMES, "frames.xyz", "-o", "out.csv"),
        "out.csv: such a file holds one structure; several go into one of .h5",
    ),
    "several structures in a plot": (
        structure(FRAMES, "frames.xyz", "--plot", "out.png"),
        "out.png: a plot shows one structure",
    ),
    # models
    "unknown model": (plainly("xas", "ethanol.xyz", "-m", "ck-tensr"), "unknown model 'ck-tensr'"),
    "folder without a model": (model(lambda folder: (folder / CONFIG).unlink()), f"no {CONFIG}"),
    "path of a folder without a model": (plainly("models", "path", "."), f"no {CONFIG}"),
    "deeply nested model description": (
        model(lambda folder: (folder / CONFIG).write_text("[" * 100_000)),
        "not the description of an equispec model",
    ),
    "model without weights": (model(lambda folder: (folder / WEIGHTS).unlink()), f"no {WEIGHTS}"),
    "truncated weights": (model(lambda folder: truncate(folder / WEIGHTS)), "damaged or was changed"),
    "tampered weights": (model(lambda folder: flip_a_bit(folder / WEIGHTS)), "damaged or was changed"),
    "garbled model description": (
        model(lambda folder: (folder / CONFIG).write_text("{")),
        "not the description of an equispec model",
    ),
    "model of the future": (model(lambda folder: change_config(folder, format=99)), "format 99.*update"),
    "mismatched ensemble": (ensemble, "members of an ensemble must have the same"),
    # training
    "misspelt key": (config(train={"epcohs": 3}), "unknown key 'train.epcohs'; known keys: .*epochs"),
    "negative cutoff": (config("--set", "model.backbone.cutoff=-1"), "cutoff.*greater than 0"),
    "endless cutoff": (config("--set", "model.backbone.cutoff=.inf"), "cutoff.*finite number"),
    "run folder that is a file": (config("-o", "ethanol.xyz"), "ethanol.xyz is a file"),
    "unknown backbone": (config(model={"backbone": {"name": "gnn"}}), "unknown name 'gnn'; known names: .*painn"),
    "setting without a value": (config("--set", "train.lr"), "write it as key=value"),
    "missing store": (config(data={"store": "nothing.h5"}), "nothing.h5: no such file"),
    "missing configuration": (plainly("train", "nothing.yaml"), "cannot read the configuration nothing.yaml"),
    "configuration and --resume": (plainly("train", "a.yaml", "--resume", "run"), "not both"),
    "used run folder": (used_run_folder, "run folder run is not empty"),
    "resume of nothing": (plainly("train", "--resume", "run"), "run is not a run folder"),
    "init with another architecture": (other_architecture, "cannot start from model 'other'"),
    # weights of other programs
    "checkpoint that runs code": (
        checkpoint(lambda path: path.write_bytes(pickle.dumps({"model_state_dict": RunsCode()}))),
        "would run code",
    ),
    "checkpoint of torch.save that runs code": (
        checkpoint(lambda path: torch.save({"model_state_dict": RunsCode()}, path)),
        "would run code",
    ),
    "truncated checkpoint": (
        checkpoint(lambda path: (torch.save({"a": torch.ones(99)}, path), truncate(path))),
        "damaged or not a checkpoint",
    ),
    "checkpoint of four letters": (checkpoint(lambda path: path.write_bytes(b"junk")), "damaged or not a checkpoint"),
    "checkpoint of another network": (
        checkpoint(lambda path: torch.save({"a": torch.ones(3)}, path)),
        "not an ISD-PaiNN checkpoint: it lacks",
    ),
    "import of an unknown format": (
        plainly("models", "import", "onnx", "weights.pt", "-o", "imported"),
        "unknown format 'onnx' of weights; known formats: isd-painn",
    ),
    # data
    "no labels": (lambda folder: ["data", "inspect", folder / "ethanol.xyz"], "no frame has a label"),
    "missing data": (plainly("data", "inspect", "nothing.h5"), "nothing.h5: no such file"),
    "folder without data": (plainly("data", "inspect", "."), "a folder without a stick store"),
    "training on a folder without data": (config(data={"store": "."}), "a folder without a stick store"),
    "training on a shard that is not there": (
        config(data={"store": str(STORE.parent), "shards": ["other.h5"]}),
        "there is no other.h5 in this folder",
    ),
    "training on other data than said": (config(data={"sha256": "0" * 64}), "the data have changed"),
    "unknown reader": (plainly("data", "convert", "xyz", "a", "-o", "b.h5"), "unknown reader 'xyz'; known readers: ck"),
    "split without training data": (plainly("data", "split", STORE, "--test", "0.9"), "leaves nothing for training"),
    "evaluation on nothing": (plainly("eval", M, "nothing.h5"), "nothing.h5: no such file"),
    "evaluation without data": (plainly("eval", M), "a model and the data that it is compared with are needed"),
    "evaluation on an unknown split": (plainly("eval", M, STORE, "--split", "x"), "unknown split 'x'"),
    # usage
    "unknown verb": (plainly("xsa"), "No such command 'xsa'"),
    "unknown option": (good("--polarisation", "x"), "No such option: --polarisation"),
    "missing argument": (plainly("models", "path"), "Missing argument 'MODEL'"),
}


def everything_in(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_sentence_and_nothing_left_behind(name: str, equispec: Any, tensor_model: Path, work: Path) -> None:
    prepare, expected = CASES[name]
    arguments = [tensor_model if argument is M else argument for argument in prepare(work)]
    before = everything_in(work)
    result = equispec(*arguments)
    assert result.code == 2
    assert len(result.errors) == 1, result.err
    sentence = result.errors[0]
    assert sentence.startswith("Error: ")
    assert re.search(expected, sentence), sentence
    assert len(sentence) < 300, "too long to be clear"
    assert "Traceback" not in result.out + result.err
    assert everything_in(work) == before
