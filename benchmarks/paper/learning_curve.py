"""Learning curve: the error of one and the same test set against the number of training sites.

python benchmarks/paper/learning_curve.py data/ck-tp-pbe [--sites 250 500 1000] [--set train.epochs=2]

The training sets are nested: smaller ones are the first molecules, in the order of a hash, of the training split.
Validation and test molecules are always the same. Small sets are trained for more epochs, so that no network is given
less than MIN_STEPS optimiser steps.
"""

import argparse
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from spectra_study import (
    ISD_PAINN,
    PAPER_SHARE,
    PAPER_TRAINING_SITES,
    THRESHOLD,
    crossing,
    errors_along_axes,
    evaluated,
    figures,
    fit_power_law,
)
from study import RED, Study, plain, trained, training_arguments

from equispec.checkpoint import load_model
from equispec.spectra.plot import CYCLE
from equispec.train.config import load_config
from equispec.train.spectra.data import read_splits
from equispec.workflows.evaluation import RESOLUTIONS, EvaluationResult

MIN_STEPS = 3000  # optimiser steps: about as many as the recipe was chosen with
POINTS = 5  # each with half the sites of the next
RESAMPLES = 400
NEAREST = "5 nearest sites, local frame"


def arguments(parser: argparse.ArgumentParser) -> None:
    training_arguments("ck-tensor.yaml")(parser)
    parser.add_argument("--sites", type=int, nargs="+", help="besides all; default: 1/16, 1/8, 1/4, 1/2 of them")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    store = f"data.store={arguments.data.resolve()}"
    config = load_config(arguments.config, [store, *arguments.set])
    training = read_splits(config.data)["train"]
    total = sum(len(sample.sites) for sample in training)
    sizes = arguments.sites or [total >> k for k in range(POINTS - 1, 0, -1)]
    points, errors = [], []
    for n_sites in [*sorted({n for n in sizes if 0 < n < total}), None]:  # None: all
        share = 1.0 if n_sites is None else n_sites / total
        steps = math.ceil(share * len(training) / config.train.batch_size)
        epochs = max(config.train.epochs, math.ceil(MIN_STEPS / steps))
        settings = [f"train.epochs={epochs}"] if epochs > config.train.epochs else []
        settings += [] if n_sites is None else [f"data.train_sites={n_sites}"]
        # without settings this is the network of the random split
        label = "ck-tensor-random" if n_sites is None else f"ck-tensor-{n_sites}-sites"
        folder = trained(arguments, label, ["data.split.kind=random", *settings])
        result = evaluated(folder, arguments.data)
        statistics = load_model(folder).metadata["statistics"]
        baseline = {f"nearest {key}": value for key, value in figures(result, NEAREST).items()}
        known = {"training sites": statistics["n_sites"], "training molecules": statistics["n_molecules"]}
        points.append({**known, **figures(result), **baseline})
        errors.append(per_molecule(result))
    sizes = [point["training sites"] for point in points]
    return {
        "test": {key: result.data[key] for key in ("store", "molecules", "sites")},
        "pretrained": config.train.init is not None,
        "points": points,
        "fits": fits(sizes, [(*(point[name] for name in RESOLUTIONS), 1 - point["share"]) for point in points]),
        "needed": plain(resampled_need(sizes, np.stack(errors))),
    }


def per_molecule(result: EvaluationResult) -> np.ndarray:
    """[molecules, 4]: spectra; sums of their native and paper-broad errors; how many are not below the threshold."""
    native, broad = (errors_along_axes(result, name).sum(1) for name in RESOLUTIONS)
    bad = (errors_along_axes(result, "paper-broad") >= THRESHOLD).sum(1)
    rows = np.stack([np.full(len(bad), 3), native, broad, bad], axis=1)
    sums = np.zeros((len(result.samples), 4))
    np.add.at(sums, [m for m, _ in result.site_index], rows)
    return sums


def fits(sizes: list[int], values: list[tuple[float, ...]]) -> dict[str, list[float] | None]:
    """(a, b) of a n^-b for native and paper-broad mean and for the share of spectra at or above the threshold."""
    found: dict[str, list[float] | None] = {}
    for name, column in zip((*RESOLUTIONS, "share above"), zip(*values, strict=True), strict=True):
        found[name] = list(fit_power_law(sizes, column)) if len(sizes) > 1 and min(column) > 0 else None
    return found


def resampled_need(sizes: list[int], errors: np.ndarray) -> list[float]:
    """Training sites at which 95 % of the spectra fall below the threshold: 5, 50 and 95 % of resamplings.

    errors [points, molecules, 4] of `per_molecule`: test molecules are drawn with replacement, the same for all points.
    """
    random = np.random.default_rng(0)
    needs = []
    for _ in range(RESAMPLES if len(sizes) > 1 else 0):
        drawn = errors[:, random.integers(errors.shape[1], size=errors.shape[1])].sum(1)
        share = drawn[:, 3] / drawn[:, 0]
        if share.min() > 0:
            needs.append(min(crossing(*fit_power_law(sizes, share), 1 - PAPER_SHARE), 1e12))
    return np.percentile(needs, [5, 50, 95]).tolist() if needs else []


def table(results: dict[str, Any]) -> list[list[Any]]:
    header = ["training sites", "training molecules", "native", "paper-broad", f"share < {THRESHOLD}"]
    header += ["5 nearest sites: native", "paper-broad", f"share < {THRESHOLD}"]
    rows: list[list[Any]] = [header]
    for point in results["points"]:
        row = [point["training sites"], point["training molecules"]]
        for prefix in ("", "nearest "):
            row += [point[f"{prefix}native"], point[f"{prefix}paper-broad"], f"{100 * point[f'{prefix}share']:.1f} %"]
        rows.append(row)
    exponents = [f"{fit[1]:.2f}" if fit else None for fit in results["fits"].values()]
    return [*rows, ["exponent of the power law", None, *exponents, None, None, None]]


def text(results: dict[str, Any]) -> str:
    test, fit = results["test"], results["fits"]["share above"]
    lines = [f"One network per size, all tested on the same {test['molecules']} molecules ({test['sites']} sites)."]
    if results["pretrained"]:
        lines.append("Each starts from the same network, which has learned from crude spectra of many more molecules.")
    if fit and results["needed"]:
        low, _, high = results["needed"]
        goal = f"{100 * PAPER_SHARE:.0f} % of the paper-broad spectra below {THRESHOLD}"
        need = crossing(*fit, 1 - PAPER_SHARE)
        lines.append(
            f"The share of spectra that are not below {THRESHOLD} falls as n^-{fit[1]:.2f}. Carried on, {goal} are "
            f"reached by a single network at {thousands(need)} training sites ({thousands(low)} to "
            f"{thousands(high)}, 5 to 95 % of resamplings of the test molecules; the scatter between trainings comes "
            f"on top of it); the paper had {PAPER_TRAINING_SITES:,}."
        )
    return " ".join(lines)


def thousands(n: float) -> str:
    """A number of sites with two significant figures."""
    return "more than a million" if n >= 1e6 else f"{float(f'{n:.2g}'):,.0f}"


def draw(results: dict[str, Any]) -> Figure:
    points = results["points"]
    n = np.array([point["training sites"] for point in points])
    need = crossing(*results["fits"]["share above"], 1 - PAPER_SHARE) if results["fits"]["share above"] else n[-1]
    line = np.geomspace(n[0] / 1.3, min(max(1.3 * need, 1.5 * n[-1]), 1.3 * PAPER_TRAINING_SITES))
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    errors, shares = figure.subplots(1, 2)
    for name, colour in zip(RESOLUTIONS, (CYCLE[0], RED), strict=True):
        draw_curve(errors, n, [point[name] for point in points], line, results["fits"][name], colour, name)
        errors.plot(n, [point[f"nearest {name}"] for point in points], "s:", color=colour, markersize=4, linewidth=1,
                    label=f"{name}, 5 nearest sites")  # fmt: skip
    errors.set_ylabel("Mean MSE (mean intensity = 1)")
    above = [100 * (1 - point["share"]) for point in points]
    fit = results["fits"]["share above"]
    draw_curve(shares, n, above, line, fit and [100 * fit[0], fit[1]], RED, "network")
    nearest = [100 * (1 - point["nearest share"]) for point in points]
    shares.plot(n, nearest, "s:", color=RED, markersize=4, linewidth=1, label="5 nearest sites")
    goal = 100 * (1 - PAPER_SHARE)
    shares.axhline(goal, color="#999999", linewidth=0.8)
    if results["needed"] and results["needed"][2] < 2 * line[-1]:
        low, _, high = results["needed"]
        shares.plot([low, high], [goal] * 2, color=RED, linewidth=4, alpha=0.4, label="fit gets there, 5–95 %")
    shares.plot(PAPER_TRAINING_SITES, goal, "v", color="#555555", label="paper, at most")
    shares.set_ylabel(f"Paper-broad spectra with MSE ≥ {THRESHOLD} (%)")
    shares.set_ylim(bottom=min(3.0, 0.7 * min(above)), top=100)
    for axis in (errors, shares):
        axis.set_xscale("log")
        axis.set_xlabel("Training sites")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else "")
        axis.legend(loc="upper right", fontsize=8)
    errors.set_ylim(top=2.2 * max(point["native"] for point in points))
    return figure


def draw_curve(
    axis: Axes, n: Any, values: list[float], line: Any, fit: list[float] | None, colour: str, label: str
) -> None:
    """Points, and the power law through them as a dashed line."""
    axis.loglog(n, values, "o", color=colour, label=label if fit is None else f"{label}, ∝ n$^{{-{fit[1]:.2f}}}$")
    if fit is not None:
        axis.plot(line, fit[0] * line ** -fit[1], "--", color=colour, linewidth=1)


STUDY = Study(
    "learning_curve",
    5,
    "Learning curve",
    arguments,
    measure,
    table,
    text,
    {"": (draw, "Errors against the number of training sites, with power laws")},
    page=ISD_PAINN,
)

if __name__ == "__main__":
    STUDY.main()
