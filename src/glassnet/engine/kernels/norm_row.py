"""A row of pixels in batch and group normalisation, as vectors of channels in LLVM IR, with NumPy twins.

A loop over 16 channels is too short to LLVM, which takes them one by one; a sum in memory waits for stores.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from glassnet.engine.kernels.vectors import F32, I64, Vectors, repeat
from glassnet.engine.machine.kernel import intrinsic


class Row(Vectors):
    """`lanes` channels, from channel `first` on, of `width` neighbouring pixels of `channels`."""

    def __init__(
        self, builder: ir.IRBuilder, lanes: int, first: ir.Value, channels: ir.Value, width: ir.Value
    ) -> None:
        super().__init__(builder, lanes, lanes)
        self.first, self.stride, self.width = first, channels, width

    def place(self, at: ir.Value, w: ir.Value) -> ir.Value:
        """Where these channels of row w lie, of rows of `channels` values that begin at `at`."""
        return self.builder.add(self.builder.add(at, self.first), self.builder.mul(w, self.stride))

    def take(self, base: ir.Value, at: ir.Value, w: ir.Value) -> ir.Value:
        """These channels of row w, of rows that begin `at` elements behind `base`."""
        return self.load(F32, base, self.place(at, w), 0)

    def put(self, value: ir.Value, base: ir.Value, at: ir.Value, w: ir.Value) -> None:
        """Store where `take` would take from."""
        self.store(F32, value, base, self.place(at, w), 0)

    def add(
        self, terms: Callable[[ir.Value], list[ir.Value]], count: int, sums: ir.Value, to: ir.Value
    ) -> None:
        """Row k of sums, which begin at `to`, += the sum over pixels w of the k-th of `count` terms(w)."""

        def pixel(w: ir.Value, totals: list[ir.Value]) -> list[ir.Value]:
            return [self.builder.fadd(*pair) for pair in zip(totals, terms(w), strict=True)]

        totals = repeat(self.builder, self.width, [self.constant(F32, 0.0)] * count, pixel)
        for k, total in enumerate(totals):
            self.put(self.builder.fadd(self.take(sums, to, I64(k)), total), sums, to, I64(k))

    def each(self, do: Callable[[ir.Value], None]) -> None:
        """do(w) for all pixels w."""

        def pixel(w: ir.Value, nothing: list[ir.Value]) -> list[ir.Value]:
            do(w)
            return nothing

        repeat(self.builder, self.width, [], pixel)


def all_channels(
    builder: ir.IRBuilder, widest: int, channels: ir.Value, width: ir.Value, do: Callable[[Row], None]
) -> None:
    """do(row) for as many rows of two whole vectors as there are, then of one, then of one channel."""
    first: ir.Value = I64(0)
    for lanes in (2 * widest, widest, 1):

        def vectors(
            i: ir.Value, nothing: list[ir.Value], lanes: int = lanes, first: ir.Value = first
        ) -> list[ir.Value]:
            do(Row(builder, lanes, builder.add(first, builder.mul(i, I64(lanes))), channels, width))
            return nothing

        count = builder.sdiv(builder.sub(channels, first), I64(lanes))
        repeat(builder, count, [], vectors)
        first = builder.add(first, builder.mul(count, I64(lanes)))


@functools.cache
def add_row(widest: int) -> Callable[..., None]:
    """The helper (x, at, channels, width, sums, to): sums[to + c] += sum over pixels w of x[w, c]."""

    def lower(builder: ir.IRBuilder, *values: Any) -> None:
        x, at, channels, width, sums, to = values

        def do(row: Row) -> None:
            row.add(lambda w: [row.take(x, at, w)], 1, sums, to)

        all_channels(builder, widest, channels, width, do)

    @intrinsic(lower)
    def run(x, at, channels, width, sums, to) -> None:
        rows(sums, to, 1, channels)[0] += rows(x, at, width, channels).sum(axis=0)

    return run


@functools.cache
def add_squares(widest: int) -> Callable[..., None]:
    """The helper (x, at, channels, width, mean, from_, sums, to).

    sums[to + c] += sum over pixels w of (x[w, c] - mean[from_ + c])^2.
    """

    def lower(builder: ir.IRBuilder, *values: Any) -> None:
        x, at, channels, width, mean, from_, sums, to = values

        def do(row: Row) -> None:
            middle = row.take(mean, from_, I64(0))

            def square(w: ir.Value) -> list[ir.Value]:
                distance = builder.fsub(row.take(x, at, w), middle)
                return [builder.fmul(distance, distance)]

            row.add(square, 1, sums, to)

        all_channels(builder, widest, channels, width, do)

    @intrinsic(lower)
    def run(x, at, channels, width, mean, from_, sums, to) -> None:
        distances = rows(x, at, width, channels) - rows(mean, from_, 1, channels)
        rows(sums, to, 1, channels)[0] += (distances * distances).sum(axis=0)

    return run


@functools.cache
def add_products(widest: int) -> Callable[..., None]:
    """The helper (dy, at, x, start, channels, width, mean, from_, sums, to), which adds to two rows of sums.

    Over pixels w: sums[to + c] += sum of dy[w, c] * (x[w, c] - mean[from_ + c]); behind it the sum of dy.
    """

    def lower(builder: ir.IRBuilder, *values: Any) -> None:
        dy, at, x, start, channels, width, mean, from_, sums, to = values

        def do(row: Row) -> None:
            middle = row.take(mean, from_, I64(0))

            def products(w: ir.Value) -> list[ir.Value]:
                gradient = row.take(dy, at, w)
                return [builder.fmul(gradient, builder.fsub(row.take(x, start, w), middle)), gradient]

            row.add(products, 2, sums, to)

        all_channels(builder, widest, channels, width, do)

    @intrinsic(lower)
    def run(dy, at, x, start, channels, width, mean, from_, sums, to) -> None:
        gradient, both = rows(dy, at, width, channels), rows(sums, to, 2, channels)
        distance = rows(x, start, width, channels) - rows(mean, from_, 1, channels)
        both[0] += (gradient * distance).sum(axis=0)
        both[1] += gradient.sum(axis=0)

    return run


@functools.cache
def scale_row(widest: int) -> Callable[..., None]:
    """The helper (x, at, y, to, channels, width, factors, from_, relu): y = x * a + b.

    Channel by channel, and max(y, 0) where `relu`; a and b are two rows of `factors`, from `from_` on.
    """

    def lower(builder: ir.IRBuilder, *values: Any) -> None:
        x, at, y, to, channels, width, factors, from_, relu = values
        ends_in_relu = builder.icmp_signed("!=", relu, I64(0))

        def do(row: Row) -> None:
            scale, shift = (row.take(factors, from_, I64(k)) for k in range(2))
            zero = row.constant(F32, 0.0)

            def put(w: ir.Value) -> None:
                value = row.fma(row.take(x, at, w), scale, shift)
                positive = builder.select(builder.fcmp_ordered("<", value, zero), zero, value)
                row.put(builder.select(ends_in_relu, positive, value), y, to, w)

            row.each(put)

        all_channels(builder, widest, channels, width, do)

    @intrinsic(lower)
    def run(x, at, y, to, channels, width, factors, from_, relu) -> None:
        scale, shift = rows(factors, from_, 2, channels)
        value = rows(x, at, width, channels) * scale + shift
        rows(y, to, width, channels)[:] = np.where((value < 0) & (relu != 0), np.float32(0), value)

    return run


@functools.cache
def grad_row(widest: int) -> Callable[..., None]:
    """The helper (dy, at, x, start, dx, to, channels, width, factors, from_): dx = dy * a + x * b + c.

    Channel by channel; a, b and c are three rows of `factors`, from `from_` on.
    """

    def lower(builder: ir.IRBuilder, *values: Any) -> None:
        dy, at, x, start, dx, to, channels, width, factors, from_ = values

        def do(row: Row) -> None:
            scale, slope, shift = (row.take(factors, from_, I64(k)) for k in range(3))

            def put(w: ir.Value) -> None:
                rest = row.fma(row.take(x, start, w), slope, shift)
                row.put(row.fma(row.take(dy, at, w), scale, rest), dx, to, w)

            row.each(put)

        all_channels(builder, widest, channels, width, do)

    @intrinsic(lower)
    def run(dy, at, x, start, dx, to, channels, width, factors, from_) -> None:
        scale, slope, shift = rows(factors, from_, 3, channels)
        value = rows(dy, at, width, channels) * scale + rows(x, start, width, channels) * slope
        rows(dx, to, width, channels)[:] = value + shift

    return run


def rows(x: np.ndarray, at: int, count: int, channels: int) -> np.ndarray:
    """(count, channels) of the values from `at` on, as a view."""
    return x.reshape(-1)[at : at + count * channels].reshape(count, channels)
