"""equispec data: look into reference data, convert and divide them."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from equispec.cli.shell import Json, note, print_json, show_table

data_app = typer.Typer(no_args_is_help=True, help="Inspect, convert and split reference data.")


@data_app.command()
def inspect(
    path: Annotated[
        Path, typer.Argument(help="A stick store (.h5), a folder of them, or a property store.", metavar="PATH")
    ],
    json: Json = False,
) -> None:
    """Describe a stick store or a property store.

    Molecules, sites, failures, elements, sizes, environments, functional groups, energies, provenance, files; of
    properties their units and ranges.

    \b
    Example:
      equispec data inspect data/ck-tp-pbe
    """
    from equispec.data.describe import describe, describe_properties
    from equispec.data.hdf5 import format_of
    from equispec.data.properties import FORMAT, PropertyStore
    from equispec.data.store import StickStore

    if format_of(path) == FORMAT:
        found = describe_properties(PropertyStore(path))
        if json:
            print_json(found)
        else:
            show_table("", "", rows=_property_rows(found), title=str(path), names=False)
        return
    with StickStore(path) as store:
        found = describe(store)
    if json:
        print_json(found)
        return
    show_table("", "", rows=_rows(found), title=str(path), names=False)
    if len(found["shards"]) > 1:
        numbers = ("molecules", "sites", "failures")
        rows = [
            (shard["name"], *(f"{shard[name]:,}" for name in numbers), _megabytes(shard["bytes"]), shard["sha256"][:12])
            for shard in found["shards"]
        ]
        show_table("file", *(f">{name}" for name in numbers), ">size", "sha256", rows=rows)


@data_app.command()
def convert(
    reader: Annotated[
        str, typer.Argument(help="The form of the source: ck-tp-pbe or published-eigen.", metavar="FORM")
    ],
    source: Annotated[Path, typer.Argument(help="The file or folder to read.", metavar="SOURCE")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The stick store to write (.h5).", metavar="FILE")],
    structures: Annotated[
        Path | None,
        typer.Option(help="For published-eigen: structures with their qm9_id, in a file ASE reads or .npz."),
    ] = None,
) -> None:
    """Make a stick store of labelled data.

    \b
    Examples:
      equispec data convert ck-tp-pbe downloads/ck_tp_pbe -o ck-tp-pbe.h5
      equispec data convert published-eigen site_eigen_dsf.hdf5 --structures qm9.extxyz -o published.h5
    """
    from equispec.data.convert import convert as write

    write(reader, source, output, structures)
    note(f"wrote {output}")


@data_app.command()
def split(
    path: Annotated[Path, typer.Argument(help="A stick store (.h5) or a folder of them.", metavar="PATH")],
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

    parts, sites = split_store(path, {"kind": kind, "seed": seed, "valid": valid, "test": test}, output)
    rows = [(name, str(len(ids)), str(sites[name])) for name, ids in parts.items()]
    show_table("split", ">molecules", ">sites", rows=rows)
    if output:
        note(f"wrote {output}")


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    def span(name: str) -> str:
        return "none" if found[name] is None else "{:.1f} to {:.1f} eV".format(*found[name])

    environments = [f"{found['absorber']}({names}) {count:,}" for names, count in found["environments"].items()]
    groups = [f"{name} {count:,}" for name, count in (found["groups"] or {}).items()]
    return [
        ("molecules", f"{found['molecules']:,}"),
        ("labelled sites", f"{found['sites']:,}"),
        ("failed sites", _failures(found)),
        ("transitions", f"{found['sticks']:,}"),
        *_composition(found),
        ("environments", _first_of(environments)),
        *([("molecules with", ", ".join(groups))] if groups else []),
        ("first transition", span("first_transition") + " (as calculated, not aligned)"),
        ("ionisation potential", span("ionization_potential")),
        ("gap", span("gap")),
        *_provenance(found),
        *_differing(found["shards"]),
        ("size on disk", _megabytes(found["bytes"])),
        ("sha256", found["sha256"]),
    ]


def _property_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    ranges = {name: "{:.5g} to {:.5g} ".format(*p["range"]) + p["unit"] for name, p in found["properties"].items()}
    return [
        ("molecules", f"{found['molecules']:,}"),
        ("failed molecules", _failures(found)),
        *_composition(found),
        ("total charges", _counts(found["charges"])),
        ("spin multiplicities", _counts(found["multiplicities"])),
        *ranges.items(),
        *_provenance(found),
        ("size on disk", _megabytes(found["bytes"])),
        ("sha256", found["sha256"]),
    ]


def _composition(found: dict[str, Any]) -> list[tuple[str, str]]:
    atoms = ", ".join(f"{name} {count:,}" for name, count in found["elements"].items())
    return [("atoms", atoms), ("heavy atoms", _counts(found["sizes"]))]


def _counts(counts: dict[int, int]) -> str:
    return ", ".join(f"{value}: {count:,}" for value, count in counts.items())


def _failures(found: dict[str, Any]) -> str:
    reasons = [f"{reason} ({count:,})" for reason, count in found["failures"].items()]
    return f"{sum(found['failures'].values()):,}: {_first_of(reasons)}" if reasons else "none recorded"


def _provenance(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), str(value)) for name, value in found["provenance"].items()]


def _first_of(texts: list[str], n: int = 8) -> str:
    more = f", and {len(texts) - n} more" if len(texts) > n else ""
    return ", ".join(texts[:n]) + more


def _differing(shards: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Attributes that not all files share, each value with the number of files that have it."""
    counts = Counter((name, str(value)) for shard in shards for name, value in shard["provenance"].items())
    return [(name.replace("_", " "), f"{value} ({n} of {len(shards)} files)") for (name, value), n in counts.items()]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
