"""equispec xas: absorption spectra of structures."""

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from equispec.cli.shell import Json, note, show_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from equispec.spectra import Peak, PeakRow, PolarizationLike, SiteSpectra


DEFAULT_MODEL = "ck-tensor"
NAME_WIDTH = 40  # characters for the name of a structure


def xas(
    structure: Annotated[
        list[Path] | None,
        typer.Argument(help="Files that ASE reads (xyz, cif, sdf, ...), all frames.", metavar="STRUCTURE"),
    ] = None,
    smiles: Annotated[
        list[str] | None, typer.Option(help="A structure as SMILES; may be repeated.", metavar="SMILES")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help=f"A shipped model or a model folder (default {DEFAULT_MODEL}); repeat it for an ensemble.",
            metavar="MODEL",
        ),
    ] = None,
    edge: Annotated[
        str | None, typer.Option(help="Absorption edge, such as C-K (default: the model's).", metavar="EDGE")
    ] = None,
    site: Annotated[
        str, typer.Option(help="Absorbing atoms to include, counted from 0, such as 3,5.", metavar="ATOMS")
    ] = "all",
    pol: Annotated[
        str | None,
        typer.Option(
            help="Polarisation: iso (default), x, y, z, 0,0,1 or theta=55,phi=0 (degrees).", metavar="DIRECTION"
        ),
    ] = None,
    per_site: Annotated[bool, typer.Option("--per-site", help="Also one column per site in .csv and .json.")] = False,
    shift: Annotated[float, typer.Option(help="Move the spectra by this energy (eV).", metavar="EV")] = 0.0,
    sigma: Annotated[
        float | None, typer.Option(help="One more Gaussian: standard deviation (eV).", metavar="EV")
    ] = None,
    fwhm: Annotated[
        float | None, typer.Option(help="One more Gaussian: full width at half maximum (eV).", metavar="EV")
    ] = None,
    band: Annotated[
        float | None,
        typer.Option(
            help="Level of the band of a calibrated model: 0.5, 0.68, 0.8, 0.9 (default) or 0.95.", metavar="P"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write .csv, .json or .h5 (the tensors: all else follows).", metavar="FILE"
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the spectra of one structure as .png or .svg.", metavar="FILE")
    ] = None,
    json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse what lies outside the model's domain.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...", metavar="NAME")] = "auto",
) -> None:
    """Predict polarised X-ray absorption spectra.

    A table of peaks is printed; -o and --plot write files. Several structures go into one .h5 file (/structures/0,
    /structures/1, ...) or .json file ({"structures": [...]}). A calibrated model gives heights and spectra with the
    half-width of a band that holds first principles with the probability --band.

    \b
    Examples:
      equispec xas benzene.xyz -o benzene.h5 --plot benzene.png
      equispec xas --smiles c1ccccc1O --pol theta=55,phi=0 --per-site -o phenol.csv
      equispec xas trajectory.xyz --fwhm 0.4 -o trajectory.h5
    """
    from equispec.predict import load
    from equispec.spectra import Polarization
    from equispec.workflows import absorption as recipe

    files = structure or []
    question = recipe.Question(
        edge,
        recipe.parse_sites(site),
        None if pol is None else Polarization.parse(pol),
        shift,
        sigma,
        fwhm,
        strict,
        band,
    )
    with ExitStack() as stack:
        printed = Path(stack.enter_context(TemporaryDirectory(prefix="equispec-")), "spectra.json") if json else None
        outputs = recipe.Outputs(tuple(path for path in (output, printed) if path), plot, per_site)
        outputs.check(files)
        structures = recipe.read_all(files, smiles or [])
        predictor = load(model or [DEFAULT_MODEL], device)
        for k, (spectra, several) in enumerate(recipe.run(predictor, structures, question, outputs)):
            if printed is None:
                show = _print_line if several else _print_table
                show(spectra, pol, k == 0)
        if printed is not None:  # only now, so that a failure prints nothing
            with printed.open(encoding="utf-8") as file:
                shutil.copyfileobj(file, sys.stdout)
    for path in (output, plot):
        if path:
            note(f"wrote {path}")


def _print_table(spectra: "SiteSpectra", pol: "PolarizationLike", first: bool) -> None:
    from equispec.spectra import peak_rows

    rows = peak_rows(spectra, pol)
    widths = _half_widths(spectra, pol, len(rows))
    columns = ("site", ">first peak (eV)", ">height (1/eV)", "polarised", ">strongest peak (eV)", ">height (1/eV)")
    show_table(*columns, title=_title(spectra, pol), rows=[_cells(*row) for row in zip(rows, widths, strict=True)])
    if spectra.band is not None:
        unknown = ", calibrated inside the domain of the model only" if spectra.meta.get("outside_domain") else ""
        print(f"± is the half-width of a {100 * spectra.band.level:g} % band{unknown}.")


def _half_widths(spectra: "SiteSpectra", pol: "PolarizationLike", n: int) -> "list[Callable[[Peak], str]]":
    """Of the total and of every site: the half-width of the band at a peak, in words; nothing without a band."""
    import numpy as np

    total, sites = spectra.half_width(pol), spectra.site_half_width(pol)
    if total is None or sites is None:
        return [lambda _: ""] * n
    return [
        lambda peak, width=width: f" ± {np.interp(peak.energy, spectra.energy, width):.3f}" for width in (total, *sites)
    ]


def _print_line(spectra: "SiteSpectra", pol: "PolarizationLike", first: bool) -> None:
    """One structure of many: printed at once, so that nothing piles up."""
    from equispec.spectra import peak_rows

    row = peak_rows(spectra, pol, per_site=False)[0]
    if first:
        print(f"{_title(spectra, pol, named=False)}\n")
        print(_line("structure", "sites", "first peak (eV)", "height", "strongest (eV)", "height"))
    name = str(spectra.meta["structure"])
    name = name if len(name) <= NAME_WIDTH else f"…{name[1 - NAME_WIDTH :]}"
    peaks = [text for peak in (row.first, row.strongest) for text in (f"{peak.energy:.2f}", f"{peak.height:.3f}")]
    print(_line(name, str(len(spectra.sites)), *peaks))


def _line(*cells: str) -> str:
    name, *numbers = cells
    return f"{name:<{NAME_WIDTH}}" + "".join(f"{n:>{w}}" for n, w in zip(numbers, (6, 17, 9, 16, 9), strict=True))


def _title(spectra: "SiteSpectra", pol: "PolarizationLike", named: bool = True) -> str:
    from equispec.spectra import Polarization

    label = Polarization.parse(pol).label
    meta = spectra.meta
    light = "isotropic" if label == "iso" else f"E ∥ {label}" if label in "xyz" else f"E ∥ ({label})"
    parts = [meta["structure"]] if named else []
    return ", ".join([*parts, f"{meta['edge']} edge", light, f"model {meta['model']} ({meta['model_hash']})"])


def _cells(row: "PeakRow", half_width: "Callable[[Peak], str]") -> tuple[str, ...]:
    index, _, element = row.label.partition("_")
    axis = ""
    if row.anisotropy:
        along = row.anisotropy.share > 1 / 3
        share = row.anisotropy.share if along else 1 - row.anisotropy.share
        direction = ", ".join(f"{round(value, 2) + 0.0:.2f}" for value in row.anisotropy.axis)
        axis = f"{share:.0%} {'∥' if along else '⟂'} ({direction})"
    first, strongest = row.first, row.strongest
    return (
        f"{element} {index}".strip(),
        f"{first.energy:.2f}",
        f"{first.height:.3f}{half_width(first)}",
        axis,
        f"{strongest.energy:.2f}",
        f"{strongest.height:.3f}{half_width(strongest)}",
    )
