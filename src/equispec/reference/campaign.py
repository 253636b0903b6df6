"""Labelling as a campaign: every result goes into a journal at once, and the journal becomes a store.

The journal stands beside the output for as long as something is left to do; a run that was killed goes on from it.
"""

import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from equispec.errors import InputError
from equispec.reference.journal import Journal, arrays_of, head_of, pack
from equispec.reference.methods import Failures, Method, Molecule, Results, Task
from equispec.reference.plan import Plan
from equispec.reference.workers import Fatal, completed, connect

SNAPSHOT = 600.0  # seconds between the stores that are written on the way
SHARE = 0.02  # of the time that may go into writing them
UNFINISHED = "unfinished"  # attribute of a store that was written on the way
WINDOW = 64  # tasks among which those of the largest molecules come first, so that none is left for the end


@dataclass(frozen=True)
class Progress:
    """Where a campaign stands: tasks `done` of `total`, `failed` ones among them, `found` done by earlier runs.

    `seconds`: since the first task of this run was handed out.
    """

    total: int
    done: int
    failed: int
    found: int
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        return self.done == self.total

    @property
    def rate(self) -> float:
        """Tasks per second in this run."""
        return (self.done - self.found) / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None as long as there is none."""
        return (self.total - self.done) / self.rate if self.rate else None


def run(
    plan: Plan,
    output: Path,
    resume: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Calculate what is planned and write the store `output`; ends early, with what there is, once `stop()` is true.

    With `resume` an earlier run of the same plan is continued. `workers` and `scheduler`: see
    `equispec.reference.workers.connect`; `report` is called after every few results. Raises InputError where the output
    exists or is in use, where the earlier run had another plan, and where the calculations cannot be done at all;
    what was done until then is kept.
    """
    path = output.with_name(f"{output.name}.journal")
    if output.exists() and not path.exists():
        return _finished(plan, output, resume)
    with Journal(path, plan.sha256, resume) as journal:
        ledger = _Ledger(plan, journal)
        try:
            if left := ledger.left():
                with connect(workers, scheduler) as client:
                    start = time.monotonic()
                    report(ledger.progress(0.0))
                    due = start + SNAPSHOT
                    named = ((f"label-{plan.sha256[:12]}-{task.key}", task) for task in _largest_first(left))
                    function = functools.partial(label, plan.method, plan.attributes)
                    for results in completed(client, function, named, stop):
                        if results:
                            ledger.add(results)
                            report(ledger.progress(time.monotonic() - start))
                        if (now := time.monotonic()) > due:
                            ledger.write(output)
                            due = now + max(SNAPSHOT, (time.monotonic() - now) / SHARE)
                    progress = ledger.progress(time.monotonic() - start)
                    ledger.write(output)  # before the workers are sent home: those amid a task take seconds
            else:
                progress = ledger.progress(0.0)
                ledger.write(output)
        finally:
            if not ledger.offsets:
                journal.remove()
        if progress.complete:
            _sync(output)
            journal.remove()
    return progress


def label(method: Method, attributes: Mapping[str, str | float], task: Task) -> bytes:
    """Do a task in a worker: its result, or the reason why it failed, as it goes into the journal.

    What would fail every task alike is raised: a missing package, and InputError, also where program versions or
    settings are not those that the `attributes` of the store name.
    """
    if not _provenance(method).items() <= attributes.items():
        raise InputError("a worker has other versions or settings of the programs than this command; make them equal")
    head = _head(task)
    try:
        return pack(head, method.compute(task))
    except (InputError, ImportError):
        raise
    except Exception as error:  # whatever happens in the libraries below: it is not data
        ours = type(error).__module__.startswith("equispec.")
        return pack(head | {"failure": _line(str(error) if ours else f"{type(error).__name__}: {error}")})


def _head(task: Task) -> dict[str, Any]:
    return {"molecule": task.molecule.id, "atom": task.atom}


@functools.cache
def _provenance(method: Method) -> Mapping[str, str | float]:
    return method.provenance()


def _line(text: str) -> str:
    return " ".join(text.split())[:200]


class _Ledger:
    """The results in a journal by task. `offsets`: where each lies; memory does not grow with the results."""

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self.plan, self.journal = plan, journal
        self.offsets: dict[tuple[int, int], int] = {}
        self.failed = 0
        for offset in journal.offsets:
            self._note(journal.read(offset), offset)
        self.found = len(self.offsets)

    def _note(self, payload: bytes, offset: int) -> None:
        head = head_of(payload)
        self.offsets[head["molecule"], head["atom"]] = offset
        self.failed += "failure" in head

    def left(self) -> list[Task]:
        return [task for task in self.plan.tasks if task.key not in self.offsets]

    def add(self, results: Iterable[tuple[Task, bytes | Fatal]]) -> None:
        payloads = [
            pack(_head(task) | {"failure": str(result)}) if isinstance(result, Fatal) else result
            for task, result in results
        ]
        for payload, offset in zip(payloads, self.journal.append(payloads), strict=True):
            self._note(payload, offset)

    def progress(self, seconds: float) -> Progress:
        return Progress(len(self.plan.tasks), len(self.offsets), self.failed, self.found, seconds)

    def write(self, output: Path) -> None:
        """Write the store of all results so far, unless there is none; one that lacks some says so."""
        if self.offsets:
            done, total = len(self.offsets), len(self.plan.tasks)
            lack = {UNFINISHED: f"{done} of {total} {self.plan.method.unit}"} if done < total else {}
            self.plan.method.write(output, self._molecules(), {**self.plan.attributes, **lack})

    def _molecules(self) -> Iterator[tuple[Molecule, Results, Failures]]:
        for _, tasks in itertools.groupby(self.plan.tasks, key=lambda task: task.molecule.id):
            results, failures = {}, {}
            for task in (own := list(tasks)):
                if task.key in self.offsets:
                    payload = self.journal.read(self.offsets[task.key])
                    if (reason := head_of(payload).get("failure")) is None:
                        results[task.atom] = arrays_of(payload)
                    else:
                        failures[task.atom] = reason
            yield own[0].molecule, results, failures


def _largest_first(tasks: list[Task]) -> Iterator[Task]:
    for first in range(0, len(tasks), WINDOW):
        yield from sorted(tasks[first : first + WINDOW], key=lambda task: -len(task.molecule.z))


def _finished(plan: Plan, output: Path, resume: bool) -> Progress:
    """The end of the run that wrote `output`, if it was this one."""
    if not resume:
        raise InputError(f"{output} exists; choose another file, or remove it")
    try:
        with h5py.File(output) as file:
            same, lack = file.attrs.get("plan_sha256") == plan.sha256, file.attrs.get(UNFINISHED)
            failed = len(file["failures/molecule"]) if "failures" in file else 0  # type: ignore[arg-type]
    except OSError:
        same, lack, failed = False, None, 0
    if not same:
        raise InputError(f"{output} exists and is not the result of this run; choose another file, or remove it")
    if lack is not None:
        raise InputError(f"{output} holds {lack} only, and without its journal it cannot be continued; remove it")
    return Progress(len(plan.tasks), len(plan.tasks), failed, len(plan.tasks))


def _sync(path: Path) -> None:
    """Wait until the disk has the file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
