"""The gradients of a linear layer for few samples, where register tiles would be started more than used."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from glassnet.engine.kernels.vectors import F32, I32, Vectors
from glassnet.engine.machine.kernel import Kernel, f32, i64, intrinsic, kernel

BLOCKS = 16
"""Blocks of rows of a work unit, where all samples go through some rows."""

ROWS = 256
"""Rows of the weights' gradient that are a work unit."""


@functools.cache
def row_dots(rows: int, count: int, lanes: int) -> Callable[..., None]:
    """The helper (w, at, x, x_at, y, to): y[to + i] = sum over k of w[at + i*count + k] * x[x_at + k].

    `rows` are at most `lanes`.
    """

    def lower(builder: ir.IRBuilder, w: Any, at: Any, x: Any, x_at: Any, y: Any, to: Any) -> None:
        vectors, out = (Vectors(builder, size, lanes, lanes) for size in (count, rows))
        factors = [(v, vectors.load(F32, x, x_at, v)) for v in vectors]
        sums: list[ir.Value] = [vectors.constant(F32, 0.0)] * lanes
        for i in range(rows):
            for v, factor in factors:
                sums[i] = vectors.fma(vectors.load(F32, w, at, v, i * count), factor, sums[i])
        # Neighbouring lanes of two vectors are added into the halves of one, until one holds a sum a lane.
        sides = [ir.Constant(ir.VectorType(I32, lanes), [*range(k, 2 * lanes, 2)]) for k in (0, 1)]
        while len(sums) > 1:
            halves = zip(sums[::2], sums[1::2], strict=True)
            sums = [builder.fadd(*(builder.shuffle_vector(p, q, side) for side in sides)) for p, q in halves]
        out.store(F32, sums[0], y, to, 0)

    @intrinsic(lower)
    def run(w, at, x, x_at, y, to) -> None:
        matrix = w.reshape(-1)[at : at + rows * count].reshape(rows, count)
        y.reshape(-1)[to : to + rows] = matrix @ x.reshape(-1)[x_at : x_at + count]

    return run


def block_rows(outputs: int, widest: int) -> int:
    """Rows multiplied at once, and lanes: four for few outputs, as they are the quickest to add up."""
    return widest if outputs >= 2 * widest else 4


@functools.cache
def linear_dots(outputs: int, block: int, rest: int) -> Kernel:
    """dx[n, i] = sum over o of w[i, o] * dy[n, o]. Work units are samples, or runs of rows i (`by_rows`).

    `rest` rows of w are left by blocks of `block`.
    """
    whole, last = (row_dots(rows, outputs, block) for rows in (block, rest or block))

    @kernel
    def linear_dots(
        dy: f32[2],
        dy_at: i64,
        dy_row: i64,
        w: f32[1],
        dx: f32[2],
        dx_at: i64,
        dx_row: i64,
        samples: i64[1],
        by_rows: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        blocks = w.shape[0] // (block * outputs)
        from_sample, to_sample, start, end = lo, hi, 0, blocks + 1
        if by_rows:
            from_sample, to_sample, start, end = 0, samples[0], BLOCKS * lo, min(BLOCKS * hi, blocks + 1)
        for n in range(from_sample, to_sample):
            from_, to = (n % dy.shape[0]) * dy.shape[1] + dy_at, (n % dx.shape[0]) * dx.shape[1] + dx_at
            for b in range(start, min(end, blocks)):
                whole(w, b * block * outputs, dy, from_, dx, to + b * block)
            if rest > 0 and end > blocks:
                last(w, blocks * block * outputs, dy, from_, dx, to + blocks * block)

    return linear_dots


@functools.cache
def linear_outer(outputs: int) -> Kernel:
    """dw[i, o] = sum over n of x[n, i] * dy[n, o], or += where `adding`; units are runs of 256 rows i."""

    @kernel
    def linear_outer(
        x: f32[2],
        x_at: i64,
        x_row: i64,
        dy: f32[2],
        dy_at: i64,
        dy_row: i64,
        dw: f32[2],
        samples: i64[1],
        adding: i64[1],
        lo: i64,
        hi: i64,
    ) -> None:
        for n in range(samples[0]):
            fresh = n == 0 and adding[0] == 0
            for i in range(ROWS * lo, min(ROWS * hi, dw.shape[0])):
                for o in range(outputs):
                    product = x[n, x_at + i] * dy[n, dy_at + o]
                    dw[i, o] = product if fresh else dw[i, o] + product

    return linear_outer
