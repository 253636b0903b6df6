"""So3krates: the equations written as loops over atoms, pairs and triples of degrees, for every option."""

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from small_so3krates import Molecule, energy, molecule, network, states

from equispec.model import Model
from equispec.nn.so3 import coupling, spherical_harmonics

SWITCHES = (
    {},
    {"preset": "paper"},
    {"norm_eps": 0.0, "sphc_norm": "paper"},
    {"degrees": (0, 1, 2)},
    {"degrees": (2,)},
    {"radial": "gaussian"},
    {"radial": "bessel", "parity": False},
    {"qkv": "identity"},
    {"interaction": "paper"},
    {"interaction": "paper", "parity": False, "degrees": (0, 1)},
    {"feature_layer_norm": True, "sphc_layer_norm": True},
    {"non_local": True},
    {"non_local": True, "preset": "paper"},
    {"non_local": True, "chi_cut": 0.2},
    {"non_local": True, "softmax_include_self": True, "cutoff": 1.5},
)
State = tuple[np.ndarray, list[dict[int, np.ndarray]]]  # f [atoms, F], and χ^(l) of every atom


class Looped:
    """The network of one molecule, one pair at a time."""

    def __init__(self, model: Model, structure: Molecule) -> None:
        self.z, self.pos = structure
        self.c = model.backbone.config
        self.w = {name.removeprefix("backbone."): p.detach().numpy() for name, p in model.named_parameters()}
        self.n, self.features = len(self.z), self.c.features
        self.pairs = [(i, j) for i, j in product(range(self.n), repeat=2) if i != j]
        self.r = {(i, j): float(np.linalg.norm(self.pos[j] - self.pos[i])) for i, j in self.pairs}
        self.y = {pair: self.harmonics(*pair) for pair in self.pairs}

    def harmonics(self, i: int, j: int) -> dict[int, np.ndarray]:
        unit = torch.as_tensor((self.pos[j] - self.pos[i]) / self.r[i, j])
        return {degree: spherical_harmonics(unit, [degree]).numpy() for degree in self.c.degrees}

    def norm(self, x: np.ndarray) -> float:
        return math.sqrt(float(x @ x) + self.c.norm_eps**2) - self.c.norm_eps

    def phi(self, r: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * r / self.c.cutoff)) if r < self.c.cutoff else 0.0

    def basis(self, r: float) -> np.ndarray:
        cutoff, k = self.c.cutoff, np.arange(self.c.n_radial)
        if self.c.radial == "bessel":
            values = np.sin((k + 1) * np.pi * r / cutoff) / r
        elif self.c.radial == "gaussian":
            width = cutoff / (len(k) - 1)
            values = np.exp(-0.5 * ((r - width * k) / width) ** 2)
        else:
            last = math.exp(-cutoff)
            centres = last + (1 - last) * k / (len(k) - 1)
            values = np.exp(-((2 / len(k) * (1 - last)) ** -2) * (math.exp(-r) - centres) ** 2)
        return values * self.phi(r)

    def affine(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.w[f"{name}.weight"] @ x + self.w[f"{name}.bias"]

    def filter(self, block: str, r: float, d: np.ndarray) -> np.ndarray:
        return sum(
            self.affine(f"{block}.filter.{kind}_last", silu(self.affine(f"{block}.filter.{kind}_first", x)))
            for kind, x in (("radial", self.basis(r)), ("sphc", d))
        )

    def projected(self, name: str, f: np.ndarray, head: slice, h: int) -> np.ndarray:
        if self.c.qkv == "identity":
            return f[head]
        return f[head] @ self.w[f"{name}.weight"][h] + self.w[f"{name}.bias"][h, 0]

    def score(self, block: str, heads: int, h: int, i: int, j: int, state: State) -> float:
        f, chi = state
        size = self.features // heads
        head = slice(h * size, (h + 1) * size)
        d = np.array([self.norm(chi[i][degree] - chi[j][degree]) for degree in self.c.degrees])
        w = self.filter(block, self.r[i, j], d)[head]
        q, k = self.projected(f"{block}.query", f[i], head, h), self.projected(f"{block}.key", f[j], head, h)
        return float(q @ (w * k)) / math.sqrt(self.features if self.c.qkv == "identity" else size)

    def non_local(self, i: int, j: int, state: State) -> float:
        """φ~_ij."""
        if not self.c.non_local:
            return 0.0
        chi = [np.concatenate(list(x.values())) for x in state[1]]
        others = [k for k in range(self.n) if k != i or self.c.softmax_include_self]
        total = sum(math.exp(self.norm(chi[i] - chi[k])) for k in others)
        y = math.exp(self.norm(chi[i] - chi[j])) / total / (self.c.chi_cut or 1 / self.n)
        return 1 - 28 * y**6 + 48 * y**7 - 21 * y**8 if y < 1 else 0.0

    def start(self) -> State:
        chi = []
        for i in range(self.n):
            total = sum(self.phi(self.r[i, j]) for j in range(self.n) if j != i)
            total += self.c.sphc_norm == "smooth"
            sums = {degree: np.zeros(2 * degree + 1) for degree in self.c.degrees}
            for degree, j in product(self.c.degrees, range(self.n)):
                if j != i and total > 0:
                    sums[degree] = sums[degree] + self.phi(self.r[i, j]) * self.y[i, j][degree] / total
            chi.append(sums)
        return self.w["embedding.weight"][self.z], chi

    def layer(self, t: int, state: State) -> State:
        name, (f, chi) = f"layers.{t}", state
        f_new, chi_new = f.copy(), [dict(x) for x in chi]
        size = self.features // self.c.heads
        for (i, j), h in product(self.pairs, range(self.c.heads)):
            head = slice(h * size, (h + 1) * size)
            a = self.phi(self.r[i, j]) * self.score(f"{name}.features", self.c.heads, h, i, j, state)
            f_new[i, head] += a * self.projected(f"{name}.value", f[j], head, h)
        for (i, j), (h, degree) in product(self.pairs, enumerate(self.c.degrees)):
            weight = self.phi(self.r[i, j]) + self.non_local(i, j, state)
            a = weight * self.score(f"{name}.geometry", len(self.c.degrees), h, i, j, state)
            chi_new[i][degree] = chi_new[i][degree] + a * self.y[i, j][degree]
        f_new, chi_new = self.normalised(name, 0, f_new, chi_new)
        found = [self.interaction(f"{name}.interaction", f_new[i], chi_new[i]) for i in range(self.n)]
        return self.normalised(name, 1, np.stack([x for x, _ in found]), [x for _, x in found])

    def normalised(self, name: str, place: int, f: np.ndarray, chi: list[dict[int, np.ndarray]]) -> State:
        if self.c.feature_layer_norm:
            scaled = (f - f.mean(1, keepdims=True)) / np.sqrt(f.var(1, keepdims=True) + 1e-6)
            f = scaled * self.w[f"{name}.norms.{place}.weight"] + self.w[f"{name}.norms.{place}.bias"]
        if self.c.sphc_layer_norm:
            lengths = dict(zip(self.c.degrees, self.w[f"{name}.lengths.{place}"], strict=True))
            eps = self.c.norm_eps
            chi = [{degree: lengths[degree] * x[degree] / (self.norm(x[degree]) + eps) for degree in x} for x in chi]
        return f, chi

    def mix(self, name: str, chi: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        mixed = {degree: np.zeros_like(x) for degree, x in chi.items()}
        for (a, l1), (b, l2), (c, l3) in product(enumerate(self.c.degrees), repeat=3):
            if l1 < l2 and abs(l1 - l2) <= l3 <= l1 + l2 and not (self.c.parity and (l1 + l2 + l3) % 2):
                k = self.w[f"{name}.mix.k"][c, a, b]
                mixed[l3] = mixed[l3] + k * np.einsum("cab,a,b->c", coupling(l1, l2, l3), chi[l1], chi[l2])
        return mixed

    def interaction(
        self, name: str, f: np.ndarray, chi: dict[int, np.ndarray]
    ) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        mixed = self.mix(name, chi)
        s, t = (np.array([self.norm(x[degree]) for degree in self.c.degrees]) for x in (chi, mixed))
        if self.c.interaction == "paper":
            x = np.concatenate([f, s, t])
            f = f + self.affine(f"{name}.phi_1", x)
            b1, b2 = self.affine(f"{name}.phi_2", x), self.affine(f"{name}.phi_3", t)
        else:
            n = self.features
            a1, a2, b1, b2 = np.split(
                self.affine(f"{name}.joint", np.concatenate([f, s])), [n, 2 * n, 2 * n + len(self.c.degrees)]
            )
            f = (f + a1 + a2 * self.affine(f"{name}.mixed", t)) / math.sqrt(3)
        return f, {degree: chi[degree] * (1 + b1[h]) + b2[h] * mixed[degree] for h, degree in enumerate(self.c.degrees)}

    def states(self) -> Iterator[State]:
        state = self.start()
        yield state
        for t in range(self.c.blocks):
            state = self.layer(t, state)
            yield state

    def energy(self, f: np.ndarray) -> float:
        name = "heads.energy.network"
        return sum(float(self.affine(f"{name}.2", silu(self.affine(f"{name}.0", x)))[0]) for x in f)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_equations(switches: dict) -> None:
    """Features, SPHCs and energies, with pairs beyond the cutoff in the molecule."""
    model, structure = network(**switches), molecule(11, 7)
    looped = Looped(model, structure)
    assert max(looped.r.values()) > model.cutoff
    expected, found = list(looped.states()), states(model, structure)
    for ours, (f, chi) in zip(found, expected, strict=True):
        flat = np.array([np.concatenate(list(x.values())) for x in chi])
        np.testing.assert_allclose(ours.f, f, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours.chi, flat, rtol=0, atol=1e-12)
    if model.backbone.config.non_local:
        assert any(x.non_local is not None and 0 < (x.non_local > 0).sum() < x.non_local.numel() for x in found)
    assert abs(energy(model, structure).item() - looped.energy(expected[-1][0])) <= 1e-12
