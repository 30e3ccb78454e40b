"""One pixel of max pooling, forward and backward, as vectors of channels in LLVM IR, with NumPy twins.

A loop over few channels is not worth a vector to LLVM: it unrolls it into single numbers, seven times slower.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from glassnet.engine.kernels.vectors import F32, I16, I64, Vectors, repeat
from glassnet.engine.machine.kernel import intrinsic
from glassnet.engine.machine.tile_ir import splat


def _better(
    builder: ir.IRBuilder, value: ir.Value, number: ir.Value, best: ir.Value, place: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """The larger of a value and the best before it, with its place; the first NaN stays."""
    wins = builder.and_(builder.fcmp_unordered(">", value, best), builder.fcmp_ordered("ord", best, best))
    return builder.select(wins, value, best), builder.select(wins, number, place)


@functools.cache
def pool_pixel(channels: int, widest: int) -> Callable[..., None]:
    """The helper (x, a, b, y, to, index, mark): y[to + c] = the largest of two pixels at a and two at b.

    index[mark + c] is its place, 0 to 3; the first of equals, and the first NaN, wins.
    """

    def lower(builder: ir.IRBuilder, x: Any, a: Any, b: Any, y: Any, to: Any, index: Any, mark: Any) -> None:
        vectors = Vectors(builder, channels, widest)
        for start in vectors:
            best = vectors.load(F32, x, a, start)
            place: ir.Value = vectors.constant(I16, 0)
            for number, (at, step) in enumerate(((a, channels), (b, 0), (b, channels)), 1):
                value = vectors.load(F32, x, at, start, step)
                best, place = _better(builder, value, vectors.constant(I16, number), best, place)
            vectors.store(F32, best, y, to, start)
            vectors.store(I16, place, index, mark, start)

    @intrinsic(lower)
    def pixel(x, a, b, y, to, index, mark) -> None:
        flat = x.reshape(-1)
        starts = (a, a + channels, b, b + channels)
        values = np.stack([flat[start : start + channels] for start in starts])
        place = values.argmax(axis=0)
        y.reshape(-1)[to : to + channels] = values[place, np.arange(channels)]
        index.reshape(-1)[mark : mark + channels] = place

    return pixel


@functools.cache
def unpool_pixel(channels: int, widest: int) -> Callable[..., None]:
    """The helper (dy, at, index, mark, dx, a, b): dy[at + c] to the place of index, 0 to the others."""

    def lower(
        builder: ir.IRBuilder, dy: Any, at: Any, index: Any, mark: Any, dx: Any, a: Any, b: Any
    ) -> None:
        vectors = Vectors(builder, channels, widest)
        for start in vectors:
            gradient = vectors.load(F32, dy, at, start)
            place = vectors.load(I16, index, mark, start)
            for number, (to, step) in enumerate(((a, 0), (a, channels), (b, 0), (b, channels))):
                here = builder.icmp_signed("==", place, vectors.constant(I16, number))
                value = builder.select(here, gradient, vectors.constant(F32, 0.0))
                vectors.store(F32, value, dx, to, start, step)

    @intrinsic(lower)
    def pixel(dy, at, index, mark, dx, a, b) -> None:
        gradient = dy.reshape(-1)[at : at + channels]
        place = index.reshape(-1)[mark : mark + channels]
        flat = dx.reshape(-1)
        for number, to in enumerate((a, a + channels, b, b + channels)):
            flat[to : to + channels] = np.where(place == number, gradient, 0)

    return pixel


@functools.cache
def pool_window(channels: int, widest: int) -> Callable[..., None]:
    """The helper (x, at, row, (rows, columns, first, width), y, to, index, mark): any window.

    y[to + c] = the largest of `rows` x `columns` pixels, from `at` on in image rows `row` apart; its place is
    first + width * u + v. Where there is no pixel it is -inf at the place `first`.
    """

    def lower(
        builder: ir.IRBuilder, x: Any, at: Any, row: Any, window: Any, y: Any, to: Any, *marks: Any
    ) -> None:
        rows, columns, first, width = window
        vectors = Vectors(builder, channels, widest)

        def largest(start: int) -> list[ir.Value]:
            def down(u: ir.Value, best: list[ir.Value]) -> list[ir.Value]:
                line = builder.add(at, builder.mul(u, row))
                number = builder.add(first, builder.mul(u, width))

                def across(v: ir.Value, best: list[ir.Value]) -> list[ir.Value]:
                    value = vectors.load(F32, x, builder.add(line, builder.mul(v, I64(channels))), start)
                    return [*_better(builder, value, _place(vectors, builder.add(number, v)), *best)]

                return repeat(builder, columns, best, across)

            return repeat(builder, rows, [vectors.constant(F32, -math.inf), _place(vectors, first)], down)

        for start in vectors:
            best, place = largest(start)
            vectors.store(F32, best, y, to, start)
            vectors.store(I16, place, marks[0], marks[1], start)

    @intrinsic(lower)
    def run(x, at, row, window, y, to, index, mark) -> None:
        rows, columns, first, width = window
        best, place = np.full(channels, -np.inf, np.float32), np.full(channels, first)
        for u in range(rows):
            for v in range(columns):
                start = at + u * row + v * channels
                value = x.reshape(-1)[start : start + channels]
                wins = ~(value <= best) & ~np.isnan(best)
                best, place = np.where(wins, value, best), np.where(wins, first + u * width + v, place)
        y.reshape(-1)[to : to + channels] = best
        index.reshape(-1)[mark : mark + channels] = place

    return run


@functools.cache
def unpool_window(channels: int, widest: int) -> Callable[..., None]:
    """The helper (dy, at, index, mark, dx, to, row, (rows, columns, first, width)): any window.

    dx[.. + c] += dy[at + c] at the place of index, of `rows` x `columns` pixels from `to` on.
    """

    def lower(builder: ir.IRBuilder, dy: Any, at: Any, index: Any, mark: Any, dx: Any, *where: Any) -> None:
        to, row, (rows, columns, first, width) = where
        vectors = Vectors(builder, channels, widest)

        def spread(start: int) -> None:
            gradient, chosen = vectors.load(F32, dy, at, start), vectors.load(I16, index, mark, start)

            def down(u: ir.Value, nothing: list[ir.Value]) -> list[ir.Value]:
                line = builder.add(to, builder.mul(u, row))
                number = builder.add(first, builder.mul(u, width))

                def across(v: ir.Value, nothing: list[ir.Value]) -> list[ir.Value]:
                    here = builder.icmp_signed("==", chosen, _place(vectors, builder.add(number, v)))
                    more = builder.select(here, gradient, vectors.constant(F32, 0.0))
                    place = builder.add(line, builder.mul(v, I64(channels)))
                    total = builder.fadd(vectors.load(F32, dx, place, start), more)
                    vectors.store(F32, total, dx, place, start)
                    return nothing

                return repeat(builder, columns, nothing, across)

            repeat(builder, rows, [], down)

        for start in vectors:
            spread(start)

    @intrinsic(lower)
    def run(dy, at, index, mark, dx, to, row, window) -> None:
        rows, columns, first, width = window
        gradient, chosen = (a.reshape(-1)[s : s + channels] for a, s in ((dy, at), (index, mark)))
        for u in range(rows):
            for v in range(columns):
                start = to + u * row + v * channels
                dx.reshape(-1)[start : start + channels] += np.where(
                    chosen == first + u * width + v, gradient, 0
                )

    return run


def _place(vectors: Vectors, number: ir.Value) -> ir.Value:
    """A place in a window, in every lane."""
    return splat(vectors.builder, vectors.builder.trunc(number, I16), vectors.lanes)
