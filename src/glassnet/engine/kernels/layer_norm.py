"""Layer normalisation over the last values of each sample, taken in the order of memory.

A set of len(gamma) values is `down` runs of neighbours, in as many image rows; `across` sets share a row.
"""

from __future__ import annotations

import math

import numpy as np

from glassnet.engine.kernels.group_norm import ONE
from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.machine.kernel import f32, i64, inline, kernel


@inline
def corner(o, down, across, row, run):
    """Where set o begins behind the first value of an image."""
    return (o // across) * down * row + (o % across) * run


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
    run = min(gamma.shape[0], width)
    down, across, count = gamma.shape[0] // run, width // run, np.float32(gamma.shape[0])
    for n in range(lo, hi):
        r, q, s = n % x.shape[0], n % y.shape[0], n % statistics.shape[0]
        clear_halo(y, q, y_at, y_row, height, width)
        for o in range(statistics.shape[2]):
            start = x_at + corner(o, down, across, x_row, run)
            to = y_at + corner(o, down, across, y_row, run)
            total, squares = ZERO, ZERO
            for h in range(down):
                for k in range(run):
                    total += x[r, start + h * x_row + k]
            mean = total / count
            for h in range(down):
                for k in range(run):
                    d = x[r, start + h * x_row + k] - mean
                    squares += d * d
            rstd = ONE / np.float32(math.sqrt(squares / count + eps))
            statistics[s, 0, o] = mean
            statistics[s, 1, o] = rstd
            for h in range(down):
                for k in range(run):
                    d = x[r, start + h * x_row + k] - mean
                    y[q, to + h * y_row + k] = d * rstd * gamma[h * run + k] + beta[h * run + k]


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
    run = min(size, width)
    down, across = size // run, width // run
    if first:
        for i in range(2 * size):
            parts[leaf, i] = ZERO
    for n in range(lo, hi):
        r, q, s = n % x.shape[0], n % dy.shape[0], n % statistics.shape[0]
        for o in range(statistics.shape[2]):
            start = x_at + corner(o, down, across, x_row, run)
            at = dy_at + corner(o, down, across, dy_row, run)
            mean, rstd = statistics[s, 0, o], statistics[s, 1, o]
            for h in range(down):
                for k in range(run):
                    g = dy[q, at + h * dy_row + k]
                    d = x[r, start + h * x_row + k] - mean
                    parts[leaf, h * run + k] += g * d * rstd
                    parts[leaf, size + h * run + k] += g


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
    run = min(gamma.shape[0], width)
    down, across, count = gamma.shape[0] // run, width // run, np.float32(gamma.shape[0])
    for n in range(lo, hi):
        r, q, p, s = n % x.shape[0], n % dy.shape[0], n % dx.shape[0], n % statistics.shape[0]
        clear_halo(dx, p, dx_at, dx_row, height, width)
        for o in range(statistics.shape[2]):
            start = x_at + corner(o, down, across, x_row, run)
            at = dy_at + corner(o, down, across, dy_row, run)
            to = dx_at + corner(o, down, across, dx_row, run)
            mean, rstd = statistics[s, 0, o], statistics[s, 1, o]
            total, product = ZERO, ZERO
            for h in range(down):
                for k in range(run):
                    v = dy[q, at + h * dy_row + k] * gamma[h * run + k]
                    total += v
                    product += v * (x[r, start + h * x_row + k] - mean)
            total = total / count
            product = product * rstd * rstd / count
            for h in range(down):
                for k in range(run):
                    v = dy[q, at + h * dy_row + k] * gamma[h * run + k]
                    d = x[r, start + h * x_row + k] - mean
                    dx[p, to + h * dx_row + k] = rstd * (v - total - d * product)
