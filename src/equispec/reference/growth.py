"""A reference set that grows: candidates that a folder of shards lacks are labelled in batches, each a new shard.

The batch in work lies in the folder under hidden names until it is complete, so that the folder is a valid data set at
any time and a run that was stopped goes on with the batch it was at.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ase.io
from ase import Atoms

from equispec.data.store import StickStore
from equispec.data.structures import SOURCE, read_structures
from equispec.errors import InputError
from equispec.reference.campaign import Progress, run
from equispec.reference.methods import Method
from equispec.reference.plan import make_plan

STRUCTURES, LABELS = ".next.xyz", ".next.h5"


def grow(
    folder: Path,
    candidates: Sequence[Path],
    method: Method,
    batch: int,
    workers: int | None = None,
    scheduler: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[tuple[Path | None, Progress]]:
    """Label the candidates that no shard of `folder` holds, in their order, `batch` molecules at a time.

    Yields each new shard when it is complete, or None where `stop()` ended the batch early. A batch in work is finished
    first, whatever the candidates are now. Candidates need a `qm9_id` or an `id`. Raises InputError as `make_plan`,
    `run` and `StickStore` do.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make it first, empty or with the shards that are to be extended")
    structures, labels = folder / STRUCTURES, folder / LABELS
    if (
        structures.exists()
        and not labels.exists()
        and {_identity(atoms) for atoms in read_structures(structures)} <= _known(folder)
    ):
        structures.unlink()  # the batch was complete when the run before was killed
    while not stop():
        if not structures.exists() and not _choose(folder, candidates, batch, structures):
            return
        plan = make_plan([structures], [], method)
        progress = run(plan, labels, labels.exists() or _journal(labels).exists(), workers, scheduler, stop, report)
        if not progress.complete:
            yield None, progress
            return
        shard = _free_name(folder)
        os.replace(labels, shard)
        structures.unlink()
        yield shard, progress


def _journal(labels: Path) -> Path:
    return labels.with_name(f"{labels.name}.journal")


def _choose(folder: Path, candidates: Sequence[Path], batch: int, structures: Path) -> int:
    """Write the next molecules to `structures` and return how many they are."""
    known = _known(folder)
    chosen: list[Atoms] = []
    for path in candidates:
        for atoms in read_structures(path):
            identity = _identity(atoms)
            if len(chosen) < batch and identity not in known:
                known.add(identity)
                del atoms.info[SOURCE]
                chosen.append(atoms)
    if chosen:
        temporary = structures.with_name(f".{os.getpid()}{STRUCTURES}")
        ase.io.write(temporary, chosen, format="extxyz", columns=["symbols", "positions"])
        os.replace(temporary, structures)
    return len(chosen)


def _identity(atoms: Atoms) -> int:
    identity = atoms.info.get("qm9_id", atoms.info.get("id"))
    if identity is None:
        raise InputError(f"{atoms.info[SOURCE]}: a growing set needs a qm9_id or an id for each molecule")
    return int(identity)


def _known(folder: Path) -> set[int]:
    """Molecules with labels or failures in the shards."""
    if not any(path.suffix == ".h5" and not path.name.startswith(".") for path in folder.iterdir()):
        return set()
    with StickStore(folder) as store:
        return {*store.ids, *(failure.molecule for failure in store.failures)}


def _free_name(folder: Path) -> Path:
    numbers = (int(path.stem) for path in folder.glob("*.h5") if path.stem.isdigit())
    return folder / f"{max(numbers, default=0) + 1:04d}.h5"
