"""Activations: the layers are rows of the table in `ops.activations`."""

from __future__ import annotations

from typing import Any

from glassnet.layers.base import Layer
from glassnet.ops.activations import ACTIVATIONS
from glassnet.ops.base import Array, Grads, Ops


class Activation(Layer):
    """y = f(x) of each element; `kind` names f and its derivative in the table."""

    kind: str

    def scalars(self) -> tuple[float, ...]:
        """Settings that f takes after x."""
        return ()

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        row = ACTIVATIONS[self.kind]
        y = ops.elementwise(row.function, x, *self.scalars())
        return y, (y if row.saves == "output" else x)

    def backward(self, ops: Ops, dy: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        if not input_grad:
            return None, {}
        return ops.elementwise(ACTIVATIONS[self.kind].gradient, dy, saved, *self.scalars()), {}


class ReLU(Activation):
    """max(x, 0)."""

    kind = "relu"


class LeakyReLU(Activation):
    """x where x > 0, else slope * x."""

    kind = "leaky_relu"

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = slope

    def scalars(self) -> tuple[float, ...]:
        return (self.slope,)


class GELU(Activation):
    """x * Phi(x), Phi the normal distribution function (the exact form)."""

    kind = "gelu"


class SiLU(Activation):
    """x * sigmoid(x), also called swish."""

    kind = "silu"


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    kind = "sigmoid"


class Tanh(Activation):
    """Hyperbolic tangent."""

    kind = "tanh"


class Softmax(Layer):
    """Probabilities exp(x) / sum exp(x) over the last axis, to be paired with ProbabilityCrossEntropy."""

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        y = ops.softmax(x)
        return y, y

    def backward(self, ops: Ops, dy: Array, y: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        return (ops.softmax_grad(dy, y) if input_grad else None), {}
