"""Many independent calculations on the processes of this machine or of a cluster, with dask.distributed."""

import logging
import queue
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from equispec.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
DEATHS = 3  # of its workers that a task is allowed to cause
IN_FLIGHT = 3  # tasks per thread of the cluster that are handed over at a time; the scheduler deals them out one by one
PATIENCE_AT_FIRST = 15.0  # seconds until a scheduler must have answered
PATIENCE = 0.5  # seconds after which the wish to stop is noticed
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
# nice to the machine; an interrupt from the keyboard is for the process in command, which ends its workers
IN_BACKGROUND = """
import os, signal
def dask_setup(worker):
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
"""


@contextmanager
def connect(workers: int | None = None, scheduler: str | None = None) -> Iterator["Client"]:
    """Worker processes of one thread and low priority on this machine (None: one per core), or those of a `scheduler`.

    A worker that dies is replaced. Raises InputError where dask.distributed is missing and where no scheduler answers.
    """
    try:
        from dask import config
        from dask.system import CPU_COUNT
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError("labelling needs dask.distributed; install it with: pip install 'equispec[cluster]'") from None
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said in a sentence
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=PATIENCE_AT_FIRST, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"scheduler {scheduler}: no dask scheduler answers ({_sentence(error)})") from None
        with client:
            yield client
        return
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.nanny.pre-spawn-environ": ONE_THREAD,
    }
    with (
        config.set(settings),
        LocalCluster(
            n_workers=workers or CPU_COUNT,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            preload=IN_BACKGROUND,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


class Fatal(str):
    """In place of a result: why there is none."""


def completed(
    client: "Client", function: Callable[[T], Any], tasks: Iterable[tuple[str, T]], stop: Callable[[], bool]
) -> Iterator[list[tuple[T, Any]]]:
    """Yield tasks with their results, `function(task)`, in batches as they come in; now and then an empty batch.

    `tasks`: (name, task), names distinct; only a few per worker are drawn ahead. The result is a `Fatal` for a task
    whose workers died again and again. Ends early once `stop()` is true; the tasks in flight are dropped. Exceptions of
    `function` are raised here, and InputError where the workers lack a package and where the cluster is lost.
    """
    from distributed import CancelledError, KilledWorker

    waiting, ready = iter(tasks), queue.SimpleQueue()
    pending: dict[Any, T] = {}
    try:
        while not stop():
            per_worker: Any = client.nthreads()
            threads = sum(per_worker.values())
            if batch := list(islice(waiting, max(0, IN_FLIGHT * max(1, threads) - len(pending)))):
                names, drawn = zip(*batch, strict=True)
                futures = client.map(function, drawn, key=list(names), pure=False)
                pending.update(zip(futures, drawn, strict=True))
                for future in futures:
                    future.add_done_callback(ready.put)
            if not pending:
                return
            yield [(pending.pop(future), _result(future, KilledWorker)) for future in _drain(ready)]
    except (OSError, CancelledError):
        raise InputError("the connection to the cluster is lost; what was done until then is kept") from None


def _result(future: Any, killed: type[Exception]) -> Any:
    try:
        return future.result()
    except killed as error:
        deaths = getattr(error, "allowed_failures", DEATHS - 1) + 1
        return Fatal(f"its worker died {deaths} times (out of memory?)")
    except ImportError as error:
        raise InputError(f"the workers cannot calculate ({error}); equispec and its extras are needed there") from None


def _drain(ready: queue.SimpleQueue) -> Iterator[Any]:
    """All that is ready, after waiting a moment for the first."""
    try:
        yield ready.get(timeout=PATIENCE)
        while True:
            yield ready.get_nowait()
    except queue.Empty:
        return


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
