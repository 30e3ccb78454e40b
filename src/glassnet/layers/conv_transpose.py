"""Transposed convolution, the adjoint of convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glassnet import shapes
from glassnet.errors import ShapeError
from glassnet.layers.base import Layer
from glassnet.layers.conv import add_weights
from glassnet.ops.base import Array, Grads, Ops
from glassnet.shapes import Geometry, Shape, check_image_shape, pair


class ConvTranspose2d(Layer):
    """The adjoint of Conv2d: (N, H, W, C) -> (N, H', W', O), upsampling by the stride.

    y[n, i*s + u*d - p, j*s + v*d - p, o] += x[n,i,j,c] * w[u,v,o,c], then + b[o]
    H' = (H - 1)*s - 2p + d*(K - 1) + 1 + output_padding. weight (K, K, O/groups, C): that of the convolution
    from (H', W') to (H, W) whose input gradient this is (Dumoulin, Visin 2016, section 4). bias (O,).
    """

    usage = " Input channels are inferred: PyTorch's ConvTranspose2d(16, 8, 2) is ConvTranspose2d(8, 2) here."

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        init: str | float = "glorot_uniform",
    ) -> None:
        self.filters, self.kernel_size, self.stride, self.padding = filters, kernel_size, stride, padding
        self.output_padding, self.dilation, self.groups = output_padding, dilation, groups
        self.use_bias, self.init = bias, init

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        h, w, c = check_image_shape(self.name, input_shape)
        small = Geometry(
            (h, w),
            pair(self.kernel_size, f"{self.name} kernel_size"),
            pair(self.stride, f"{self.name} stride"),
            pair(self.dilation, f"{self.name} dilation"),
        )
        pad, extra = (
            pair(self.padding, f"{self.name} padding", at_least=0),
            pair(self.output_padding, f"{self.name} output_padding", at_least=0),
        )
        if extra[0] >= small.stride[0] or extra[1] >= small.stride[1]:
            raise ShapeError(
                f"{self.name} output_padding must be smaller than its stride {small.stride}, got {extra}."
            )
        size = tuple(
            (n - 1) * s - 2 * p + e + o
            for n, s, p, e, o in zip((h, w), small.stride, pad, small.extent, extra, strict=True)
        )
        self.geometry = shapes.geometry(
            self.name,
            (size[0], size[1]),
            small.kernel,
            stride=small.stride,
            padding=pad,
            dilation=small.dilation,
            groups=self.groups,
        )
        add_weights(self, (*small.kernel, self.filters, c), generator, outputs=self.filters)
        return (*size, self.filters)

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        y = ops.conv2d_input_grad(x, self.weight, self.geometry)
        return (ops.add_bias(y, self.bias) if self.use_bias else y), x

    def backward(self, ops: Ops, dy: Array, x: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        grads = {"weight": ops.conv2d_weight_grad(x, dy, self.geometry)}
        if self.use_bias:
            grads["bias"] = ops.bias_grad(dy)
        return (ops.conv2d(dy, self.weight, None, self.geometry) if input_grad else None), grads

    def macs(self) -> int:
        h, w = self.geometry.output
        return h * w * int(self.weight.size)
