"""Adsorption energies of slabs, in and out of domain (Table 1), and what the parts of HDGNN are worth (Tables 3 to 5).

python benchmarks/paper/hdgnn_is2re.py data/slabs [--set train.epochs=2] [--seeds 1]

The folder is that of benchmarks/hdgnn_paper/slab_data.py: initial structures with the adsorption energies of the
relaxed ones, a split in domain and three with adsorbates, metals or both that no network was trained on. Every network
is trained with three seeds, of the weights and of the order of the data; the split is the same.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from property_study import (
    HDGNN,
    deviation_of,
    device_of,
    epoch_seconds,
    errors,
    over_seeds,
    ranking,
    source_arguments,
    train_on,
)
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
PAINN = [f"model.backbone={{name: painn, features: 256, {FLAT}}}", OTHER_HEAD]
LONGER = ", 120 epochs"


def hdgnn(**options: Any) -> list[str]:
    """Settings of a network with these options, the paper's otherwise."""
    return [f"model.backbone.{name}={value}" for name, value in {"pathway_input": "split", **options}.items()]


# by table: settings, and the paper's error on its validation set in domain (meV)
NETWORKS: dict[str, dict[str, tuple[list[str], float | None]]] = {
    "Table 1": {
        "HDGNN": (hdgnn(), 554),
        "PaiNN": (PAINN, None),
        "So3krates": ([f"model.backbone={{name: so3krates, features: 264, {FLAT}}}", OTHER_HEAD], None),
        f"HDGNN{LONGER}": ([*hdgnn(), "train.epochs=120"], None),
        f"PaiNN{LONGER}": ([*PAINN, "train.epochs=120"], None),
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
        "axis rolls": (hdgnn(roll="axis"), None),  # not the paper's: frames are not rolled at random in training
    },
}


def arguments(parser: argparse.ArgumentParser) -> None:
    source_arguments(folder="folder of the slabs")(parser)
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--tables", type=int, nargs="+", default=[1, 3, 4, 5], metavar="N")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    stores = {split: given.folder / f"slabs-{split}.h5" for split in SPLITS}
    rows, trainings = [], []
    for number, networks in ((table, NETWORKS[f"Table {table}"]) for table in given.tables):
        for name, (settings, published) in networks.items():
            label = f"slabs-{name.replace(' ', '').replace(',', '').replace('/', '')}"
            options = [[*settings, f"train.seed={seed}"] for seed in range(given.seeds)]
            folders = [train_on(given, stores["in-domain"], CONFIG, label, one) for one in options]
            seeds = [of_seed(folder, stores) for folder in folders]
            trainings.append(load_model(folders[0]).metadata["training"])
            rows.append(
                {
                    "table": number,
                    "network": name,
                    "parameters": load_model(folders[0]).metadata["parameters"],
                    "published": published,
                    "seconds": epoch_seconds(folders[0], stores["in-domain"]),
                    "devices": [device_of(folder) for folder in folders],
                    **{key: [one[key] for one in seeds] for key in seeds[0]},
                }
            )
    counts = {split: len(PropertyStore(path)) for split, path in stores.items()}
    split, configs = trainings[0]["split"], [training["config"] for training in trainings]
    weights = {config["model"]["backbone"].get("initial_weights") for config in configs} - {None}  # None: no HDGNN
    return {
        "rows": sorted(rows, key=lambda row: row["table"]),
        "counts": counts,
        "parts": {part: len(ids) for part, ids in split.items()},
        "epochs": min(config["train"]["epochs"] for config in configs),
        "constant": of_mean(split, stores),
        "initial_weights": " and ".join(sorted(weights)),
    }


def of_mean(ids: dict[str, list[int]], stores: dict[str, Path]) -> dict[str, float]:
    """Errors (meV) of an answer that is always the mean of the training structures."""
    labels = {split: of_ids(path) for split, path in stores.items()}
    home = labels["in-domain"]
    asked = {split: [*found.values()] for split, found in labels.items()}
    asked |= {"in-domain": [home[k] for k in ids["test"]], "train": [home[k] for k in ids["train"]]}
    mean = np.mean(asked["train"])
    return {split: 1e3 * float(np.abs(np.array(values) - mean).mean()) for split, values in asked.items()}


def of_ids(path: Path) -> dict[int, float]:
    """The adsorption energies (eV) of a store."""
    return {sample.id: float(sample.properties["adsorption_energy"]) for sample in PropertyStore(path)}


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
    header = ["table", "network", "parameters", "epoch (core s)", "train", *SPLITS, *MADS]
    rows: list[list[Any]] = [[*header, *(f"EwT {split} (%)" for split in SPLITS), "paper, validation in domain"]]
    for row in results["rows"]:
        shares = [f"{100 * float(np.mean(row[f'EwT {split}'])):.1f}" for split in SPLITS]
        rows.append(
            [
                row["table"],
                row["network"],
                row["parameters"],
                row["seconds"],
                *(over_seeds(row[key], ".0f", ".0f") for key in ("train", *SPLITS)),
                *(over_seeds(row[mad], ".1f", ".1f") for mad in MADS),
                *shares,
                row["published"],
            ]
        )
    constant = [f"{results['constant'][key]:.0f}" for key in ("train", *SPLITS)]
    return [*rows, [None, "mean of the training structures", None, None, *constant, *[None] * (len(rows[0]) - 9)]]


def text(results: dict[str, Any]) -> str:
    rows, seeds = results["rows"], len(results["rows"][0]["train"])
    counts, parts, constant = results["counts"], results["parts"], results["constant"]
    hopeless = [split for split in SPLITS if min(float(np.mean(row[split])) for row in rows) > constant[split]]
    devices = Counter(device for row in rows for device in row["devices"])
    sentences = [
        f"Mean absolute errors in meV, mean and standard deviation over {seeds} seeds; {results['epochs']} epochs, or "
        f"as many as the name tells, of {parts['train']} structures, {parts['valid']} for validation, tested on "
        f"{parts['test']} in domain and {counts['ood-ads']}, {counts['ood-cat']} and {counts['ood-both']} with unknown "
        "adsorbates, metals and both. "
        f"MADs: of {ROTATED} test structures. {rankings(rows)}",
        f"No network is better than the mean of the training structures on {', '.join(hopeless)}." if hopeless else "",
        "The embedding of a metal that was never seen is what the seed made of it. Small networks and a thousandth of "
        "the paper's data: orders may be compared, numbers not. HDGNN has 16 channels, degree 3 and two layers, PaiNN "
        "256 and So3krates 264 features and three layers; all have the same learning rate and at most 16 neighbours.",
        "Axis rolls: ours, not a row of the paper; frames are not rolled at random in training."
        if any(row["network"] == "axis rolls" for row in rows)
        else "",
        f"Initial weights of HDGNN: {weights}." if (weights := results["initial_weights"]) else "",
        f"Trained on {', '.join(f'{device} ({n} networks)' for device, n in devices.items())}.",
    ]
    return " ".join(filter(None, sentences))


def rankings(rows: list[dict[str, Any]]) -> str:
    """The networks of each table by their errors, in domain beside the paper's order; of Table 1 out of domain too."""
    told = ["a < b: the mean of a is lower by more than the deviation of the difference over seeds, a ≈ b: it is not."]
    first = {row["network"]: row for row in rows if row["table"] == 1}
    for ending in ("", LONGER):
        here = {name.removesuffix(LONGER): row for name, row in first.items() if name.endswith(LONGER) == bool(ending)}
        for split in SPLITS if here else ():
            told.append(f"Table 1{ending}, {split}: {ranking({name: row[split] for name, row in here.items()})}.")
    for number in sorted({row["table"] for row in rows} - {1}):
        here = {row["network"]: row for row in rows if row["table"] == number or row["network"] == "HDGNN"}
        paper = sorted((name for name, row in here.items() if row["published"]), key=lambda n: here[n]["published"])
        ours = ranking({name: row["in-domain"] for name, row in here.items()})
        told.append(f"Table {number}, in-domain: {ours}; the paper: {' < '.join(paper)}.")
    return " ".join(told)


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    axis = figure.subplots()
    for k, (split, colour) in enumerate(zip(SPLITS, (RED, *CYCLE), strict=False)):
        values = np.array([[np.mean(row[split]), deviation_of(row[split])] for row in results["rows"]])
        places = np.arange(len(values)) + (k - 1.5) * 0.2
        axis.bar(places, values[:, 0], 0.18, yerr=values[:, 1], color=colour, label=split, ecolor=REFERENCE_GREY)
    names = [row["network"] for row in results["rows"]]
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axis.tick_params(axis="x", which="minor", bottom=False)
    axis.set_ylim(0, 1.2 * max(float(np.mean(row[split])) for row in results["rows"] for split in SPLITS))
    for split, colour in zip(SPLITS, (RED, *CYCLE), strict=False):
        axis.axhline(results["constant"][split], color=colour, lw=0.8, ls=":")
    axis.set_ylabel("Mean absolute error (meV)")
    figure.legend(loc="outside upper center", ncols=len(SPLITS))
    return figure


STUDY = Study(
    "hdgnn_is2re",
    2,
    "Adsorption energies of slabs (Tables 1, 3, 4 and 5)",
    arguments,
    measure,
    table,
    text,
    {"": (draw, "Errors and their deviations over seeds, cut at the top; dotted: the mean of the training structures")},
    page=HDGNN,
)

if __name__ == "__main__":
    STUDY.main()
