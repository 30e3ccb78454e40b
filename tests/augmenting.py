"""Augmentation pixel by pixel in plain Python, and settings for property tests."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from glassnet.data.augment import Augment
from glassnet.ops import augment as columns

POSITIVE = st.floats(0.25, 1)
MAYBE = st.sampled_from([0.0, 0.5, 1.0])


def ranges(low, high):
    """Two numbers in order."""
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(sorted)


AUGMENTS = st.builds(
    Augment,
    horizontal_flip=MAYBE,
    vertical_flip=MAYBE,
    shift=st.integers(0, 12),
    crop=ranges(0.3, 1),
    crop_probability=MAYBE,
    aspect=ranges(0.5, 2),
    rotation=ranges(0, 180),
    rotation_probability=MAYBE,
    expand=st.booleans(),
    zoom=ranges(0.5, 2),
    shear=st.sampled_from([0.0, 20.0]),
    fill=st.sampled_from(["reflect", "black"]),
    brightness=MAYBE,
    contrast=MAYBE,
    saturation=MAYBE,
    cutout=st.integers(0, 6),
    cutout_probability=MAYBE,
    mixup=st.sampled_from([0.0, 0.2, 1.0]),
    cutmix=st.sampled_from([0.0, 1.0]),
    mix_probability=MAYBE,
)


def pictures(generator, n, size, channels, dtype=np.uint8):
    """Random images (n, *size, channels), bytes or floats from 0 to 1."""
    values = generator.integers(0, 256, (n, *size, channels))
    return values.astype(np.uint8) if dtype == np.uint8 else (values / 255).astype(dtype)


def scale_shift(channels):
    """Some scale and shift of bytes."""
    return np.linspace(0.01, 0.02, channels, dtype=np.float32), np.linspace(
        -2, -1, channels, dtype=np.float32
    )


def mirrored(place, size):
    """Walk `place` steps from pixel 0 of an axis, turning round at both ends."""
    at, direction = 0, 1 if place > 0 else -1
    for _ in range(abs(place)):
        if size == 1:
            return 0
        if not 0 <= at + direction < size:
            direction = -direction
        at += direction
    return at


def naive_value(image, row, y, x, c):
    """The weighted sum of the four pixels around a point in 1 / 256 of pixels, in Python's numbers."""
    height, width, _ = image.shape
    total = 0.0
    for i, wy in ((y // 256, 256 - y % 256), (y // 256 + 1, y % 256)):
        for j, wx in ((x // 256, 256 - x % 256), (x // 256 + 1, x % 256)):
            if row[columns.BLACK] and not (0 <= i < height and 0 <= j < width):
                continue
            total += float(image[mirrored(i, height), mirrored(j, width), c]) * wy * wx / 65536
    return total


def naive(image, row, partner, scale, shift, size):
    """(*size, C) float64: what `ops.augment` says, one value after another."""
    result = np.zeros((*size, image.shape[2]))
    a = [math.floor(float(v) * 65536 + 0.5) for v in row[:6]]
    for i in range(size[0]):
        for j in range(size[1]):
            y = (a[0] * i + a[1] * j + a[2] + 128) // 256
            x = (a[3] * i + a[4] * j + a[5] + 128) // 256
            values = [naive_value(image, row, y, x, c) for c in range(image.shape[2])]
            if row[14] <= i < row[16] and row[15] <= j < row[17]:
                keep = float(row[18])
                values = [
                    keep * v + (1 - keep) * naive_value(partner, row, y, x, c) for c, v in enumerate(values)
                ]
            if len(values) == 3:
                grey = 0.299 * values[0] + 0.587 * values[1] + 0.114 * values[2]
                values = [grey + float(row[9]) * (v - grey) for v in values]
            for c, v in enumerate(values):
                result[i, j, c] = v * float(scale[c]) * float(row[7]) + float(shift[c]) * float(row[8])
            if row[10] <= i < row[12] and row[11] <= j < row[13]:
                result[i, j] = 0
    return result
