"""The two programs of deep-ml 130 as nested loops in float64, for tests and for benchmarks/loops.py."""

from __future__ import annotations

import numpy as np

import naive


def official_by_loops(random, x, y, epochs, lr, kernel_size, filters):
    """The official program in nested loops: an update after each image, in order."""
    w = 0.01 * random.randn(kernel_size, kernel_size, filters)[:, :, None]
    x = x[..., None]
    side = x.shape[1] - kernel_size + 1, x.shape[2] - kernel_size + 1
    v, b = 0.01 * random.randn(side[0] * side[1] * filters, y.shape[1]), np.zeros(filters)
    c = np.zeros(y.shape[1])
    for n in list(range(len(x))) * epochs:
        image, z = x[n : n + 1], naive.conv2d(x[n : n + 1], w, b)
        flat = np.maximum(z, 0).reshape(1, -1)
        dscores = naive.softmax(naive.linear(flat, v, c)) - y[n]
        dflat, dv, dc = naive.linear_grad(dscores, flat, v)
        dz = dflat.reshape(z.shape) * (z > 0)
        w, b = w - lr * naive.conv2d_weight_grad(dz, image, w.shape), b - lr * naive.bias_grad(dz)
        v, c = v - lr * dv, c - lr * dc
    return w[:, :, 0], b, v, c


def write_up_by_loops(random, x, y, epochs, lr):
    """The write-up's program in nested loops: p = relu(x * w + b) v + c, dp = 2 (p - y) / (N K)."""
    w = 0.1 * random.randn(1, x.shape[1], 3, 3).transpose(2, 3, 1, 0)
    x = x.transpose(0, 2, 3, 1)
    v = 0.1 * random.randn((x.shape[1] - 2) * (x.shape[2] - 2), y.shape[1])
    b, c = np.zeros(1), np.zeros(y.shape[1])
    for _ in range(epochs):
        z = naive.conv2d(x, w, b)
        flat = np.maximum(z, 0).reshape(len(x), -1)
        loss, dscores = naive.mean_squared_error(naive.linear(flat, v, c), y)
        dflat, dv, dc = naive.linear_grad(dscores, flat, v)
        dz = dflat.reshape(z.shape) * (z > 0)
        w, b = w - lr * naive.conv2d_weight_grad(dz, x, w.shape), b - lr * naive.bias_grad(dz)
        v, c = v - lr * dv, c - lr * dc
    return w.transpose(3, 2, 0, 1), b, v, c, loss
