"""A PaiNN in SchNetPack's layout with random weights, and its numbers by loops over its own names.

Conventions: Schütt et al., ICML 2021, and the state dict of SchNetPack 2: filters side by side, messages [s, from
direction, from vector], updates [s, gate, product], mixing [norm, value], gated blocks without an epsilon.
"""

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]
Arrays = dict[str, np.ndarray]

ELEMENTS, CUTOFF, N_RADIAL = 10, 3.0, 5
MEAN, ATOMREF = 2.5, {1: -0.5, 6: -37.8, 8: -75.1}
MLP, GATED = "mlp", "gated"


def state(
    f: int = 6,
    blocks: int = 2,
    radial: str = "gaussian",
    outputs: tuple[str, ...] = (MLP, GATED, GATED),
    layers: int = 2,
    shared: bool = False,
    offsets: bool = True,
    dtype: torch.dtype = torch.float32,
) -> State:
    """Random weights under SchNetPack's names; `shared`: filters and interactions of all blocks are the same."""
    generator = torch.Generator().manual_seed(3)
    weights: State = {"representation.cutoff_fn.cutoff": torch.tensor([CUTOFF])}

    def dense(name: str, n_in: int, n_out: int, bias: bool = True) -> None:
        weights[f"{name}.weight"] = torch.randn(n_out, n_in, generator=generator) / n_in**0.5
        if bias:
            weights[f"{name}.bias"] = 0.2 * torch.randn(n_out, generator=generator)

    if radial == "gaussian":  # neither evenly spaced nor alike, as trained ones
        weights["representation.radial_basis.offsets"] = torch.tensor([0.1, 0.7, 1.6, 2.2, 3.0])
        weights["representation.radial_basis.widths"] = torch.tensor([0.7, 0.6, 0.8, 0.7, 0.9])
    else:
        weights["representation.radial_basis.freqs"] = torch.arange(1, N_RADIAL + 1) * (torch.pi / CUTOFF)
    weights["representation.embedding.weight"] = torch.randn(ELEMENTS, f, generator=generator)
    dense("representation.filter_net", N_RADIAL, 3 * f * (1 if shared else blocks))
    for t in range(blocks):
        dense(f"representation.interactions.{t}.interatomic_context_net.0", f, f)
        dense(f"representation.interactions.{t}.interatomic_context_net.1", f, 3 * f)
        dense(f"representation.mixing.{t}.intraatomic_context_net.0", 2 * f, f)
        dense(f"representation.mixing.{t}.intraatomic_context_net.1", f, 3 * f)
        dense(f"representation.mixing.{t}.mu_channel_mix", f, 2 * f, bias=False)
        if shared and t:
            for name in [
                name for name in weights if name.split(".")[1:3] in (["interactions", str(t)], ["mixing", str(t)])
            ]:
                weights[name] = weights[name.replace(f".{t}.", ".0.", 1)].clone()
    for k, kind in enumerate(outputs):
        module = f"output_modules.{2 * k}.outnet"  # modules without weights, such as forces, lie between them
        if kind == MLP:
            sizes = [*(f // 2**i for i in range(layers)), 1]
            for i in range(layers):
                dense(f"{module}.{i}", sizes[i], sizes[i + 1])
        else:
            for i, (n, m) in enumerate(((f, f // 2), (f // 2, 1))):
                dense(f"{module}.{i}.mix_vectors", n, 2 * m, bias=False)
                dense(f"{module}.{i}.scalar_net.0", n + m, n)
                dense(f"{module}.{i}.scalar_net.1", n, 2 * m)
    weights = {name: value.to(dtype) for name, value in weights.items()}
    if offsets:
        weights["postprocessors.1.mean"] = torch.tensor([MEAN], dtype=torch.float64)
        weights["postprocessors.1.atomref"] = torch.zeros(ELEMENTS)
        for z, value in ATOMREF.items():
            weights["postprocessors.1.atomref"][z] = value
    return weights


class Reference:
    """What SchNetPack makes of such weights, in double precision and in its units."""

    def __init__(self, weights: State) -> None:
        self.w: Arrays = {name: value.double().numpy() for name, value in weights.items()}
        self.blocks = sum(name.endswith("mu_channel_mix.weight") for name in weights)
        self.f = self.w["representation.embedding.weight"].shape[1]

    def dense(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0)

    def network(self, name: str, x: np.ndarray) -> np.ndarray:
        layers = sum(it.startswith(f"{name}.") and it.endswith(".bias") for it in self.w)
        for k in range(layers):
            x = self.dense(f"{name}.{k}", silu(x) if k else x)
        return x

    def basis(self, d: np.ndarray) -> np.ndarray:
        if "representation.radial_basis.freqs" in self.w:
            return np.sin(d[..., None] * self.w["representation.radial_basis.freqs"]) / d[..., None]
        centres, widths = (self.w[f"representation.radial_basis.{name}"] for name in ("offsets", "widths"))
        return np.exp(-0.5 / widths**2 * (d[..., None] - centres) ** 2)

    def features(self, z: np.ndarray, pos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scalars [atoms, F] and vectors [atoms, 3, F]."""
        r = pos[None] - pos[:, None]  # from i to j
        d = np.linalg.norm(r, axis=-1) + np.eye(len(z))
        near = (d < CUTOFF) & ~np.eye(len(z), dtype=bool)
        filters = self.dense("representation.filter_net", self.basis(d))
        filters = filters * (near * 0.5 * (np.cos(np.pi * d / CUTOFF) + 1))[..., None]
        filters = np.split(filters, filters.shape[-1] // (3 * self.f), axis=-1)
        s, v = self.w["representation.embedding.weight"][z], np.zeros((len(z), 3, self.f))
        for t in range(self.blocks):
            x = self.network(f"representation.interactions.{t}.interatomic_context_net", s)
            ds, dr, dv = np.split(x[None] * filters[t % len(filters)], 3, axis=-1)
            s = s + ds.sum(1)
            v = v + np.einsum("ijf,ijx->ixf", dr, r / d[..., None]) + np.einsum("ijf,jxf->ixf", dv, v)
            normed, value = np.split(self.dense(f"representation.mixing.{t}.mu_channel_mix", v), 2, axis=-1)
            x = np.concatenate([s, np.sqrt((normed**2).sum(1) + 1e-8)], axis=-1)
            x = self.network(f"representation.mixing.{t}.intraatomic_context_net", x)
            ds, gate, product = np.split(x, 3, axis=-1)
            s, v = s + ds + product * (normed * value).sum(1), v + gate[:, None] * value
        return s, v

    def scalar(self, module: int, z: np.ndarray, pos: np.ndarray, mean: bool = False) -> float:
        """The number of a dense output module, with the offsets of SchNetPack's postprocessor if there are any."""
        atoms = self.network(f"output_modules.{module}.outnet", self.features(z, pos)[0])[:, 0]
        offset = self.w["postprocessors.1.mean"][0] if "postprocessors.1.mean" in self.w else 0.0
        if mean:
            return float(atoms.mean() + offset)
        references = self.w["postprocessors.1.atomref"][z].sum() if "postprocessors.1.atomref" in self.w else 0.0
        return float(atoms.sum() + offset * len(z) + references)

    def gated(self, module: int, z: np.ndarray, pos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A scalar [atoms] and a vector [atoms, 3] of each atom."""
        s, v = self.features(z, pos)
        for k in range(2):
            name = f"output_modules.{module}.outnet.{k}"
            normed, value = np.split(self.dense(f"{name}.mix_vectors", v), 2, axis=-1)
            x = self.network(f"{name}.scalar_net", np.concatenate([s, np.linalg.norm(normed, axis=1)], axis=-1))
            s, gate = np.split(x, 2, axis=-1)
            s, v = s if k else silu(s), gate[:, None] * value
        return s[:, 0], v[..., 0]

    def dipole(self, module: int, z: np.ndarray, pos: np.ndarray, corrected: bool = True) -> np.ndarray:
        charges, atomic = self.gated(module, z, pos)
        return (charges - corrected * charges.mean()) @ pos + atomic.sum(0)

    def polarizability(self, module: int, z: np.ndarray, pos: np.ndarray) -> np.ndarray:
        alpha, nu = self.gated(module, z, pos)
        half = np.einsum("ix,iy->xy", nu, pos)
        return alpha.sum() * np.eye(3) + half + half.T

    def forces(self, z: np.ndarray, pos: np.ndarray, mean: bool = False, step: float = 1e-5) -> np.ndarray:
        """Minus the slope of output module 0 by central differences."""
        found = np.zeros_like(pos)
        for place in np.ndindex(*pos.shape):
            moved = np.zeros_like(pos)
            moved[place] = step
            found[place] = self.scalar(0, z, pos - moved, mean) - self.scalar(0, z, pos + moved, mean)
        return found / (2 * step)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))
