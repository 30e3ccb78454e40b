"""Depthwise convolution: every channel by itself, some neighbouring channels and pixels at a time.

With weights `shared` by all channels these kernels also compute a convolution of one channel to one, whose
image rows lie in memory as pixels of many channels would.
"""

from __future__ import annotations

import functools

from glassnet.engine.kernels.depthwise_pixel import depthwise_pixels, depthwise_sums
from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.machine.kernel import Kernel, f32, i64, kernel

SUMS = 16
"""Vectors of sums that are kept in registers."""


@functools.cache
def depthwise(channels: int, taps: int, lanes: int, shared: bool = False) -> Kernel:
    """y[i, j, c] = b[c] + sum over taps (offset in x, in w) of x * w, for blocks of at most four vectors."""
    block = min(channels, 4 * lanes)
    rest = channels % block
    pixels = SUMS // -(-block // lanes)
    several, single = (depthwise_pixels(block, taps, count, lanes, shared) for count in (pixels, 1))
    last = depthwise_pixels(rest or block, taps, 1, lanes, shared)

    @kernel
    def depthwise(
        x: f32[2],
        x_at: i64,
        x_row: i64,
        w: f32[1],
        bias: f32[1],
        y: f32[2],
        y_at: i64,
        y_row: i64,
        table: i64[2],
        sizes: i64[1],
        lo: i64,
        hi: i64,
    ) -> None:
        # sizes: output height and width, x from row to row and pixel to pixel, y likewise, whether to end in
        # max(y, 0), height and row width whose halo in y is to be cleared (0 for not), where to enter y.
        height, width, relu = sizes[0], sizes[1], sizes[6]
        for n in range(lo, hi):
            q = n % y.shape[0]
            if sizes[7] > 0:
                clear_halo(y, q, y_at, y_row, sizes[7], sizes[8])
            x_start, y_start = (n % x.shape[0]) * x.shape[1] + x_at, q * y.shape[1] + y_at + sizes[9]
            for i in range(height):
                c, own = 0, 0
                while c <= channels - block:
                    at, to, j = x_start + i * sizes[2] + c, y_start + i * sizes[4] + c, 0
                    while j <= width - pixels:
                        here, there = at + j * sizes[3], to + j * sizes[5]
                        several(table, x, here, sizes[3], w, own, bias, own, y, there, sizes[5], relu)
                        j += pixels
                    while j < width:
                        here, there = at + j * sizes[3], to + j * sizes[5]
                        single(table, x, here, sizes[3], w, own, bias, own, y, there, sizes[5], relu)
                        j += 1
                    c += block
                    own = 0 if shared else c
                if rest > 0:
                    at, to = x_start + i * sizes[2] + c, y_start + i * sizes[4] + c
                    for j in range(width):
                        here, there = at + j * sizes[3], to + j * sizes[5]
                        last(table, x, here, sizes[3], w, own, bias, own, y, there, sizes[5], relu)

    return depthwise


@functools.cache
def depthwise_weight_grad(channels: int, taps: int, lanes: int, shared: bool = False) -> Kernel:
    """dw[leaf, tap, c] += sum over pixels of x * dy, a block of channels that fits in registers at a time."""
    block = min(channels, max(1, SUMS // taps) * lanes)
    rest = channels % block
    row, last = (depthwise_sums(size, taps, lanes, shared) for size in (block, rest or block))

    @kernel
    def depthwise_weight_grad(
        x: f32[2],
        x_at: i64,
        x_row: i64,
        dy: f32[2],
        dy_at: i64,
        dy_row: i64,
        dw: f32[2],
        table: i64[2],
        sizes: i64[1],
        lo: i64,
        hi: i64,
        leaf: i64,
        first: i64,
    ) -> None:
        # sizes: height and width of dy, x from row of dy to row and pixel to pixel, dy likewise.
        if first:
            for i in range(dw.shape[1]):
                dw[leaf, i] = ZERO
        start = leaf * dw.shape[1]
        for n in range(lo, hi):
            x_start, dy_start = (n % x.shape[0]) * x.shape[1] + x_at, (n % dy.shape[0]) * dy.shape[1] + dy_at
            for i in range(sizes[0]):
                at, from_ = x_start + i * sizes[2], dy_start + i * sizes[4]
                c, into = 0, start
                while c <= channels - block:
                    row(table, x, at + c, sizes[3], dy, from_ + c, sizes[5], sizes[1], dw, into)
                    c += block
                    into = start if shared else start + c
                if rest > 0:
                    last(table, x, at + c, sizes[3], dy, from_ + c, sizes[5], sizes[1], dw, into)

    return depthwise_weight_grad
