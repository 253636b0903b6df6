"""What the evaluations of this folder share: the files they write, their pages and command lines, trainings kept.

An evaluation is a Study: `measure` does the work and returns plain data; table and pictures are made from these data
alone. A study NAME writes into its folder

    NAME.json  NAME.csv  NAME*.png  README.md (all studies of the folder, in their order)

`page.py` makes tables, pictures and page again from the JSON files, without a model and without training.
"""

import argparse
import csv
import hashlib
import io
import json
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from equispec import __version__
from equispec.errors import DomainWarning, EquispecError
from equispec.spectra import (
    write_bytes,
)
from equispec.spectra.plot import styled, write_figure
from equispec.train.config import load_config
from equispec.train.run import resume, start, with_data_noted

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Page:
    """A page that several studies fill: its folder in docs/, and what stands above them all."""

    folder: str
    introduction: str


RED = "#D62728"  # predictions, as in the paper; first principles are grey


@dataclass(frozen=True)
class Study:
    """One evaluation. `order`: its place on the page; `pictures`: suffix of the file name -> (drawing, caption).

    `table` returns rows of text and numbers, the header first; `text` a paragraph that says what was found.
    """

    name: str
    order: int
    title: str
    arguments: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[argparse.Namespace], dict[str, Any]]
    table: Callable[[dict[str, Any]], list[list[Any]]]
    text: Callable[[dict[str, Any]], str]
    pictures: dict[str, tuple[Callable[[dict[str, Any]], Figure], str]] = field(default_factory=dict)
    _: KW_ONLY
    page: Page

    def main(self, argv: Sequence[str] | None = None) -> None:
        """The command line of the study."""
        parser = argparse.ArgumentParser(
            prog=f"{self.name}.py", description=sys.modules[self.measure.__module__].__doc__
        )
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        self.arguments(parser)
        parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / self.page.folder, metavar="FOLDER")
        arguments = parser.parse_args(argv)
        torch.set_num_threads(1)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DomainWarning)  # these molecules are meant to be outside
                results = self.measure(arguments)
            content = {
                "study": self.name,
                "command": self.command(sys.argv[1:] if argv is None else argv),
                "equispec_version": __version__,
                "date": str(date.today()),
                "machine": processor(),
                "results": results,
            }
            arguments.output.mkdir(parents=True, exist_ok=True)
            text = json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
            write_bytes(arguments.output / f"{self.name}.json", text.encode())
            self.write(arguments.output)
            write_page(arguments.output)
        except (EquispecError, OSError) as error:
            parser.exit(2, f"{parser.prog}: {error}\n")
        print(self.section(content))

    def command(self, given: Sequence[str]) -> str:
        """The command line as one would type it in the root of the repository, wherever that lies."""
        words = [word.replace(f"{ROOT}/", "") for word in given]
        words = [Path(word).name if word.startswith(("/", "..")) else word for word in words]
        for option in ("-o", "--output", "--runs"):
            if option in words:
                k = words.index(option)
                del words[k : k + 2]
        return " ".join(["python", f"benchmarks/paper/{self.name}.py", *words])

    def write(self, folder: Path) -> None:
        """Make the table and the pictures from the JSON file in the folder."""
        results = read(folder, self.name)["results"]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.table(results))
        write_bytes(folder / f"{self.name}.csv", text.getvalue().encode())
        for suffix, (draw, _) in self.pictures.items():
            write_figure(styled(draw)(results), folder / f"{self.name}{suffix}.png")

    def section(self, content: dict[str, Any]) -> str:
        """The part of the page that belongs to this study."""
        results = content["results"]
        parts = [f"## {self.title}", f"`{content['command']}`, {content['date']}, {content['machine']}"]
        parts += [self.text(results), markdown_table(self.table(results))]
        parts += [f"![{caption}]({self.name}{suffix}.png)" for suffix, (_, caption) in self.pictures.items()]
        return "\n\n".join(parts) + "\n"


def read(folder: Path, name: str) -> dict[str, Any]:
    """What a study has measured."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def studies(folder: Path) -> list[Study]:
    """The studies that have left their results in a folder, in the order of the page."""
    import importlib

    found = [importlib.import_module(path.stem).STUDY for path in folder.glob("*.json")]
    return sorted(found, key=lambda study: study.order)


def write_page(folder: Path) -> None:
    """README.md of the folder, from the JSON files in it."""
    found = studies(folder)
    sections = [study.section(read(folder, study.name)) for study in found]
    write_bytes(folder / "README.md", "\n".join([found[0].page.introduction, *sections]).encode())


def markdown_table(rows: Sequence[Sequence[Any]]) -> str:
    """A table with its header first; numbers are shortened."""
    cells = [[cell(value) for value in row] for row in rows]
    lines = [cells[0], ["-"] * len(cells[0]), *cells[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value: Any) -> str:
    """A value as a reader wants it: three significant figures, thousands apart."""
    if value is None:
        return "–"
    if isinstance(value, float):
        size = abs(value)
        return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:#.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def processor() -> str:
    """The name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), platform.machine())


def plain(values: Any, digits: int = 5) -> Any:
    """An array as nested lists of rounded numbers."""
    if np.ndim(values) == 0:
        return float(f"{float(values):.{digits}g}")
    return [plain(value, digits) for value in values]


# --- command lines ---------------------------------------------------------------------------------------------------


def model_and_data(parser: argparse.ArgumentParser) -> None:
    """MODEL and DATA, for studies of a trained model."""
    parser.add_argument("model", help="a shipped name or a model folder")
    parser.add_argument("data", type=Path, help="the store the model was trained on")


def training_arguments(config: str) -> Callable[[argparse.ArgumentParser], None]:
    """DATA and how to train, for studies that train their own models."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("data", type=Path, help="store to train on and to test with")
        parser.add_argument("--config", type=Path, default=ROOT / "configs" / config, metavar="FILE.yaml")
        parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in equispec train")
        parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "paper", help="finished models are kept here")

    return add


# --- models ----------------------------------------------------------------------------------------------------------


def trained(arguments: argparse.Namespace, label: str, settings: Sequence[str] = ()) -> Path:
    """The model folder of a training with these settings, which is done, continued or only looked up.

    A run is recognised by its whole configuration and the contents of the store: changing either trains anew.
    `--set` of the command line comes last and therefore wins.
    """
    store = f"data.store={arguments.data.resolve()}"
    config = with_data_noted(load_config(arguments.config, [store, *settings, *arguments.set]))
    content = config.model_dump(mode="json", exclude={"data": {"store"}})
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    run = arguments.runs / f"{label}-{digest}"
    if (run / "model" / "config.json").is_file():
        return run / "model"
    print(f"training {run.name}", file=sys.stderr, flush=True)
    return resume(run, progress=False) if (run / "config.yaml").is_file() else start(config, run, progress=False)
