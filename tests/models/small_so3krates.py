"""Small So3krates force fields with random weights and biases, and random molecules, for the tests beside this file."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from equispec.data.atoms import graph_from_arrays
from equispec.derivatives import evaluate
from equispec.graph import AtomGraph, collate
from equispec.model import Model, ModelConfig, build
from equispec.models.so3krates import So3krates, State

SMALL = {
    "name": "so3krates",
    "features": 12,
    "blocks": 2,
    "cutoff": 3.0,
    "n_radial": 8,
    "radial_hidden": 16,
    "sphc_hidden": 8,
    "elements": 20,
}
VARIANTS = {
    "physics": {},
    "paper": {"preset": "paper"},
    "non-local": {"non_local": True},
    "paper, non-local": {"preset": "paper", "non_local": True},
    "equations": {"qkv": "identity", "interaction": "paper", "softmax_include_self": True, "non_local": True},
    "normalised": {"feature_layer_norm": True, "sphc_layer_norm": True, "degrees": (0, 1, 2)},
}
Molecule = tuple[np.ndarray, np.ndarray]


def network(seed: int = 0, dtype: torch.dtype = torch.float64, **options) -> Model:
    """With the paper's readout; nothing that starts at zero or one stays there."""
    torch.manual_seed(seed)
    backbone = {**SMALL, **options}
    head = {"name": "energy", "hidden": backbone["features"]}
    model = build(ModelConfig.parse({"backbone": backbone, "heads": [head]}), dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norms.0.weight", "norms.1.weight", "lengths.0", "lengths.1")):
                parameter.add_(0.2 * torch.randn_like(parameter))
            if name.endswith(("mix.k", "geometry.query.weight")):  # degrees mix, and SPHCs lie far apart
                parameter.mul_(5)
    return model.eval()


def backbone_of(model: Model) -> So3krates:
    assert isinstance(model.backbone, So3krates)
    return model.backbone


def molecule(seed: int, atoms: int | None = None) -> Molecule:
    """1 to 20 atoms that hang together, at least 0.8 Å apart; two of them are different elements."""
    random = np.random.default_rng(seed)
    n = atoms or int(random.integers(1, 21))
    pos = np.zeros((1, 3))
    while len(pos) < n:
        step = random.normal(size=3)
        new = pos[random.integers(len(pos))] + step / np.linalg.norm(step) * random.uniform(0.9, 1.6)
        if np.linalg.norm(pos - new, axis=1).min() > 0.8:
            pos = np.vstack([pos, new])
    z = random.choice([1, 6, 7, 8], n)
    z[:2] = [6, 8][: len(z)]
    return z, pos


def molecules(n: int, atoms: int | None = None) -> list[Molecule]:
    return [molecule(seed, atoms) for seed in range(n)]


def atoms(z: list[int], pos: object) -> Molecule:
    return np.array(z), np.array(pos, dtype=float)


def cumulene(n: int, dihedral: float = 0.0) -> Molecule:
    """A straight chain of n carbon atoms along z, 1.3 Å apart, with two hydrogen atoms at either end."""
    pos = [[0, 0, 1.3 * k] for k in range(n)]
    for start, along, angle in ((0, -0.55, 0.0), (1.3 * (n - 1), 0.55, dihedral)):
        side = 0.93 * np.array([np.cos(angle), np.sin(angle)])
        pos += [[*(sign * side), start + along] for sign in (1, -1)]
    return atoms([6] * n + [1] * 4, pos)


def graph_of(model: Model, *structures: Molecule) -> AtomGraph:
    """A batch."""
    dtype = next(model.parameters()).dtype
    return collate([graph_from_arrays(np.asarray(z), pos, model.cutoff, dtype=dtype) for z, pos in structures])


def energy_and_forces(model: Model, *structures: Molecule) -> tuple[Tensor, Tensor]:
    found = evaluate(model, graph_of(model, *structures), ["energy", "forces"])
    return found["energy"], found["forces"]


def energy(model: Model, *structures: Molecule) -> Tensor:
    with torch.no_grad():
        return model(graph_of(model, *structures))["energy"]


def states(model: Model, *structures: Molecule) -> list[State]:
    with torch.no_grad():
        return list(backbone_of(model).states(graph_of(model, *structures)))


def loss(model: Model, graph: AtomGraph) -> Tensor:
    """Of energies and forces, differentiable by the weights."""
    found = evaluate(model, replace(graph, pos=graph.pos.detach()), ["energy", "forces"], create_graph=True)
    return found["energy"].square().sum() + found["forces"].square().sum()


def rotation(seed: int) -> np.ndarray:
    """A proper rotation, uniform in SO(3)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diagonal(r))
    return q * np.linalg.det(q)


def largest(x: Tensor) -> float:
    """The largest magnitude, 0 of nothing."""
    return float(x.detach().abs().max()) if x.numel() else 0.0


def assert_close(a: Tensor, b: Tensor, tolerance: float) -> None:
    """To `tolerance` times the largest number, or absolutely where all are below one."""
    assert a.shape == b.shape
    assert largest(a - b) <= tolerance * max(1.0, largest(b))
