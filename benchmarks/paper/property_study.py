"""What the evaluations of the PaiNN paper share: stores made of published files, trainings on them, errors in words."""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from study import ROOT, Page, trained

from equispec.checkpoint import load_model
from equispec.data.convert import Naming, convert
from equispec.errors import DataWarning
from equispec.train.config import parse_config
from equispec.train.properties.config import PropertyOptimConfig
from equispec.train.run import start
from equispec.workflows.property_evaluation import PropertyEvaluation, evaluate_properties

PAPER = "Schütt, Unke & Gastegger, ICML 2021 (arXiv:2102.03150)"
STORES = ROOT / "runs" / "paper" / "stores"
PAINN = Page(
    "painn-paper",
    f"""\
# The evaluations of the PaiNN paper

What {PAPER} does with single structures, made again with equispec
on data that can be had. Each section is written by the command named in it; the data are named by the file they come
from, and what they are says `equispec data inspect`. `python benchmarks/paper/page.py docs/painn-paper` puts the page
together again from the JSON files. Trainings are kept in `runs/paper` and continued where they were stopped.

What vectors add to distances and angles (Figure 1 and Table 1 of the paper) is on a [page of its own](chains.md).
""",
)

SO3KRATES = Page(
    "so3krates-paper",
    """\
# The evaluations of the So3krates paper

What Frank, Unke & Müller, NeurIPS 2022 (arXiv:2205.14276) do, made again with equispec on data that can be had. Each
section is written by the command named in it; `python benchmarks/paper/page.py docs/so3krates-paper` puts the page
together again from the JSON files. Trainings are kept in `runs/paper` and continued where they were stopped.
""",
)

HDGNN = Page(
    "hdgnn-paper",
    """\
# The evaluations of the HDGNN paper

What An et al., ICLR 2024, do, made again with equispec. Each section is written by the command named in it;
`python benchmarks/paper/page.py docs/hdgnn-paper` puts the page together again from the JSON files.
""",
)


def source_arguments(**files: str) -> Callable[[argparse.ArgumentParser], None]:
    """Positional files and how to train; the names of the files are those of the arguments."""

    def add(parser: argparse.ArgumentParser) -> None:
        for name, text in files.items():
            parser.add_argument(name, type=Path, help=text)
        parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in equispec train")
        parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "paper", help="finished models are kept here")

    return add


def store_of(
    form: str, source: Path, structures: Path | None = None, name: str | None = None, naming: Naming | None = None
) -> Path:
    """The property store made of a published file, which is made on first use."""
    path = STORES / f"{name or source.name.split('.')[0]}.h5"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"converting {source.name}", file=sys.stderr, flush=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # molecules left out for the audit
            convert(form, source, path, structures, naming)
    return path


def train_on(arguments: argparse.Namespace, store: Path, config: str, label: str, settings: Sequence[str] = ()) -> Path:
    """The model folder of a training on a store; see `study.trained`."""
    wanted = argparse.Namespace(**{**vars(arguments), "data": store, "config": ROOT / "configs" / config})
    return trained(wanted, label, settings)


def epoch_seconds(model: Path, store: Path) -> float:
    """Processor seconds of an epoch of the training that made a model: half of what three epochs take beyond one.

    Eager steps; with OMP_NUM_THREADS=1 they are the seconds of one core. Settings of older versions are left out.
    """
    config = load_model(model).metadata["training"]["config"]
    config["data"]["store"] = str(store.resolve())
    spent = []
    with TemporaryDirectory() as place:
        for epochs in (1, 3):
            known = {
                k: v for k, v in config["train"].items() if k in PropertyOptimConfig.model_fields
            }  # of all versions
            config["train"] = known | {"epochs": epochs, "compile": False, "init": None}
            begun = time.process_time()
            start(parse_config(config), Path(place, str(epochs)), progress=False)
            spent.append(time.process_time() - begun)
    return (spent[1] - spent[0]) / 2


def errors(model: Path | str, store: Path, split: str = "test") -> PropertyEvaluation:
    """`evaluate_properties` of a model folder."""
    return evaluate_properties(str(model), store, split)


def device_of(model: Path) -> str:
    """What a model was trained on."""
    return load_model(model).metadata["training"].get("device", "not recorded")


def deviation_of(seeds: Sequence[float]) -> float:
    """The standard deviation over seeds, as estimated from these; 0 for one."""
    return float(np.std(seeds, ddof=1)) if len(seeds) > 1 else 0.0


def over_seeds(values: Sequence[float], form: str, spread: str) -> str:
    """Mean and standard deviation over seeds in these formats."""
    deviation = f" ± {deviation_of(values):{spread}}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{deviation}"


def ranking(values: Mapping[str, Sequence[float]]) -> str:
    """Names by their mean over seeds, lowest first: a < b, or a ≈ b where the seeds do not tell them apart.

    They do where the means differ by more than the standard deviation of a difference.
    """
    names = sorted(values, key=lambda name: float(np.mean(values[name])))
    text = names[0]
    for name, after in pairwise(names):
        gap = np.mean(values[after]) - np.mean(values[name])
        apart = gap > np.hypot(deviation_of(values[name]), deviation_of(values[after]))
        text += f" {'<' if apart else '≈'} {after}"
    return text


def in_units(evaluation: PropertyEvaluation, **units: str) -> dict[str, Any]:
    """Property -> mean absolute and root mean square error and bias in the unit wanted."""
    found = {}
    for name, unit in units.items():
        score = evaluation.score(name).in_unit(unit)
        found[name] = {"mae": score.mae, "rmse": score.rmse, "bias": score.bias, "n": score.n, "unit": unit}
    return found
