"""Batch normalisation. Statistics are kept by leaf and merged in fixed order: `merge_statistics`.

What goes through all pixels is vectors of so many `lanes`: see `norm_row`.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.kernels.norm_row import add_products, add_row, add_squares, grad_row, scale_row
from glassnet.engine.machine.kernel import Kernel, f32, i64, kernel

ONE = np.float32(1)
PIXELS = 256
"""Pixels, in whole rows, whose mean and then squares are taken: the nearest cache holds them."""


@functools.cache
def batch_statistics(lanes: int) -> Kernel:
    """parts[leaf] = (mean, sum of squared distances, count) of each channel, the leaf's samples so far.

    The mean and squares of a few rows come first, then they are merged (Chan, Golub, LeVeque 1979). parts
    (leaves, 5, C): mean, squares, count, and those rows' mean and squares.
    """
    sums, squares = add_row(lanes), add_squares(lanes)

    @kernel
    def batch_statistics(
        x: f32[2],
        x_at: i64,
        x_row: i64,
        height: i64,
        width: i64,
        parts: f32[3],
        lo: i64,
        hi: i64,
        leaf: i64,
        first: i64,
    ) -> None:
        channels = parts.shape[2]
        mean = (5 * leaf + 3) * channels
        if first:
            for c in range(channels):
                parts[leaf, 0, c] = ZERO
                parts[leaf, 1, c] = ZERO
                parts[leaf, 2, c] = ZERO
        rows = max(1, PIXELS // width)
        for n in range(lo, hi):
            from_ = (n % x.shape[0]) * x.shape[1] + x_at
            for block in range((height + rows - 1) // rows):
                top, end = block * rows, min(height, (block + 1) * rows)
                pixels = np.float32((end - top) * width)
                for c in range(channels):
                    parts[leaf, 3, c] = ZERO
                    parts[leaf, 4, c] = ZERO
                for h in range(top, end):
                    sums(x, from_ + h * x_row, channels, width, parts, mean)
                for c in range(channels):
                    parts[leaf, 3, c] /= pixels
                for h in range(top, end):
                    squares(x, from_ + h * x_row, channels, width, parts, mean, parts, mean + channels)
                for c in range(channels):
                    before = parts[leaf, 2, c]
                    total = before + pixels
                    d = parts[leaf, 3, c] - parts[leaf, 0, c]
                    parts[leaf, 0, c] += d * (pixels / total)
                    parts[leaf, 1, c] += parts[leaf, 4, c] + d * d * (before * (pixels / total))
                    parts[leaf, 2, c] = total

    return batch_statistics


@kernel
def merge_statistics(
    parts: f32[3], mean: f32[1], var: f32[1], samples: i64[1], chunk: i64, lo: i64, hi: i64
) -> None:
    """mean and biased variance of the batch from those of its leaves, merged in order; units are channels."""
    leaves = min(parts.shape[0], (samples[0] + chunk - 1) // chunk)
    for c in range(lo, hi):
        middle, squares, count = parts[0, 0, c], parts[0, 1, c], parts[0, 2, c]
        for leaf in range(1, leaves):
            own = parts[leaf, 2, c]
            total = count + own
            d = parts[leaf, 0, c] - middle
            middle += d * (own / total)
            squares += parts[leaf, 1, c] + d * d * (count * (own / total))
            count = total
        mean[c] = middle
        var[c] = squares / count


@kernel
def running_statistics(
    mean: f32[1],
    var: f32[1],
    running_mean: f32[1],
    running_var: f32[1],
    momentum: f32,
    values: i64,
    samples: i64[1],
    lo: i64,
    hi: i64,
) -> None:
    """running += momentum * (new - running), in place; the variance made unbiased: var * m / (m - 1)."""
    m = np.float32(values * samples[0])
    for c in range(lo, hi):
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_var[c] += momentum * (var[c] * (m / (m - ONE)) - running_var[c])


@kernel
def batch_norm_scale(
    mean: f32[1], var: f32[1], gamma: f32[1], beta: f32[1], eps: f32, factors: f32[2], lo: i64, hi: i64
) -> None:
    """factors (2, C): y = x * factors[0] + factors[1]; units are channels."""
    for c in range(lo, hi):
        scale = gamma[c] / np.float32(math.sqrt(var[c] + eps))
        factors[0, c] = scale
        factors[1, c] = beta[c] - mean[c] * scale


@functools.cache
def scale_channels(lanes: int) -> Kernel:
    """y = x * factors[0] + factors[1] channel by channel, and max(y, 0) where `relu`."""
    row = scale_row(lanes)

    @kernel
    def scale_channels(
        x: f32[2],
        x_at: i64,
        x_row: i64,
        y: f32[2],
        y_at: i64,
        y_row: i64,
        factors: f32[2],
        height: i64,
        width: i64,
        relu: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        channels = factors.shape[1]
        for n in range(lo, hi):
            q = n % y.shape[0]
            clear_halo(y, q, y_at, y_row, height, width * channels)
            start, to = (n % x.shape[0]) * x.shape[1] + x_at, q * y.shape[1] + y_at
            for h in range(height):
                row(x, start + h * x_row, y, to + h * y_row, channels, width, factors, 0, relu)

    return scale_channels


@functools.cache
def batch_norm_parameter_sums(lanes: int) -> Kernel:
    """parts[leaf] (2*C): sums of dy * (x - mean), then of dy, over the leaf's samples so far."""
    row = add_products(lanes)

    @kernel
    def batch_norm_parameter_sums(
        dy: f32[2],
        dy_at: i64,
        dy_row: i64,
        x: f32[2],
        x_at: i64,
        x_row: i64,
        mean: f32[1],
        parts: f32[2],
        height: i64,
        width: i64,
        lo: i64,
        hi: i64,
        leaf: i64,
        first: i64,
    ) -> None:
        channels = mean.shape[0]
        sums = 2 * leaf * channels
        if first:
            for i in range(2 * channels):
                parts[leaf, i] = ZERO
        for n in range(lo, hi):
            start, at = (n % x.shape[0]) * x.shape[1] + x_at, (n % dy.shape[0]) * dy.shape[1] + dy_at
            for h in range(height):
                row(dy, at + h * dy_row, x, start + h * x_row, channels, width, mean, 0, parts, sums)

    return batch_norm_parameter_sums


@kernel
def batch_norm_parameter_grads(
    sums: f32[1], var: f32[1], eps: f32, dgamma: f32[1], dbeta: f32[1], lo: i64, hi: i64
) -> None:
    """dgamma = sum dy * (x - mean) / sqrt(var + eps), dbeta = sum dy; units are channels."""
    for c in range(lo, hi):
        dgamma[c] = sums[c] / np.float32(math.sqrt(var[c] + eps))
        dbeta[c] = sums[var.shape[0] + c]


@kernel
def batch_norm_grad_scale(
    mean: f32[1],
    var: f32[1],
    gamma: f32[1],
    dgamma: f32[1],
    dbeta: f32[1],
    eps: f32,
    through: i64,
    values: i64,
    samples: i64[1],
    factors: f32[2],
    lo: i64,
    hi: i64,
) -> None:
    """factors (3, C): dx = dy * factors[0] + x * factors[1] + factors[2]; units are channels.

    The terms of dx = gamma*rstd*(dy - dbeta/m - (x - mean)*rstd*dgamma/m); without `through`, dy's alone.
    """
    m = np.float32(values * samples[0])
    for c in range(lo, hi):
        rstd = ONE / np.float32(math.sqrt(var[c] + eps))
        scale = gamma[c] * rstd
        factors[0, c] = scale
        factors[1, c] = ZERO
        factors[2, c] = ZERO
        if through:
            slope = -scale * rstd * dgamma[c] / m
            factors[1, c] = slope
            factors[2, c] = -scale * dbeta[c] / m - slope * mean[c]


@functools.cache
def batch_norm_input_grad(lanes: int) -> Kernel:
    """dx = dy * factors[0] + x * factors[1] + factors[2], channel by channel."""
    row = grad_row(lanes)

    @kernel
    def batch_norm_input_grad(
        dy: f32[2],
        dy_at: i64,
        dy_row: i64,
        x: f32[2],
        x_at: i64,
        x_row: i64,
        dx: f32[2],
        dx_at: i64,
        dx_row: i64,
        factors: f32[2],
        height: i64,
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        channels = factors.shape[1]
        for n in range(lo, hi):
            p = n % dx.shape[0]
            clear_halo(dx, p, dx_at, dx_row, height, width * channels)
            start, at = (n % x.shape[0]) * x.shape[1] + x_at, (n % dy.shape[0]) * dy.shape[1] + dy_at
            to = p * dx.shape[1] + dx_at
            for h in range(height):
                row(
                    dy,
                    at + h * dy_row,
                    x,
                    start + h * x_row,
                    dx,
                    to + h * dx_row,
                    channels,
                    width,
                    factors,
                    0,
                )

    return batch_norm_input_grad
