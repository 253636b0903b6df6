"""Fig. 1 of the paper: the distribution of the errors of all test spectra, and the spectra at four percentiles of it.

python benchmarks/paper/fig1.py ck-tensor data/ck-tp-pbe
"""

import argparse
from typing import Any

from matplotlib.figure import Figure
from spectra_study import (
    ISD_PAINN,
    PAPER_SHARE,
    PAPER_TRAINING_SITES,
    THRESHOLD,
    at_percentiles,
    described,
    draw_example,
    draw_sorted,
    evaluated,
    mark_examples,
    origin,
)
from study import Study, model_and_data

from equispec.workflows.evaluation import RESOLUTIONS

PERCENTILES = (0, 50, 95, 100)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    result = evaluated(arguments.model, arguments.data)
    return {**described(result), **{name: at_percentiles(result, name, PERCENTILES) for name in RESOLUTIONS}}


def table(results: dict[str, Any]) -> list[list[Any]]:
    header = ["metric", "spectra", "mean", *(f"{p} %" for p in PERCENTILES), f"share < {THRESHOLD}"]
    rows = [
        [
            name,
            len(results[name]["sorted"]),
            results[name]["mean"],
            *(example["mse"] for example in results[name]["examples"]),
            f"{100 * results[name]['share']:.1f} %",
        ]
        for name in RESOLUTIONS
    ]
    paper = [f"paper, {PAPER_TRAINING_SITES:,} training sites", 69_477, *[None] * 5, f"> {100 * PAPER_SHARE:.0f} %"]
    return [header, *rows, paper]


def text(results: dict[str, Any]) -> str:
    share = results["paper-broad"]["share"]
    return (
        f"{origin(results)} {100 * share:.1f} % of the test spectra have a paper-broad MSE below {THRESHOLD}; "
        f"the paper has more than {100 * PAPER_SHARE:.0f} %."
    )


def draw(results: dict[str, Any], name: str) -> Figure:
    data = results[name]
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=(1.15, 1, 1))
    curve = figure.add_subplot(grid[:, 0])
    draw_sorted(curve, data["sorted"])
    mark_examples(curve, data["sorted"], data["examples"], "bcde")
    share = f"{100 * data['share']:.1f} % of {len(data['sorted']):,} spectra below {THRESHOLD}"
    curve.set_title(f"(a) {name}\n{share}", loc="left", fontsize=9)
    for k, (letter, example) in enumerate(zip("bcde", data["examples"], strict=True)):
        axis = figure.add_subplot(grid[k // 2, 1 + k % 2])
        draw_example(axis, data["energy"], example, letter)
        if k == 0:
            axis.legend(loc="center right")
        if k >= 2:
            axis.set_xlabel("Energy (eV)")
        if k % 2 == 0:
            axis.set_ylabel("Absorption (mean = 1)")
    return figure


STUDY = Study(
    "fig1",
    1,
    "Distribution of the errors (Fig. 1)",
    model_and_data,
    measure,
    table,
    text,
    {
        f"-{name}": (lambda results, name=name: draw(results, name), f"Sorted errors and four spectra, {name}")
        for name in RESOLUTIONS
    },
    page=ISD_PAINN,
)

if __name__ == "__main__":
    STUDY.main()
