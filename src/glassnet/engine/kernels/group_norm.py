"""Group normalisation: each sample's groups of channels over its pixels."""

from __future__ import annotations

import math

import numpy as np

from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.machine.kernel import f32, i64, kernel

ONE = np.float32(1)


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
