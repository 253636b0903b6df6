"""equispec predict, relax and md: what they print and write, and what they say to malformed input."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

import equispec as package
from equispec.predict import load
from property_models import ALL, STATISTICS, saved

from .conftest import Result
from .test_bad_input import everything_in

Run = Callable[..., Result]
FRAMES = [molecule(name) for name in ("H2O", "CH4", "C6H6")]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("properties") / "forces", ALL, seed=1, statistics=STATISTICS)


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("properties") / "second", ALL, seed=2, statistics=STATISTICS)


@pytest.fixture
def frames(work: Path) -> Path:
    ase.io.write("frames.xyz", FRAMES)
    return Path("frames.xyz")


def test_predict_prints_a_line_per_structure_and_writes(equispec: Run, frames: Path, model: Path) -> None:
    result = equispec("predict", frames, "-m", model, "-o", "out.xyz")
    assert result.code == 0, result.err
    assert result.errors == ["wrote out.xyz"]
    header, *lines = result.out.splitlines()
    for heading in ("energy (eV)", "|dipole| (D)", "max |forces| (eV/Å)", "homo (eV)"):
        assert heading in header
    expected = load(model).predict(frames)
    assert [line.split()[-1] for line in lines] == [
        f"{np.linalg.norm(f, axis=1).max():.6f}" for f in expected["forces"]
    ]
    for atoms, energy in zip(ase.io.iread("out.xyz"), expected["energy"], strict=True):
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)


def test_predict_for_programs(equispec: Run, frames: Path, model: Path, second: Path) -> None:
    asked = ("--properties", "energy,dipole", "--json", "-o", "out.json")
    result = equispec("predict", frames, "--smiles", "O", "-m", model, "-m", second, *asked)
    found = json.loads(result.out)
    assert found == json.loads(Path("out.json").read_text())
    assert found["meta"]["members"] == 2
    assert found["meta"]["units"] == {"energy": "eV", "dipole": "e·Å"}
    assert len(found["structures"]) == 4
    expected = load([model, second]).predict(frames, ["energy"])
    entry = found["structures"][2]
    assert entry["properties"]["energy"] == pytest.approx(expected["energy"][2], abs=1e-10)
    assert entry["spread"]["energy"] == pytest.approx(expected.spread["energy"][2], abs=1e-10)


def test_predict_says_what_lies_outside(equispec: Run, work: Path, model: Path) -> None:
    ase.io.write("odd.xyz", [*FRAMES, molecule("CH3Cl"), molecule("CH3Cl")])
    result = equispec("predict", "odd.xyz", "-m", model, "--properties", "energy")
    assert result.code == 0
    assert result.errors == [
        "Warning: odd.xyz, frame 4: the model has never seen the element Cl",
        "2 of 5 structures lie outside what the model was trained on; they are marked with *",
    ]
    assert [line.split()[2].endswith("*") for line in result.out.splitlines()[2:]] == [False, False, True, True]
    strict = equispec("predict", "odd.xyz", "-m", model, "--strict", "-o", "out.h5")
    assert strict.code == 3
    assert strict.errors == ["Error: odd.xyz, frame 4: the model has never seen the element Cl"]
    assert not Path("out.h5").exists()


def test_predict_in_shards(equispec: Run, work: Path, model: Path) -> None:
    ase.io.write("many.xyz", FRAMES * 3)
    command = ("predict", "many.xyz", "-m", model, "--shard", 4, "--format", "h5", "-o", "parts")
    result = equispec(*command)
    assert result.code == 0, result.err
    assert result.errors == ["parts is complete: 9 structures"]
    assert sorted(path.name for path in Path("parts").glob("*.h5")) == ["000000.h5", "000001.h5", "000002.h5"]
    assert equispec(*command).code == 2
    assert equispec(*command, "--resume").errors == ["parts is complete: 9 structures"]
    ase.io.write("many.xyz", FRAMES * 4)
    changed = equispec(*command, "--resume")
    assert changed.code == 2
    assert "was begun with structures_sha256" in changed.err


def test_relax(equispec: Run, frames: Path, model: Path) -> None:
    ase.io.write("water.xyz", FRAMES[0])
    result = equispec("relax", "water.xyz", "-m", model, "--fmax", "0.02", "-o", "out.xyz")
    assert result.code == 0, result.err
    assert "yes" in result.out
    assert np.abs(ase.io.read("out.xyz").get_forces()).max() < 0.02
    few = equispec("relax", "water.xyz", "-m", model, "--steps", "1", "-o", "few.xyz", "--json")
    assert few.code == 1
    assert "not all structures are relaxed to 0.01 eV/Å after 1 steps" in few.err
    (row,) = json.loads(few.out)["structures"]
    assert (row["converged"], row["steps"]) == (False, 1)
    assert Path("few.xyz").exists()


def test_md_resumes_and_reports(equispec: Run, work: Path, model: Path) -> None:
    ase.io.write("water.xyz", FRAMES[0])
    command = ("md", "water.xyz", "-m", model, "--temperature", "100", "--dt", "0.25", "--every", "4", "-o", "t.xyz")
    result = equispec(*command, "--time", "5fs", "--plot", "t.png")
    assert result.code == 0, result.err
    assert result.errors == ["wrote t.xyz", "wrote t.png"]
    for text in ("H2O, nve 100 K", "0.005 ps, 20 steps", "K", "meV/ps/atom"):
        assert text in result.out
    assert Path("t.png").read_bytes().startswith(b"\x89PNG")
    again = equispec(*command, "--steps", "40", "--resume", "--json")
    found = json.loads(again.out)
    assert (found["steps"], found["units"]["drift"]) == (40, "meV/ps/atom")
    frames = ase.io.read("t.xyz", ":")
    assert [frame.info["step"] for frame in frames] == list(range(0, 41, 4))
    assert frames[-1].info["equispec_version"] == package.__version__


def test_md_from_a_minimum_says_so(equispec: Run, work: Path, model: Path) -> None:
    ase.io.write("water.xyz", FRAMES[0])
    assert equispec("relax", "water.xyz", "-m", model, "-o", "relaxed.xyz").code == 0
    result = equispec("md", "relaxed.xyz", "-m", model, "--temperature", "100", "--steps", "2", "-o", "t.xyz")
    assert result.code == 0, result.err
    assert len(result.errors) == 2
    assert "half of its 100 K goes into the potential energy" in result.errors[0]
    assert "half of it goes into the potential" in equispec("md", "--help").out


def test_md_that_blows_up_ends_with_one_sentence(equispec: Run, work: Path, model: Path) -> None:
    hot = FRAMES[0].copy()
    hot.set_momenta(np.full((3, 3), 9.0))  # a structure's own velocities are used
    ase.io.write("hot.xyz", hot)
    result = equispec("md", "hot.xyz", "-m", model, "--steps", "99", "-o", "t.xyz")
    assert result.code == 1
    (sentence,) = result.errors
    assert re.match(r"Error: the simulation stopped at step 0 .* this frame is in t-stopped.xyz$", sentence)
    assert len(ase.io.read("t-stopped.xyz")) == 3


M = object()
CASES: dict[str, tuple[list[Any], str]] = {
    "no model": (["predict", "frames.xyz"], "Missing option '--model'"),
    "no structure": (["predict", "-m", M], "no structure is given"),
    "missing file": (["predict", "nothing.xyz", "-m", M, "-o", "o.h5"], "nothing.xyz: no such file"),
    "unknown model": (["predict", "frames.xyz", "-m", "nowhere"], "unknown model 'nowhere'"),
    "model of spectra": (["predict", "frames.xyz", "-m", "ck-tensor"], "predicts spectra only, no properties"),
    "spectra of a force field": (["xas", "frames.xyz", "-m", M], "predicts no spectra; it predicts energy"),
    "unknown property": (
        ["predict", "frames.xyz", "-m", M, "--properties", "energy,gap"],
        "does not predict gap; it predicts energy, dipole",
    ),
    "unknown property in a table": (
        ["predict", "frames.xyz", "-m", M, "--properties", "gap", "-o", "o.csv"],
        "does not predict gap",
    ),
    "no property": (["predict", "frames.xyz", "-m", M, "--properties", ","], "no property is asked for"),
    "forces in a table": (
        ["predict", "frames.xyz", "-m", M, "--properties", "energy,forces", "-o", "o.csv"],
        "o.csv: a table has one row per structure and no place for forces; use .xyz",
    ),
    "unknown suffix": (
        ["predict", "frames.xyz", "-m", M, "-o", "o.txt"],
        r"o.txt: unknown suffix '.txt'; known ones are .xyz, .extxyz, .csv, .h5, .hdf5, .json",
    ),
    "output over the input": (["predict", "frames.xyz", "-m", M, "-o", "frames.xyz"], "one of the structure files"),
    "output into nowhere": (["predict", "frames.xyz", "-m", M, "-o", "no/o.h5"], "there is no folder no"),
    "empty frame in the middle": (
        ["predict", "hole.xyz", "-m", M, "-o", "o.xyz"],
        "hole.xyz, frame 2: an empty frame",
    ),
    "periodic dipole": (
        ["predict", "crystal.cif", "-m", M, "-o", "o.xyz"],
        "crystal.cif: the structure is periodic, but only molecules have dipole.* energy, homo, forces, stress",
    ),
    "stress of a molecule": (
        ["predict", "frames.xyz", "-m", M, "--properties", "stress"],
        "only structures that are periodic in 3 directions have a stress",
    ),
    "no atoms in a batch": (
        ["predict", "frames.xyz", "-m", M, "--batch-atoms", "0"],
        "'--batch-atoms'.*greater than or equal to 1",
    ),
    "shards without a folder": (["predict", "frames.xyz", "-m", M, "--shard", "2"], "--shard needs a folder"),
    "shards of an unknown kind": (
        ["predict", "frames.xyz", "-m", M, "--shard", "2", "-o", "o", "--format", "pdf"],
        r"unknown suffix '.pdf'",
    ),
    "shards into a file": (
        ["predict", "frames.xyz", "-m", M, "--shard", "2", "-o", "hole.xyz"],
        "cannot make the folder hole.xyz",
    ),
    "shards of unknown properties": (
        ["predict", "frames.xyz", "-m", M, "--shard", "2", "-o", "o", "--properties", "gap"],
        "does not predict gap",
    ),
    "resume of a file": (
        ["predict", "frames.xyz", "-m", M, "--resume", "-o", "o.h5"],
        "--resume goes on with a folder",
    ),
    "precision": (["predict", "frames.xyz", "-m", M, "--dtype", "half"], "unknown dtype 'half'"),
    "relax without forces": (["relax", "frames.xyz", "-m", "dipoles", "-o", "o.xyz"], "no energy and so no forces"),
    "relax the cell of a molecule": (
        ["relax", "frames.xyz", "-m", M, "--cell", "-o", "o.xyz"],
        "frames.xyz: a cell can be relaxed in three periodic directions only",
    ),
    "unknown optimizer": (
        ["relax", "frames.xyz", "-m", M, "--optimizer", "sgd"],
        "unknown optimizer 'sgd'; .*bfgs, fire",
    ),
    "impossible force": (["relax", "frames.xyz", "-m", M, "--fmax", "0"], "must be positive"),
    "endless md": (["md", "one.xyz", "-m", M, "-o", "t.xyz"], "how long. either --time"),
    "md of two lengths": (["md", "one.xyz", "-m", M, "-o", "t.xyz", "--steps", "9", "--time", "1ps"], "how long"),
    "time without a unit": (
        ["md", "one.xyz", "-m", M, "-o", "t.xyz", "--time", "10"],
        "time '10': a number and one of fs",
    ),
    "negative time step": (["md", "one.xyz", "-m", M, "-o", "t.xyz", "--time", "1ps", "--dt", "-1"], "dt = -1.0 fs"),
    "unknown ensemble": (
        ["md", "one.xyz", "-m", M, "-o", "t.xyz", "--steps", "9", "--ensemble", "npt"],
        "unknown ensemble",
    ),
    "md of several structures": (
        ["md", "frames.xyz", "-m", M, "-o", "t.xyz", "--steps", "9"],
        "holds several structures",
    ),
    "trajectory of another kind": (
        ["md", "one.xyz", "-m", M, "-o", "t.traj", "--steps", "9"],
        "unknown suffix '.traj'",
    ),
    "trajectory over the structure": (
        ["md", "one.xyz", "-m", M, "-o", "one.xyz", "--steps", "9"],
        "choose another file",
    ),
    "trajectory over a file": (
        ["md", "one.xyz", "-m", M, "-o", "hole.xyz", "--steps", "9"],
        "is there already; --resume",
    ),
    "resume of another file": (
        ["md", "one.xyz", "-m", M, "-o", "frames.xyz", "--steps", "9", "--resume"],
        "frames.xyz is not a trajectory of equispec md",
    ),
    "picture of another kind": (
        ["md", "one.xyz", "-m", M, "-o", "t.xyz", "--steps", "9", "--plot", "t.gif"],
        "unknown suffix '.gif' of a plot",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_sentence_and_nothing_left_behind(name: str, equispec: Run, frames: Path, model: Path) -> None:
    ase.io.write("one.xyz", FRAMES[0])
    ase.io.write("hole.xyz", [FRAMES[0], Atoms(), FRAMES[1]])
    ase.io.write("crystal.cif", bulk("C", "diamond", 3.567))
    saved(Path("dipoles"), ({"name": "dipole"},))
    arguments, expected = CASES[name]
    before = everything_in(Path())
    result = equispec(*(model if argument is M else argument for argument in arguments))
    assert result.code == 2
    errors = [line for line in result.errors if not line.startswith("Warning: ")]
    assert len(errors) == 1, result.err
    assert re.search(expected, errors[0]), errors[0]
    assert len(errors[0]) < 300, "too long to be clear"
    assert everything_in(Path()) == before


@pytest.mark.parametrize("verb", ["predict", "relax", "md"])
def test_strict_refuses_what_was_never_seen(verb: str, equispec: Run, work: Path, model: Path) -> None:
    ase.io.write("odd.xyz", molecule("CH3Cl"))
    before = everything_in(work)
    more = ("--steps", "3") if verb == "md" else ()
    result = equispec(verb, "odd.xyz", "-m", model, "-o", "o.xyz", "--strict", *more)
    assert result.code == 3
    assert result.errors == ["Error: odd.xyz: the model has never seen the element Cl"]
    assert everything_in(work) == before


LONG = {
    "md": (("md", "frames.xyz", "--steps", "1000000", "-o", "out.xyz"), "goes on from the last frame of out.xyz"),
    "shards": (("predict", "frames.xyz", "--shard", "1", "-o", "out.xyz"), "goes on after the last finished file"),
}


@pytest.mark.parametrize("verb", LONG)
def test_work_stopped_by_hand_says_how_it_can_go_on(work: Path, model: Path, verb: str) -> None:
    arguments, last_word = LONG[verb]
    ase.io.write("frames.xyz", [molecule("CH3CH2OH")] * (1 if verb == "md" else 20_000))
    # a shell that starts the tests in the background would have interruptions ignored
    program = "import signal; signal.signal(2, signal.default_int_handler); from equispec.cli import main; main()"
    command = [sys.executable, "-c", program, *arguments, "-m", str(model)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + 120
        while not Path("out.xyz").exists():
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        run.send_signal(signal.SIGINT)
        told = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert told.splitlines()[-1].endswith(last_word)
    assert "Traceback" not in told
