"""Norms at and near zero: finite values and derivatives, in both precisions."""

import pytest
import torch

from equispec.nn.norms import exact_norm, root, safe_norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-19, 1e-13, 1e-8, 1.0])
def test_two_derivatives_of_a_small_norm_are_finite(size: float, dtype: torch.dtype) -> None:
    x = (size * torch.tensor([[0.36, 0.48, 0.8]], dtype=dtype)).requires_grad_()
    norm = exact_norm(x, dim=1)
    (gradient,) = torch.autograd.grad(norm.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum() + norm.sum(), x)
    assert gradient.norm() <= 1 + 1e-6
    assert second.isfinite().all()
    if size >= 1e-8:
        torch.testing.assert_close(norm, torch.tensor([size], dtype=dtype))
        torch.testing.assert_close(gradient, x / size)


def test_zero() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(exact_norm(x, dim=1).sum(), x)
    assert not exact_norm(x, dim=1).any()
    assert not gradient.any()
    assert root(torch.zeros(())) == 0
    torch.testing.assert_close(safe_norm(x, dim=1, eps=1e-8), torch.full((2,), 1e-4))
