"""equispec data: look into reference data, convert and divide them."""

import inspect as reflection
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from equispec.cli.shell import Json, note, print_json, show_table
from equispec.errors import InputError
from equispec.quantities import QUANTITIES

data_app = typer.Typer(no_args_is_help=True, help="Inspect, convert and split reference data.")

FORMS = "ck-tp-pbe, published-eigen (spectra); md17, qm9, qm9-mp2, qm7x, water, oc20, extxyz, ase-db (properties)"
LABELS = {name: quantity.unit for name, quantity in QUANTITIES.items() if quantity.scope != "site"} | {"virial": "eV"}
SHOWN = ("energy", "forces", "stress", "virial", "dipole", "charges", "polarizability")  # in the help; all work
PANEL = "Names and units in extxyz and ase-db"

Structures = Annotated[
    Path | None,
    typer.Option(help="For published-eigen, qm9-mp2: structures with their qm9_id, in a file ASE reads or .npz."),
]


def _with_label_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --energy-key, --energy-unit, ... of every property, and --length-unit."""
    added = []
    for name, unit in LABELS.items():
        key = "Its key: the stress is -virial / volume." if name == "virial" else f"Its key, if not {name}."
        for kind, told in (("key", key), ("unit", f"Its unit, if not {unit}.")):
            flag, hidden = f"--{name.replace('_', '-')}-{kind}", name not in SHOWN
            choice = typer.Option(flag, help=told, metavar=kind.upper(), rich_help_panel=PANEL, hidden=hidden)
            added.append(_parameter(f"{name}_{kind}", Annotated[str | None, choice]))
    length = typer.Option(
        "--length-unit", help="That of positions and cell, if not Å.", metavar="UNIT", rich_help_panel=PANEL
    )
    added.append(_parameter("length_unit", Annotated[str | None, length]))
    signature = reflection.signature(command)
    own = [p for p in signature.parameters.values() if p.kind is not reflection.Parameter.VAR_KEYWORD]
    command.__signature__ = signature.replace(parameters=[*own, *added])  # pyright: ignore[reportFunctionMemberAccess]
    return command


def _parameter(name: str, annotation: Any) -> reflection.Parameter:
    return reflection.Parameter(name, reflection.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


@data_app.command()
@_with_label_options
def inspect(
    path: Annotated[
        Path,
        typer.Argument(help="A store (.h5), a folder of stick stores, or raw data with properties.", metavar="PATH"),
    ],
    form: Annotated[
        str | None, typer.Option(help="The form of raw data, if it is not guessed.", metavar="FORM")
    ] = None,
    structures: Structures = None,
    json: Json = False,
    **labels: str | None,
) -> None:
    """Describe a stick store, a property store, or raw data that convert would make a property store of.

    Molecules, sites, failures, elements, sizes, environments, functional groups, energies, provenance, files; of
    properties their units, ranges and numbers of labels, structures that occur twice, and, where frames follow one
    another in time, whether their forces match their energies.

    \b
    Examples:
      equispec data inspect data/ck-tp-pbe
      equispec data inspect ethanol.npz
      equispec data inspect train.xyz --energy-key REF_energy --forces-key REF_forces --energy-unit Ha
    """
    from equispec.data.convert import in_memory
    from equispec.data.describe import describe, describe_properties
    from equispec.data.hdf5 import format_of
    from equispec.data.properties import FORMAT, PropertyStore
    from equispec.data.readers import guess_form
    from equispec.data.store import StickStore

    naming = _naming(labels)
    if form is None and structures is None and not naming and _is_store(path):
        if format_of(path) != FORMAT:
            with StickStore(path) as store:
                _show_sticks(path, describe(store), json)
            return
        properties = PropertyStore(path)
    else:
        form = form or guess_form(path)
        properties = in_memory(form, path, structures, naming)
        note(f"read as {form}")
    found = describe_properties(properties)
    if json:
        print_json(found)
    else:
        show_table("", "", rows=_property_rows(found), title=str(path), names=False)


def _is_store(path: Path) -> bool:
    """Whether a path is a store or is meant to be one, rather than raw data."""
    if path.is_dir():
        raw = ("gdb9.sdf", "dsgdb9nsd_*.xyz", "*.hdf5")
        return any(path.glob("*.h5")) or not any(any(path.glob(name)) for name in raw)
    return path.suffix == ".h5"


def _naming(labels: Mapping[str, str | None]) -> Any:
    from equispec.data.convert import Naming

    given = {name: value for name, value in labels.items() if value is not None}
    length = given.pop("length_unit", None)
    keys = {name.removesuffix("_key"): value for name, value in given.items() if name.endswith("_key")}
    units = {name.removesuffix("_unit"): value for name, value in given.items() if name.endswith("_unit")}
    return Naming(keys, units, length)


def _show_sticks(path: Path, found: dict[str, Any], json: bool) -> None:
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
@_with_label_options
def convert(
    reader: Annotated[str, typer.Argument(help=f"The form of the source: {FORMS}.", metavar="FORM")],
    source: Annotated[Path, typer.Argument(help="The file or folder to read.", metavar="SOURCE")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to write (.h5).", metavar="FILE")],
    structures: Structures = None,
    method: Annotated[str | None, typer.Option(help="Level of theory of the labels.", metavar="TEXT")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the data.", metavar="TEXT")] = None,
    citation: Annotated[str | None, typer.Option(help="What to cite for the data.", metavar="TEXT")] = None,
    **labels: str | None,
) -> None:
    """Make a store of labelled data: a stick store of spectra, or a property store of energies, forces and the like.

    extxyz is any file of frames that ASE reads. Its labels, and those of ase-db, go by ASE's names unless you tell
    their keys; then only those are read. homo, lumo, gap, enthalpy and all other properties have such options, too. A
    label that some frames lack is absent there; one that all frames lack is an error.

    \b
    Examples:
      equispec data convert ck-tp-pbe downloads/ck_tp_pbe -o ck-tp-pbe.h5
      equispec data convert published-eigen site_eigen_dsf.hdf5 --structures qm9.extxyz -o published.h5
      equispec data convert md17 md17_ethanol.npz -o ethanol.h5
      equispec data convert extxyz train.xyz --energy-key REF_energy --energy-unit Ha -o train.h5
    """
    from equispec.data.convert import convert as write
    from equispec.data.hdf5 import format_of
    from equispec.data.properties import FORMAT, PropertyStore

    told = {"method": method, "licence": licence, "citation": citation}
    given = {name: text for name, text in told.items() if text is not None}
    write(reader, source, output, structures, _naming(labels), given)
    if format_of(output) == FORMAT:
        store = PropertyStore(output)
        found = ", ".join(f"{name} {store.present(name).sum():,}" for name in store.names)
        note(f"labels of {len(store):,} structures: {found}")
    note(f"wrote {output}")


@data_app.command()
def split(
    path: Annotated[
        Path, typer.Argument(help="A property store, a stick store (.h5) or a folder of them.", metavar="PATH")
    ],
    kind: Annotated[str, typer.Option(help="random, scaffold, size or blocks.", metavar="KIND")] = "random",
    seed: Annotated[int, typer.Option(help="Another seed is another split.", metavar="N")] = 0,
    train: Annotated[
        str | None,
        typer.Option(help="Number or fraction of the molecules for training; default: the rest.", metavar="X"),
    ] = None,
    valid: Annotated[
        str, typer.Option(help="Number (50) or fraction (0.15) of the molecules for validation.", metavar="X")
    ] = "0.15",
    test: Annotated[
        str | None,
        typer.Option(help="The same for testing; default: 0.15, with --train the rest.", metavar="X"),
    ] = None,
    gap: Annotated[int, typer.Option(help="blocks: molecules left out between the parts.", metavar="N")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the ids as .json.", metavar="FILE")
    ] = None,
) -> None:
    """Divide a store into train, valid and test.

    Training divides it in the same way if its configuration has the same settings. Frames that follow one another in
    time belong into blocks: train first, then valid, then test.

    \b
    Examples:
      equispec data split data/ck-tp-pbe --kind scaffold -o split.json
      equispec data split ethanol.h5 --train 950 --valid 50 -o split.json
    """
    from equispec.workflows.datasets import split_store

    shares = {"train": train, "valid": valid, "test": test}
    given = {name: _share(name, text) for name, text in shares.items() if text is not None}
    parts, sites = split_store(path, {"kind": kind, "seed": seed, "gap": gap, **given}, output)
    if sites is None:
        show_table("split", ">molecules", rows=[(name, str(len(ids))) for name, ids in parts.items()])
    else:
        rows = [(name, str(len(ids)), str(sites[name])) for name, ids in parts.items()]
        show_table("split", ">molecules", ">sites", rows=rows)
    if output:
        note(f"wrote {output}")


def _share(name: str, text: str) -> int | float:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        message = f"--{name} {text}: a number of molecules (50) or a fraction of them (0.15) is needed"
        raise InputError(message) from None


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
    def told(name: str) -> str:
        property_, count = found["properties"][name], found["labelled"][name]
        some = "" if count == found["molecules"] else f" ({count:,} of {found['molecules']:,} molecules have it)"
        return "{:.5g} to {:.5g} ".format(*property_["range"]) + property_["unit"] + some

    return [
        ("molecules", f"{found['molecules']:,}"),
        ("failed molecules", _failures(found)),
        *_composition(found),
        *([("periodic", f"{found['periodic']:,}")] if found["periodic"] else []),
        *([("tags", ", ".join(f"{name} {n:,}" for name, n in found["tags"].items()))] if found["tags"] else []),
        ("total charges", _counts(found["charges"])),
        ("spin multiplicities", _counts(found["multiplicities"])),
        *((name, told(name)) for name in found["properties"]),
        ("occur twice", f"{found['duplicates']:,} repeat an earlier structure"),
        ("in time", _order(found)),
        *_provenance(found),
        ("size on disk", _megabytes(found["bytes"])),
        ("sha256", found["sha256"]),
    ]


def _order(found: dict[str, Any]) -> str:
    """What is known of the order of the structures."""
    if (motion := found["motion"]) is None:
        return "structures do not follow one another"
    many = f"in {motion['runs']:,} runs" if motion["runs"] > 1 else "in a run"
    runs = f"{motion['frames']:,} structures follow one another {many}, with steps of {motion['step']:.3f} Å"
    if (slope := found["force_slope"]) is None:
        return runs
    return f"{runs}; ΔE against -F·ΔR: slope {slope['slope']:.4g}, correlation {slope['correlation']:.4f}"


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
