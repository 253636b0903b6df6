"""Time of HDGNN by parts: rotations beside e3nn, message blocks beside the arithmetic of the public code, slabs.

    .venv/bin/python benchmarks/hdgnn_speed.py                    # writes docs/benchmarks/hdgnn_speed.md
    .venv/bin/python benchmarks/hdgnn_speed.py --device cuda      # writes docs/benchmarks/hdgnn_speed_cuda.md

The arithmetic of the public code is in public_hdgnn.py. It has the weights of ours and gives the same numbers.
"""

import argparse
import datetime
import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule
from e3nn import o3
from torch import Tensor

from clock import Side, timed
from equispec.data.atoms import graph_from_atoms
from equispec.graph import AtomGraph, collate
from equispec.model import Model, ModelConfig, build
from equispec.models.hdgnn.message import Messages
from equispec.nn.edge_frames import edge_frames, rotations
from equispec.nn.so3 import wigner_d
from paper.study import processor
from public_hdgnn import PublicMessages, public_edges, public_matrices, public_scalars

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "docs" / "benchmarks"
EDGES = 100_000
TOP = 6
CUTOFF, NEIGHBORS = 6.0, 40
NARROW = {"hidden": 64, "invariants": 64, "edge_features": 64, "n_radial": 128}
SMALL = {"features": 16, "blocks": 2, "degree": 3, "product_degree": 2, **NARROW}  # of the studies of the paper
MIDDLE = {"features": 64, "blocks": 4, "degree": 4, "product_degree": 2, "hidden": 256}
WIDE = {"features": 128, "blocks": 2, "degree": 6, "product_degree": 2, "hidden": 512}
NETWORKS = {"two layers, 16 channels, L = 3": SMALL, "four layers, 64 channels, L = 4": MIDDLE}


def slab(layers: int = 4) -> Atoms:
    """CO on Cu3Pd(111), 4 x 4 cells in `layers` layers."""
    atoms = fcc111("Cu", (4, 4, layers), vacuum=6.0, periodic=True)
    atoms.symbols[::4] = "Pd"
    add_adsorbate(atoms, molecule("CO"), 2.0, "ontop")
    atoms.rattle(0.05, seed=1)
    return atoms


def network(**backbone: Any) -> Model:
    options = {"name": "hdgnn", "cutoff": CUTOFF, "max_neighbors": NEIGHBORS, **backbone}
    head = {"name": "scalar", "targets": ["adsorption_energy"], "layers": 1, "offset": "mean"}
    torch.manual_seed(0)
    with torch.device("cpu"):
        model = build(ModelConfig.parse({"backbone": options, "heads": [head]})).eval()
    return model.to(torch.get_default_device())


def graph_of(*slabs: Atoms) -> AtomGraph:
    with torch.device("cpu"):
        graph = collate([graph_from_atoms(atoms, CUTOFF, NEIGHBORS) for atoms in slabs])
    return graph.to(torch.get_default_device())


# --- rotation matrices -----------------------------------------------------------------------------------------------


def matrices(repeats: int) -> dict[str, float]:
    """Frames of random edges to matrices of degrees 0 to 6 in single precision."""
    unit = torch.nn.functional.normalize(torch.randn(EDGES, 3), dim=1)
    receiver = torch.arange(EDGES) // 40
    frames = edge_frames(unit, torch.ones(EDGES), receiver, torch.arange(EDGES), "axis")

    def theirs() -> Any:
        angles = o3.matrix_to_angles(frames)
        return [o3.wigner_D(degree, *angles) for degree in range(TOP + 1)]

    sides = {
        "e3nn": theirs,
        "public arithmetic": lambda: public_matrices(frames, TOP),
        "whole matrices": lambda: wigner_d(frames, TOP),
        "rows with m = -1, 0, 1": lambda: rotations(frames, TOP, 1),
    }
    return timed(sides, repeats, torch.get_default_device().type)


# --- a message block -------------------------------------------------------------------------------------------------


def block_times(model: Model, graph: AtomGraph, layer: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of a message block and of its parts, forwards and with gradients, and what it keeps per edge."""
    backbone: Any = model.backbone
    block: Messages = backbone.layers[layer].messages[0]
    config, device = backbone.config, graph.z.device.type
    with torch.no_grad():
        distance, (edges,) = backbone.edges(graph, None)
        c = backbone.layers[layer].scalars(backbone.basis(distance), graph)
        f = backbone.embedding(graph.z)
        x = torch.randn(graph.n_atoms, (config.degree + 1) ** 2, config.features)
        if layer == 0:  # which sees tensors of degree 0 alone
            x[:, 1:] = 0
        public = PublicMessages(block, model, public_edges(graph, config.degree)[1])
        ours, theirs = block(x, c, f, edges), public(x, c, f)
        difference = float((ours - theirs).abs().max() / ours.abs().max())
        a = block.attention(c, f, edges)
        z = block.couplings[0](edges.maps, block._coupled(x, edges))
        y = torch.randn(graph.n_edges, len(edges.inner), config.features)
        first_maps = torch.cat([path.turned.first.weight for path in block.pathways.paths])  # type: ignore[union-attr]

    def with_gradients(side: Callable[..., Tensor]) -> Side:
        def run() -> Any:
            inputs = [value.clone().requires_grad_() for value in (x, c, f)]
            weights = [*inputs, *block.parameters()]
            return torch.autograd.grad(side(*inputs).square().sum(), weights, allow_unused=True)

        return run

    def quiet(side: Callable[..., Any], *given: Any) -> Side:
        def run() -> Any:
            with torch.no_grad():
                return side(*given)

        return run

    whole = {
        "ours": quiet(block, x, c, f, edges),
        "public arithmetic": quiet(public, x, c, f),
        "ours, with gradients": with_gradients(lambda x, c, f: block(x, c, f, edges)),
        "public arithmetic, with gradients": with_gradients(public),
    }
    parts = {
        "attention": quiet(block.attention, c, f, edges),
        "first maps of turned tensors": quiet(edges.turns.mapped, x, first_maps),
        "turning back and summing": quiet(edges.turns.summed_back, y),
        "neural pathways, both included": quiet(block.pathways, x, c, edges, a[:, :3]),  # type: ignore[arg-type]
        "couplings": quiet(lambda: block.couplings[0](edges.maps, block._coupled(x, edges))),
        "weights and gate of the product": quiet(block.product, z),  # type: ignore[arg-type]
    }
    return {
        "edges": graph.n_edges,
        "difference": difference,
        "whole": timed(whole, repeats, device),
        "parts": timed(parts, repeats, device),
        "bytes": {name: kept(side) / graph.n_edges for name, side in list(whole.items())[2:]},
    }


def kept(side: Side) -> int:
    """Bytes of different tensors that are saved for the gradient."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        side()
    return sum(storages.values())


# --- whole networks --------------------------------------------------------------------------------------------------


def whole(size: dict[str, Any], repeats: int) -> tuple[dict[str, float], float]:
    """Milliseconds of a prediction of a slab and of a training step of eight, and how much the scalars differ."""
    one, many = graph_of(slab()), graph_of(*(slab(1) for _ in range(8)))
    model = network(**size)
    weights = list(model.backbone.parameters())
    ways = {"ours": lambda graph: model.backbone(graph).scalar, "public": lambda graph: public_scalars(model, graph)}

    def predicted(way: Callable[[AtomGraph], Tensor]) -> Any:
        with torch.no_grad():
            return way(one)

    def step(way: Callable[[AtomGraph], Tensor]) -> Any:
        return torch.autograd.grad(way(many).square().sum(), weights, allow_unused=True)

    ours, public = (predicted(way) for way in ways.values())
    sides = {f"{name}, prediction": partial(predicted, way) for name, way in ways.items()}
    sides |= {f"{name}, step": partial(step, way) for name, way in ways.items()}
    return timed(sides, repeats, torch.get_default_device().type), float((ours - public).abs().max() / ours.abs().max())


def measure(repeats: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    graph = graph_of(slab())
    blocks = {}
    for size in (WIDE, MIDDLE):
        model = network(**size)
        blocks[size["features"]] = [block_times(model, graph, layer, repeats) for layer in (0, 1)]
    networks = {name: whole(size, repeats) for name, size in NETWORKS.items()}
    return {"matrices": matrices(repeats), "blocks": blocks, "networks": networks}


def told(ms: float) -> str:
    return f"{ms:.0f}" if ms >= 10 else f"{ms:.2f}"


def block_section(size: dict[str, Any], layers: list[dict[str, Any]]) -> str:
    """The tables of the first and of another message block."""
    rows = []
    for place, layer in zip(("first layer", "any other"), layers, strict=True):
        for kind, words in (("", "forwards"), (", with gradients", "with gradients")):
            ours, public = (layer["whole"][f"{side}{kind}"] for side in ("ours", "public arithmetic"))
            rows.append(f"| {place}, {words} | {told(ours)} | {told(public)} | {public / ours:.2f} |")
    parts = [f"| {part} | {told(value)} |" for part, value in layers[1]["parts"].items()]
    sides = ("ours, with gradients", "public arithmetic, with gradients")
    (first, other), (first_public, other_public) = ([layer["bytes"][side] / 1024 for layer in layers] for side in sides)
    return f"""## A message block with {size["features"]} channels

L = {size["degree"]}, L' = {size["product_degree"]}, H = {size["hidden"]}, {layers[0]["edges"]:,} edges, whose
matrices are made before; ms. The messages of both differ by {max(layer["difference"] for layer in layers):.0e} of the
largest.

| | ours | public arithmetic | ratio |
|-|-|-|-|
{chr(10).join(rows)}

| part of ours, not in the first layer, forwards | ms |
|-|-|
{chr(10).join(parts)}

Kept for the gradient: {first:.1f} KiB per edge in the first layer and {other:.1f} in any other, by the public
arithmetic {first_public:.1f} and {other_public:.1f} KiB.
"""


def report(found: dict[str, Any]) -> str:
    one, eight = graph_of(slab()), graph_of(slab(1))
    matrices = found["matrices"]
    e3nn, public = matrices["e3nn"], matrices["public arithmetic"]
    lines = [f"| {name} | {told(ms)} | {e3nn / ms:.1f} | {public / ms:.1f} |" for name, ms in matrices.items()]
    sections = [block_section(size, found["blocks"][size["features"]]) for size in (WIDE, MIDDLE)]
    rows = []
    for name, (ms, _) in found["networks"].items():
        for kind in ("prediction", "step"):
            ours, public = ms[f"ours, {kind}"], ms[f"public, {kind}"]
            rows.append(f"| {name} | {kind} | {told(ours)} | {told(public)} | {public / ours:.2f} |")
    difference = max(difference for _, difference in found["networks"].values())
    on_card = torch.get_default_device().type == "cuda"
    machine = torch.cuda.get_device_name() if on_card else f"{processor()}, one thread"
    clock = "milliseconds until the GPU has done all" if on_card else "CPU milliseconds"
    return f"""# HDGNN by parts

Written by `benchmarks/hdgnn_speed.py{" --device cuda" if on_card else ""}` on
{datetime.date.today()}: {machine}; torch {torch.__version__},
Python {platform.python_version()}; single precision, {clock}, medians, all sides called in turn;
load average {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores.

## Rotation matrices

{EDGES:,} edges, degrees 0 to {TOP}, from their frames; e3nn: angles, then `wigner_D` of every degree; public
arithmetic: angles, then Z J Z J Z with tables of J.

| | ms | e3nn / this | public arithmetic / this |
|-|-|-|-|
{chr(10).join(lines)}

{chr(10).join(sections)}
## Whole networks

Cutoff {CUTOFF:g} Å, {NEIGHBORS} nearest neighbours. Prediction: a slab of {one.n_atoms} atoms
({one.n_edges:,} edges); step: a sum of squares of eight slabs of {eight.n_atoms} atoms ({8 * eight.n_edges:,} edges)
and its gradient; ms, from the graph to the scalars of the output block, which differ by {difference:.0e} of the
largest.

| network | | ours | public arithmetic | ratio |
|-|-|-|-|-|
{chr(10).join(rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, metavar="N")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    torch.set_default_device(arguments.device)
    text = report(measure(arguments.repeats))
    name = "hdgnn_speed" if arguments.device == "cpu" else f"hdgnn_speed_{arguments.device}"
    output = arguments.output or REPORTS / f"{name}.md"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
