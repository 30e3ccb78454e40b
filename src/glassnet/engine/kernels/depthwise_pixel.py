"""Depthwise convolution as vectors of channels in LLVM IR, sums kept in registers, with NumPy twins.

A loop that adds one tap after another to an output in memory waits for each store: eight times slower.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from glassnet.engine.kernels.vectors import F32, I64, Vectors, repeat, word_at
from glassnet.engine.machine.kernel import intrinsic


@functools.cache
def depthwise_pixels(
    channels: int, taps: int, pixels: int, widest: int, shared: bool = False
) -> Callable[..., None]:
    """The helper (table, x, at, x_pixel, w, w_at, bias, b_at, y, to, y_pixel, relu) for `pixels` neighbours.

    y[p, c] = bias[c] + sum over taps t of x[p, table[t, 0] + c] * w[table[t, 1] + c]; max(y, 0) where `relu`.
    shared: all channels have the weights and the bias of the first.
    """

    def lower(builder: ir.IRBuilder, *values: Any) -> None:
        table, x, at, x_pixel, w, w_at, bias, b_at, y, to, y_pixel, relu = values
        vectors = Vectors(builder, channels, widest)
        factor = vectors.spread if shared else vectors.load
        from_ = [builder.add(at, builder.mul(x_pixel, I64(p))) for p in range(pixels)]
        sums = {(p, v): factor(F32, bias, b_at, v) for v in vectors for p in range(pixels)}
        for t in range(taps):
            x_step, w_step = word_at(builder, table, 2 * t), word_at(builder, table, 2 * t + 1)
            places = [builder.add(start, x_step) for start in from_]
            weights = builder.add(w_at, w_step)
            for v in vectors:
                weight = factor(F32, w, weights, v)
                for p in range(pixels):
                    sums[p, v] = vectors.fma(vectors.load(F32, x, places[p], v), weight, sums[p, v])
        ends_in_relu = builder.icmp_signed("!=", relu, I64(0))
        for (p, v), value in sums.items():
            zero = vectors.constant(F32, 0.0)
            positive = builder.select(builder.fcmp_ordered("<", value, zero), zero, value)
            value = builder.select(ends_in_relu, positive, value)
            vectors.store(F32, value, y, builder.add(to, builder.mul(y_pixel, I64(p))), v)

    @intrinsic(lower)
    def run(table, x, at, x_pixel, w, w_at, bias, b_at, y, to, y_pixel, relu) -> None:
        flat, weights, c = x.reshape(-1), w.reshape(-1), np.arange(channels)
        own = 0 * c if shared else c
        for p in range(pixels):
            sums = bias.reshape(-1)[b_at + own]
            for t in range(taps):
                sums += flat[at + p * x_pixel + table[t, 0] + c] * weights[w_at + table[t, 1] + own]
            y.reshape(-1)[to + p * y_pixel + c] = np.where((sums < 0) & (relu != 0), np.float32(0), sums)

    return run


@functools.cache
def depthwise_sums(channels: int, taps: int, widest: int, shared: bool = False) -> Callable[..., None]:
    """The helper (table, x, at, x_pixel, dy, from_, dy_pixel, width, dw, to) for a row of `width` pixels.

    dw[table[t, 1] + c] += sum over pixels j of x[j*x_pixel + table[t, 0] + c] * dy[j*dy_pixel + c].
    shared: the sum of all channels is added to the first.
    """

    def lower(builder: ir.IRBuilder, *values: Any) -> None:
        table, x, at, x_pixel, dy, from_, dy_pixel, width, dw, to = values
        vectors = Vectors(builder, channels, widest)
        steps = [(word_at(builder, table, 2 * t), word_at(builder, table, 2 * t + 1)) for t in range(taps)]
        places = [builder.add(to, w_step) for _, w_step in steps]
        zero = vectors.constant(F32, 0.0)
        start = [zero if shared else vectors.load(F32, dw, place, v) for place in places for v in vectors]

        def pixel(j: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            x_here = builder.add(at, builder.mul(j, x_pixel))
            dy_here = builder.add(from_, builder.mul(j, dy_pixel))
            gradients = [vectors.load(F32, dy, dy_here, v) for v in vectors]
            old, new = iter(sums), []
            for x_step, _ in steps:
                place = builder.add(x_here, x_step)
                for v, gradient in zip(vectors, gradients, strict=True):
                    new.append(vectors.fma(vectors.load(F32, x, place, v), gradient, next(old)))
            return new

        ends = iter(repeat(builder, width, start, pixel))
        for place in places:
            for v in vectors:
                if shared:
                    vectors.add_all(next(ends), dw, place)
                else:
                    vectors.store(F32, next(ends), dw, place, v)

    @intrinsic(lower)
    def run(table, x, at, x_pixel, dy, from_, dy_pixel, width, dw, to) -> None:
        j, c = np.arange(width)[:, None], np.arange(channels)
        gradient = dy.reshape(-1)[from_ + j * dy_pixel + c]
        for t in range(taps):
            products = x.reshape(-1)[at + j * x_pixel + table[t, 0] + c] * gradient
            if shared:
                dw.reshape(-1)[to + table[t, 1]] += products.sum()
            else:
                dw.reshape(-1)[to + table[t, 1] + c] += products.sum(axis=0)

    return run
