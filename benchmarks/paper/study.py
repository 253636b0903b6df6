"""What the evaluations of this folder share: files they write, cached trainings, examples at percentiles, fits.

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
import math
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from equispec import __version__
from equispec.errors import DomainWarning, EquispecError, InputError
from equispec.predict import Predictor, load
from equispec.spectra import (
    PAPER_SIGMA,
    broaden_spectrum,
    directional,
    mse,
    paper_broad_mse,
    percentile_indices,
    write_bytes,
)
from equispec.spectra.plot import REFERENCE_GREY, styled, write_figure
from equispec.train.config import load_config
from equispec.train.run import resume, start, with_data_noted
from equispec.workflows.evaluation import MODEL, RESOLUTIONS, EvaluationResult, evaluate

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Page:
    """A page that several studies fill: its folder in docs/, and what stands above them all."""

    folder: str
    introduction: str


RED = "#D62728"  # predictions, as in the paper; first principles are grey
AXES = "xyz"
PAPER = "Shibata & Mizoguchi, Digital Discovery 3, 649 (2024)"
PAPER_TRAINING_SITES = 73_758
PAPER_SHARE = 0.95  # of the test spectra below THRESHOLD, at least
THRESHOLD = 0.1
ISD_PAINN = Page(
    "isd-painn-paper",
    f"""\
# The evaluations of the ISD-PaiNN paper, on our own data

Every evaluation of {PAPER}, made again with equispec's model and
equispec's own first-principles spectra. Each section is written by the command named in it;
`python benchmarks/paper/page.py` puts the page together again from the JSON files.

Errors are mean squared errors over the energy grid of one site and one direction, in units of the squared mean
intensity of the training set. *Native* compares the spectra as they are (pre-edge FWHM 0.5 eV). *Paper-broad* compares
them after convolution of both with a Gaussian of sigma {PAPER_SIGMA} eV, which gives the pre-edge the width of the
paper's data: the paper's "MSE below 0.1" belongs to this one. The paper had another method for its reference spectra
(CASTEP, plane waves, 288-310 eV) and {PAPER_TRAINING_SITES:,} training sites.
""",
)


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
    page: Page = ISD_PAINN

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


def evaluated(model: Path | str | Predictor, data: Path, split: str = "test") -> EvaluationResult:
    """`evaluate` on one core."""
    predictor = model if isinstance(model, Predictor) else load(model, device="cpu")
    return evaluate(predictor, data, split)


def described(result: EvaluationResult) -> dict[str, Any]:
    """Model and data of an evaluation."""
    keep = ("name", "hash", "members", "backbone", "head", "parameters", "intensity_scale")
    return {"model": {key: result.model[key] for key in keep}, "data": result.data, "notes": list(result.notes)}


def origin(results: dict[str, Any]) -> str:
    """One line on model and data."""
    model, data = results["model"], results["data"]
    members = f", {model['members']} members" if model["members"] > 1 else ""
    part = "all" if data["split"] == "all" else f"{data['split']} split"
    return (
        f"Model {model['name']} ({model['hash']}{members}); {part} of {data['store']}: "
        f"{data['molecules']:,} molecules, {data['sites']:,} sites."
    )


def errors_along_axes(result: EvaluationResult, resolution: str, name: str = MODEL) -> np.ndarray:
    """[sites, 3]: mean squared errors along x, y and z."""
    return result.errors[name][resolution].axes


def figures(result: EvaluationResult, name: str = MODEL) -> dict[str, float]:
    """Mean errors and the share of paper-broad spectra below the paper's threshold."""
    native, broad = (errors_along_axes(result, resolution, name) for resolution in RESOLUTIONS)
    return {
        "native": float(native.mean()),
        "paper-broad": float(broad.mean()),
        "share": float((broad < THRESHOLD).mean()),
    }


# --- spectra at percentiles of the error (Fig. 1) --------------------------------------------------------------------


def at_percentiles(result: EvaluationResult, resolution: str, percentiles: Sequence[int]) -> dict[str, Any]:
    """The sorted errors of all spectra, and the spectra that stand at some percentiles of them."""
    errors = errors_along_axes(result, resolution).ravel()
    predicted, reference = (
        directional(t).reshape(-1, len(result.energy)) for t in (result.predicted, result.reference)
    )
    if resolution == "paper-broad":
        step = float(result.energy[1] - result.energy[0])
        predicted, reference = (broaden_spectrum(t, step, PAPER_SIGMA) for t in (predicted, reference))
    examples = []
    for percentile, k in zip(percentiles, percentile_indices(errors, percentiles), strict=True):
        site, direction = divmod(k, 3)
        molecule, atom = result.site_index[site]
        sample = result.samples[molecule]
        examples.append(
            {
                "percentile": percentile,
                "molecule": sample.id,
                "smiles": sample.smiles,
                "site": atom,
                "direction": AXES[direction],
                "mse": plain(errors[k]),
                "predicted": plain(predicted[k]),
                "reference": plain(reference[k]),
            }
        )
    share = float((errors < THRESHOLD).mean())
    return {
        "sorted": plain(np.sort(errors), 4),
        "mean": float(errors.mean()),
        "share": share,
        "energy": plain(result.energy, 7),
        "examples": examples,
    }


def draw_sorted(axis: Axes, errors: Sequence[float], colour: str = RED, label: str | None = None) -> None:
    """Sorted errors against their rank, with the paper's threshold."""
    rank = np.linspace(0, 100, len(errors))
    axis.plot(rank, errors, color=colour, linewidth=2, label=label)
    axis.axhline(THRESHOLD, color="#999999", linewidth=0.8, zorder=0)
    axis.set_yscale("log")
    axis.set_xlim(-3, 104)
    axis.set_xlabel("Spectra, sorted by error (%)")
    axis.set_ylabel("MSE (mean intensity = 1)")


def draw_example(axis: Axes, energy: Sequence[float], example: dict[str, Any], letter: str) -> None:
    """Predicted and calculated spectrum of one site and direction, named in an inset."""
    draw_calculated(axis, energy, example["reference"])
    axis.plot(energy, example["predicted"], color=RED, label="predicted")
    top = 1.5 * max(*example["reference"], *example["predicted"])
    axis.set_ylim(min(0.0, 1.1 * min(example["predicted"])), top)
    axis.set_xlim(282, energy[-1])
    where = f"id {example['molecule']}, C{example['site']}, E ∥ {example['direction']}"
    axis.text(0.97, 0.96, f"{where}\nMSE {cell(example['mse'])}", transform=axis.transAxes, ha="right", va="top")
    axis.set_title(f"({letter}) {example['percentile']} %", loc="left", fontsize=9)


def draw_calculated(axis: Axes, energy: Sequence[float], values: Sequence[float], label: str = "calculated") -> None:
    """A first-principles spectrum: a grey line over its shaded area."""
    axis.fill_between(energy, values, color=REFERENCE_GREY, alpha=0.25, linewidth=0)
    axis.plot(energy, values, color=REFERENCE_GREY, linewidth=1.3, label=label)


def mark_examples(axis: Axes, errors: Sequence[float], examples: Sequence[dict[str, Any]], letters: str) -> None:
    """Letters on the curve of the sorted errors where the examples stand."""
    for letter, example in zip(letters, examples, strict=True):
        at = example["percentile"]
        axis.plot(at, errors[round(at / 100 * (len(errors) - 1))], "o", color=RED, markeredgecolor="white")
        side, place = (7, "left") if at == 0 else (-7, "right")
        axis.annotate(letter, (at, example["mse"]), (side, 3), textcoords="offset points", ha=place)


# --- molecules -------------------------------------------------------------------------------------------------------


def molecular_sums(result: EvaluationResult) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and calculated [molecules, 3, E]: sums over the calculated sites along x, y and z, no multiplicity."""
    molecule = np.array([m for m, _ in result.site_index])
    sums = []
    for tensor in (result.predicted, result.reference):
        total = np.zeros((len(result.samples), 3, len(result.energy)))
        np.add.at(total, molecule, directional(tensor))
        sums.append(total)
    return sums[0], sums[1]


def native_and_broad(result: EvaluationResult, ours: np.ndarray, theirs: np.ndarray) -> dict[str, np.ndarray]:
    """Mean squared errors of spectra [..., E] at both resolutions."""
    step = float(result.energy[1] - result.energy[0])
    return dict(zip(RESOLUTIONS, (mse(ours, theirs), paper_broad_mse(ours, theirs, step)), strict=True))


def broadened(result: EvaluationResult, spectra: np.ndarray) -> np.ndarray:
    """Spectra [..., E] at the paper's width."""
    return broaden_spectrum(spectra, float(result.energy[1] - result.energy[0]), PAPER_SIGMA)


# --- fits ------------------------------------------------------------------------------------------------------------


def fit_power_law(n: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """(a, b) of y = a n^-b, by least squares of the logarithms; InputError below two points or for y <= 0."""
    n, y = np.asarray(n, dtype=float), np.asarray(y, dtype=float)
    if len(n) < 2 or len(n) != len(y) or not (n > 0).all() or not (y > 0).all():
        raise InputError(f"a power law needs two points or more, all positive, not n = {n.tolist()}, y = {y.tolist()}")
    slope, intercept = np.polyfit(np.log(n), np.log(y), 1)
    return float(np.exp(intercept)), float(-slope)


def crossing(a: float, b: float, y: float) -> float:
    """The n at which a n^-b falls to y; endless where it does not fall."""
    exponent = math.log(a / y) / b if b > 0 else math.inf
    return math.exp(exponent) if exponent < 700 else math.inf
