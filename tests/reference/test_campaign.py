"""Campaigns: what is computed, recorded, kept and refused, with invented calculations (real: test_label_runs.py)."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

from equispec.data.store import StickStore
from equispec.errors import InputError
from equispec.reference import campaign, workers
from equispec.reference.campaign import Progress, run
from equispec.reference.core_hole import SiteFailed
from equispec.reference.journal import Journal
from equispec.reference.methods import CoreHole, Failures, Molecule, Results, Task
from equispec.reference.plan import Plan, make_plan
from equispec.reference.workers import IN_FLIGHT, completed, connect
from invented_labels import ATTRIBUTES

NAMES = ("C2H4", "CH4", "C2H6", "CH3OH", "C3H8", "HCN", "CO", "H2CO")


@dataclass(frozen=True)
class Invented:
    """Sticks from a random number generator; what was computed is written down in a file."""

    log: Path
    seconds: float = 0.0
    fail: tuple[int, int] = (0, 0)
    die: tuple[int, int] = (0, 0)
    refuse: tuple[int, int] = (0, 0)
    everywhere_another: bool = False
    unit = "sites"

    def provenance(self) -> dict[str, str | float]:
        return ATTRIBUTES | ({"program": f"version {os.getpid()}"} if self.everywhere_another else {})

    def tasks(self, molecule: Molecule) -> list[Task]:
        return [Task(molecule, int(atom), (int(atom),)) for atom in np.flatnonzero(molecule.z == 6)]

    def compute(self, task: Task) -> Mapping[str, Any]:
        with self.log.open("a") as file:
            file.write(f"{task.key} {os.getpriority(os.PRIO_PROCESS, 0)} {os.environ['OMP_NUM_THREADS']}\n")
        time.sleep(self.seconds)
        if task.key == self.die:
            os._exit(1)
        if task.key == self.refuse:
            raise InputError("labels need a package that is not installed")
        if task.key == self.fail:
            raise SiteFailed("not\nconverged")
        if task.key == (3, 1):
            raise ZeroDivisionError("a mistake in some library")
        rng = np.random.default_rng(task.key)
        return {
            "atom": task.atom,
            "energy": np.sort(rng.uniform(290, 320, 5)),
            "dipole": rng.normal(size=(5, 3)).astype(np.float32),
            "ionization_potential": 296.0,
            "population_1s": 1.0,
            "gap": 5.0,
            "total_energy": -1000.0,
            "equivalent": task.equivalent,
        }

    def write(
        self, path: Path, found: Iterable[tuple[Molecule, Results, Failures]], attributes: Mapping[str, str | float]
    ) -> None:
        CoreHole().write(path, found, attributes)

    @property
    def computed(self) -> Counter[str]:
        return Counter(line.split(") ")[0] + ")" for line in self.log.read_text().splitlines())


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    """The plan for eight molecules (2 + 1 + 2 + 1 + 3 + 1 + 1 + 1 sites), of which site (3, 1) always fails."""
    write(tmp_path / "structures.xyz", [molecule(name) for name in NAMES])

    def make(**options: Any) -> Plan:
        return make_plan([tmp_path / "structures.xyz"], [], Invented(tmp_path / "log", **options))

    return make


def test_everything_is_computed_once_and_failures_are_recorded(plan: Callable[..., Plan], tmp_path: Path) -> None:
    reports: list[Progress] = []
    planned = plan(fail=(2, 0))
    end = run(planned, tmp_path / "a.h5", workers=2, report=reports.append)
    assert (end.total, end.done, end.failed, end.found, end.complete) == (12, 12, 2, 0, True)
    assert end.rate > 0
    assert end.seconds_left == 0
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    assert reports[0].seconds_left is None
    with StickStore(tmp_path / "a.h5") as store:
        labelled = {(sample.id, site.atom) for sample in store for site in sample.sites}
        assert labelled == {task.key for task in planned.tasks} - {(2, 0), (3, 1)}
        assert 2 not in store.ids, "a molecule of which nothing is known is no sample"
        reasons = {(failure.molecule, failure.atom): failure.reason for failure in store.failures}
        assert store.attributes["plan_sha256"] == planned.sha256
    assert reasons == {(2, 0): "not converged", (3, 1): "ZeroDivisionError: a mistake in some library"}
    assert planned.method.computed == Counter(str(task.key) for task in planned.tasks)  # type: ignore[attr-defined]
    lines = (tmp_path / "log").read_text().splitlines()
    nice, threads = {int(line.split()[-2]) for line in lines}, {line.split()[-1] for line in lines}
    assert threads == {"1"}
    assert nice == {min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)}
    assert not (tmp_path / "a.h5.journal").exists()


def stop_after(n: int) -> dict[str, Callable[..., Any]]:
    """Options of `run` that make it stop when n results are there."""
    done = [0]
    return {"stop": lambda: done[0] >= n, "report": lambda progress: done.__setitem__(0, progress.done)}


def test_a_stopped_run_goes_on_where_it_was(plan: Callable[..., Plan], tmp_path: Path) -> None:
    planned = plan(seconds=0.05)
    whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
    run(planned, whole, workers=1)
    (tmp_path / "log").unlink()
    first = run(planned, parts, workers=1, **stop_after(4))
    assert 4 <= first.done < 8
    assert not first.complete
    before = planned.method.computed  # type: ignore[attr-defined]
    with StickStore(parts) as store:
        known = {str((sample.id, site.atom)) for sample in store for site in sample.sites}
        known |= {str((failure.molecule, failure.atom)) for failure in store.failures}
    assert len(known) == first.done
    with pytest.raises(InputError, match="left from an earlier run; continue it with --resume"):
        run(planned, parts)
    second = run(planned, parts, resume=True, workers=1)
    assert (second.complete, second.found) == (True, first.done)
    after = planned.method.computed  # type: ignore[attr-defined]
    assert after.keys() == {str(task.key) for task in planned.tasks}
    assert all(after[key] == 1 for key in known), "nothing that was known is computed again"
    assert (after - before).keys().isdisjoint(known)
    assert parts.read_bytes() == whole.read_bytes()


def test_a_finished_run_is_not_run_again(plan: Callable[..., Plan], tmp_path: Path) -> None:
    planned = plan(fail=(2, 0))
    path = tmp_path / "a.h5"
    run(planned, path, workers=1)
    content = path.read_bytes()
    again = run(planned, path, resume=True, scheduler="tcp://127.0.0.1:1")  # where no worker could be found
    assert (again.done, again.failed, again.complete) == (12, 2, True)
    with pytest.raises(InputError, match=r"a.h5 exists; choose another file"):
        run(planned, path)
    other = make_plan([tmp_path / "structures.xyz"], [], CoreHole(sites="all"))
    with pytest.raises(InputError, match="not the result of this run"):
        run(other, path, resume=True)
    assert path.read_bytes() == content


def test_a_part_is_not_taken_for_the_whole(plan: Callable[..., Plan], tmp_path: Path) -> None:
    """Where only the store was copied or committed, the journal is missing: what is left must not be forgotten."""
    planned = plan(seconds=0.05)
    path = tmp_path / "a.h5"
    part = run(planned, path, workers=1, **stop_after(4))
    with StickStore(path) as store:
        assert store.attributes["unfinished"] == f"{part.done} of 12 sites"
    journal = path.with_name("a.h5.journal")
    kept = journal.read_bytes()
    journal.unlink()
    with pytest.raises(InputError, match=rf"a.h5 holds {part.done} of 12 sites only, and without its journal"):
        run(planned, path, resume=True, workers=1)
    journal.write_bytes(kept)
    run(planned, path, resume=True, workers=1)
    with StickStore(path) as store:
        assert "unfinished" not in store.attributes


def test_a_kill_between_the_store_and_the_end_costs_nothing(
    plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan()
    path = tmp_path / "a.h5"
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", lambda self: None)
        run(planned, path, workers=1)
    content = path.read_bytes()
    end = run(planned, path, resume=True, scheduler="tcp://127.0.0.1:1")
    assert (end.found, end.complete) == (12, True)
    assert path.read_bytes() == content
    assert not path.with_name("a.h5.journal").exists()


def test_a_site_that_kills_its_workers_is_a_failure_and_no_other_is(plan: Callable[..., Plan], tmp_path: Path) -> None:
    planned = plan(die=(5, 1))
    end = run(planned, tmp_path / "a.h5", workers=2)
    assert (end.done, end.failed) == (12, 2)
    with StickStore(tmp_path / "a.h5") as store:
        reasons = {(failure.molecule, failure.atom): failure.reason for failure in store.failures}
    assert reasons[5, 1] == "its worker died 3 times (out of memory?)"
    assert planned.method.computed["(5, 1)"] == 3  # type: ignore[attr-defined]


def test_what_fails_everywhere_stops_the_run_and_keeps_what_is_done(plan: Callable[..., Plan], tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    planned = plan(refuse=(8, 1))
    with pytest.raises(InputError, match="labels need a package that is not installed"):
        run(planned, path, workers=1)
    assert not path.exists()
    repaired = plan()
    assert repaired.sha256 == planned.sha256
    end = run(repaired, path, resume=True, workers=1)
    assert end.complete
    assert 0 < end.found < 12


def test_workers_with_other_versions_are_refused(plan: Callable[..., Plan], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a worker has other versions or settings"):
        run(plan(everywhere_another=True), tmp_path / "a.h5", workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["structures.xyz"]


def test_a_store_is_there_before_the_end(
    plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "SNAPSHOT", 0.0)
    monkeypatch.setattr(campaign, "SHARE", 1.0)
    path, seen = tmp_path / "a.h5", []

    def look(progress: Progress) -> None:
        if path.exists():
            with StickStore(path) as store:
                seen.append(store.n_sites + len(store.failures))

    end = run(plan(seconds=0.05), path, workers=1, report=look)
    assert len(set(seen)) > 2
    assert seen == sorted(seen)
    assert seen[-1] < end.done == 12


def test_nothing_is_left_where_nothing_was_done(
    plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PATIENCE_AT_FIRST", 1.0)
    planned = plan()
    with pytest.raises(InputError, match=r"scheduler tcp://127.0.0.1:1: no dask scheduler answers"):
        run(planned, tmp_path / "a.h5", scheduler="tcp://127.0.0.1:1")
    with pytest.raises(InputError, match="scheduler nonsense://x: no dask scheduler answers"):
        run(planned, tmp_path / "a.h5", scheduler="nonsense://x")
    with pytest.raises(InputError, match="cannot write"):
        run(planned, tmp_path / "nowhere" / "a.h5")
    assert list(tmp_path.iterdir()) == [tmp_path / "structures.xyz"]


def test_few_tasks_are_drawn_ahead(tmp_path: Path) -> None:
    """However long the list, the scheduler holds a handful of tasks."""
    drawn, done, ahead = 0, 0, []

    def tasks() -> Iterator[tuple[str, int]]:
        nonlocal drawn
        for k in range(60):
            drawn += 1
            yield f"task-{k}", -k

    with connect(workers=1) as client:
        for results in completed(client, abs, tasks(), lambda: False):
            ahead.append(drawn - done)
            assert all(result == -task for task, result in results)
            done += len(results)
    assert done == 60
    assert max(ahead) <= 2 * IN_FLIGHT
