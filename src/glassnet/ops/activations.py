"""The table of activations: each a function and its derivative, on arrays as well as on scalars.

`gradient(dy, a)` takes the output when `saves` is "output" and the input when it is "input"; ReLU and its
family then need to keep one array only, the one that the next layer reads anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

Value = Any  # an array or a scalar

_erf = np.vectorize(math.erf, otypes=[np.float64])


class Activation(NamedTuple):
    """y = function(x, *settings) and dx = gradient(dy, x or y, *settings)."""

    function: Callable[..., Any]
    gradient: Callable[..., Any]
    saves: Literal["input", "output"]


def relu(x: Value) -> Value:
    """max(x, 0); a NaN stays a NaN."""
    return np.maximum(x, 0)


def relu_gradient(dy: Value, y: Value) -> Value:
    """dy where y > 0, else 0."""
    return np.where(y > 0, dy, 0)


def leaky_relu(x: Value, slope: Value) -> Value:
    """x where x > 0, else slope*x."""
    return np.where(x > 0, x, slope * x)


def leaky_relu_gradient(dy: Value, x: Value, slope: Value) -> Value:
    """dy where x > 0, else slope*dy."""
    return np.where(x > 0, dy, slope * dy)


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x)), from exp(-|x|) so that nothing overflows."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def sigmoid_gradient(dy: Value, y: Value) -> Value:
    """dy * y * (1 - y)."""
    return dy * y * (1 - y)


def tanh(x: Value) -> Value:
    """Hyperbolic tangent."""
    return np.tanh(x)


def tanh_gradient(dy: Value, y: Value) -> Value:
    """dy * (1 - y^2)."""
    return dy * (1 - y * y)


def silu(x: Value) -> Value:
    """x * sigmoid(x) (Elfwing, Uchibe, Doya 2017)."""
    return x * sigmoid(x)


def silu_gradient(dy: Value, x: Value) -> Value:
    """dy * (s + x*s*(1 - s)), s = sigmoid(x)."""
    s = sigmoid(x)
    return dy * (s + x * s * (1 - s))


def normal_cdf(x: Value) -> Value:
    """Phi(x) = (1 + erf(x / sqrt 2)) / 2, in the precision of x."""
    return (0.5 * (1 + _erf(x * math.sqrt(0.5)))).astype(x.dtype)


def gelu(x: Value) -> Value:
    """x * Phi(x), Phi the normal distribution function (Hendrycks, Gimpel 2016; the exact form)."""
    return x * normal_cdf(x)


def gelu_gradient(dy: Value, x: Value) -> Value:
    """dy * (Phi(x) + x * phi(x)), phi the normal density."""
    return dy * (normal_cdf(x) + x * np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi)))


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(relu, relu_gradient, "output"),
    "leaky_relu": Activation(leaky_relu, leaky_relu_gradient, "input"),
    "gelu": Activation(gelu, gelu_gradient, "input"),
    "silu": Activation(silu, silu_gradient, "input"),
    "sigmoid": Activation(sigmoid, sigmoid_gradient, "output"),
    "tanh": Activation(tanh, tanh_gradient, "output"),
}
