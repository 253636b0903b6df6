"""Adsorption energies of slabs, in and out of domain (Table 1), and what the parts of HDGNN are worth (Tables 3 to 5).

python benchmarks/paper/hdgnn_is2re.py data/slabs [--set train.epochs=2] [--seeds 1]

The folder is that of benchmarks/hdgnn_paper/slab_data.py: initial structures with the adsorption energies of the
relaxed ones, a split in domain and three with adsorbates, metals or both that no network was trained on. Every network
is trained with three seeds, of the weights and of the order of the data; the split is the same.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from property_study import HDGNN, deviation_of, devices, epoch_seconds, errors, over_seeds, source_arguments, train_on
from study import RED, Study

from equispec.checkpoint import load_model
from equispec.data.properties import PropertyStore, atoms_of
from equispec.predict import load
from equispec.spectra.plot import CYCLE, REFERENCE_GREY
from equispec.workflows.deviation import deviation

CONFIG = "hdgnn_is2re.yaml"
SPLITS = ("in-domain", "ood-ads", "ood-cat", "ood-both")
MADS = ("MAD_roll", "MAD_rot", "MAD_both")
ROTATED = 20  # structures of the test split that are turned
OTHER_HEAD = "model.heads=[{name: scalar, targets: [adsorption_energy], offset: mean}]"
FLAT = "blocks: 3, cutoff: 6.0, max_neighbors: 16"


def hdgnn(**options: Any) -> list[str]:
    """Settings of a network with these options, the paper's otherwise."""
    return [f"model.backbone.{name}={value}" for name, value in {"pathway_input": "split", **options}.items()]


# by table: settings, and the paper's error on its validation set in domain (meV)
NETWORKS: dict[str, dict[str, tuple[list[str], float | None]]] = {
    "Table 1": {
        "HDGNN": (hdgnn(), 554),
        "PaiNN": ([f"model.backbone={{name: painn, features: 256, {FLAT}}}", OTHER_HEAD], None),
        "So3krates": (
            [f"model.backbone={{name: so3krates, features: 264, {FLAT}}}", OTHER_HEAD],
            None,
        ),
    },
    "Table 3": {
        "Linear": (hdgnn(pathway="linear"), 632),
        "Fully-TP": (hdgnn(pathway="none", product="full"), 591),
        "Unrestricted": (hdgnn(pathway="unrestricted", product="none"), 883),
    },
    "Table 4": {
        "softmax": (hdgnn(attention="softmax"), 562),
        "fixed 1/4": (hdgnn(attention=[0.25] * 4), 564),
        "fixed .3, .3, .3, .1": (hdgnn(attention=[0.3, 0.3, 0.3, 0.1]), 567),
    },
    "Table 5": {
        "no layer norm": (hdgnn(layer_norm="false"), 577),
        "extra linear": (hdgnn(node_linear="true"), 568),
        "unshared": (hdgnn(shared="false"), 555),
        "rotated input": (hdgnn(pathway_input="rotated"), 572),
    },
}


def arguments(parser: argparse.ArgumentParser) -> None:
    source_arguments(folder="folder of the slabs")(parser)
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--tables", type=int, nargs="+", default=[1, 3, 4, 5], metavar="N")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    stores = {split: given.folder / f"slabs-{split}.h5" for split in SPLITS}
    rows, models = [], []
    for number, networks in ((table, NETWORKS[f"Table {table}"]) for table in given.tables):
        for name, (settings, published) in networks.items():
            label = f"slabs-{name.replace(' ', '').replace(',', '').replace('/', '')}"
            seeds = []
            for seed in range(given.seeds):
                folder = train_on(given, stores["in-domain"], CONFIG, label, [*settings, f"train.seed={seed}"])
                seeds.append(of_seed(folder, stores))
                models.append(folder)
            rows.append(
                {
                    "table": number,
                    "network": name,
                    "parameters": load_model(folder).metadata["parameters"],
                    "published": published,
                    "seconds": epoch_seconds(folder, stores["in-domain"]),
                    **{key: [one[key] for one in seeds] for key in seeds[0]},
                }
            )
    counts = {split: len(PropertyStore(path)) for split, path in stores.items()}
    training = load_model(folder).metadata["training"]
    parts = {part: len(ids) for part, ids in training["split"].items()}
    epochs = training["config"]["train"]["epochs"]
    return {"rows": rows, "counts": counts, "parts": parts, "epochs": epochs, "devices": devices(models)}


def of_seed(folder: Path, stores: dict[str, Path]) -> dict[str, float]:
    """Errors (meV) and EwT of the splits, the error in training, and the MADs of test structures in domain (meV)."""
    found: dict[str, float] = {}
    for split, path in stores.items():
        score = errors(folder, path, "test" if split == "in-domain" else "all").score("adsorption_energy")
        found |= {split: 1e3 * score.mae, f"EwT {split}": score.within or 0.0}
    found["train"] = 1e3 * errors(folder, stores["in-domain"], "train").score("adsorption_energy").mae
    predictor = load(folder)
    test = set(predictor.members[0].metadata["training"]["split"]["test"])
    structures = [atoms_of(sample) for sample in PropertyStore(stores["in-domain"]) if sample.id in test][:ROTATED]
    mads = deviation(predictor, structures, "adsorption_energy")
    return found | {"MAD_roll": 1e3 * mads.roll, "MAD_rot": 1e3 * mads.rotation, "MAD_both": 1e3 * mads.both}


def table(results: dict[str, Any]) -> list[list[Any]]:
    header = ["table", "network", "parameters", "epoch (s)", "train", *SPLITS, "mean of the three ood", *MADS]
    rows: list[list[Any]] = [[*header, *(f"EwT {split} (%)" for split in SPLITS), "paper, validation in domain"]]
    for row in results["rows"]:
        numbers = [over_seeds(row[key], ".0f", ".0f") for key in ("train", *SPLITS)]
        away = over_seeds(np.mean([row[split] for split in SPLITS[1:]], axis=0).tolist(), ".0f", ".0f")
        shares = [f"{100 * float(np.mean(row[f'EwT {split}'])):.1f}" for split in SPLITS]
        rows.append(
            [
                row["table"],
                row["network"],
                row["parameters"],
                row["seconds"],
                *numbers,
                away,
                *(over_seeds(row[mad], ".1f", ".1f") for mad in MADS),
                *shares,
                row["published"],
            ]
        )
    return rows


def text(results: dict[str, Any]) -> str:
    rows, seeds = results["rows"], len(results["rows"][0]["train"])
    counts, parts = results["counts"], results["parts"]
    return (
        f"Mean absolute errors in meV, mean and standard deviation over {seeds} seeds; {results['epochs']} epochs (on: "
        f"{', '.join(results['devices'])}) of {parts['train']} structures, {parts['valid']} for validation, tested on "
        f"{parts['test']} in domain and {counts['ood-ads']}, {counts['ood-cat']} and {counts['ood-both']} with unknown "
        f"adsorbates, metals and both. MADs: of {ROTATED} test structures. {orders(rows)} Differences within the "
        "deviations over seeds say nothing. Small networks and a thousandth of the paper's data: orders may be "
        "compared, numbers not. HDGNN has 16 channels, degree 3 and two layers, PaiNN 256 and So3krates 264 features "
        "and three layers; all have the same learning rate and at most 16 neighbours."
    )


def orders(rows: list[dict[str, Any]]) -> str:
    """The networks of each table by their error, Tables 3 to 5 beside the paper's."""
    mean = {row["network"]: {split: float(np.mean(row[split])) for split in SPLITS} for row in rows}
    away = {name: float(np.mean([found[split] for split in SPLITS[1:]])) for name, found in mean.items()}
    published = {row["network"]: row["published"] for row in rows}
    told = []
    for number in sorted({row["table"] for row in rows}):
        names = [row["network"] for row in rows if row["table"] == number or row["network"] == "HDGNN"]
        here = sorted(names, key=lambda name: mean[name]["in-domain"])
        words = f"Table {number}, best first: {'; '.join(here)}"
        if number == 1:
            words += f". Out of domain: {'; '.join(sorted(names, key=away.__getitem__))}"
        else:
            paper = sorted(names, key=published.__getitem__)
            words += " (as in the paper)" if here == paper else f" (the paper: {'; '.join(paper)})"
        told.append(f"{words}.")
    return " ".join(told)


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    axis = figure.subplots()
    for k, (split, colour) in enumerate(zip(SPLITS, (RED, *CYCLE), strict=False)):
        values = np.array([[np.mean(row[split]), deviation_of(row[split])] for row in results["rows"]])
        places = np.arange(len(values)) + (k - 1.5) * 0.2
        axis.bar(places, values[:, 0], 0.18, yerr=values[:, 1], color=colour, label=split, ecolor=REFERENCE_GREY)
    names = [row["network"] for row in results["rows"]]
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axis.tick_params(axis="x", which="minor", bottom=False)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("Mean absolute error (meV)")
    axis.legend()
    return figure


STUDY = Study(
    "hdgnn_is2re",
    2,
    "Adsorption energies of slabs (Tables 1, 3, 4 and 5)",
    arguments,
    measure,
    table,
    text,
    {"": (draw, "Errors in domain and out of domain, with standard deviations over seeds")},
    page=HDGNN,
)

if __name__ == "__main__":
    STUDY.main()
