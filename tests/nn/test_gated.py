"""Gated equivariant blocks: the equations as loops over atoms, and their values and slopes where vectors vanish."""

import numpy as np
import pytest
import torch
from torch import Tensor

from equispec.nn.gated import GatedEquivariantBlock, ScalarAndVector


def block(activated: bool = True) -> GatedEquivariantBlock:
    torch.manual_seed(1)
    module = GatedEquivariantBlock((5, 3), (4, 2), hidden=6, activated=activated).double()
    with torch.no_grad():
        for linear in (module.network[0], module.network[2]):
            linear.bias.normal_()
    return module


def inputs(scalars: int = 5, vectors: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    options = {"generator": generator, "dtype": torch.float64}
    return torch.randn(7, scalars, **options), torch.randn(7, 3, vectors, **options)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("activated", [True, False])
def test_equations(activated: bool) -> None:
    module, (s, v) = block(activated), inputs()
    w = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    new_s, new_v = (x.detach().numpy() for x in module(s, v))
    for i in range(len(s)):
        for_norm, value = w["mix.weight"][:2] @ v[i].numpy().T, w["mix.weight"][2:] @ v[i].numpy().T  # [channels, 3]
        x = np.concatenate([s[i], np.linalg.norm(for_norm, axis=1)])
        x = w["network.2.weight"] @ silu(w["network.0.weight"] @ x + w["network.0.bias"]) + w["network.2.bias"]
        np.testing.assert_allclose(new_s[i], silu(x[:3]) if activated else x[:3], atol=1e-13)
        np.testing.assert_allclose(new_v[i], (x[3:, None] * value).T, atol=1e-13)


def test_scalars_are_invariant_and_vectors_rotate_under_o3() -> None:
    torch.manual_seed(0)
    readout, (s, v) = ScalarAndVector(5, 4).double(), inputs()
    matrix = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    for m in (matrix, -matrix):
        q, mu = readout(s, torch.einsum("ab,nbc->nac", m, v))
        expected_q, expected_mu = readout(s, v)
        assert torch.allclose(q, expected_q, atol=1e-13)
        assert torch.allclose(mu, expected_mu @ m.T, atol=1e-13)


def test_the_norm_of_a_vanishing_vector_is_zero_with_a_finite_slope() -> None:
    module, (s, v) = block(), inputs()
    v = torch.zeros_like(v).requires_grad_()
    new_s, new_v = module(s, v)
    x = module.network(torch.cat([s, torch.zeros(len(s), 2, dtype=s.dtype)], dim=1))
    assert torch.equal(new_s, torch.nn.functional.silu(x[:, :3]))
    assert torch.equal(new_v, torch.zeros_like(new_v))
    (slope,) = torch.autograd.grad((new_s.sum(), new_v.sum()), v)
    assert slope.isfinite().all()
    assert slope.abs().max() > 0  # through the gated value


@pytest.mark.parametrize(("scalars", "vectors"), [(1, 1), (2, 1), (3, 5)])
def test_readout_of_narrow_features(scalars: int, vectors: int) -> None:
    q, mu = ScalarAndVector(scalars, vectors).double()(*inputs(scalars, vectors))
    assert q.shape == (7,)
    assert mu.shape == (7, 3)


def test_the_last_scalar_has_no_activation() -> None:
    """With the sign of its row in the last layer turned, it turns too; SiLU would bound it from below."""
    torch.manual_seed(0)
    readout, (s, v) = ScalarAndVector(5, 4).double(), inputs()
    before = readout(s, v)[0]
    with torch.no_grad():
        readout.blocks[1].network[2].weight[0] *= -1
    assert torch.allclose(readout(s, v)[0], -before, atol=1e-14)
    assert before.abs().max() > 1e-3
