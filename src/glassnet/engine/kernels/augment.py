"""Augmented images as network input: what `ops.augment` defines, to the bit, row by row of pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.kernels.scalar import times, times_plus
from glassnet.engine.machine.kernel import Kernel, f32, i64, inline, kernel, u8
from glassnet.ops.augment import (
    BITS,
    BLACK,
    BLUE,
    CONTRAST,
    CUT_BOTTOM,
    CUT_LEFT,
    CUT_RIGHT,
    CUT_TOP,
    GAIN,
    GREEN,
    HALF_STEP,
    MIX_BOTTOM,
    MIX_KEEP,
    MIX_LEFT,
    MIX_RIGHT,
    MIX_TOP,
    ONE,
    RED,
    SATURATION,
    STEP_BITS,
    STEPS,
    X_0,
    X_I,
    X_J,
    Y_0,
    Y_I,
    Y_J,
)

UNIT = np.float32(1)
STEP = np.float32(1 / STEPS)


@inline
def fixed(value):
    """A number of the map in units of 1 / ONE."""
    return np.int64(np.floor(np.float64(value) * ONE + 0.5))


@inline
def fraction(point):
    """How far a point is behind its pixel, from 0 to 1 in STEPS."""
    return np.float32(np.int32((point >> (BITS - STEP_BITS)) & (STEPS - 1))) * STEP  # a slow step of 64 bits


@inline
def reflected(place, size):
    """The pixel that is seen at `place` of an axis of `size` pixels with mirrors at its ends."""
    if place < 0:
        place = -place
    if place >= size:
        period = max(2 * (size - 1), 1)
        place %= period
        if place >= size:
            place = period - place
    return place


@inline
def crossing(at, slope, limit, first, last):
    """The part of first <= k < last with 0 <= at + slope * k < limit, as its first and last (exclusive)."""
    if slope == 0:
        return first, last if 0 <= at < limit else first
    if slope > 0:
        low, high = -(at // slope), -((at - limit) // slope)
    else:
        low, high = (limit - at) // slope + 1, at // -slope + 1
    low = min(max(low, first), last)
    return low, min(max(high, low), last)


@inline
def put_mixed(out, q, at, c, value, how):
    """keep * what is there + rest * value; how: keep, rest."""
    out[q, at + c] = times_plus((how[0], out[q, at + c], times((how[1], value))))


@inline
def put_input(out, q, at, c, value, how):
    """As network input; how: scale, shift, gain, contrast."""
    out[q, at + c] = times_plus((value, times((how[0][c], how[2])), times((how[1][c], how[3]))))


@functools.cache
def row_reader(channels: int, put: Callable[..., None]) -> Callable[..., None]:
    """A helper that reads pixels first to last (exclusive) of an output row out of an image, and `put`s them.

    It begins at point (y, x), each pixel (dy, dx) behind the one before.
    """

    @inline
    def interpolate(images, image, corners, weights, c):
        """Channel c of a point between four pixels."""
        value = times((np.float32(images[image, corners[0] + c]), weights[0]))
        value = times_plus((np.float32(images[image, corners[1] + c]), weights[1], value))
        value = times_plus((np.float32(images[image, corners[2] + c]), weights[2], value))
        return times_plus((np.float32(images[image, corners[3] + c]), weights[3], value))

    @inline
    def near_edge(images, image, height, width, black, y, x, out, q, at, how):
        """One pixel, from four of which some may be outside."""
        i, j, below, right = y >> BITS, x >> BITS, fraction(y), fraction(x)
        upper, left = UNIT - below, UNIT - right
        if black:
            upper, below = upper if 0 <= i < height else ZERO, below if 0 <= i + 1 < height else ZERO
            left, right = left if 0 <= j < width else ZERO, right if 0 <= j + 1 < width else ZERO
        top, bottom = reflected(i, height) * width, reflected(i + 1, height) * width
        first, second = reflected(j, width), reflected(j + 1, width)
        corners = (
            (top + first) * channels, (top + second) * channels,
            (bottom + first) * channels, (bottom + second) * channels,
        )  # fmt: skip
        weights = (upper * left, upper * right, below * left, below * right)
        for c in range(channels):
            put(out, q, at, c, interpolate(images, image, corners, weights, c), how)

    @inline
    def blank(out, q, at, first, last, how):
        """Pixels that show nothing of the image."""
        for j in range(first, last):
            for c in range(channels):
                put(out, q, at + j * channels, c, ZERO, how)

    @inline
    def read_row(images, image, height, width, black, y, dy, x, dx, out, q, at, first, last, how):
        row, start = width * channels, x >> BITS
        whole = dy == 0 and abs(dx) == ONE and fraction(y) == ZERO and fraction(x) == ZERO
        if whole and (not black or 0 <= y >> BITS < height):
            here = reflected(y >> BITS, height) * row + start * channels
            if dx > 0:
                low = min(max(first, -start), last)
                high = max(low, min(last, width - start))
                for j in range(low, high):
                    for c in range(channels):
                        value = np.float32(images[image, here + j * channels + c])
                        put(out, q, at + j * channels, c, value, how)
            else:
                low = min(max(first, start - width + 1), last)
                high = max(low, min(last, start + 1))
                for j in range(low, high):
                    for c in range(channels):
                        value = np.float32(images[image, here - j * channels + c])
                        put(out, q, at + j * channels, c, value, how)
        else:
            low, high = crossing(x, dx, (width - 1) * ONE, first, last)
            low, high = crossing(y, dy, (height - 1) * ONE, low, high)
            v, h = y + low * dy, x + low * dx
            for j in range(low, high):
                below, right = fraction(v), fraction(h)
                upper, left = UNIT - below, UNIT - right
                here = (v >> BITS) * row + (h >> BITS) * channels
                corners = here, here + channels, here + row, here + row + channels
                weights = upper * left, upper * right, below * left, below * right
                for c in range(channels):
                    value = interpolate(images, image, corners, weights, c)
                    put(out, q, at + j * channels, c, value, how)
                v, h = v + dy, h + dx
        left, right = first, last  # the part that shows anything of the image
        if black:
            left, right = crossing(x + ONE, dx, (width + 1) * ONE, first, last)
            left, right = crossing(y + ONE, dy, (height + 1) * ONE, left, right)
            low = min(max(low, left), right)
            high = min(max(high, low), right)
            blank(out, q, at, first, left, how)
            blank(out, q, at, right, last, how)
        for k in range(left, right - (high - low)):
            j = k if k < low else k + high - low
            to = at + j * channels
            near_edge(images, image, height, width, black, y + j * dy, x + j * dx, out, q, to, how)

    return read_row


@functools.cache
def sample_writer(channels: int) -> Callable[..., None]:
    """A helper that writes one augmented sample, its halo too."""
    read, mix = row_reader(channels, put_input), row_reader(channels, put_mixed)

    @inline
    def saturate_row(out, q, at, pixels, saturation):
        """Move the channels of raw colours away from their grey."""
        for i in range(at, at + 3 * pixels, 3):
            grey = times_plus((GREEN, out[q, i + 1], times((RED, out[q, i]))))
            grey = times_plus((BLUE, out[q, i + 2], grey))
            for c in range(3):
                out[q, i + c] = times_plus((saturation, out[q, i + c] - grey, grey))

    @inline
    def write(images, own, other, source_height, source_width, rows, n, scale, shift, y, q, y_at, y_row,
              height, width):  # fmt: skip
        pixels, source = width // channels, (source_height, source_width, rows[n, BLACK] != ZERO)
        y_i, y_j, y_0 = fixed(rows[n, Y_I]), fixed(rows[n, Y_J]), fixed(rows[n, Y_0]) + HALF_STEP
        x_i, x_j, x_0 = fixed(rows[n, X_I]), fixed(rows[n, X_J]), fixed(rows[n, X_0]) + HALF_STEP
        saturation, keep = rows[n, SATURATION], rows[n, MIX_KEEP]
        raw = rows[n, MIX_TOP] < rows[n, MIX_BOTTOM] or (channels == 3 and saturation != UNIT)
        to_input = scale, shift, rows[n, GAIN], rows[n, CONTRAST]
        clear_halo(y, q, y_at, y_row, height, width)
        for h in range(height):
            at, v, u = y_at + h * y_row, y_0 + h * y_i, x_0 + h * x_i
            if raw:
                for i in range(at, at + width):
                    y[q, i] = ZERO
                # One call for both images: LLVM inlines it, and knows then that arrays do not overlap.
                image, first, last, shares = own, np.int64(0), np.int64(pixels), (ZERO, UNIT)
                for _ in range(1 + (rows[n, MIX_TOP] <= h < rows[n, MIX_BOTTOM])):
                    mix(images, image, *source, v, y_j, u, x_j, y, q, at, first, last, shares)
                    image, first, last = other, np.int64(rows[n, MIX_LEFT]), np.int64(rows[n, MIX_RIGHT])
                    shares = keep, UNIT - keep
                if channels == 3 and saturation != UNIT:
                    saturate_row(y, q, at, pixels, saturation)
                for j in range(pixels):
                    for c in range(channels):
                        i = at + j * channels
                        put_input(y, q, i, c, y[q, i + c], to_input)
            else:
                read(images, own, *source, v, y_j, u, x_j, y, q, at, 0, pixels, to_input)
            if rows[n, CUT_TOP] <= h < rows[n, CUT_BOTTOM]:
                first, last = np.int64(rows[n, CUT_LEFT]), np.int64(rows[n, CUT_RIGHT])
                for i in range(at + first * channels, at + last * channels):
                    y[q, i] = ZERO

    return write


@functools.cache
def augment_bytes(channels: int) -> Kernel:
    """y[n] = images[index[n]] as rows[n] says, mixed with images[partner[n]]: see `ops.augment`."""
    write = sample_writer(channels)

    @kernel
    def augment_bytes(
        images: u8[2],
        source_height: i64,
        source_width: i64,
        index: i64[1],
        scale: f32[1],
        shift: f32[1],
        rows: f32[2],
        partner: i64[1],
        y: f32[2],
        y_at: i64,
        y_row: i64,
        height: i64,
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        for n in range(lo, hi):
            source, to = (source_height, source_width), (n % y.shape[0], y_at, y_row, height, width)
            write(images, index[n], partner[n], *source, rows, n, scale, shift, y, *to)

    return augment_bytes


@functools.cache
def augment_floats(channels: int) -> Kernel:
    """The same from float images."""
    write = sample_writer(channels)

    @kernel
    def augment_floats(
        images: f32[2],
        source_height: i64,
        source_width: i64,
        index: i64[1],
        scale: f32[1],
        shift: f32[1],
        rows: f32[2],
        partner: i64[1],
        y: f32[2],
        y_at: i64,
        y_row: i64,
        height: i64,
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        for n in range(lo, hi):
            source, to = (source_height, source_width), (n % y.shape[0], y_at, y_row, height, width)
            write(images, index[n], partner[n], *source, rows, n, scale, shift, y, *to)

    return augment_floats
