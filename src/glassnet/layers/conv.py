"""Convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glassnet import shapes
from glassnet.errors import ShapeError
from glassnet.init import initializer
from glassnet.layers.base import Layer
from glassnet.ops.base import Array, Grads, Ops
from glassnet.shapes import Padding, Shape, check_image_shape, count


class Conv2d(Layer):
    """2-D convolution, (N, H, W, C) -> (N, H', W', O).

    y[n,i,j,o] = b[o] + sum over u,v,c of x[n, i*s + u*d - p, j*s + v*d - p, c] * w[u,v,c,o]
    H' = (H + 2p - d*(K - 1) - 1) // s + 1, and the same for W'. With groups, channel o reads only the
    C/groups input channels of its group. weight (K, K, C/groups, O); bias (O,).
    padding: int, pair, (top, bottom, left, right), "valid" or "same" (H' = ceil(H/s), extra bottom, right).
    """

    usage = " Input channels are inferred: PyTorch's Conv2d(1, 32, 3) is Conv2d(32, 3) here."

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        init: str | float = "he_normal",
    ) -> None:
        self.filters, self.kernel_size, self.stride, self.padding = filters, kernel_size, stride, padding
        self.dilation, self.groups, self.use_bias, self.init = dilation, groups, bias, init

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        h, w, c = check_image_shape(self.name, input_shape)
        self.geometry = shapes.geometry(
            self.name,
            (h, w),
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        add_weights(self, (*self.geometry.kernel, c, self.filters), generator)
        return (*self.geometry.output, self.filters)

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        return ops.conv2d(x, self.weight, self.bias, self.geometry), x

    def backward(self, ops: Ops, dy: Array, x: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        grads = {"weight": ops.conv2d_weight_grad(dy, x, self.geometry)}
        if self.use_bias:
            grads["bias"] = ops.bias_grad(dy)
        return (ops.conv2d_input_grad(dy, self.weight, self.geometry) if input_grad else None), grads

    def macs(self) -> int:
        h, w = self.geometry.output
        return h * w * int(self.weight.size)


def add_weights(
    layer: Layer,
    shape: Shape,
    generator: np.random.Generator,
    *,
    outputs: int | None = None,
) -> None:
    """Weight and bias of a convolution of `shape` (kh, kw, C, O), C cut in the layer's groups."""
    count(layer.filters, f"{layer.name} filters")
    count(layer.groups, f"{layer.name} groups")
    *kernel, c, o = shape
    if c % layer.groups or o % layer.groups:
        raise ShapeError(
            f"{layer.name} has groups={layer.groups}, which must divide its input and output channels, "
            f"here {layer.input_shape[-1] if layer.input_shape else c} and {layer.filters}."
        )
    layer.add_parameter("weight", initializer(layer.init)((*kernel, c // layer.groups, o), generator))
    if layer.use_bias:
        layer.add_parameter("bias", np.zeros(outputs or o), decays=False)
    else:
        layer.bias = None
