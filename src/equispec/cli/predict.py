"""equispec predict: energies, forces, dipoles and other properties of structures."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from equispec.cli.shell import Json, last_word, note
from equispec.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from equispec.property_predictor import Properties

NAME_WIDTH = 40  # characters for the name of a structure
LINE_EVERY = 30.0  # seconds between lines of progress
SAID_BY = {"dipole_magnitude": "dipole", "isotropic_polarizability": "polarizability"}  # the number shown of the other

Model = Annotated[
    list[str],
    typer.Option("--model", "-m", help="A model folder or run folder; repeat it for an ensemble.", metavar="MODEL"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...", metavar="NAME")]
Precision = Annotated[
    str | None, typer.Option("--dtype", help="float32 or float64 (default: that of the weights).", metavar="NAME")
]


def predict(
    model: Model,
    structure: Annotated[
        list[Path] | None,
        typer.Argument(help="Files that ASE reads (xyz, cif, sdf, ...), all frames.", metavar="STRUCTURE"),
    ] = None,
    smiles: Annotated[
        list[str] | None, typer.Option(help="A structure as SMILES; may be repeated.", metavar="SMILES")
    ] = None,
    properties: Annotated[
        str | None,
        typer.Option(help="Such as energy,forces,dipole (default: all but the stress).", metavar="NAMES"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write .xyz, .csv, .h5 or .json; with --shard a folder.", metavar="FILE"),
    ] = None,
    batch_atoms: Annotated[int, typer.Option(help="Most atoms in a batch.", min=1, metavar="N")] = 4000,
    shard: Annotated[
        int | None, typer.Option(help="Write a folder of files with N structures each.", min=1, metavar="N")
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", help="Format of the files of --shard: xyz, csv, h5 or json.", metavar="NAME")
    ] = "xyz",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a folder of --shard.")] = False,
    json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse what lies outside the model's domain.")] = False,
    deviation: Annotated[
        bool, typer.Option("--deviation", help="Tell how far the model is from equivariant (HDGNN).")
    ] = False,
    device: Device = "auto",
    dtype: Precision = None,
) -> None:
    """Predict energies, forces, dipoles and other properties.

    One line per structure is printed; -o writes a file. Total charge and multiplicity are read from `charge` and `spin`
    of a frame. A batch that does not fit into the memory is made smaller. With --shard every finished file is safe: a
    run that was killed goes on with --resume.

    \b
    Examples:
      equispec predict ethanol.xyz -m runs/ethanol --properties energy,forces -o predicted.xyz
      equispec predict many.xyz -m runs/a -m runs/b --properties dipole -o dipoles.csv
      equispec predict slab.cif -m is2re-slabs --deviation
      equispec predict many.xyz -m runs/ethanol --shard 1000 --resume -o predicted/
    """
    from equispec.predict import load
    from equispec.workflows import absorption
    from equispec.workflows import prediction as recipe

    files = structure or []
    question = recipe.Question(recipe.parse_names(properties), batch_atoms, strict, deviation)
    structures = absorption.read_all(files, smiles or [])
    if shard is not None:
        if output is None or json:
            raise InputError("--shard needs a folder to write, with -o, and goes without --json")
        suffix = recipe.known_suffix(Path(f"files.{file_format.removeprefix('.')}"))
        shards = recipe.Shards(output, shard, suffix, resume)
        source = recipe.fingerprint(files, smiles or [])
        predictor = load(model, device, dtype)
        with last_word("stopped; the same command with --resume goes on after the last finished file"):
            _report_shards(recipe.run_shards(predictor, structures, source, question, shards), output)
        return
    if resume:
        raise InputError("--resume goes on with a folder of --shard; a single file is made anew")
    if output is not None:
        recipe.check_output(output, files)
    predictor = load(model, device, dtype)
    with ExitStack() as stack:
        printed = Path(stack.enter_context(TemporaryDirectory(prefix="equispec-")), "properties.json") if json else None
        outputs = [path for path in (output, printed) if path]
        with last_word("stopped; nothing was written (--shard makes files that a run can go on with)"):
            _report(recipe.run(predictor, structures, question, outputs), quiet=json)
        if printed is not None:  # only now, so that a failure prints nothing
            with printed.open(encoding="utf-8") as file:
                shutil.copyfileobj(file, sys.stdout)
    if output is not None:
        note(f"wrote {output}")


def _report(results: "Iterator[Properties]", quiet: bool) -> None:
    """One line per structure, and on stderr how many of them are extrapolations."""
    outside = total = 0
    for found in results:
        total += 1
        outside += bool(found.outside_domain)
        if not quiet:
            _print_line(found, total == 1)
    if outside and total > 1:
        note(f"{outside:,} of {total:,} structures lie outside what the model was trained on; they are marked with *")


def _print_line(found: "Properties", first: bool) -> None:
    from equispec.ensemble import structure_name

    shown = [name for name in found.values if SAID_BY.get(name) not in found.values]
    cells = [_cell(name, found.values[name]) for name in shown]
    if first:
        print(f"{'structure':<{NAME_WIDTH}}{'atoms':>7}" + "".join(f"{head:>{_width(head)}}" for head, _ in cells))
    name = structure_name(found.atoms) + ("*" if found.outside_domain else "")
    name = name if len(name) < NAME_WIDTH else f"…{name[2 - NAME_WIDTH :]}"
    numbers = "".join(f"{number:>{_width(head)}.6f}" for head, number in cells)
    print(f"{name:<{NAME_WIDTH}}{len(found.atoms):>7}{numbers}")
    for name, mads in found.deviation.items():
        heading, _ = _cell(name, mads[0])
        told = zip(("MAD_roll", "MAD_rot", "MAD_both"), mads, strict=True)
        print(f"  {heading}: " + ", ".join(f"{kind} {_cell(name, mad)[1]:.3g}" for kind, mad in told))


def _width(heading: str) -> int:
    return max(16, len(heading) + 2)


def _cell(name: str, value: "np.ndarray") -> tuple[str, float]:
    """What one number on a line says of a property: a heading with its unit, and the number."""
    import numpy as np

    from equispec.quantities import QUANTITIES
    from equispec.units import DEBYE

    quantity = QUANTITIES[name]
    if name == "dipole":
        return "|dipole| (D)", float(np.linalg.norm(value)) / DEBYE
    if quantity.scope == "atom" and quantity.shape:
        return f"max |{name}| ({quantity.unit})", float(np.linalg.norm(value, axis=-1).max())
    if quantity.scope == "atom":
        return f"max |{name}| ({quantity.unit})", float(np.abs(value).max())
    if quantity.rank == 2:
        return f"{name}, mean ({quantity.unit})", float(np.trace(value)) / 3
    return f"{name} ({quantity.unit})", float(value)


def _report_shards(done: "Iterator[int]", folder: Path) -> None:
    last, start, total = time.monotonic(), time.monotonic(), 0
    for total in done:
        if time.monotonic() - last > LINE_EVERY:
            last = time.monotonic()
            note(f"{total:,} structures, {total / (last - start):.3g}/s")
    note(f"{folder} is complete: {total:,} structures")
