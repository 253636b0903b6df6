"""The ablations of Table 4, on MD17 ethanol instead of aspirin: what scalar product and vector propagation are worth.

python benchmarks/paper/painn_ablations.py ethanol_random2000.npz [--set train.epochs=2]

Networks of equal size (widths as in the paper) and equal training, 950 structures: a cosine schedule over EPOCHS
epochs, far shorter than configs/md17_ethanol.yaml. The paper's errors are those of aspirin: what is compared is their
order, and how many times larger they are than those of the whole network.
"""

import argparse
from typing import Any

from matplotlib.figure import Figure
from property_study import PAINN, errors, in_units, source_arguments, store_of, train_on
from study import RED, Study

from equispec.checkpoint import load_model
from equispec.spectra.plot import REFERENCE_GREY

EPOCHS = 150
RECIPE = [f"train.epochs={EPOCHS}", "train.schedule=cosine", "train.patience=null", "train.ema=0.99"]
# features as in the paper, for about 588,000 parameters each, and the paper's errors for aspirin
VARIANTS: dict[str, tuple[int, list[str], tuple[float, float]]] = {
    "PaiNN": (128, [], (0.159, 0.371)),
    "no scalar product": (134, ["model.backbone.scalar_product=false"], (0.173, 0.420)),
    "no vector propagation": (135, ["model.backbone.vector_propagation=false"], (0.183, 0.441)),
    "neither": (
        142,
        ["model.backbone.scalar_product=false", "model.backbone.vector_propagation=false"],
        (0.200, 0.507),
    ),
    "no vectors": (174, ["model.backbone.vectors=false"], (0.449, 1.194)),
}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    store = store_of("md17", arguments.trajectory)
    rows = {}
    for name, (features, switches, published) in VARIANTS.items():
        settings = [f"model.backbone.features={features}", *switches, *RECIPE]
        folder = train_on(arguments, store, "md17_ethanol.yaml", f"painn-{name.replace(' ', '-')}", settings)
        found = in_units(errors(folder, store), energy="kcal/mol", forces="kcal/mol/Å")
        rows[name] = {
            "features": features,
            "parameters": load_model(folder).metadata["parameters"],
            "energy": found["energy"]["mae"],
            "forces": found["forces"]["mae"],
            "paper": published,
        }
    return {"rows": rows, "epochs": EPOCHS}


def table(results: dict[str, Any]) -> list[list[Any]]:
    header = ["network", "features", "parameters", "energy (kcal/mol)", "forces (kcal/mol/Å)", "forces / whole"]
    rows: list[list[Any]] = [[*header, "paper, aspirin: energy", "forces", "forces / whole"]]
    whole = results["rows"]["PaiNN"]
    for name, row in results["rows"].items():
        numbers = [row["features"], row["parameters"], row["energy"], row["forces"], row["forces"] / whole["forces"]]
        rows.append([name, *numbers, *row["paper"], row["paper"][1] / whole["paper"][1]])
    return rows


def text(results: dict[str, Any]) -> str:
    order = sorted(results["rows"], key=lambda name: results["rows"][name]["forces"])
    same = "the paper's order" if order == list(VARIANTS) else "not the paper's order"
    return (
        f"Each network was trained once, for {results['epochs']} epochs on the same 950 structures. By the error of "
        f"the forces: {', '.join(order)}: {same}. Without vectors our network is smaller than the paper's, "
        "whose pruned form cannot be recovered from its text."
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    axis = figure.subplots()
    names = list(results["rows"])
    whole = results["rows"]["PaiNN"]
    for shift, label, colour, ratio in (
        (-0.2, "equispec, ethanol", RED, lambda row: row["forces"] / whole["forces"]),
        (0.2, "paper, aspirin", REFERENCE_GREY, lambda row: row["paper"][1] / whole["paper"][1]),
    ):
        values = [ratio(results["rows"][name]) for name in names]
        bars = axis.bar([k + shift for k in range(len(names))], values, 0.38, color=colour, label=label)
        axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=8.5)
    axis.set_xticks(range(len(names)), [name.replace(" ", "\n", 1) for name in names])
    axis.tick_params(axis="x", which="minor", bottom=False)
    axis.set_ylabel("Force error / that of PaiNN")
    axis.legend()
    return figure


STUDY = Study(
    "painn_ablations",
    3,
    "Ablations (Table 4)",
    source_arguments(trajectory="MD17 ethanol (.npz)"),
    measure,
    table,
    text,
    {"": (draw, "Force errors of the pruned networks, over that of the whole one")},
    PAINN,
)

if __name__ == "__main__":
    STUDY.main()
