"""Expressive power (section 2.4): can one layer tell how a symmetric neighbourhood is turned?

python benchmarks/paper/hdgnn_symmetric.py

A carbon atom with n hydrogen atoms on a circle, and the same turned by half the angle between two of them (Joshi et
al., arXiv:2301.09308). Sums of harmonics of degrees below n over the circle are the same for both, so that a layer of
equivariant messages of lower degrees cannot tell them apart, whatever is read from its features. Networks of one layer
and a classifier of the features of the carbon atom are trained on the two structures; what is told is the share of
seeds after which both are classified right.
"""

import argparse
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from property_study import HDGNN
from scipy.spatial.transform import Rotation
from study import Study
from torch import Tensor, nn

from equispec.data.atoms import graph_from_arrays
from equispec.graph import AtomGraph, collate
from equispec.models import MODELS

FOLDS = (2, 3, 5, 10)
SEEDS = 10
STEPS = 100
SMALL = {"features": 8, "blocks": 1, "cutoff": 4.0}
PARTS = {"hidden": 32, "invariants": 16, "edge_features": 16, "n_radial": 32, "eval_roll": "axis"}


def networks() -> dict[str, dict[str, Any]]:
    """Backbones by what they are called in the table."""
    found: dict[str, dict[str, Any]] = {"PaiNN (l = 1)": {"name": "painn", **SMALL}}
    for top in (1, 2, 3):
        degrees = list(range(1, top + 1))
        found[f"So3krates, l_max = {top}"] = {"name": "so3krates", **SMALL, "features": 24, "degrees": degrees}
    for pathway in ("linear", "mlp"):
        for top in range(1, 7):
            options = {"degree": top, "product_degree": top, "pathway": pathway}
            words = "HDGNN" if pathway == "mlp" else "HDGNN, linear"
            found[f"{words}, L = {top}"] = {"name": "hdgnn", **SMALL, **PARTS, **options}
    return found


def pair(n: int, seed: int) -> AtomGraph:
    """Both structures, in an orientation that depends on the seed."""
    angles = 2 * np.pi * np.arange(n) / n
    orientation = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    graphs = []
    for turn in (0.0, np.pi / n):
        ring = 2.0 * np.stack([np.cos(angles + turn), np.sin(angles + turn), 0 * angles], axis=1)
        pos = np.concatenate([np.zeros((1, 3)), ring]) @ orientation.T
        graphs.append(star(graph_from_arrays(np.array([6] + n * [1]), pos, SMALL["cutoff"], dtype=torch.float64)))
    return collate(graphs)


def star(graph: AtomGraph) -> AtomGraph:
    """Edges to the centre alone: otherwise the ring would tell its own orientation."""
    kept = graph.edge_index[0] == 0
    return AtomGraph(graph.z, graph.pos, graph.edge_index[:, kept], graph.edge_shift[kept], graph.cell, graph.system)


def features(backbone: Any, graph: AtomGraph, n: int) -> Tensor:
    """All features of the two carbon atoms, whatever they are, in one row each."""
    found = backbone(graph)
    kinds = (found.scalar, found.vector, found.tensor, found.harmonic)
    rows = [kind[[0, n + 1]].flatten(1) for kind in kinds if kind is not None]
    if hasattr(backbone, "degrees"):  # So3krates hands out degrees 1 and 2 only
        rows.append(list(backbone.states(graph))[-1].chi[[0, n + 1]])
    return torch.cat(rows, dim=1)


def told_apart(options: dict[str, Any], n: int, seed: int) -> bool:
    """Whether a network and its classifier, trained on both structures, classify both right."""
    torch.manual_seed(seed)
    config, kind = MODELS[options["name"]]
    backbone = kind(config.parse(options)).double().eval()
    graph, target = pair(n, seed), torch.tensor([0, 1])
    with torch.no_grad():
        width = features(backbone, graph, n).shape[1]
    classifier = nn.Sequential(nn.Linear(width, 32), nn.SiLU(), nn.Linear(32, 2)).double()
    optimizer = torch.optim.Adam([*backbone.parameters(), *classifier.parameters()], lr=0.01)
    for _ in range(STEPS):
        scores = classifier(features(backbone, graph, n))
        loss = nn.functional.cross_entropy(scores, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # classified right by more than rounding
    margin = (scores[0, 0] - scores[0, 1]).item() - (scores[1, 0] - scores[1, 1]).item()
    return bool((scores.argmax(1) == target).all()) and margin > 1e-6


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = {
        name: [float(np.mean([told_apart(options, n, seed) for seed in range(arguments.seeds)])) for n in FOLDS]
        for name, options in networks().items()
    }
    return {"rows": rows, "seeds": arguments.seeds}


def table(results: dict[str, Any]) -> list[list[Any]]:
    rows: list[list[Any]] = [["one layer of", *(f"n = {n}" for n in FOLDS)]]
    return rows + [[name, *(f"{100 * share:.0f} %" for share in shares)] for name, shares in results["rows"].items()]


def text(results: dict[str, Any]) -> str:
    return (
        f"Share of {results['seeds']} seeds after which one layer and a classifier of all its features tell apart a "
        "ring of n atoms and the same ring turned by half the angle between two of them. 0 % is a network whose "
        "features of both are the same."
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(6.5, 5.2), layout="constrained")
    axis = figure.subplots()
    shares = np.array(list(results["rows"].values()))
    axis.imshow(shares, cmap="Greens", vmin=0, vmax=1.3, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8)
    axis.set_xticks(range(len(FOLDS)), [str(n) for n in FOLDS])
    axis.set_yticks(range(len(shares)), list(results["rows"]))
    axis.minorticks_off()
    axis.set_xlabel("n-fold symmetry")
    axis.set_title("Told apart (% of seeds)", loc="left")
    return figure


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=SEEDS)


STUDY = Study(
    "hdgnn_symmetric",
    1,
    "Symmetric neighbourhoods (section 2.4)",
    arguments,
    measure,
    table,
    text,
    {"": (draw, "Share of seeds after which two orientations of a symmetric neighbourhood are told apart")},
    page=HDGNN,
)

if __name__ == "__main__":
    STUDY.main()
