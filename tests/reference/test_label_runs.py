"""`equispec label` as users run it: real calculations, real kills, a cluster that was started by hand."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest
from ase.build import molecule
from ase.io import write

from equispec.data.properties import PropertyStore
from equispec.data.store import StickStore
from equispec.reference.journal import count_results

pytestmark = pytest.mark.qm
pytest.importorskip("pyscf")
pytest.importorskip("tblite")

NAMES = ("CH4", "HCN", "CO", "H2CO", "CH3OH")  # one site each
COMMAND = (sys.executable, "-c", "from equispec.cli import main; main()", "label", "frames.xyz")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("frames.xyz", [molecule(name) for name in NAMES])
    return tmp_path


def label(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *options], capture_output=True, text=True, env=ENVIRONMENT, check=False)


def results(output: str) -> int:
    """Results in the journal of a run that is on its way."""
    return count_results(Path(f"{output}.journal"))


def until(true: Callable[[], bool], run: subprocess.Popen, seconds: float = 300.0) -> None:
    """Wait for something that a running process brings about."""
    end = time.monotonic() + seconds
    while not true():
        assert run.poll() is None, "ended too early"
        assert time.monotonic() < end, "this takes too long"
        time.sleep(0.02)


def workers_of(command: subprocess.Popen) -> list[psutil.Process]:
    children = psutil.Process(command.pid).children(recursive=True)
    return [child for child in children if any("spawn_main" in part for part in child.cmdline())]


def assert_equal_stores(first: Path, second: Path) -> None:
    """The same molecules, sites and numbers. Times and the order of the calculations must leave no trace."""
    with StickStore(first) as one, StickStore(second) as two:
        assert one.ids == two.ids == list(range(1, len(NAMES) + 1))
        assert one.n_sites == two.n_sites == len(NAMES)
        for a, b in zip(one, two, strict=True):
            for left, right in zip(a.sites, b.sites, strict=True):
                assert (left.atom, left.equivalent) == (right.atom, right.equivalent)
                np.testing.assert_allclose(left.energy, right.energy, atol=1e-6)
                assert left.total_energy == pytest.approx(right.total_energy, abs=1e-6)
                strength = [(site.dipole**2).sum() for site in (left, right)]
                assert strength[0] == pytest.approx(strength[1], rel=1e-5)
    with StickStore(first) as one, StickStore(second) as two:
        assert one.attributes == two.attributes


class Cluster:
    """A dask scheduler and workers, started by hand; a context manager."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.processes = folder, ExitStack()
        file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0")
        until(file.exists, self.scheduler)
        for _ in range(workers):
            self._start("worker", "--nthreads", "1")
        self.address = json.loads(file.read_text())["address"]

    def _start(self, *arguments: str) -> subprocess.Popen:
        local = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(self.folder / "scheduler.json"))
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, *local],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env=ENVIRONMENT,
        )
        self.processes.enter_context(process)
        self.processes.callback(process.kill)
        return process

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run that nothing interrupted, on a scheduler and two workers that were started by hand."""
    folder = tmp_path_factory.mktemp("whole")
    write(folder / "frames.xyz", [molecule(name) for name in NAMES])
    output = folder / "whole.h5"
    with Cluster(folder, workers=2) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        end = label("--scheduler", cluster.address, "-o", str(output))
    assert end.returncode == 0, end.stderr
    assert end.stderr.splitlines()[-1] == f"{output} is complete: 5 of 5 sites (0 failed)"
    return output


def test_a_cluster_that_was_started_by_hand(whole: Path) -> None:
    with StickStore(whole) as store:
        first_peak = {sample.id: min(site.energy) for sample in store for site in sample.sites}
    assert first_peak[2] == pytest.approx(293.28, abs=0.3)  # HCN, at another geometry
    assert first_peak[3] == pytest.approx(293.97, abs=0.3)  # CO


def test_killed_twice_and_resumed_gives_what_an_uninterrupted_run_gives(whole: Path, frames: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--workers", "1", "-o", "killed.h5"], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as run:
        assert run.stderr is not None
        until(lambda: results("killed.h5") >= 1, run)
        worker = workers_of(run)[0]
        worker.suspend()
        refused = label("--resume", "-o", "killed.h5")
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        assert "killed.h5.journal is in use" in refused.stderr
        worker.kill()
        until(lambda: results("killed.h5") >= 3, run)
        left_behind = workers_of(run)
        run.kill()
        assert "Traceback" not in run.stderr.read()
    psutil.wait_procs(left_behind, timeout=20)
    assert not any(process.is_running() for process in left_behind), "workers die with their command"
    done = results("killed.h5")
    assert 3 <= done < len(NAMES)
    assert not Path("killed.h5").exists()
    end = label("--resume", "--workers", "1", "-o", "killed.h5")
    assert end.returncode == 0, end.stderr
    assert f"{done}/5 sites" in end.stderr
    assert end.stderr.splitlines()[-1] == "killed.h5 is complete: 5 of 5 sites (0 failed)"
    assert_equal_stores(Path("killed.h5"), whole)
    assert {path.name for path in frames.iterdir()} == {"frames.xyz", "killed.h5"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_writes_what_there_is(number: signal.Signals, frames: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--workers", "1", "-o", "a.h5"],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    ) as run:
        assert run.stderr is not None
        until(lambda: results("a.h5") >= 1, run)
        os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)  # as a terminal does it
        errors = run.stderr.read()
    assert run.returncode == 128 + number
    assert "Traceback" not in errors
    with StickStore("a.h5") as store:
        assert 1 <= store.n_sites < len(NAMES)
        assert errors.splitlines()[-1].startswith(f"stopped at {store.n_sites} of 5 sites (0 failed)")
    assert Path("a.h5.journal").exists()


def test_a_cluster_that_goes_away_is_one_sentence(frames: Path) -> None:
    with (
        Cluster(frames, workers=1) as cluster,
        subprocess.Popen(
            [*COMMAND, "--scheduler", cluster.address, "-o", "a.h5"],
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        ) as run,
    ):
        assert run.stderr is not None
        until(lambda: results("a.h5") >= 1, run)
        cluster.scheduler.kill()
        errors = run.stderr.read().splitlines()
    assert run.returncode == 2
    assert errors[0] == "0/5 sites"
    assert errors[1:] == ["Error: the connection to the cluster is lost; what was done until then is kept"]
    assert results("a.h5") >= 1


def test_tight_binding_properties(frames: Path) -> None:
    run = label("--method", "gfn2", "--polarizability", "--workers", "1", "-o", "p.h5")
    assert run.returncode == 0, run.stderr
    assert run.stderr.splitlines()[-1] == "p.h5 is complete: 5 of 5 molecules (0 failed)"
    store = PropertyStore("p.h5")
    assert store.ids == [1, 2, 3, 4, 5]
    assert set(store.names) == {"energy", "forces", "dipole", "charges", "polarizability"}
    assert store.attributes["method"] == "GFN2-xTB"
    np.testing.assert_allclose(store[0].pos, molecule("CH4").positions, atol=1e-7)
