"""One pixel of 2x2 max pooling, forward and backward, as vectors of channels in LLVM IR, with NumPy twins.

A loop over few channels is not worth a vector to LLVM: it unrolls it into single numbers, seven times slower.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from glassnet.engine.kernels.vectors import F32, I16, Vectors
from glassnet.engine.machine.kernel import intrinsic


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
                wins = builder.and_(
                    builder.fcmp_unordered(">", value, best), builder.fcmp_ordered("ord", best, best)
                )
                best = builder.select(wins, value, best)
                place = builder.select(wins, vectors.constant(I16, number), place)
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
