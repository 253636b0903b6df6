"""Dyad-PaiNN: its equations written as loops, and the elements it knows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from equispec.checkpoint import save_model
from equispec.data.atoms import graph_from_arrays
from equispec.errors import InputError
from equispec.model import ModelConfig, build
from equispec.models.dyad_painn import DyadPaiNN, DyadPaiNNConfig
from equispec.predict import load

CONFIG = DyadPaiNNConfig(features=6, blocks=3, n_radial=5, cutoff=3.5)
Z = np.array([6, 8, 1, 1, 7])
POS = np.array([[0.0, 0.0, 0.0], [1.2, 0.1, 0.0], [-0.6, 0.9, 0.1], [-0.5, -0.9, 0.3], [0.2, -0.3, 1.4]])


def network() -> DyadPaiNN:
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    try:
        made = DyadPaiNN(CONFIG)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():  # zero biases and unit norms would hide mistakes
        for name, parameter in made.named_parameters():
            if name.endswith("bias") or ".norm." in name:
                parameter.normal_(0.2, 0.5)
    return made


def reference(made: DyadPaiNN) -> tuple[np.ndarray, np.ndarray]:
    """The message and update equations with loops over atoms and pairs; Y⁰ = b ⊗ I is written out."""
    w = {k: v.detach().numpy() for k, v in made.state_dict().items()}
    f, c = CONFIG.features, CONFIG.cutoff

    def net(name: str, x: np.ndarray) -> np.ndarray:
        hidden = w[f"{name}.0.weight"] @ x + w[f"{name}.0.bias"]
        return w[f"{name}.2.weight"] @ (hidden / (1 + np.exp(-hidden))) + w[f"{name}.2.bias"]

    s = w["scalar_embedding.weight"][Z].copy()
    y = np.eye(3)[None, :, :, None] * w["dyad_embedding.weight"][Z][:, None, None, :]
    for t in range(CONFIG.blocks):
        ds, dy = np.zeros_like(s), np.zeros_like(y)
        for i in range(len(Z)):
            for j in range(len(Z)):
                d = np.linalg.norm(POS[j] - POS[i])
                if i == j or d >= c:
                    continue
                u, x = (POS[j] - POS[i]) / d, d / c
                basis = np.exp(-0.5 * ((x - np.linspace(0, 1, CONFIG.n_radial)) * (CONFIG.n_radial - 1)) ** 2)
                filters = w[f"messages.{t}.filter.weight"] @ basis + w[f"messages.{t}.filter.bias"]
                normed = (s[j] - s[j].mean()) / np.sqrt(s[j].var() + 1e-5)
                normed = normed * w[f"messages.{t}.norm.weight"] + w[f"messages.{t}.norm.bias"]
                cut = 1 - 21 * x**5 + 35 * x**6 - 15 * x**7
                m_s, m_vs, m_vv = (net(f"messages.{t}.gate", normed) * filters * cut).reshape(3, f)
                ds[i] += m_s
                dy[i] += (m_vv * y[j] + m_vs * np.einsum("a,b,bck->ack", u, u, y[j])) / 3
        s, y = s + ds, y + dy
        for i in range(len(Z)):
            p, q = np.split(y[i] @ w[f"updates.{t}.mix.weight"].T, 2, axis=2)
            norm = np.sqrt((q**2).sum((0, 1)) + 1e-8)
            x = net(f"updates.{t}.gate", np.concatenate([s[i], norm, np.einsum("aak->k", q) / 3]))
            s[i] += x[:f] + x[f : 2 * f] * (p * q).sum((0, 1))
            y[i] += x[2 * f :] * p
    return s, y


@pytest.mark.parametrize("gradients", [False, True])
def test_equations(gradients: bool) -> None:
    made = network()
    with torch.set_grad_enabled(gradients):
        found = made(graph_from_arrays(Z, POS, CONFIG.cutoff, dtype=torch.float64))
    assert found.dyad is not None
    s, y = reference(made)
    np.testing.assert_allclose(found.scalar.detach(), s, atol=1e-11)
    np.testing.assert_allclose(found.dyad.detach(), y, atol=1e-11)


def test_an_element_beyond_the_embedding_table_is_refused(tmp_path: Path) -> None:
    config = {"backbone": CONFIG.model_dump(), "heads": [{"name": "dyad-tensor", "channels": 2}]}
    save_model(tmp_path / "m", build(ModelConfig.parse(config)), {"edge": "C-K"})
    with pytest.raises(InputError, match="atomic number 100; this model knows elements up to 99"):
        load(tmp_path / "m").spectrum(Atoms("CFm", [[0, 0, 0], [0, 0, 1.5]]))
