"""Normalisation. Statistics over samples are kept by leaf and merged in fixed order: `merge_statistics`."""

from __future__ import annotations

import math

import numpy as np

from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.machine.kernel import f32, i64, kernel

ONE = np.float32(1)


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
    """parts[leaf] = (mean, sum of squared distances, work space) of each channel, the leaf's samples so far.

    A sample's own mean and squares come first, then they are merged (Chan, Golub, LeVeque 1979). parts
    (leaves, 5, C): mean, squares, count, and the sample's mean and squares.
    """
    channels = parts.shape[2]
    pixels = np.float32(height * width)
    if first:
        for c in range(channels):
            parts[leaf, 0, c] = ZERO
            parts[leaf, 1, c] = ZERO
            parts[leaf, 2, c] = ZERO
    for n in range(lo, hi):
        r = n % x.shape[0]
        for c in range(channels):
            parts[leaf, 3, c] = ZERO
            parts[leaf, 4, c] = ZERO
        for h in range(height):
            for w in range(width):
                start = x_at + h * x_row + w * channels
                for c in range(channels):
                    parts[leaf, 3, c] += x[r, start + c]
        for c in range(channels):
            parts[leaf, 3, c] /= pixels
        for h in range(height):
            for w in range(width):
                start = x_at + h * x_row + w * channels
                for c in range(channels):
                    d = x[r, start + c] - parts[leaf, 3, c]
                    parts[leaf, 4, c] += d * d
        for c in range(channels):
            before = parts[leaf, 2, c]
            total = before + pixels
            d = parts[leaf, 3, c] - parts[leaf, 0, c]
            parts[leaf, 0, c] += d * (pixels / total)
            parts[leaf, 1, c] += parts[leaf, 4, c] + d * d * (before * (pixels / total))
            parts[leaf, 2, c] = total


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
    """y = x * factors[0] + factors[1] channel by channel, and max(y, 0) where `relu`."""
    channels = factors.shape[1]
    for n in range(lo, hi):
        r, q = n % x.shape[0], n % y.shape[0]
        clear_halo(y, q, y_at, y_row, height, width * channels)
        for h in range(height):
            for w in range(width):
                start = x_at + h * x_row + w * channels
                to = y_at + h * y_row + w * channels
                for c in range(channels):
                    v = x[r, start + c] * factors[0, c] + factors[1, c]
                    if relu and v < ZERO:
                        v = ZERO
                    y[q, to + c] = v


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
    """parts[leaf] (2*C): sums of dy * (x - mean), then of dy, over the leaf's samples so far."""
    channels = mean.shape[0]
    if first:
        for i in range(2 * channels):
            parts[leaf, i] = ZERO
    for n in range(lo, hi):
        r, q = n % x.shape[0], n % dy.shape[0]
        for h in range(height):
            for w in range(width):
                start = x_at + h * x_row + w * channels
                at = dy_at + h * dy_row + w * channels
                for c in range(channels):
                    g = dy[q, at + c]
                    parts[leaf, c] += g * (x[r, start + c] - mean[c])
                    parts[leaf, channels + c] += g


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
    """dx = dy * factors[0] + x * factors[1] + factors[2], channel by channel."""
    channels = factors.shape[1]
    for n in range(lo, hi):
        r, q, p = n % x.shape[0], n % dy.shape[0], n % dx.shape[0]
        clear_halo(dx, p, dx_at, dx_row, height, width * channels)
        for h in range(height):
            for w in range(width):
                start = x_at + h * x_row + w * channels
                at = dy_at + h * dy_row + w * channels
                to = dx_at + h * dx_row + w * channels
                for c in range(channels):
                    dx[p, to + c] = (
                        dy[q, at + c] * factors[0, c] + x[r, start + c] * factors[1, c] + factors[2, c]
                    )


@kernel
def group_norm(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    gamma: f32[1],
    beta: f32[1],
    y: f32[2],
    y_at: i64,
    y_row: i64,
    statistics: f32[3],
    eps: f32,
    height: i64,
    width: i64,
    lo: i64,
    hi: i64,
) -> None:
    """Each sample's groups of channels normalised over its pixels. statistics: (rows, 2, groups)."""
    groups, channels = statistics.shape[2], gamma.shape[0]
    own = channels // groups
    count = np.float32(own * height * width)
    for n in range(lo, hi):
        r, q, s = n % x.shape[0], n % y.shape[0], n % statistics.shape[0]
        clear_halo(y, q, y_at, y_row, height, width * channels)
        for g in range(groups):
            total = ZERO
            for h in range(height):
                for w in range(width):
                    start = x_at + h * x_row + w * channels + g * own
                    for c in range(own):
                        total += x[r, start + c]
            mean = total / count
            squares = ZERO
            for h in range(height):
                for w in range(width):
                    start = x_at + h * x_row + w * channels + g * own
                    for c in range(own):
                        d = x[r, start + c] - mean
                        squares += d * d
            rstd = ONE / np.float32(math.sqrt(squares / count + eps))
            statistics[s, 0, g] = mean
            statistics[s, 1, g] = rstd
            for h in range(height):
                for w in range(width):
                    start = x_at + h * x_row + w * channels + g * own
                    to = y_at + h * y_row + w * channels + g * own
                    for c in range(own):
                        scale = rstd * gamma[g * own + c]
                        y[q, to + c] = (x[r, start + c] - mean) * scale + beta[g * own + c]


@kernel
def group_norm_parameter_sums(
    dy: f32[2],
    dy_at: i64,
    dy_row: i64,
    x: f32[2],
    x_at: i64,
    x_row: i64,
    statistics: f32[3],
    parts: f32[2],
    height: i64,
    width: i64,
    lo: i64,
    hi: i64,
    leaf: i64,
    first: i64,
) -> None:
    """parts[leaf] (2*C): dgamma then dbeta, over the leaf's samples so far."""
    groups, channels = statistics.shape[2], parts.shape[1] // 2
    own = channels // groups
    if first:
        for i in range(2 * channels):
            parts[leaf, i] = ZERO
    for n in range(lo, hi):
        r, q, s = n % x.shape[0], n % dy.shape[0], n % statistics.shape[0]
        for h in range(height):
            for w in range(width):
                for g in range(groups):
                    mean, rstd = statistics[s, 0, g], statistics[s, 1, g]
                    start = x_at + h * x_row + w * channels + g * own
                    at = dy_at + h * dy_row + w * channels + g * own
                    for c in range(own):
                        parts[leaf, g * own + c] += dy[q, at + c] * (x[r, start + c] - mean) * rstd
                        parts[leaf, channels + g * own + c] += dy[q, at + c]


@kernel
def group_norm_input_grad(
    dy: f32[2],
    dy_at: i64,
    dy_row: i64,
    x: f32[2],
    x_at: i64,
    x_row: i64,
    gamma: f32[1],
    statistics: f32[3],
    dx: f32[2],
    dx_at: i64,
    dx_row: i64,
    height: i64,
    width: i64,
    lo: i64,
    hi: i64,
) -> None:
    """dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * gamma, means over the group."""
    groups, channels = statistics.shape[2], gamma.shape[0]
    own = channels // groups
    count = np.float32(own * height * width)
    for n in range(lo, hi):
        r, q, p, s = n % x.shape[0], n % dy.shape[0], n % dx.shape[0], n % statistics.shape[0]
        clear_halo(dx, p, dx_at, dx_row, height, width * channels)
        for g in range(groups):
            mean, rstd = statistics[s, 0, g], statistics[s, 1, g]
            total, product = ZERO, ZERO
            for h in range(height):
                for w in range(width):
                    start = x_at + h * x_row + w * channels + g * own
                    at = dy_at + h * dy_row + w * channels + g * own
                    for c in range(own):
                        v = dy[q, at + c] * gamma[g * own + c]
                        total += v
                        product += v * (x[r, start + c] - mean)
            total = total / count
            product = product * rstd * rstd / count
            for h in range(height):
                for w in range(width):
                    start = x_at + h * x_row + w * channels + g * own
                    at = dy_at + h * dy_row + w * channels + g * own
                    to = dx_at + h * dx_row + w * channels + g * own
                    for c in range(own):
                        v = dy[q, at + c] * gamma[g * own + c]
                        dx[p, to + c] = rstd * (v - total - (x[r, start + c] - mean) * product)
