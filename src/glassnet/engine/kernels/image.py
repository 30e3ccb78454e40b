"""How kernels see images: rows of a buffer, one a sample, that may have a halo of zeros around each image.

An operand is three arguments: x (rows, values), x_at the offset of its first pixel, x_row the distance of its
image rows. Sample n is in row n % len(x). A vector (N, F) is an image of one row. Whoever writes a buffer
writes its halo too, with `clear_halo`, so that memory can be used again.
"""

from __future__ import annotations

import numpy as np

from glassnet.engine.machine.kernel import f32, i64, inline, kernel

ZERO = np.float32(0)


@inline
def clear_halo(y, r, y_at, y_row, height, width):
    """Zeros around the `height` rows of `width` values of sample r."""
    if y.shape[1] != height * width:
        for i in range(y_at):
            y[r, i] = ZERO
        for h in range(height - 1):
            for i in range(y_at + h * y_row + width, y_at + (h + 1) * y_row):
                y[r, i] = ZERO
        for i in range(y_at + (height - 1) * y_row + width, y.shape[1]):
            y[r, i] = ZERO


@inline
def place(k, width, row):
    """Where value k of an image lies behind its first pixel, its rows being `width` values, `row` apart."""
    return (k // width) * row + k % width


@kernel
def copy_image(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    y: f32[2],
    y_at: i64,
    y_row: i64,
    height: i64,
    width: i64,
    lo: i64,
    hi: i64,
) -> None:
    """y = x, `height` rows of `width` values."""
    for n in range(lo, hi):
        r, q = n % x.shape[0], n % y.shape[0]
        clear_halo(y, q, y_at, y_row, height, width)
        for h in range(height):
            for i in range(width):
                y[q, y_at + h * y_row + i] = x[r, x_at + h * x_row + i]


@kernel
def copy_values(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    x_width: i64,
    y: f32[2],
    y_at: i64,
    y_row: i64,
    height: i64,
    width: i64,
    lo: i64,
    hi: i64,
) -> None:
    """y = x value by value, from rows of `x_width` values to `height` rows of `width`."""
    for n in range(lo, hi):
        r, q = n % x.shape[0], n % y.shape[0]
        clear_halo(y, q, y_at, y_row, height, width)
        for h in range(height):
            for i in range(width):
                y[q, y_at + h * y_row + i] = x[r, x_at + place(h * width + i, x_width, x_row)]


@kernel
def copy_channels(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    x_pixel: i64,
    y: f32[2],
    y_at: i64,
    y_row: i64,
    y_pixel: i64,
    height: i64,
    width: i64,
    channels: i64,
    clear: i64,
    lo: i64,
    hi: i64,
) -> None:
    """Some channels of every pixel, between pixels of different size: the two directions of concat and split.

    `clear` zeros the whole of y first, for its halo.
    """
    for n in range(lo, hi):
        r, q = n % x.shape[0], n % y.shape[0]
        if clear:
            for i in range(y.shape[1]):
                y[q, i] = ZERO
        for h in range(height):
            for w in range(width):
                for c in range(channels):
                    y[q, y_at + h * y_row + w * y_pixel + c] = x[r, x_at + h * x_row + w * x_pixel + c]


@kernel
def clear_image(y: f32[2], y_at: i64, y_row: i64, lo: i64, hi: i64) -> None:
    """y = 0, halo and all."""
    for n in range(lo, hi):
        q = n % y.shape[0]
        for i in range(y.shape[1]):
            y[q, i] = ZERO


@kernel
def add_images(
    a: f32[2],
    a_at: i64,
    a_row: i64,
    b: f32[2],
    b_at: i64,
    b_row: i64,
    y: f32[2],
    y_at: i64,
    y_row: i64,
    height: i64,
    width: i64,
    relu: i64,
    lo: i64,
    hi: i64,
) -> None:
    """y = a + b, or max(a + b, 0) which keeps a NaN."""
    for n in range(lo, hi):
        r, s, q = n % a.shape[0], n % b.shape[0], n % y.shape[0]
        clear_halo(y, q, y_at, y_row, height, width)
        for h in range(height):
            for i in range(width):
                v = a[r, a_at + h * a_row + i] + b[s, b_at + h * b_row + i]
                if relu and v < ZERO:
                    v = ZERO
                y[q, y_at + h * y_row + i] = v
