"""Pooling: windows over rows of pixels, all channels of a pixel at once.

Max pooling is compiled for its number of channels, the common 2x2 by itself: see `pool_pixel`.
"""

from __future__ import annotations

import functools

import numpy as np

from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.kernels.pool_pixel import pool_pixel, pool_window, unpool_pixel, unpool_window
from glassnet.engine.machine.kernel import Kernel, f32, i64, kernel, u16


@functools.cache
def max_pool_2x2(channels: int, lanes: int) -> Kernel:
    """The common case: windows of 2x2 side by side, no padding."""
    pixel = pool_pixel(channels, lanes)

    @kernel
    def max_pool_2x2(
        x: f32[2],
        x_at: i64,
        x_row: i64,
        y: f32[2],
        y_at: i64,
        y_row: i64,
        index: u16[2],
        height: i64,
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        for n in range(lo, hi):
            q = n % y.shape[0]
            clear_halo(y, q, y_at, y_row, height, width * channels)
            from_ = (n % x.shape[0]) * x.shape[1] + x_at
            to, mark = q * y.shape[1] + y_at, (n % index.shape[0]) * index.shape[1]
            for i in range(height):
                for j in range(width):
                    a = from_ + 2 * i * x_row + 2 * j * channels
                    here = i * width + j
                    pixel(x, a, a + x_row, y, to + i * y_row + j * channels, index, mark + here * channels)

    return max_pool_2x2


@functools.cache
def max_pool(channels: int, lanes: int) -> Kernel:
    """Any window."""
    pixel = pool_window(channels, lanes)

    @kernel
    def max_pool(
        x: f32[2],
        x_at: i64,
        x_row: i64,
        y: f32[2],
        y_at: i64,
        y_row: i64,
        index: u16[2],
        windows: i64[3],
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        """windows (H', W', 5): the rows from, to and columns from, to inside the image, and the position
        u*kw + v of the first of them; `width` is kw.
        """
        height, columns = windows.shape[0], windows.shape[1]
        for n in range(lo, hi):
            q = n % y.shape[0]
            clear_halo(y, q, y_at, y_row, height, columns * channels)
            from_ = (n % x.shape[0]) * x.shape[1] + x_at
            to, mark = q * y.shape[1] + y_at, (n % index.shape[0]) * index.shape[1]
            for i in range(height):
                for j in range(columns):
                    top, left = windows[i, j, 0], windows[i, j, 2]
                    window = (windows[i, j, 1] - top, windows[i, j, 3] - left, windows[i, j, 4], width)
                    at, here = from_ + top * x_row + left * channels, (i * columns + j) * channels
                    pixel(x, at, x_row, window, y, to + i * y_row + j * channels, index, mark + here)

    return max_pool


@functools.cache
def max_pool_2x2_grad(channels: int, lanes: int) -> Kernel:
    """dx of `max_pool_2x2` for an image of `rows` x `columns`; an odd last row or column gets 0."""
    pixel = unpool_pixel(channels, lanes)

    @kernel
    def max_pool_2x2_grad(
        dy: f32[2],
        dy_at: i64,
        dy_row: i64,
        index: u16[2],
        dx: f32[2],
        dx_at: i64,
        dx_row: i64,
        height: i64,
        width: i64,
        rows: i64,
        columns: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        for n in range(lo, hi):
            r = n % dx.shape[0]
            clear_halo(dx, r, dx_at, dx_row, rows, columns * channels)
            from_ = (n % dy.shape[0]) * dy.shape[1] + dy_at
            to, mark = r * dx.shape[1] + dx_at, (n % index.shape[0]) * index.shape[1]
            for i in range(height):
                for j in range(width):
                    a = to + 2 * i * dx_row + 2 * j * channels
                    here = i * width + j
                    pixel(
                        dy,
                        from_ + i * dy_row + j * channels,
                        index,
                        mark + here * channels,
                        dx,
                        a,
                        a + dx_row,
                    )
                for k in range(2 * width * channels, columns * channels):
                    dx[r, dx_at + 2 * i * dx_row + k] = ZERO
                    dx[r, dx_at + (2 * i + 1) * dx_row + k] = ZERO
            for i in range(2 * height, rows):
                for k in range(columns * channels):
                    dx[r, dx_at + i * dx_row + k] = ZERO

    return max_pool_2x2_grad


@functools.cache
def max_pool_grad(channels: int, lanes: int) -> Kernel:
    """dx of `max_pool`: each dy to the input that index names, summed where windows overlap."""
    pixel = unpool_window(channels, lanes)

    @kernel
    def max_pool_grad(
        dy: f32[2],
        dy_at: i64,
        dy_row: i64,
        index: u16[2],
        dx: f32[2],
        dx_at: i64,
        dx_row: i64,
        windows: i64[3],
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        for n in range(lo, hi):
            r = n % dx.shape[0]
            for i in range(dx.shape[1]):
                dx[r, i] = ZERO
            from_ = (n % dy.shape[0]) * dy.shape[1] + dy_at
            to, mark = r * dx.shape[1] + dx_at, (n % index.shape[0]) * index.shape[1]
            for i in range(windows.shape[0]):
                for j in range(windows.shape[1]):
                    top, left = windows[i, j, 0], windows[i, j, 2]
                    window = (windows[i, j, 1] - top, windows[i, j, 3] - left, windows[i, j, 4], width)
                    at, here = from_ + i * dy_row + j * channels, (i * windows.shape[1] + j) * channels
                    pixel(dy, at, index, mark + here, dx, to + top * dx_row + left * channels, dx_row, window)

    return max_pool_grad


@kernel
def avg_pool(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    y: f32[2],
    y_at: i64,
    y_row: i64,
    windows: i64[3],
    counts: f32[2],
    channels: i64,
    lo: i64,
    hi: i64,
) -> None:
    """y = the sum of each window / counts."""
    height, width = windows.shape[0], windows.shape[1]
    for n in range(lo, hi):
        r, q = n % x.shape[0], n % y.shape[0]
        clear_halo(y, q, y_at, y_row, height, width * channels)
        for i in range(height):
            for j in range(width):
                to = y_at + i * y_row + j * channels
                for c in range(channels):
                    y[q, to + c] = ZERO
                for u in range(windows[i, j, 0], windows[i, j, 1]):
                    for v in range(windows[i, j, 2], windows[i, j, 3]):
                        start = x_at + u * x_row + v * channels
                        for c in range(channels):
                            y[q, to + c] += x[r, start + c]
                for c in range(channels):
                    y[q, to + c] /= counts[i, j]


@kernel
def avg_pool_grad(
    dy: f32[2],
    dy_at: i64,
    dy_row: i64,
    dx: f32[2],
    dx_at: i64,
    dx_row: i64,
    windows: i64[3],
    counts: f32[2],
    channels: i64,
    lo: i64,
    hi: i64,
) -> None:
    """dx of `avg_pool`: dy / counts to every input of the window."""
    for n in range(lo, hi):
        r, q = n % dx.shape[0], n % dy.shape[0]
        for i in range(dx.shape[1]):
            dx[r, i] = ZERO
        for i in range(windows.shape[0]):
            for j in range(windows.shape[1]):
                start = dy_at + i * dy_row + j * channels
                share = np.float32(1) / counts[i, j]
                for u in range(windows[i, j, 0], windows[i, j, 1]):
                    for v in range(windows[i, j, 2], windows[i, j, 3]):
                        to = dx_at + u * dx_row + v * channels
                        for c in range(channels):
                            dx[r, to + c] += dy[q, start + c] * share


@kernel
def global_avg_pool(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    y: f32[2],
    y_at: i64,
    y_row: i64,
    height: i64,
    width: i64,
    channels: i64,
    lo: i64,
    hi: i64,
) -> None:
    """y[n, c] = mean over the image of x[n, :, :, c]."""
    share = np.float32(1) / np.float32(height * width)
    for n in range(lo, hi):
        r, q = n % x.shape[0], n % y.shape[0]
        for c in range(channels):
            y[q, y_at + c] = ZERO
        for h in range(height):
            for w in range(width):
                start = x_at + h * x_row + w * channels
                for c in range(channels):
                    y[q, y_at + c] += x[r, start + c]
        for c in range(channels):
            y[q, y_at + c] *= share


@kernel
def global_avg_pool_grad(
    dy: f32[2],
    dy_at: i64,
    dy_row: i64,
    dx: f32[2],
    dx_at: i64,
    dx_row: i64,
    height: i64,
    width: i64,
    channels: i64,
    lo: i64,
    hi: i64,
) -> None:
    """dx[n, h, w, c] = dy[n, c] / (height * width)."""
    share = np.float32(1) / np.float32(height * width)
    for n in range(lo, hi):
        r, q = n % dx.shape[0], n % dy.shape[0]
        clear_halo(dx, r, dx_at, dx_row, height, width * channels)
        for h in range(height):
            for w in range(width):
                to = dx_at + h * dx_row + w * channels
                for c in range(channels):
                    dx[r, to + c] = dy[q, dy_at + c] * share
