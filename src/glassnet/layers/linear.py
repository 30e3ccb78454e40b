"""Fully connected layers, and the change of shape before them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from glassnet.errors import ShapeError
from glassnet.init import initializer
from glassnet.layers.base import Layer
from glassnet.ops.base import Array, Grads, Ops
from glassnet.shapes import Shape, batched, count


class Flatten(Layer):
    """(N, H, W, C) -> (N, H*W*C), in the order of memory."""

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        return (math.prod(input_shape),)

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        return ops.reshape(x, (math.prod(x.shape[1:]),)), x.shape[1:]

    def backward(self, ops: Ops, dy: Array, shape: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        return ops.reshape(dy, shape), {}


class Linear(Layer):
    """y = x w + b, (N, I) -> (N, O). weight (I, O), bias (O,).

    dx = dy w^T, dw = x^T dy, db = sum of dy over the batch.
    """

    usage = " Input features are inferred: PyTorch's Linear(128, 10) is Linear(10) here."

    def __init__(self, features: int, *, bias: bool = True, init: str | float = "he_normal") -> None:
        self.features, self.use_bias, self.init = features, bias, init

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        if len(input_shape) != 1:
            raise ShapeError(
                f"{self.name} needs an input of shape (N, features), got {batched(input_shape)}. "
                "Put Flatten() or GlobalAvgPool2d() before it."
            )
        features = count(self.features, f"{self.name} features")
        self.add_parameter("weight", initializer(self.init)((input_shape[0], features), generator))
        if self.use_bias:
            self.add_parameter("bias", np.zeros(features), decays=False)
        else:
            self.bias = None
        return (features,)

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        return ops.linear(x, self.weight, self.bias), x

    def backward(self, ops: Ops, dy: Array, x: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        grads = {"weight": ops.linear_weight_grad(dy, x)}
        if self.use_bias:
            grads["bias"] = ops.bias_grad(dy)
        return (ops.linear_input_grad(dy, self.weight) if input_grad else None), grads

    def macs(self) -> int:
        return int(self.weight.size)
