"""Group normalisation: each sample's groups of channels over its pixels.

What goes through all pixels is vectors of so many `lanes`, channel by channel: see `norm_row`. A sample has
`statistics` (ROWS, C): mean and rstd of each channel's group, then sums or factors of each channel.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.kernels.norm_row import add_products, add_row, add_squares, grad_row, scale_row
from glassnet.engine.machine.kernel import Kernel, f32, i64, inline, kernel

ONE = np.float32(1)
ROWS = 5


@inline
def clear_sums(statistics, s):
    """Two rows of zeros behind mean and rstd."""
    for k in range(2, 4):
        for c in range(statistics.shape[2]):
            statistics[s, k, c] = ZERO


@functools.cache
def group_norm(lanes: int) -> Kernel:
    """y = (x - mean) * rstd * gamma + beta, each sample by itself."""
    sums, squares, scaled = add_row(lanes), add_squares(lanes), scale_row(lanes)

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
        groups: i64,
        eps: f32,
        height: i64,
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        channels = gamma.shape[0]
        own = channels // groups
        count = np.float32(own * height * width)
        for n in range(lo, hi):
            q, s = n % y.shape[0], n % statistics.shape[0]
            start, to = (n % x.shape[0]) * x.shape[1] + x_at, q * y.shape[1] + y_at
            mean = s * statistics.shape[1] * channels
            clear_halo(y, q, y_at, y_row, height, width * channels)
            clear_sums(statistics, s)
            for h in range(height):
                sums(x, start + h * x_row, channels, width, statistics, mean + 2 * channels)
            for g in range(groups):
                total = ZERO
                for c in range(g * own, (g + 1) * own):
                    total += statistics[s, 2, c]
                for c in range(g * own, (g + 1) * own):
                    statistics[s, 0, c] = total / count
            for h in range(height):
                at = start + h * x_row
                squares(x, at, channels, width, statistics, mean, statistics, mean + 3 * channels)
            for g in range(groups):
                total = ZERO
                for c in range(g * own, (g + 1) * own):
                    total += statistics[s, 3, c]
                rstd = ONE / np.float32(math.sqrt(total / count + eps))
                for c in range(g * own, (g + 1) * own):
                    scale = rstd * gamma[c]
                    statistics[s, 1, c] = rstd
                    statistics[s, 2, c] = scale
                    statistics[s, 3, c] = beta[c] - statistics[s, 0, c] * scale
            for h in range(height):
                from_, into = start + h * x_row, to + h * y_row
                scaled(x, from_, y, into, channels, width, statistics, mean + 2 * channels, 0)

    return group_norm


@functools.cache
def group_norm_parameter_sums(lanes: int) -> Kernel:
    """parts[leaf] (2*C): dgamma then dbeta, over the leaf's samples so far."""
    row = add_products(lanes)

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
        channels = statistics.shape[2]
        if first:
            for i in range(2 * channels):
                parts[leaf, i] = ZERO
        for n in range(lo, hi):
            s = n % statistics.shape[0]
            start, at = (n % x.shape[0]) * x.shape[1] + x_at, (n % dy.shape[0]) * dy.shape[1] + dy_at
            mean = s * statistics.shape[1] * channels
            sums = mean + 2 * channels
            clear_sums(statistics, s)
            for h in range(height):
                there, here = at + h * dy_row, start + h * x_row
                row(dy, there, x, here, channels, width, statistics, mean, statistics, sums)
            for c in range(channels):
                parts[leaf, c] += statistics[s, 2, c] * statistics[s, 1, c]
                parts[leaf, channels + c] += statistics[s, 3, c]

    return group_norm_parameter_sums


@functools.cache
def group_norm_input_grad(lanes: int) -> Kernel:
    """dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * gamma, means over the group."""
    products, row = add_products(lanes), grad_row(lanes)

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
        groups: i64,
        height: i64,
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        channels = gamma.shape[0]
        own = channels // groups
        count = np.float32(own * height * width)
        for n in range(lo, hi):
            p, s = n % dx.shape[0], n % statistics.shape[0]
            start, at = (n % x.shape[0]) * x.shape[1] + x_at, (n % dy.shape[0]) * dy.shape[1] + dy_at
            to, mean = p * dx.shape[1] + dx_at, s * statistics.shape[1] * channels
            sums = mean + 2 * channels
            clear_halo(dx, p, dx_at, dx_row, height, width * channels)
            clear_sums(statistics, s)
            for h in range(height):
                there, here = at + h * dy_row, start + h * x_row
                products(dy, there, x, here, channels, width, statistics, mean, statistics, sums)
            for g in range(groups):
                total, product = ZERO, ZERO
                for c in range(g * own, (g + 1) * own):
                    product += gamma[c] * statistics[s, 2, c]
                    total += gamma[c] * statistics[s, 3, c]
                for c in range(g * own, (g + 1) * own):
                    rstd = statistics[s, 1, c]
                    slope = rstd * rstd * rstd * product / count
                    statistics[s, 2, c] = rstd * gamma[c]
                    statistics[s, 3, c] = -slope
                    statistics[s, 4, c] = slope * statistics[s, 0, c] - rstd * total / count
            for h in range(height):
                there, here, into = at + h * dy_row, start + h * x_row, to + h * dx_row
                row(dy, there, x, here, dx, into, channels, width, statistics, sums)

    return group_norm_input_grad
