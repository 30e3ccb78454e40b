"""Shape changes, element-wise functions, softmax and dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from glassnet.ops.base import Ops
from glassnet.ops.philox import keep_threshold, random_words
from glassnet.shapes import Shape

Array = np.ndarray


class PointwiseOps(Ops):
    """What needs no window and no statistics."""

    seed: int
    step: int
    first_sample: int

    def reshape(self, x: Array, shape: Shape) -> Array:
        return x.reshape(len(x), *shape)

    def concat(self, arrays: Sequence[Array]) -> Array:
        return np.concatenate(arrays, axis=-1)

    def split(self, x: Array, sizes: Sequence[int]) -> list[Array]:
        return np.split(x, np.cumsum(sizes)[:-1], axis=-1)

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def elementwise(self, function: Callable[..., Any], *arrays: Array) -> Array:
        return function(*arrays)

    def softmax(self, x: Array) -> Array:
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def softmax_grad(self, dy: Array, y: Array) -> Array:
        return y * (dy - (dy * y).sum(axis=-1, keepdims=True))

    def dropout(self, x: Array, rate: float, key: int, *, channels: bool = False) -> Array:
        shape = (x.shape[-1],) if channels else x.shape[1:]
        samples = self.first_sample + np.arange(len(x))
        words = random_words(self.seed, key, self.step, samples, int(np.prod(shape)))
        keep = (words >= keep_threshold(rate)).reshape(len(x), *shape)
        if channels:
            keep = keep.reshape(len(x), *(1,) * (x.ndim - 2), x.shape[-1])
        return np.where(keep, x * x.dtype.type(1 / (1 - rate)), 0)
