"""Comparison with PyTorch: one function under test, its values and all its gradients."""

from __future__ import annotations

import numpy as np

from oracles import oracle


def close(actual, expected, rtol=1e-9, atol=1e-11):
    """Equal up to rounding of float64, shapes included."""
    assert np.shape(actual) == np.shape(expected), f"Shape {np.shape(actual)}, expected {np.shape(expected)}."
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def torch_gradients(function, dy, *arrays):
    """(y, gradient of sum(y * dy) with respect to each array) of a function of PyTorch tensors."""
    torch = oracle("torch")
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    y = function(*leaves)
    y.backward(torch.as_tensor(dy))
    return y.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]


def channels_first(x):
    """(N, H, W, C) -> (N, C, H, W), of a tensor."""
    return x.permute(0, 3, 1, 2)


def channels_last(x):
    """(N, C, H, W) -> (N, H, W, C), of a tensor."""
    return x.permute(0, 2, 3, 1)


def surrounded(x, padding, value=0.0):
    """(N, C, H, W) with (top, bottom, left, right) rows and columns of `value` around it, of a tensor."""
    top, bottom, left, right = padding
    return oracle("torch").nn.functional.pad(x, (left, right, top, bottom), value=value)
