"""A reference set that grows: candidates that a folder of shards lacks are labelled in batches, each a new shard.

The batch in work lies in the folder under hidden names until it is complete, so that the folder is a valid data set at
any time and a run that was stopped goes on with the batch it was at.
"""

import fcntl
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import ase.io
from ase import Atoms

from equispec.data.store import COMMON_ATTRIBUTES, StickStore
from equispec.data.structures import SOURCE, read_structures
from equispec.errors import InputError
from equispec.reference.campaign import Progress, run
from equispec.reference.methods import Method
from equispec.reference.plan import given_id, make_plan, plan_structures
from equispec.spectra import write_bytes

STRUCTURES, LABELS = ".next.xyz", ".next.h5"
UNTOLD = {"Transition potential": "fast"}  # level of files from before it was recorded


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
    `run` and `StickStore` do, for a folder that another run extends, and for shards of another edge, scale, method or
    level.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make it first, empty or with the shards that are to be extended")
    structures, labels = folder / STRUCTURES, folder / LABELS
    with _alone(folder):
        known = _known(folder, method)
        if (
            structures.exists()
            and not labels.exists()
            and {_identity(atoms) for atoms in read_structures(structures)} <= known
        ):
            structures.unlink()  # the batch was complete when the run before was killed
        while not stop():
            if not structures.exists() and not _choose(_known(folder, method), candidates, batch, structures, method):
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


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time extends a folder: it holds a lock for as long as it lives."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder} is in use: another `equispec label` extends it") from None
        except OSError:
            pass  # some network file systems lock no folders; the lock of the journal remains
        yield
    finally:
        os.close(lock)


def _journal(labels: Path) -> Path:
    return labels.with_name(f"{labels.name}.journal")


def _choose(known: set[int], candidates: Sequence[Path], batch: int, structures: Path, method: Method) -> int:
    """Write the next molecules to `structures` and return how many they are; nothing if one cannot be labelled."""
    chosen: list[Atoms] = []
    for path in candidates:
        for atoms in read_structures(path):
            identity = _identity(atoms)
            if len(chosen) < batch and identity not in known:
                known.add(identity)
                chosen.append(atoms)
    if chosen:
        plan_structures(chosen, method)
        for atoms in chosen:
            del atoms.info[SOURCE]
        text = io.StringIO()
        ase.io.write(text, chosen, format="extxyz", columns=["symbols", "positions"])
        write_bytes(structures, text.getvalue().encode())
    return len(chosen)


def _identity(atoms: Atoms) -> int:
    if (identity := given_id(atoms)) is None:
        raise InputError(f"{atoms.info[SOURCE]}: a growing set needs a qm9_id or an id for each molecule")
    return identity


def _known(folder: Path, method: Method) -> set[int]:
    """Molecules with labels or failures in the shards, which must be such that those of the method can join them."""
    if not any(path.suffix == ".h5" and not path.name.startswith(".") for path in folder.iterdir()):
        return set()
    own = method.provenance()
    with StickStore(folder) as store:
        for name in COMMON_ATTRIBUTES:
            if (there := store.attributes.get(name)) != (new := own.get(name)):
                raise InputError(f"{folder}: {name} is {there!r} in its stores and would be {new!r} in new ones")
        new = _method_and_level(own)
        for shard in store.shards:
            if (there := _method_and_level(shard.attributes)) != new:
                raise InputError(
                    f"{shard.path} holds labels by {there}, new ones would be by {new}: use another folder"
                )
        return {*store.ids, *(failure.molecule for failure in store.failures)}


def _method_and_level(attributes: Mapping[str, str | float]) -> str:
    """What all labels of a set must share: the method, with which its protocol begins, and the level.

    The rest of the protocol may be told or done a little differently from file to file.
    """
    method = re.split(r"[(,;:.]", str(attributes["protocol"]))[0].strip()
    level = attributes.get("level", UNTOLD.get(method))
    return method if level is None else f"{method}, level {level}"


def _free_name(folder: Path) -> Path:
    numbers = (int(path.stem) for path in folder.glob("*.h5") if path.stem.isdigit())
    return folder / f"{max(numbers, default=0) + 1:04d}.h5"
