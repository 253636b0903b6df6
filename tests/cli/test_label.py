"""`equispec label` at the command line: what is refused and shown. Real runs: tests/reference/test_label_runs.py."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from equispec.cli.label import _shown, _words
from equispec.data.sample import Failure
from equispec.data.store import write_store
from equispec.reference.campaign import Progress
from equispec.reference.methods import CoreHole

pytest.importorskip("pyscf")
pytest.importorskip("tblite")

REFUSED = {
    "unknown method": (["--method", "ccsd"], "unknown method 'ccsd'; known methods: tp-dft, gfn2, gfn2-core"),
    "unknown level": (["--level", "best"], "unknown level 'best'; known levels: fast, accurate"),
    "unknown edge": (["--edge", "Xe-K"], "unknown edge 'Xe-K'; known edges: C-K"),
    "level of gfn2": (["--method", "gfn2", "--level", "fast"], "--level does not belong to --method gfn2"),
    "relaxation in tp-dft": (["--relax"], "--polarizability and --relax belong to --method gfn2"),
    "two clusters": (["--workers", "2", "--scheduler", "tcp://a:1"], "either --workers .* or .* --scheduler, not both"),
    "no workers": (["--workers", "0"], "--workers"),
    "negative time": (["--max-minutes", "-1"], "--max-minutes"),
    "suffix": (["-o", "out.csv"], "out.csv: unknown suffix '.csv'; a store ends in .h5"),
    "nowhere": (["-o", "nowhere/out.h5"], "cannot write nowhere/out.h5: there is no folder nowhere"),
    "existing output": (["-o", "old.h5"], "old.h5 exists; choose another file, or remove it"),
    "foreign output": (["-o", "old.h5", "--resume"], "old.h5 exists and is not the result of this run"),
    "foreign journal": (["-o", "new.h5", "--resume"], "new.h5.journal: not a journal of `equispec label`"),
    "missing file": (["nothing.xyz"], "nothing.xyz: no such file"),
    "bad SMILES": (["--smiles", "c1ccc"], "SMILES 'c1ccc': not a valid SMILES"),
    "no carbon": (["water.xyz"], "water.xyz: no C atom, so there is no C-K edge"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_clear_sentence_and_nothing_left_behind(name: str, equispec: Callable[..., Any], work: Path) -> None:
    write("water.xyz", molecule("H2O"))
    Path("old.h5").write_text("precious")
    Path("new.h5.journal").write_text("a diary, not of this program")
    before = {path: path.read_bytes() for path in work.iterdir()}
    options, message = REFUSED[name]
    result = equispec("label", "ethanol.xyz", *([] if "-o" in options else ["-o", "out.h5"]), *options)
    assert result.code == 2
    assert len(result.errors) == 1, result.err
    assert re.search(message, result.errors[0]), result.errors[0]
    assert {path: path.read_bytes() for path in work.iterdir()} == before


def test_something_must_be_given(equispec: Callable[..., Any], work: Path) -> None:
    Path("set").mkdir()
    assert "--grow takes structure files" in equispec("label", "--grow", "set").err
    assert "no structure is given" in equispec("label", "-o", "out.h5").err
    assert "either --output with a store to write, or --grow" in equispec("label", "ethanol.xyz").err


def test_growing_says_so_where_there_is_nothing_to_do(equispec: Callable[..., Any], work: Path) -> None:
    Path("set").mkdir()
    write("named.xyz", Atoms(molecule("CH4"), info={"id": 1}))
    assert (
        equispec("label", "named.xyz", "--grow", "set", "--max-minutes", "0").err == "stopped before the first batch\n"
    )
    attributes: dict[str, str | float] = {**CoreHole().provenance()}
    write_store("set/0001.h5", [], attributes, [Failure(1, 0, "not converged")])
    assert equispec("label", "named.xyz", "--grow", "set").err == "set lacks none of the candidates\n"


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(10, 0, 0, 0), "sites"),
        (Progress(10, 4, 1, 4, 3.0), "sites, 1 failed"),
        (Progress(10, 5, 0, 1, 8.0), "sites, 0.5/s, 10 s left"),
        (Progress(1000, 500, 7, 0, 1000.0), "sites, 7 failed, 0.5/s, 17 min left"),
        (Progress(100000, 1000, 0, 0, 1000.0), "sites, 1/s, 27.5 h left"),
    ],
)
def test_progress_in_words(progress: Progress, words: str) -> None:
    """The rate is that of this run: what was found in the journal took no time."""
    assert _words(progress, "sites") == words


def test_a_bar_in_a_terminal_and_lines_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [Progress(9, done, 0, 0, float(done)) for done in range(10)]
    with _shown("sites") as report:
        for step in steps:
            report(step)
    assert capsys.readouterr().err.splitlines() == ["0/9 sites", "9/9 sites, 1/s, 0 s left"]

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with _shown("sites") as report:
        for step in steps:
            report(step)
    assert "9/9" in screen.getvalue()
    assert "sites, 1/s, 0 s left" in screen.getvalue()
