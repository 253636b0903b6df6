"""Errors against the size of the molecule, beyond the sizes of the training set.

python benchmarks/paper/extrapolation.py ck-tensor data/ck-tp-pbe data/ck-tp-pbe-extra/larger-molecules
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from spectra_study import ISD_PAINN, THRESHOLD, described, errors_along_axes, evaluated, origin
from study import RED, Study, model_and_data

from equispec.predict import load
from equispec.spectra.plot import CYCLE
from equispec.workflows.evaluation import RESOLUTIONS, EvaluationResult

QUANTILES = (5, 25, 50, 75, 95)
TEST, LARGER = "test split", "larger molecules"


def arguments(parser: argparse.ArgumentParser) -> None:
    model_and_data(parser)
    parser.add_argument("larger", type=Path, help="store of larger molecules")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    predictor = load(arguments.model, device="cpu")
    results = {TEST: evaluated(predictor, arguments.data), LARGER: evaluated(predictor, arguments.larger, "all")}
    known = predictor.members[0].metadata["statistics"]["max_heavy_atoms"]
    sizes = [row for name, result in results.items() for row in by_size(result, name)]
    return {**described(results[LARGER]), "largest known": known, "sizes": sizes}


def by_size(result: EvaluationResult, name: str) -> list[dict[str, Any]]:
    """Errors of all molecules with the same number of heavy atoms."""
    heavy = np.array([result.samples[m].n_heavy for m, _ in result.site_index])
    rows = []
    for size in np.unique(heavy).tolist():
        errors = {key: errors_along_axes(result, key)[heavy == size].ravel() for key in RESOLUTIONS}
        rows.append(
            {
                "set": name,
                "heavy atoms": size,
                "molecules": sum(sample.n_heavy == size for sample in result.samples),
                "sites": int((heavy == size).sum()),
                **{key: float(values.mean()) for key, values in errors.items()},
                "quantiles": {
                    key: np.percentile(values, [5, 25, 50, 75, 95]).tolist() for key, values in errors.items()
                },
                "share": float((errors["paper-broad"] < THRESHOLD).mean()),
            }
        )
    return rows


def table(results: dict[str, Any]) -> list[list[Any]]:
    header = ["set", "heavy atoms", "molecules", "sites", "native mean", "median", "paper-broad mean", "median"]
    rows: list[list[Any]] = [[*header, f"share < {THRESHOLD}"]]
    for size in results["sizes"]:
        row = [size[key] for key in ("set", "heavy atoms", "molecules", "sites")]
        for name in RESOLUTIONS:
            row += [size[name], size["quantiles"][name][2]]
        rows.append([*row, f"{100 * size['share']:.1f} %"])
    return rows


def text(results: dict[str, Any]) -> str:
    means = []
    for name in (TEST, LARGER):
        rows = [size for size in results["sizes"] if size["set"] == name]
        sites = sum(row["sites"] for row in rows)
        broad, share = (sum(row[key] * row["sites"] for row in rows) / sites for key in ("paper-broad", "share"))
        means.append(f"{name}: {broad:.3g} and {100 * share:.1f} %")
    return (
        f"{origin(results)} The model has seen molecules with up to {results['largest known']} heavy atoms. "
        f"Paper-broad mean and share of spectra below {THRESHOLD}: {'; '.join(means)}."
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    errors, shares = figure.subplots(1, 2, gridspec_kw={"width_ratios": (1.7, 1)})
    for name, colour, shift in zip(RESOLUTIONS, (CYCLE[0], RED), (-0.18, 0.18), strict=True):
        boxes = [
            {"whislo": q[0], "q1": q[1], "med": q[2], "q3": q[3], "whishi": q[4], "fliers": []}
            for q in (size["quantiles"][name] for size in results["sizes"])
        ]
        places = [size["heavy atoms"] + shift for size in results["sizes"]]
        styles = {key: {"color": colour} for key in ("boxprops", "medianprops", "whiskerprops", "capprops")}
        errors.bxp(boxes, places, widths=0.3, showfliers=False, manage_ticks=False, **styles)  # type: ignore[arg-type]
        means = [size[name] for size in results["sizes"]]
        errors.plot(places, means, "D", color=colour, markersize=4, label=f"{name}: mean, median, 25–75 %, 5–95 %")
    errors.set_yscale("log")
    errors.set_ylim(top=8 * errors.get_ylim()[1])
    errors.set_ylabel("MSE (mean intensity = 1)")
    errors.legend(loc="upper left", fontsize=8)
    for kind, marker in ((TEST, "o"), (LARGER, "s")):
        chosen = [size for size in results["sizes"] if size["set"] == kind]
        sizes, values = [size["heavy atoms"] for size in chosen], [100 * size["share"] for size in chosen]
        shares.plot(
            sizes, values, marker + "-", color=RED, label=kind, markerfacecolor="white" if marker == "s" else RED
        )
    shares.set_ylim(0, 105)
    shares.set_ylabel(f"Paper-broad spectra with MSE < {THRESHOLD} (%)")
    shares.legend(loc="lower left")
    every = [size["heavy atoms"] for size in results["sizes"]]
    for axis in (errors, shares):
        axis.axvspan(
            results["largest known"] + 0.5, max(*every, results["largest known"]) + 0.6, color="#EEEEEE", zorder=0
        )
        axis.set_xlabel("Heavy atoms of the molecule (shaded: larger than any in training)")
        axis.set_xticks(range(min(every), max(every) + 1))
        axis.tick_params(axis="x", which="minor", bottom=False)
        axis.set_xlim(min(every) - 0.6, max(every) + 0.6)
    shares.set_xlabel("Heavy atoms of the molecule")
    return figure


STUDY = Study(
    "extrapolation",
    8,
    "Larger molecules",
    arguments,
    measure,
    table,
    text,
    {"": (draw, "Errors against the number of heavy atoms")},
    page=ISD_PAINN,
)

if __name__ == "__main__":
    STUDY.main()
