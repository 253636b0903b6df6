"""equispec relax, equispec md: structures in motion under the forces of a model."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equispec.cli.predict import Device, Model, Precision
from equispec.cli.shell import Json, last_word, note, print_json, show_table
from equispec.errors import EquispecError, InputError

if TYPE_CHECKING:
    from equispec.workflows.relaxation import Relaxed
    from equispec.workflows.trajectory import Sample, Summary

LINE_EVERY = 30.0  # seconds between lines of progress where there is no terminal

Strict = Annotated[bool, typer.Option("--strict", help="Refuse what lies outside the model's domain.")]


def relax(
    structure: Annotated[Path, typer.Argument(help="A file that ASE reads, all frames.", metavar="STRUCTURE")],
    model: Model,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the relaxed structures: .xyz, .h5 or .json.", metavar="FILE"),
    ] = None,
    fmax: Annotated[float, typer.Option(help="Largest force allowed at the end (eV/Å).", metavar="F")] = 0.01,
    steps: Annotated[int, typer.Option(help="Most steps.", metavar="N")] = 500,
    cell: Annotated[bool, typer.Option("--cell", help="Relax the cell of a crystal, too.")] = False,
    optimizer: Annotated[str, typer.Option(help="bfgs or fire.", metavar="NAME")] = "bfgs",
    json: Json = False,
    strict: Strict = False,
    device: Device = "auto",
    dtype: Precision = None,
) -> None:
    """Relax structures to a minimum of the energy.

    The exit code is 1 if a structure is not relaxed after the last step; it is written nevertheless.

    \b
    Examples:
      equispec relax ethanol.xyz -m runs/ethanol -o relaxed.xyz
      equispec relax crystal.cif -m runs/carbon --cell --fmax 0.005 -o relaxed.xyz
    """
    from equispec.predict import load
    from equispec.workflows import relaxation as recipe
    from equispec.workflows.prediction import check_output

    how = recipe.Relaxation(fmax, steps, cell, optimizer)
    if output is not None:
        check_output(output, [structure])
    predictor = load(model, device, dtype)
    results = []
    try:
        for relaxed in recipe.relax_file(predictor, structure, how, output, strict, _told_now_and_then()):
            results.append(_relaxed_row(relaxed))
    except EquispecError:
        if results and not json:  # what was found before
            _show_relaxed(results, json)
        raise
    _show_relaxed(results, json)
    if output is not None:
        note(f"wrote {output}")
    if not all(row["converged"] for row in results):
        note(
            f"not all structures are relaxed to {fmax:g} eV/Å after {steps} steps; more --steps or --optimizer may help"
        )
        raise typer.Exit(1)


def md(
    structure: Annotated[Path, typer.Argument(help="A file that ASE reads, with one structure.", metavar="STRUCTURE")],
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="The trajectory to write (.xyz).", metavar="FILE")],
    ensemble: Annotated[
        str, typer.Option(help="nve (constant energy) or langevin (thermostat).", metavar="NAME")
    ] = "nve",
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Of the first velocities, and of langevin's thermostat (default: the structure's, else 300).",
            metavar="K",
        ),
    ] = None,
    dt: Annotated[float, typer.Option(help="Time step (fs).", metavar="FS")] = 0.5,
    length: Annotated[str | None, typer.Option("--time", help="Length, such as 10ps or 500fs.", metavar="TIME")] = None,
    steps: Annotated[int | None, typer.Option(help="Length in steps, instead of --time.", metavar="N")] = None,
    friction: Annotated[float, typer.Option(help="Of the thermostat (1/ps).", metavar="F")] = 10.0,
    seed: Annotated[int, typer.Option(help="Of the random numbers.", metavar="N")] = 0,
    every: Annotated[int, typer.Option(help="Steps between frames.", metavar="N")] = 10,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last frame of the output.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw energies and temperature as .png or .svg.", metavar="FILE")
    ] = None,
    json: Json = False,
    strict: Strict = False,
    device: Device = "auto",
    dtype: Precision = None,
) -> None:
    """Run molecular dynamics.

    Frames carry energy, forces, momenta, time and temperature, for ASE and others. At the end the drift of the total
    energy and the mean temperature are printed. Atoms that fly apart or come too close, and numbers that are none,
    stop the run with exit code 1 and that frame in FILE-stopped.xyz. The total --time or --steps of a run that goes on
    with --resume includes what is there.
    With nve, --temperature is that of the first velocities: from a relaxed structure half of it goes into the potential
    energy, and the run is half as hot; take twice the temperature, or --ensemble langevin.

    \b
    Examples:
      equispec md ethanol.xyz -m runs/ethanol --temperature 300 --time 10ps -o ethanol-md.xyz --plot ethanol-md.png
      equispec md water.xyz -m runs/water --ensemble langevin --temperature 350 --dt 1 --time 1ns --resume -o long.xyz
    """
    if (length is None) == (steps is None):
        raise InputError("how long? either --time, such as 10ps, or --steps is needed")
    from equispec.predict import load
    from equispec.spectra.io import check_writable
    from equispec.spectra.plot import check_suffix
    from equispec.workflows import dynamics as recipe
    from equispec.workflows import trajectory

    if steps is None:
        steps = round(recipe.parse_time(length or "") / dt) if dt > 0 else 1
    how = recipe.Dynamics(steps, ensemble, temperature, dt, friction, seed, every)
    check_suffix(plot)
    if plot is not None:
        check_writable(plot)
    atoms = recipe.one_structure(structure, output)
    predictor = load(model, device, dtype)
    with (
        last_word(f"stopped; the same command with --resume goes on from the last frame of {output}"),
        _shown(steps) as report,
    ):
        samples = recipe.simulate(predictor, atoms, how, output, resume, strict, report, note)
    summary = trajectory.Summary.measure(samples, len(atoms), conserved=ensemble == "nve")
    formula = atoms.get_chemical_formula("hill")
    _show_summary(summary, f"{formula}, {how.words}, model {predictor.name} ({predictor.hash})", json)
    note(f"wrote {output}")
    if plot is not None:
        trajectory.plot_trajectory(samples, len(atoms), f"{formula}, {how.words}, {predictor.name}", plot)
        note(f"wrote {plot}")


def _relaxed_row(relaxed: "Relaxed") -> dict[str, Any]:
    from equispec.ensemble import structure_name

    return {
        "structure": structure_name(relaxed.found.atoms),
        "converged": relaxed.converged,
        "steps": relaxed.steps,
        "energy_eV": relaxed.end,
        "change_eV": relaxed.end - relaxed.start,
        "largest_force_eV_per_A": relaxed.largest_force,
        "outside_domain": list(relaxed.found.outside_domain),
    }


def _show_relaxed(results: list[dict[str, Any]], json: bool) -> None:
    if json:
        print_json({"structures": results})
        return
    rows = [
        (
            row["structure"],
            "yes" if row["converged"] else "no",
            str(row["steps"]),
            f"{row['energy_eV']:.6f}",
            f"{row['change_eV']:.6f}",
            f"{row['largest_force_eV_per_A']:.4f}",
        )
        for row in results
    ]
    columns = ("structure", "relaxed", ">steps", ">energy (eV)", ">change (eV)", ">largest force (eV/Å)")
    show_table(*columns, rows=rows)


def _show_summary(summary: "Summary", title: str, json: bool) -> None:
    if json:
        units = {"time": "ps", "temperature": "K", "energy_std": "meV/atom", "drift": "meV/ps/atom"}
        print_json({**asdict(summary), "units": {**units, "temperature_std": "K"}})
        return
    drift = "" if summary.drift is None else f"{summary.drift:.4f} meV/ps/atom"
    rows = [
        ("length", f"{summary.time:g} ps, {summary.steps:,} steps"),
        ("temperature", f"{summary.temperature:.1f} ± {summary.temperature_std:.1f} K"),
        ("total energy, standard deviation", f"{summary.energy_std:.4f} meV/atom"),
        *([("total energy, drift", drift)] if drift else []),
    ]
    show_table("", "", title=title, rows=rows, names=False)


def _told_now_and_then() -> Callable[[str, int, float, float], None]:
    """What tells of an optimisation that takes long."""
    last = time.monotonic()

    def report(name: str, steps: int, energy: float, force: float) -> None:
        nonlocal last
        if time.monotonic() - last > LINE_EVERY:
            last = time.monotonic()
            note(f"{name}: step {steps}, {energy:.4f} eV, largest force {force:.3f} eV/Å")

    return report


@contextmanager
def _shown(total: int) -> "Iterator[Callable[[Sample], None]]":
    """What shows progress on stderr: a bar in a terminal, else a line now and then, with the time left."""
    if not sys.stderr.isatty():
        begun = last = time.monotonic()
        first: int | None = None

        def line(sample: "Sample") -> None:
            nonlocal last, first
            first = sample.step - 1 if first is None else first
            now = time.monotonic()
            if now - last > LINE_EVERY:
                last = now
                left = (total - sample.step) * (now - begun) / (sample.step - first)
                note(f"step {sample.step:,} of {total:,}, {sample.temperature:.0f} K, {_words(left)} left")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda sample: bar.update(task, completed=sample.step, description=f"{sample.temperature:.0f} K")


def _words(seconds: float) -> str:
    if seconds > 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
