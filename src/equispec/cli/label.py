"""equispec label: reference data from quantum chemistry."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equispec.cli.shell import note
from equispec.errors import InputError

if TYPE_CHECKING:
    from equispec.reference.campaign import Progress

LINE_EVERY = 30.0  # seconds between lines of progress where there is no terminal


def label(
    structures: Annotated[
        list[Path] | None,
        typer.Argument(help="Files that ASE reads (xyz, sdf, ...), all frames.", metavar="STRUCTURES"),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="tp-dft: core-level spectra; gfn2-core: crude ones; gfn2: energies, forces, dipoles, charges.",
            metavar="NAME",
        ),
    ] = "tp-dft",
    smiles: Annotated[
        list[str] | None,
        typer.Option(help="A molecule as SMILES, relaxed with GFN2-xTB; may be repeated.", metavar="SMILES"),
    ] = None,
    edge: Annotated[str | None, typer.Option(help="The edge (default C-K).", metavar="EDGE")] = None,
    level: Annotated[str | None, typer.Option(help="tp-dft: fast (default) or accurate.", metavar="NAME")] = None,
    sites: Annotated[
        str | None,
        typer.Option(
            help="Spectra: unique (default) for the sites that symmetry leaves, copied to the others, or all.",
            metavar="WHICH",
        ),
    ] = None,
    polarizability: Annotated[
        bool, typer.Option("--polarizability", help="gfn2: polarizabilities as well (seven times the work).")
    ] = False,
    relax: Annotated[bool, typer.Option("--relax", help="gfn2: relax each structure first.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine (default: one per core).", min=1, metavar="N")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Use the workers of this dask scheduler (tcp://host:8786).", metavar="ADDRESS")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier run was stopped.")] = False,
    max_minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; --resume goes on.", min=0, metavar="X")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The store to write (.h5).", metavar="DATA")
    ] = None,
    grow: Annotated[
        Path | None,
        typer.Option(help="Add what this folder of stores lacks, instead of --output.", metavar="FOLDER"),
    ] = None,
    batch: Annotated[int, typer.Option(help="Molecules in each new store of --grow.", min=1, metavar="N")] = 100,
) -> None:
    """Label molecules by quantum chemistry.

    Every result is safe as soon as it is counted: a run that was stopped or killed goes on with --resume. Calculations
    that fail their checks are counted and recorded with the reason, never stored as data.

    \b
    Examples:
      equispec label molecules.xyz --method tp-dft --workers 4 -o spectra.h5
      equispec label --smiles c1ccccc1O --level accurate -o phenol.h5
      equispec label molecules.xyz --method gfn2 --polarizability -o properties.h5
      equispec label molecules.xyz --scheduler tcp://node1:8786 --resume -o spectra.h5
      equispec label candidates.xyz --grow data/my-set --max-minutes 60
    """
    from equispec.reference.campaign import run
    from equispec.reference.growth import grow as grow_folder
    from equispec.reference.plan import make_plan

    core_level = {name: value for name, value in (("edge", edge), ("level", level), ("sites", sites)) if value}
    chosen = _method(method, core_level, {"polarizability": polarizability, "relax": relax})
    _check_workers(workers, scheduler)
    _check_place(output, grow)
    if grow is not None and (method != "tp-dft" or smiles or resume or not structures):
        raise InputError("--grow takes structure files and --method tp-dft, and goes on by itself")
    end = float("inf") if max_minutes is None else time.monotonic() + 60 * max_minutes
    with _signals() as received, _shown(chosen.unit) as report:
        means: dict[str, Any] = {
            "workers": workers,
            "scheduler": scheduler,
            "stop": lambda: bool(received) or time.monotonic() > end,
            "report": report,
        }
        if output is not None:
            plan = make_plan(structures or [], smiles or [], chosen)
            _say(output, run(plan, output, resume, **means), chosen.unit)
        elif grow is not None:
            progress = None
            for shard, progress in grow_folder(grow, structures or [], chosen, batch, **means):
                _say(shard, progress, chosen.unit)
            if progress is None:
                note("stopped before the first batch" if means["stop"]() else f"{grow} lacks none of the candidates")
    if received:
        raise typer.Exit(128 + received[0])


def _check_workers(workers: int | None, scheduler: str | None) -> None:
    if workers is not None and scheduler is not None:
        raise InputError("either --workers on this machine or the workers of a --scheduler, not both")


def _check_place(output: Path | None, grow: Path | None) -> None:
    """One place for the labels; that of --output must be writable."""
    from equispec.spectra import check_writable

    if (output is None) == (grow is None):
        raise InputError("where to? either --output with a store to write, or --grow with a folder of stores")
    if output is not None:
        if output.suffix != ".h5":
            raise InputError(f"{output}: unknown suffix {output.suffix!r}; a store ends in .h5")
        check_writable(output)


def _say(written: Path | None, progress: "Progress", unit: str) -> None:
    counts = f"{progress.done:,} of {progress.total:,} {unit} ({progress.failed:,} failed)"
    if progress.complete:
        note(f"{written} is complete: {counts}")
    else:
        note(f"stopped at {counts}; the same command goes on, with --resume if it has --output")


def _method(name: str, core_level: dict[str, str], tight_binding: dict[str, bool]) -> Any:
    from equispec.reference.methods import CoreHole, EquivalentCore, TightBinding

    if name in ("tp-dft", "gfn2-core"):
        if any(tight_binding.values()):
            raise InputError("--polarizability and --relax belong to --method gfn2")
        if name == "tp-dft":
            return CoreHole(**core_level)
        if "level" in core_level:
            raise InputError("--level belongs to --method tp-dft")
        return EquivalentCore(**core_level)
    if name == "gfn2":
        if core_level:
            raise InputError(f"--{next(iter(core_level))} does not belong to --method gfn2")
        return TightBinding(**tight_binding)
    raise InputError(f"unknown method {name!r}; known methods: tp-dft, gfn2, gfn2-core")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of the first; the second one is obeyed at once."""
    received: list[int] = []

    def note_down(number: int, _: Any) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, note_down) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _shown(unit: str) -> Iterator[Any]:
    """What shows progress on stderr: a bar in a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        last = float("-inf")

        def line(progress: "Progress") -> None:
            nonlocal last
            if time.monotonic() - last > LINE_EVERY or progress.complete:
                last = time.monotonic()
                note(f"{progress.done}/{progress.total} {_words(progress, unit)}")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{unit}, starting")
        yield lambda progress: bar.update(
            task, total=progress.total, completed=progress.done, description=_words(progress, unit)
        )


def _words(progress: "Progress", unit: str) -> str:
    failed = f", {progress.failed} failed" if progress.failed else ""
    if progress.seconds_left is None:
        return f"{unit}{failed}"
    rate, left = progress.rate, progress.seconds_left
    shown = f"{left / 3600:.1f} h" if left > 5400 else f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
    return f"{unit}{failed}, {rate:.3g}/s, {shown} left"
