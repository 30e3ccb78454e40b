"""Layer normalisation over the last values of each sample, taken in the order of memory."""

from __future__ import annotations

import math

import numpy as np

from glassnet.engine.kernels.group_norm import ONE
from glassnet.engine.kernels.image import ZERO, clear_halo, place
from glassnet.engine.machine.kernel import f32, i64, kernel


@kernel
def layer_norm(
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
    """Sets of len(gamma) values normalised; statistics (rows, 2, sets): mean, rstd."""
    size, count = gamma.shape[0], np.float32(gamma.shape[0])
    for n in range(lo, hi):
        r, q, s = n % x.shape[0], n % y.shape[0], n % statistics.shape[0]
        clear_halo(y, q, y_at, y_row, height, width)
        for o in range(statistics.shape[2]):
            total, squares = ZERO, ZERO
            for k in range(size):
                total += x[r, x_at + place(o * size + k, width, x_row)]
            mean = total / count
            for k in range(size):
                d = x[r, x_at + place(o * size + k, width, x_row)] - mean
                squares += d * d
            rstd = ONE / np.float32(math.sqrt(squares / count + eps))
            statistics[s, 0, o] = mean
            statistics[s, 1, o] = rstd
            for k in range(size):
                d = x[r, x_at + place(o * size + k, width, x_row)] - mean
                y[q, y_at + place(o * size + k, width, y_row)] = d * rstd * gamma[k] + beta[k]


@kernel
def layer_norm_parameter_sums(
    dy: f32[2],
    dy_at: i64,
    dy_row: i64,
    x: f32[2],
    x_at: i64,
    x_row: i64,
    statistics: f32[3],
    parts: f32[2],
    width: i64,
    lo: i64,
    hi: i64,
    leaf: i64,
    first: i64,
) -> None:
    """parts[leaf] (2*len(gamma)): dgamma then dbeta, over the leaf's samples so far."""
    size = parts.shape[1] // 2
    if first:
        for i in range(2 * size):
            parts[leaf, i] = ZERO
    for n in range(lo, hi):
        r, q, s = n % x.shape[0], n % dy.shape[0], n % statistics.shape[0]
        for o in range(statistics.shape[2]):
            for k in range(size):
                g = dy[q, dy_at + place(o * size + k, width, dy_row)]
                d = x[r, x_at + place(o * size + k, width, x_row)] - statistics[s, 0, o]
                parts[leaf, k] += g * d * statistics[s, 1, o]
                parts[leaf, size + k] += g


@kernel
def layer_norm_input_grad(
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
    """dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * gamma, means over each set."""
    size, count = gamma.shape[0], np.float32(gamma.shape[0])
    for n in range(lo, hi):
        r, q, p, s = n % x.shape[0], n % dy.shape[0], n % dx.shape[0], n % statistics.shape[0]
        clear_halo(dx, p, dx_at, dx_row, height, width)
        for o in range(statistics.shape[2]):
            mean, rstd = statistics[s, 0, o], statistics[s, 1, o]
            total, product = ZERO, ZERO
            for k in range(size):
                v = dy[q, dy_at + place(o * size + k, width, dy_row)] * gamma[k]
                total += v
                product += v * (x[r, x_at + place(o * size + k, width, x_row)] - mean)
            total = total / count
            product = product * rstd * rstd / count
            for k in range(size):
                v = dy[q, dy_at + place(o * size + k, width, dy_row)] * gamma[k]
                d = x[r, x_at + place(o * size + k, width, x_row)] - mean
                dx[p, dx_at + place(o * size + k, width, dx_row)] = rstd * (v - total - d * product)
