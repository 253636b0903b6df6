"""equispec models: the shipped models, model folders, and weights of other programs."""

from pathlib import Path
from typing import Annotated

import typer

from equispec.cli.shell import Json, note, print_json, show_table

models_app = typer.Typer(no_args_is_help=True, help="List, describe, locate and import models.")


@models_app.command("list")
def list_models(json: Json = False) -> None:
    """List the shipped models.

    \b
    Example:
      equispec models list
    """
    from equispec.workflows.catalogue import catalogue

    found = catalogue()
    if json:
        print_json({"models": [model.to_dict() for model in found]})
        return
    rows = [(m.name, m.predicts, m.kind, " ".join(m.elements), m.trained_on) for m in found]
    show_table("model", "predicts", "kind", "elements", "trained on", rows=rows)


@models_app.command()
def info(
    model: Annotated[str, typer.Argument(help="A shipped model, a model folder or a run.", metavar="MODEL")],
    json: Json = False,
) -> None:
    """Describe a model: what it predicts, what it was trained on, errors, licence.

    \b
    Examples:
      equispec models info ck-tensor
      equispec models info runs/md17-ethanol
    """
    from equispec.workflows.catalogue import describe, facts

    found = describe(model)
    if json:
        print_json(found.to_dict())
        return
    show_table("", "", rows=facts(found), title=found.name, names=False)


@models_app.command()
def path(
    model: Annotated[str, typer.Argument(help="A shipped model, a model folder or a run.", metavar="MODEL")],
) -> None:
    """Print the folder of a model.

    \b
    Example:
      equispec models path ck-tensor
    """
    from equispec.workflows.catalogue import describe

    print(describe(model).folder)


@models_app.command()
def merge(
    models: Annotated[
        list[Path], typer.Argument(help="Runs or model folders, of one configuration.", metavar="MODEL...")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.", metavar="DIR")],
) -> None:
    """Make one model folder, an ensemble, of models trained on the same data with different seeds.

    \b
    Example:
      equispec models merge runs/ck-0 runs/ck-1 runs/ck-2 -o ck-ensemble
    """
    from equispec.checkpoint import merge_models
    from equispec.predict import model_folder

    digest = merge_models([model_folder(model) for model in models], output)
    note(f"wrote {output} (weights {digest[:12]})")


@models_app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="A shipped model, a model folder or a run.", metavar="MODEL")],
    data: Annotated[Path, typer.Argument(help="The stick store it was trained on.", metavar="DATA")],
    split: Annotated[
        str, typer.Option(help="The split to calibrate on, as stored with the model.", metavar="NAME")
    ] = "valid",
) -> None:
    """Give a trained model its uncertainty: the band of its spectra, and a flag of what it has never seen.

    The result is written into the model folder; merging or training again discards it.

    \b
    Example:
      equispec models calibrate ck-tensor data/ck-tp-pbe
    """
    from equispec.workflows.calibration import calibrate as run

    found = run(model, data, split)
    environments = sum(map(len, found.domain.environments.values()))
    levels = ", ".join(f"{100 * level:g} %" for level in found.band.levels)
    print(f"Band: {levels}, from {found.sites} sites of {found.molecules} molecules of the {found.split} split.")
    print(f"Domain: {environments} kinds of atoms with their neighbours, {len(found.domain.bonds)} kinds of bonds.")
    note(f"wrote the calibration into the folder of {model}")


@models_app.command("import")
def import_model(
    format_name: Annotated[
        str, typer.Argument(help="Where the weights come from: isd-painn or schnetpack.", metavar="FORMAT")
    ],
    file: Annotated[Path, typer.Argument(help="The weights; nothing in the file is executed.", metavar="FILE")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.", metavar="DIR")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="What the weights do not show, such as cutoff=8.0; may be repeated.", metavar="KEY=VALUE"
        ),
    ] = None,
) -> None:
    """Import weights of another program.

    isd-painn: checkpoints of github.com/nmdl-mizo/isdpainn; --set takes cutoff, max_neighbors, grid, intensity_scale,
    symmetric_message, sign_only, elements and max_heavy_atoms, by default those of the published weights.

    schnetpack: the state dict of a PaiNN of SchNetPack 2 (.pt, .safetensors or .npz). Of each output the unit is
    needed: --set energy_unit=kcal/mol, dipole_unit=D, polarizability_unit=bohr^3, scalar_unit=eV. Outputs are taken as
    energy, and gated ones as dipole, then polarizability; outputs=[dipole,energy] tells them otherwise. More settings:
    aggregation=avg for intensive properties, charge_correction=false, origin=zero for positions as they are, cutoff
    where the weights have none; elements=[1,6,8] with max_heavy_atoms, charges, multiplicities and periodic for
    warnings of other structures.

    \b
    Examples:
      equispec models import isd-painn best.pt -o isd-painn-published --set cutoff=8.0
      equispec models import schnetpack weights.pt -o ethanol --set energy_unit=kcal/mol
    """
    from equispec.workflows.catalogue import describe, import_foreign

    digest = import_foreign(format_name, file, output, settings or [])
    quantities = describe(output).metadata.get("quantities")
    told = f", which predicts {', '.join(quantities)}" if quantities else ""
    example = "predict ethanol.xyz" if quantities else "xas benzene.xyz"
    note(f"wrote {output} (weights {digest[:12]}){told}; try: equispec {example} -m {output}")
