"""equispec data: look into reference data, convert and divide them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from equispec.cli.shell import Json, note, print_json, show_table

data_app = typer.Typer(no_args_is_help=True, help="Inspect, convert and split reference data.")


@data_app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A stick store (.h5).", metavar="FILE")],
    json: Json = False,
) -> None:
    """Describe a stick store.

    Molecules, sites, elements, environments, energies, provenance.

    \b
    Example:
      equispec data inspect data/ck-tp-pbe
    """
    from equispec.data.describe import describe
    from equispec.data.store import StickStore

    with StickStore(file) as store:
        found = describe(store)
    if json:
        print_json(found)
    else:
        show_table("", "", rows=_rows(found), title=str(file), names=False)


@data_app.command()
def convert(
    reader: Annotated[str, typer.Argument(help="The form of the source: ck-tp-pbe.", metavar="FORM")],
    source: Annotated[Path, typer.Argument(help="The file or folder to read.", metavar="SOURCE")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The stick store to write (.h5).", metavar="FILE")],
) -> None:
    """Make a stick store of labelled data.

    \b
    Example:
      equispec data convert ck-tp-pbe downloads/ck_tp_pbe -o ck-tp-pbe.h5
    """
    from equispec.data.convert import convert as write

    write(reader, source, output)
    note(f"wrote {output}")


@data_app.command()
def split(
    file: Annotated[Path, typer.Argument(help="A stick store (.h5).", metavar="FILE")],
    kind: Annotated[str, typer.Option(help="random, scaffold or size.", metavar="KIND")] = "random",
    seed: Annotated[int, typer.Option(help="Another seed is another split.", metavar="N")] = 0,
    valid: Annotated[float, typer.Option(help="Fraction of the molecules for validation.", metavar="X")] = 0.15,
    test: Annotated[float, typer.Option(help="Fraction of the molecules for testing.", metavar="X")] = 0.15,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the ids as .json.", metavar="FILE")
    ] = None,
) -> None:
    """Divide a stick store into train, valid and test.

    Training divides it in the same way if its configuration has the same settings.

    \b
    Example:
      equispec data split data/ck-tp-pbe --kind scaffold -o split.json
    """
    from equispec.workflows.datasets import split_store

    parts, sites = split_store(file, {"kind": kind, "seed": seed, "valid": valid, "test": test}, output)
    rows = [(name, str(len(ids)), str(sites[name])) for name, ids in parts.items()]
    show_table("split", ">molecules", ">sites", rows=rows)
    if output:
        note(f"wrote {output}")


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    def span(name: str) -> str:
        return "none" if found[name] is None else "{:.1f} to {:.1f} eV".format(*found[name])

    environments = [f"C({names}) {count}" for names, count in found["environments"].items()]
    more = f", and {len(environments) - 8} more" if len(environments) > 8 else ""
    return [
        ("molecules", f"{found['molecules']:,}"),
        ("labelled sites", f"{found['sites']:,}"),
        ("transitions", f"{found['sticks']:,}"),
        ("atoms", ", ".join(f"{name} {count:,}" for name, count in found["elements"].items())),
        ("heavy atoms", ", ".join(f"{size}: {count}" for size, count in found["sizes"].items())),
        ("environments", ", ".join(environments[:8]) + more),
        ("first transition", span("first_transition") + " (as calculated, not aligned)"),
        ("ionisation potential", span("ionization_potential")),
        ("gap", span("gap")),
        *((name.replace("_", " "), str(value)) for name, value in found["provenance"].items()),
        ("sha256", found["sha256"]),
    ]
