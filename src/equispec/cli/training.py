"""equispec train: train a model, or continue a run."""

import json
from pathlib import Path
from typing import Annotated

import typer

from equispec.cli.shell import last_word, note
from equispec.errors import InputError


def train(
    config: Annotated[Path | None, typer.Argument(help="YAML configuration.", metavar="CONFIG")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change the configuration, such as train.lr=1e-3; may be repeated.", metavar="KEY=VALUE"
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue this run: the result is that of a run never stopped.", metavar="RUN")
    ] = None,
    init: Annotated[str | None, typer.Option(help="Start from the weights of this model.", metavar="MODEL")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder; default: runs/<name of CONFIG>.", metavar="RUN")
    ] = None,
) -> None:
    """Train a model on reference spectra.

    The run folder holds the configuration, the split, the metrics, the checkpoints and, at the end, the model.

    \b
    Examples:
      equispec train configs/ck-tensor.yaml --set train.epochs=300 -o runs/long
      equispec train --resume runs/long
    """
    if (config is None) == (resume is None):
        raise InputError("train: either a configuration or --resume RUN is needed, not both")
    if resume is not None and (settings or init or output):
        raise InputError("train: --resume continues a run as it began; it goes without --set, --init and -o")
    from equispec.predict import model_folder
    from equispec.train.config import load_config

    changes = list(settings or [])
    if init is not None:
        changes.append(f"train.init={json.dumps(str(model_folder(init).resolve()))}")
    parsed = load_config(config, changes) if config is not None else None  # before the seconds that Lightning takes
    try:
        from equispec.train.run import resume as resume_run
        from equispec.train.run import start
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("equispec"):
            raise
        raise InputError(f"training needs {error.name}; install it with: pip install 'equispec[train]'") from None
    run = resume or output or Path("runs", config.stem if config else "")
    with last_word(f"go on with: equispec train --resume {run}"):
        folder = start(parsed, run) if parsed is not None else resume_run(run)
    note(f"wrote {folder}; try: equispec eval {folder.parent} DATA")
