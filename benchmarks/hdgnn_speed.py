"""Time of HDGNN by parts: rotations beside e3nn, message blocks beside the arithmetic of the public code, slabs.

    .venv/bin/python benchmarks/hdgnn_speed.py          # writes docs/benchmarks/hdgnn_speed.md

The arithmetic of the public code is written here from its description: every edge has one matrix of the rows |m| <= 1
over all degrees, the tensors of an edge go through the first map of a network twice, turned and unturned, and the
tensor product is a sum over paths. It shares weights and frames with ours, and gives the same messages.
"""

import argparse
import datetime
import os
import platform
from collections.abc import Callable
from math import pi, sqrt
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule
from e3nn import o3
from torch import Tensor
from torch.nn.functional import silu

from clock import Side, timed
from equispec.data.atoms import graph_from_atoms
from equispec.graph import AtomGraph, collate
from equispec.model import Model, ModelConfig, build
from equispec.models.hdgnn.message import Messages
from equispec.nn.degree_products import SIGMOID_GAIN, SILU_GAIN
from equispec.nn.edge_frames import edge_frames, rotations
from equispec.nn.so3 import coupling, wigner_d
from paper.study import processor

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "benchmarks" / "hdgnn_speed.md"
EDGES = 100_000
TOP = 6
CUTOFF, NEIGHBORS = 6.0, 40
SMALL = {"features": 64, "blocks": 4, "degree": 4, "product_degree": 2, "hidden": 256}
WIDE = {"features": 128, "blocks": 1, "degree": 6, "product_degree": 2, "hidden": 512}


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
    return build(ModelConfig.parse({"backbone": options, "heads": [head]})).eval()


def graph_of(atoms: Atoms) -> AtomGraph:
    return graph_from_atoms(atoms, CUTOFF, NEIGHBORS)


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
        "whole matrices": lambda: wigner_d(frames, TOP),
        "rows with m = -1, 0, 1": lambda: rotations(frames, TOP, 1),
    }
    return timed(sides, repeats)


# --- a message block -------------------------------------------------------------------------------------------------


class PublicArithmetic:
    """The messages of a block as the public code computes them, with the block's own weights."""

    def __init__(self, block: Messages, model: Model, edges: Any) -> None:
        config: Any = model.backbone.config
        self.block, self.edges, self.top, self.channels = block, edges, config.degree, config.features
        size, inner = (self.top + 1) ** 2, edges.inner
        d = torch.zeros(len(edges.receiver), len(inner), size)
        row = 0
        for degree, part in enumerate(edges.rows):
            d[:, row : row + part.shape[1], degree**2 : (degree + 1) ** 2] = part
            row += part.shape[1]
        self.turn, self.difference = d, d.clone()
        self.difference[:, torch.arange(len(inner)), inner] -= 1
        couplings = block.couplings[0]
        self.paths = couplings.paths
        self.tables = {path: torch.tensor(coupling(*path), dtype=torch.float32) for path in self.paths}

    def __call__(self, x: Tensor, c: Tensor, f: Tensor) -> Tensor:
        edges, block = self.edges, self.block
        source, target = x[edges.sender], x[edges.receiver]
        a = self.attention(c, f)
        first, second = block.pathways.paths  # type: ignore[union-attr]
        message = self.network(first, source, c) * a[:, 0, None] + self.network(first, target, c) * a[:, 1, None]
        message = message + self.network(second, source + target, c) * a[:, 2, None]
        out = torch.bmm(self.turn.transpose(1, 2), message)
        product = self.product(source + target) * a[:, 3, None]
        out = torch.cat([out[:, : product.shape[1]] + product, out[:, product.shape[1] :]], dim=1)
        return torch.zeros_like(x).index_add(0, edges.receiver, out)

    def attention(self, c: Tensor, f: Tensor) -> Tensor:
        module = self.block.attention
        ends = torch.cat([c, f[self.edges.sender], f[self.edges.receiver]], dim=1)
        return torch.sigmoid(module.second(torch.relu(module.first(ends)))).unflatten(1, module.shape)

    def network(self, path: Any, x: Tensor, c: Tensor) -> Tensor:
        """NN of the turned and of the unturned rows, each through both maps."""
        net = path.turned

        def through(v: Tensor) -> Tensor:
            inner = silu(net.first(v.flatten(1)))
            return silu(net.second(silu(net.gate(c)) * inner)).unflatten(1, (-1, self.channels))

        return through(torch.bmm(self.difference, x)) + through(x[:, self.edges.inner])

    def product(self, x: Tensor) -> Tensor:
        """Σ over paths of couplings of the mean with the harmonics of mean square 1, and the gate."""
        module, u, y = self.block.product, x.mean(2), sqrt(4 * pi) * self.edges.harmonics
        parts: list[list[Tensor]] = [[] for _ in range(module.top + 1)]  # type: ignore[operator, union-attr]
        for l1, l2, l3 in self.paths:
            if l3 > module.top:  # type: ignore[operator, union-attr]
                continue
            one, two = u[:, l1**2 : (l1 + 1) ** 2], y[:, l2**2 : (l2 + 1) ** 2]
            z = sqrt(2 * l3 + 1) * torch.einsum("cab,ea,eb->ec", self.tables[l1, l2, l3], one, two)
            weight = module.weights[l3][len(parts[l3])]  # type: ignore[index, union-attr]
            parts[l3].append(z[:, :, None] * weight)
        sums = [torch.stack(terms).sum(0) for terms in parts]
        value, *gates = (sums[0][:, 0] + module.gate.bias).split(self.channels, dim=1)  # type: ignore[union-attr]
        out = [SILU_GAIN * silu(value)[:, None]]
        out += [t * (SIGMOID_GAIN * torch.sigmoid(g))[:, None] for t, g in zip(sums[1:], gates, strict=True)]
        return torch.cat(out, dim=1)


def block_times(model: Model, graph: AtomGraph, repeats: int) -> dict[str, Any]:
    """Milliseconds of a message block and of its parts, forwards and with gradients, and what it keeps per edge."""
    backbone: Any = model.backbone
    block: Messages = backbone.layers[0].messages[0]
    config = backbone.config
    with torch.no_grad():
        distance, (edges,) = backbone.edges(graph, None)
        c = backbone.layers[0].scalars(backbone.basis(distance), graph)
        f = backbone.embedding(graph.z)
        x = torch.randn(graph.n_atoms, (config.degree + 1) ** 2, config.features)
    public = PublicArithmetic(block, model, edges)
    with torch.no_grad():
        ours, theirs = block(x, c, f, edges), public(x, c, f)
        difference = float((ours - theirs).abs().max() / ours.abs().max())
        a = block.attention(c, f, edges)
        z = block.couplings[0](edges.maps, block._coupled(x, edges))

    def with_gradients(side: Callable[..., Tensor]) -> Side:
        def run() -> Any:
            inputs = [value.clone().requires_grad_() for value in (x, c, f)]
            return torch.autograd.grad(side(*inputs).square().sum(), [*inputs, *block.parameters()])

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
        "turning to the edges": quiet(lambda: (edges.turned(x[edges.sender]), edges.turned(x[edges.receiver]))),
        "neural pathways, turning included": quiet(block.pathways, x, c, edges, a[:, :3]),  # type: ignore[arg-type]
        "couplings": quiet(lambda: block.couplings[0](edges.maps, block._coupled(x, edges))),
        "weights and gate of the product": quiet(block.product, z),  # type: ignore[arg-type]
    }
    return {
        "edges": graph.n_edges,
        "difference": difference,
        "whole": timed(whole, repeats),
        "parts": timed(parts, repeats),
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


def whole(repeats: int) -> dict[str, float]:
    """A prediction of a slab and a training step of eight."""
    one, many = graph_of(slab()), collate([graph_of(slab(1)) for _ in range(8)])
    model = network(**SMALL)
    weights = list(model.parameters())

    def predicted(model: Model, graph: AtomGraph) -> Side:
        def run() -> Any:
            with torch.no_grad():
                return model(graph)

        return run

    def step() -> Any:
        loss = model(many)["adsorption_energy"].abs().sum()
        return torch.autograd.grad(loss, weights, allow_unused=True)

    return timed({"prediction": predicted(model, one), "step": step}, repeats)


def measure(repeats: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    graph = graph_of(slab())
    blocks = {name: block_times(network(**size), graph, repeats) for name, size in (("128", WIDE), ("64", SMALL))}
    return {"matrices": matrices(repeats), "blocks": blocks, "whole": whole(repeats)}


def report(found: dict[str, Any]) -> str:
    one, eight = graph_of(slab()), graph_of(slab(1))
    matrices, ms = found["matrices"], found["whole"]
    lines = [f"| {name} | {ms:.0f} | {matrices['e3nn'] / ms:.1f} |" for name, ms in matrices.items()]
    sections = []
    for name, size in (("128", WIDE), ("64", SMALL)):
        block = found["blocks"][name]
        rows = []
        for kind, told in (("", "forwards"), (", with gradients", "with gradients")):
            ours, public = (block["whole"][f"{side}{kind}"] for side in ("ours", "public arithmetic"))
            rows.append(f"| {told} | {ours:.0f} | {public:.0f} | {public / ours:.2f} |")
        parts = [f"| {part} | {value:.0f} |" for part, value in block["parts"].items()]
        bytes_ = {kind: value / 1024 for kind, value in block["bytes"].items()}
        sections.append(
            f"""## A message block with {name} channels

L = {size["degree"]}, L' = {size["product_degree"]}, H = {size["hidden"]}, {block["edges"]:,} edges; ms. The messages of
both differ by {block["difference"]:.0e} of the largest.

| | ours | public arithmetic | ratio |
|-|-|-|-|
{chr(10).join(rows)}

| part of ours, forwards | ms |
|-|-|
{chr(10).join(parts)}

Kept for the gradient: {bytes_["ours, with gradients"]:.1f} KiB per edge, by the public arithmetic
{bytes_["public arithmetic, with gradients"]:.1f} KiB.
"""
        )
    return f"""# HDGNN by parts

Written by `benchmarks/hdgnn_speed.py` on {datetime.date.today()}: {processor()}, one thread; torch {torch.__version__},
Python {platform.python_version()}; single precision, CPU milliseconds, medians, all sides called in turn; load average
{os.getloadavg()[1]:.1f} on {os.cpu_count()} cores.

## Rotation matrices

{EDGES:,} edges, degrees 0 to {TOP}, from their frames; e3nn: angles, then `wigner_D` of every degree.

| | ms | e3nn / this |
|-|-|-|
{chr(10).join(lines)}

{chr(10).join(sections)}
## Whole networks

{SMALL["features"]} channels, {SMALL["blocks"]} layers, L = {SMALL["degree"]}, cutoff {CUTOFF:g} Å, {NEIGHBORS} nearest
neighbours.

* Prediction of a slab of {one.n_atoms} atoms ({one.n_edges:,} edges): {ms["prediction"]:.0f} ms.
* Loss and gradient of eight slabs of {eight.n_atoms} atoms ({8 * eight.n_edges:,} edges): {ms["step"]:.0f} ms.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, metavar="N")
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    arguments = parser.parse_args()
    text = report(measure(arguments.repeats))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
