"""What enters a step: images gathered and normalised."""

from __future__ import annotations

import functools

import numpy as np

from glassnet.engine.kernels.image import clear_halo
from glassnet.engine.kernels.scalar import times_plus
from glassnet.engine.machine.kernel import Kernel, f32, i64, kernel, u8


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
