"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glassnet import shapes
from glassnet.errors import ShapeError
from glassnet.layers.base import Layer
from glassnet.ops.base import Array, Grads, Ops
from glassnet.shapes import Padding, Shape, check_image_shape


class Pool2d(Layer):
    """Windows over each channel: (N, H, W, C) -> (N, H', W', C); the stride defaults to the kernel."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] | None = None,
        padding: Padding = 0,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        h, w, c = check_image_shape(self.name, input_shape)
        stride = self.kernel_size if self.stride is None else self.stride
        self.geometry = shapes.geometry(
            self.name, (h, w), self.kernel_size, stride=stride, padding=self.padding
        )
        (kh, kw), (top, bottom, left, right) = self.geometry.kernel, self.geometry.padding
        if max(top, bottom) >= kh or max(left, right) >= kw:
            raise ShapeError(
                f"{self.name} padding must be smaller than its window of {kh}x{kw}, "
                f"got {self.geometry.padding}: a window would hold nothing but padding."
            )
        return (*self.geometry.output, c)


class MaxPool2d(Pool2d):
    """The largest value of each window; the first of equal values takes the gradient. Padding never wins."""

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        return ops.max_pool2d(x, self.geometry)

    def backward(self, ops: Ops, dy: Array, index: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        return (ops.max_pool2d_grad(dy, index, self.geometry) if input_grad else None), {}


class AvgPool2d(Pool2d):
    """The mean of each window: over K*K values, or over those inside the image (`count_padding=False`)."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] | None = None,
        padding: Padding = 0,
        count_padding: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride=stride, padding=padding)
        self.count_padding = count_padding

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        return ops.avg_pool2d(x, self.geometry, self.count_padding), None

    def backward(self, ops: Ops, dy: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        return (ops.avg_pool2d_grad(dy, self.geometry, self.count_padding) if input_grad else None), {}


class GlobalAvgPool2d(Layer):
    """(N, H, W, C) -> (N, C): the mean of each channel (Lin, Chen, Yan 2013)."""

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        h, w, c = check_image_shape(self.name, input_shape)
        self.size = (h, w)
        return (c,)

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        return ops.global_avg_pool2d(x), None

    def backward(self, ops: Ops, dy: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        return (ops.global_avg_pool2d_grad(dy, self.size) if input_grad else None), {}
