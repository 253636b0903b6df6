"""equispec attention: what an atom attends to in a So3krates model."""

from pathlib import Path
from typing import Annotated

import typer

from equispec.cli.shell import Json, note, print_json, show_table
from equispec.errors import InputError


def attention(
    structure: Annotated[str, typer.Argument(help="A file that ASE reads (its first frame) or a SMILES.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A So3krates model folder or run.", metavar="MODEL")],
    atom: Annotated[int, typer.Option(help="The atom to look at, counted from 0.", metavar="N")] = 0,
    layer: Annotated[int | None, typer.Option(help="Counted from 1 (default: the last one).", metavar="N")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw matrices, molecule and SPHCs (.png or .svg).", metavar="FILE")
    ] = None,
    json: Json = False,
) -> None:
    """Show what an atom attends to in a So3krates model.

    Printed are, for the other atoms: distance, attention on their features and on their spherical harmonic coordinates
    (SPHCs), the non-local weight, and the distance of the SPHCs. --json gives the matrices of all layers.

    \b
    Example:
      equispec attention ethanol.xyz -m runs/ethanol --atom 2 --plot attention.png
    """
    from equispec.ensemble import as_atoms
    from equispec.predict import load
    from equispec.spectra.io import check_writable
    from equispec.spectra.plot import check_suffix
    from equispec.workflows import attention as recipe

    check_suffix(plot)
    if plot is not None:
        check_writable(plot)
    atoms, predictor = as_atoms(structure), load(model)
    if len(atoms) and not 0 <= atom < len(atoms):
        raise InputError(f"--atom {atom}: {structure} has atoms 0 to {len(atoms) - 1}")
    found = recipe.attention(predictor, atoms)
    layers = len(found.features)
    if layer is not None and not 1 <= layer <= layers:
        raise InputError(f"--layer {layer}: the model has layers 1 to {layers}")
    number = layers if layer is None else layer
    if plot is not None:
        recipe.plot_attention(found, plot, atom, number - 1)
        note(f"wrote {plot}")
    if json:
        print_json(found.to_dict())
        return
    rows = [
        (str(j), str(atoms.symbols[j]), *(f"{value:.3g}" for value in values))
        for j, values in recipe.attended(found, atom, number - 1)
    ]
    columns = (">atom", "element", ">distance (Å)", ">features", ">SPHCs", ">non-local", ">SPHC distance")
    model_name = f"{predictor.name} ({predictor.hash})"
    title = f"Atom {atom} ({atoms.symbols[atom]}) in layer {number} of {layers}, model {model_name}"
    show_table(*columns, rows=rows, title=title)
