"""Dropout, by element and by channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from glassnet.errors import ConfigError
from glassnet.layers.base import Layer
from glassnet.ops.base import Array, Grads, Ops
from glassnet.shapes import Shape


class Dropout(Layer):
    """In training, each element is 0 with probability `rate`, else x / (1 - rate); in evaluation, x.

    A new mask for each step and sample. Srivastava et al. 2014, inverted form.
    """

    channels = False

    def __init__(self, rate: float = 0.5) -> None:
        if not 0 <= rate < 1:
            raise ConfigError(f"{type(self).__name__} rate must be at least 0 and below 1, got {rate}.")
        self.rate = rate

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        self.key = int(generator.integers(2**32))
        return input_shape

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        dropped = train and self.rate > 0
        return (ops.dropout(x, self.rate, self.key, channels=self.channels) if dropped else x), dropped

    def backward(self, ops: Ops, dy: Array, dropped: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        if not input_grad:
            return None, {}
        return (ops.dropout(dy, self.rate, self.key, channels=self.channels) if dropped else dy), {}


class Dropout2d(Dropout):
    """Dropout of whole channels of (N, H, W, C) (Tompson et al. 2015)."""

    channels = True
