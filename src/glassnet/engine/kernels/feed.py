"""What enters a step: images gathered and normalised, and dropout's random masks."""

from __future__ import annotations

import functools

import numpy as np

from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.kernels.scalar import times_plus
from glassnet.engine.machine.kernel import Kernel, f32, i64, inline, kernel, u8
from glassnet.ops.philox import MASK, MULTIPLIERS, ROUNDS, WEYL

M0, M1, W0, W1 = MULTIPLIERS[0], MULTIPLIERS[1], WEYL[0], WEYL[1]


@functools.cache
def gather_bytes(channels: int) -> Kernel:
    """y[n] = images[index[n]] * scale + shift, channel by channel: the bits of Preprocessing.apply."""

    @kernel
    def gather_bytes(
        images: u8[2],
        index: i64[1],
        scale: f32[1],
        shift: f32[1],
        y: f32[2],
        y_at: i64,
        y_row: i64,
        height: i64,
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        for n in range(lo, hi):
            q, sample = n % y.shape[0], index[n]
            clear_halo(y, q, y_at, y_row, height, width)
            for h in range(height):
                for pixel in range(width // channels):
                    i = pixel * channels
                    for c in range(channels):
                        value = np.float32(images[sample, h * width + i + c])
                        y[q, y_at + h * y_row + i + c] = times_plus((value, scale[c], shift[c]))

    return gather_bytes


@functools.cache
def gather_floats(channels: int) -> Kernel:
    """The same from float images."""

    @kernel
    def gather_floats(
        images: f32[2],
        index: i64[1],
        scale: f32[1],
        shift: f32[1],
        y: f32[2],
        y_at: i64,
        y_row: i64,
        height: i64,
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        for n in range(lo, hi):
            q, sample = n % y.shape[0], index[n]
            clear_halo(y, q, y_at, y_row, height, width)
            for h in range(height):
                for pixel in range(width // channels):
                    i = pixel * channels
                    for c in range(channels):
                        value = np.float32(images[sample, h * width + i + c])
                        y[q, y_at + h * y_row + i + c] = times_plus((value, scale[c], shift[c]))

    return gather_floats


@kernel
def add_bias(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    b: f32[1],
    y: f32[2],
    y_at: i64,
    y_row: i64,
    height: i64,
    width: i64,
    lo: i64,
    hi: i64,
) -> None:
    """y = x + b, channel by channel."""
    channels = b.shape[0]
    for n in range(lo, hi):
        r, q = n % x.shape[0], n % y.shape[0]
        clear_halo(y, q, y_at, y_row, height, width)
        for h in range(height):
            for pixel in range(width // channels):
                i = pixel * channels
                for c in range(channels):
                    y[q, y_at + h * y_row + i + c] = x[r, x_at + h * x_row + i + c] + b[c]


@inline
def philox_word(block, sample, step, key, seed, word):
    """Word `word` of Philox4x32-10 at counter (block, sample, step, key): see `ops.philox`."""
    c0, c1, c2, c3 = block & MASK, sample & MASK, step & MASK, key & MASK
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    for _ in range(ROUNDS):
        # Products of 32-bit words fill 64 bits; the upper word is taken without its sign.
        p0, p1 = M0 * c0, M1 * c2
        c0, c1 = ((p1 >> 32) & MASK) ^ c1 ^ k0, p1 & MASK
        c2, c3 = ((p0 >> 32) & MASK) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    if word == 0:
        return c0
    if word == 1:
        return c1
    return c2 if word == 2 else c3


@kernel
def dropout(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    y: f32[2],
    y_at: i64,
    y_row: i64,
    random: i64[1],
    key: i64,
    threshold: i64,
    scale: f32,
    channels: i64,
    height: i64,
    width: i64,
    lo: i64,
    hi: i64,
) -> None:
    """y = x * scale where its word is at least `threshold`, else 0. random: seed, step, first sample.

    With `channels` above 0 all pixels share the word of their channel.
    """
    for n in range(lo, hi):
        r, q = n % x.shape[0], n % y.shape[0]
        clear_halo(y, q, y_at, y_row, height, width)
        for h in range(height):
            for i in range(width):
                position = i % channels if channels > 0 else h * width + i
                word = philox_word(position >> 2, random[2] + n, random[1], key, random[0], position & 3)
                v = x[r, x_at + h * x_row + i] * scale if word >= threshold else ZERO
                y[q, y_at + h * y_row + i] = v
