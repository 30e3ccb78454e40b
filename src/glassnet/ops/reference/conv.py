"""Convolution and linear layers as windows and a matrix product.

Chellapilla, Puri, Simard, "High performance convolutional neural networks for document processing", 2006.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from glassnet.ops.base import Ops
from glassnet.shapes import Geometry

Array = np.ndarray


def pad(x: Array, geometry: Geometry, value: float = 0.0) -> Array:
    """(N, H, W, C) with `value` around the image."""
    top, bottom, left, right = geometry.padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def windows(x: Array, geometry: Geometry) -> Array:
    """A view (N, H', W', C, kh, kw) of the padded image x: what each output position reads."""
    views = sliding_window_view(x, geometry.extent, axis=(1, 2))
    (sh, sw), (dh, dw) = geometry.stride, geometry.dilation
    return views[:, ::sh, ::sw, :, ::dh, ::dw]


def taps(geometry: Geometry) -> list[tuple[int, int, slice, slice]]:
    """(u, v, rows, columns) of each kernel position: the padded pixels it reads over all outputs."""
    (sh, sw), (dh, dw), (out_h, out_w) = geometry.stride, geometry.dilation, geometry.output
    return [
        (
            u,
            v,
            slice(u * dh, u * dh + sh * (out_h - 1) + 1, sh),
            slice(v * dw, v * dw + sw * (out_w - 1) + 1, sw),
        )
        for u in range(geometry.kernel[0])
        for v in range(geometry.kernel[1])
    ]


def unpad(x: Array, geometry: Geometry) -> Array:
    """The image without its padding."""
    top, _, left, _ = geometry.padding
    return x[:, top : top + geometry.input[0], left : left + geometry.input[1]]


def _columns(x: Array, geometry: Geometry) -> Array:
    """(groups, N*H'*W', kh*kw*C/groups): one row an output position, in the order of the weights."""
    view = windows(pad(x, geometry), geometry)
    n, h, w, c, kh, kw = view.shape
    grouped = view.reshape(n, h, w, geometry.groups, c // geometry.groups, kh, kw)
    return grouped.transpose(3, 0, 1, 2, 5, 6, 4).reshape(geometry.groups, n * h * w, -1)


def _group_rows(y: Array, groups: int) -> Array:
    """(N, H', W', O) -> (groups, N*H'*W', O/groups)."""
    return y.reshape(-1, groups, y.shape[-1] // groups).transpose(1, 0, 2)


def _group_weights(w: Array, groups: int) -> Array:
    """(kh, kw, C/groups, O) -> (groups, kh*kw*C/groups, O/groups)."""
    return w.reshape(-1, groups, w.shape[-1] // groups).transpose(1, 0, 2)


class ConvOps(Ops):
    """conv2d and linear with their gradients."""

    def conv2d(self, x: Array, w: Array, b: Array | None, geometry: Geometry) -> Array:
        product = _columns(x, geometry) @ _group_weights(w, geometry.groups)
        y = product.transpose(1, 0, 2).reshape(len(x), *geometry.output, -1)
        return y if b is None else y + b

    def conv2d_input_grad(self, dy: Array, w: Array, geometry: Geometry) -> Array:
        kh, kw, c_group, _ = w.shape
        weights = _group_weights(w, geometry.groups)
        columns = _group_rows(dy, geometry.groups) @ weights.transpose(0, 2, 1)
        shape = (geometry.groups, len(dy), *geometry.output, kh, kw, c_group)
        patches = np.moveaxis(columns.reshape(shape), 0, -2).reshape(*shape[1:-1], -1)
        dx = np.zeros((len(dy), *geometry.padded, geometry.groups * c_group), dy.dtype)
        for u, v, rows, cols in taps(geometry):
            dx[:, rows, cols] += patches[:, :, :, u, v]
        return unpad(dx, geometry)

    def conv2d_weight_grad(self, dy: Array, x: Array, geometry: Geometry) -> Array:
        columns = _columns(x, geometry)
        dw = columns.transpose(0, 2, 1) @ _group_rows(dy, geometry.groups)
        return dw.transpose(1, 0, 2).reshape(*geometry.kernel, -1, dy.shape[-1])

    def add_bias(self, x: Array, b: Array) -> Array:
        return x + b

    def bias_grad(self, dy: Array) -> Array:
        return dy.reshape(-1, dy.shape[-1]).sum(axis=0)

    def linear(self, x: Array, w: Array, b: Array | None) -> Array:
        y = x @ w
        return y if b is None else y + b

    def linear_input_grad(self, dy: Array, w: Array) -> Array:
        return dy @ w.T

    def linear_weight_grad(self, dy: Array, x: Array) -> Array:
        return x.T @ dy
