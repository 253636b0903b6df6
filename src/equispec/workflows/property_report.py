"""What `equispec eval` shows of a property model: a table, and with --report a page, the figures and a picture."""

import json
from pathlib import Path

import numpy as np

from equispec.errors import InputError
from equispec.quantities import QUANTITIES
from equispec.spectra import write_bytes
from equispec.workflows.property_evaluation import CUSTOMARY, WITHIN, PropertyEvaluation, PropertyScore

HEADINGS = ("property", "unit", "MAE", "RMSE", "bias", "spread", "|vector error|", "labels")
DRAWN = 20_000  # points of a picture at most


def score_rows(evaluation: PropertyEvaluation) -> list[tuple[str, ...]]:
    """A row for each property and unit: our own unit first, then the customary ones."""
    rows = []
    for score in evaluation.scores:
        units = (score.unit, *(unit for unit in CUSTOMARY.get(score.unit, ()) if unit != score.unit))
        rows += [_row(score.in_unit(unit)) for unit in units]
    return rows


def _row(score: PropertyScore) -> tuple[str, ...]:
    numbers = (score.mae, score.rmse, score.bias, score.spread)
    vector = "" if score.vector is None else f"{score.vector:.4g}"
    return (score.name, score.unit, *(f"{number:.4g}" for number in numbers), vector, f"{score.n:,}")


def remarks(evaluation: PropertyEvaluation) -> list[str]:
    """What the table has no column for."""
    shares = [score.within for score in evaluation.scores if score.within is not None]
    return [f"EwT: {share:.2%} of the adsorption energies are within {WITHIN:g} eV." for share in shares]


def title(evaluation: PropertyEvaluation) -> str:
    """Which structures of which data."""
    return f"{evaluation.split} split of {evaluation.store}: {evaluation.structures:,} structures"


def write_report(evaluation: PropertyEvaluation, folder: Path) -> None:
    """README.md, metrics.json and parity.png in a folder; InputError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write the report {folder}: {error.strerror}") from None
    write_bytes(
        folder / "metrics.json", (json.dumps(evaluation.to_dict(), ensure_ascii=False, indent=1) + "\n").encode()
    )
    rows = [HEADINGS, tuple("-" for _ in HEADINGS), *score_rows(evaluation)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    text = [
        f"# {evaluation.model} ({evaluation.model_hash})",
        f"{title(evaluation)}, predicted in {evaluation.seconds:.1f} s.",
        *evaluation.notes,
        "\n".join(lines),
        "*Bias*: mean of predicted less given. *Spread*: standard deviation of what is given. *Vector error*: mean "
        "length of the error of a vector.",
        *remarks(evaluation),
        "![Predicted against given values](parity.png)",
    ]
    write_bytes(folder / "README.md", ("\n\n".join(text) + "\n").encode())
    _draw(evaluation, folder / "parity.png")


def _draw(evaluation: PropertyEvaluation, path: Path) -> None:
    """Predicted against given values of every property, with the distribution of the errors."""
    from matplotlib.figure import Figure

    from equispec.spectra.plot import styled, write_figure

    def draw() -> Figure:
        n = len(evaluation.scores)
        figure = Figure(figsize=(3.6 * n, 6.0), layout="constrained")
        panels = figure.subplots(2, n, squeeze=False)
        for k, score in enumerate(evaluation.scores):
            unit = QUANTITIES[score.name].unit
            given, predicted = (np.ravel(table[score.name]) for table in (evaluation.given, evaluation.predicted))
            some = np.random.default_rng(0).permutation(len(given))[:DRAWN]
            above, below = panels[0, k], panels[1, k]
            above.axline((float(given.mean()), float(given.mean())), slope=1, color="#999999", linewidth=0.8)
            above.plot(given[some], predicted[some], ".", markersize=2, color="#D62728", rasterized=True)
            above.set_title(f"{score.name}, MAE {score.mae:.3g} {unit}", fontsize=9)
            above.set_xlabel(f"given ({unit})")
            above.set_ylabel(f"predicted ({unit})")
            below.hist(predicted - given, bins=60, color="#D62728")
            below.set_xlabel(f"predicted - given ({unit})")
            below.set_ylabel("labels")
        return figure

    write_figure(styled(draw)(), path)
