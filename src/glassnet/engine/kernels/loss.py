"""Softmax and the losses: small work on the scores of each sample, with the C library's exp and log."""

from __future__ import annotations

import math

import numpy as np

from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.machine.kernel import f32, i64, inline, kernel

ONE, TWO = np.float32(1), np.float32(2)
SMALLEST_PROBABILITY = np.float32(1e-30)


@inline
def exp32(x):
    """e**x in float32."""
    return np.float32(math.exp(x))


@inline
def log32(x):
    """Natural logarithm in float32."""
    return np.float32(math.log(x))


@inline
def softmax_row(z, r, at, p, q, to, count):
    """p[q, to:] = softmax of z[r, at:]; returns the largest score, and the logarithm of the denominator."""
    top = z[r, at]
    for k in range(1, count):
        if z[r, at + k] > top or z[r, at + k] != z[r, at + k]:
            top = z[r, at + k]
    total = ZERO
    for k in range(count):
        e = exp32(z[r, at + k] - top)
        p[q, to + k] = e
        total += e
    for k in range(count):
        p[q, to + k] /= total
    return top, log32(total)


@kernel
def softmax(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    y: f32[2],
    y_at: i64,
    y_row: i64,
    height: i64,
    width: i64,
    count: i64,
    lo: i64,
    hi: i64,
) -> None:
    """y = softmax of the `count` channels of each pixel."""
    for n in range(lo, hi):
        r, q = n % x.shape[0], n % y.shape[0]
        clear_halo(y, q, y_at, y_row, height, width * count)
        for h in range(height):
            for w in range(width):
                softmax_row(x, r, x_at + h * x_row + w * count, y, q, y_at + h * y_row + w * count, count)


@kernel
def softmax_grad(
    dy: f32[2],
    dy_at: i64,
    dy_row: i64,
    y: f32[2],
    y_at: i64,
    y_row: i64,
    dx: f32[2],
    dx_at: i64,
    dx_row: i64,
    height: i64,
    width: i64,
    count: i64,
    lo: i64,
    hi: i64,
) -> None:
    """dx = y * (dy - sum(dy * y)), for the `count` channels of each pixel."""
    for n in range(lo, hi):
        r, q, p = n % y.shape[0], n % dy.shape[0], n % dx.shape[0]
        clear_halo(dx, p, dx_at, dx_row, height, width * count)
        for h in range(height):
            for w in range(width):
                at, a, to = dy_row * h + w * count, y_row * h + w * count, dx_row * h + w * count
                total = ZERO
                for k in range(count):
                    total += dy[q, dy_at + at + k] * y[r, y_at + a + k]
                for k in range(count):
                    dx[p, dx_at + to + k] = y[r, y_at + a + k] * (dy[q, dy_at + at + k] - total)


@kernel
def cross_entropy(
    z: f32[2],
    z_at: i64,
    z_row: i64,
    target: f32[2],
    share: f32[1],
    losses: f32[1],
    dz: f32[2],
    lo: i64,
    hi: i64,
) -> None:
    """losses[n] = share * -sum t log softmax(z); dz = share * (softmax(z) * sum(t) - t), in one go."""
    count = target.shape[1]
    for n in range(lo, hi):
        r, q = n % z.shape[0], n % dz.shape[0]
        top, normaliser = softmax_row(z, r, z_at, dz, q, 0, count)
        mass, total = ZERO, ZERO
        for k in range(count):
            mass += target[n, k]
            total += target[n, k] * (top - z[r, z_at + k])
        losses[n] = share[n] * (total + mass * normaliser)
        for k in range(count):
            dz[q, k] = share[n] * (dz[q, k] * mass - target[n, k])


@kernel
def probability_cross_entropy(
    p: f32[2],
    p_at: i64,
    p_row: i64,
    target: f32[2],
    share: f32[1],
    losses: f32[1],
    dp: f32[2],
    lo: i64,
    hi: i64,
) -> None:
    """losses[n] = share * -sum t log p; dp = -share * t / p; p held at 1e-30 or more."""
    for n in range(lo, hi):
        total = ZERO
        for k in range(target.shape[1]):
            value = p[n % p.shape[0], p_at + k]
            if value < SMALLEST_PROBABILITY:
                value = SMALLEST_PROBABILITY
            total -= target[n, k] * log32(value)
            dp[n % dp.shape[0], k] = -share[n] * target[n, k] / value
        losses[n] = share[n] * total


@kernel
def binary_cross_entropy(
    z: f32[2],
    z_at: i64,
    z_row: i64,
    target: f32[2],
    share: f32[1],
    losses: f32[1],
    dz: f32[2],
    lo: i64,
    hi: i64,
) -> None:
    """losses[n] = share * mean of max(z, 0) - z*t + log(1 + exp(-|z|)); dz = share * (sigmoid(z) - t) / K."""
    count = np.float32(target.shape[1])
    for n in range(lo, hi):
        total = ZERO
        for k in range(target.shape[1]):
            v, t = z[n % z.shape[0], z_at + k], target[n, k]
            e = exp32(-abs(v))
            positive = ZERO if v < ZERO else v
            total += positive - v * t + np.float32(math.log1p(e))
            sigmoid = (e if v < ZERO else ONE) / (ONE + e)
            dz[n % dz.shape[0], k] = share[n] * (sigmoid - t) / count
        losses[n] = share[n] * total / count


@kernel
def mean_squared_error(
    y: f32[2],
    y_at: i64,
    y_row: i64,
    target: f32[2],
    share: f32[1],
    losses: f32[1],
    dy: f32[2],
    lo: i64,
    hi: i64,
) -> None:
    """losses[n] = share * mean of (y - t)^2; dy = share * 2 * (y - t) / K."""
    count = np.float32(target.shape[1])
    for n in range(lo, hi):
        total = ZERO
        for k in range(target.shape[1]):
            d = y[n % y.shape[0], y_at + k] - target[n, k]
            total += d * d
            dy[n % dy.shape[0], k] = share[n] * TWO * d / count
        losses[n] = share[n] * total / count
