"""Pooling as a reduction over windows."""

from __future__ import annotations

import numpy as np

from glassnet.ops.base import Ops
from glassnet.ops.reference.conv import pad, taps, unpad, windows
from glassnet.shapes import Geometry

Array = np.ndarray


def _counts(geometry: Geometry, count_padding: bool) -> Array | int:
    """How many values each window averages: kh*kw, or those inside the image as (1, H', W', 1)."""
    if count_padding:
        return geometry.kernel[0] * geometry.kernel[1]
    inside = pad(np.ones((1, *geometry.input, 1)), geometry)
    return windows(inside, geometry).sum(axis=(-2, -1)).astype(int)


class PoolOps(Ops):
    """max, average and global average pooling with their gradients."""

    def max_pool2d(self, x: Array, geometry: Geometry) -> tuple[Array, Array]:
        view = windows(pad(x, geometry, -np.inf), geometry)
        flat = view.reshape(*view.shape[:4], -1)
        index = flat.argmax(axis=-1)  # the first of equals; NaN counts as largest
        y = np.take_along_axis(flat, index[..., None], axis=-1)[..., 0]
        return y, index.astype(np.min_scalar_type(flat.shape[-1] - 1))

    def max_pool2d_grad(self, dy: Array, index: Array, geometry: Geometry) -> Array:
        dx = np.zeros((len(dy), *geometry.padded, dy.shape[-1]), dy.dtype)
        for u, v, rows, cols in taps(geometry):
            dx[:, rows, cols] += np.where(index == u * geometry.kernel[1] + v, dy, 0)
        return unpad(dx, geometry)

    def avg_pool2d(self, x: Array, geometry: Geometry, count_padding: bool) -> Array:
        total = windows(pad(x, geometry), geometry).sum(axis=(-2, -1))
        return (total / _counts(geometry, count_padding)).astype(x.dtype)

    def avg_pool2d_grad(self, dy: Array, geometry: Geometry, count_padding: bool) -> Array:
        share = (dy / _counts(geometry, count_padding)).astype(dy.dtype)
        dx = np.zeros((len(dy), *geometry.padded, dy.shape[-1]), dy.dtype)
        for _, _, rows, cols in taps(geometry):
            dx[:, rows, cols] += share
        return unpad(dx, geometry)

    def global_avg_pool2d(self, x: Array) -> Array:
        return x.mean(axis=(1, 2))

    def global_avg_pool2d_grad(self, dy: Array, size: tuple[int, int]) -> Array:
        return np.broadcast_to(
            (dy / (size[0] * size[1]))[:, None, None, :], (len(dy), *size, dy.shape[-1])
        ).copy()
