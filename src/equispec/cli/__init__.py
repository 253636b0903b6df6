"""The command line: `equispec VERB ...`. One thin module per group of verbs; torch is imported inside the commands."""

import sys
from typing import Annotated

import typer

from equispec import __version__
from equispec.cli.attention import attention
from equispec.cli.data import data_app
from equispec.cli.doctor import doctor
from equispec.cli.dynamics import md, relax
from equispec.cli.evaluation import check, evaluate
from equispec.cli.label import label
from equispec.cli.models import models_app
from equispec.cli.predict import predict
from equispec.cli.shell import run_app
from equispec.cli.training import train
from equispec.cli.xas import xas

app = typer.Typer(
    name="equispec",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(xas)
app.command()(predict)
app.command()(relax)
app.command()(md)
app.command()(label)
app.command()(train)
app.command("eval")(evaluate)
app.command()(check)
app.command()(attention)
app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")
app.command()(doctor)


def _show_version(asked: bool) -> bool:
    if asked:
        print(f"equispec {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def equispec(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Spectra, energies, forces and other properties of molecules from equivariant message-passing networks.

    \b
    Examples:
      equispec xas benzene.xyz --plot benzene.png
      equispec predict ethanol.xyz -m runs/ethanol --properties energy,forces
    """


def main() -> None:
    """Entry point of the program: exit code 0 done, 2 bad usage or input, 3 outside the model's domain (--strict)."""
    sys.exit(run_app(app, sys.argv[1:]))
