"""Dropout. Its random words are those of Philox4x32-10 (see `ops.philox`), four to a counter."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from glassnet.engine.kernels.image import clear_halo
from glassnet.engine.kernels.vectors import F32, I32, I64, repeat
from glassnet.engine.machine.kernel import Kernel, f32, i64, intrinsic, kernel
from glassnet.engine.machine.tile_ir import splat
from glassnet.ops.philox import MASK, MULTIPLIERS, ROUNDS, WEYL, random_words


@functools.cache
def keep_some(blocks: int) -> Callable[..., None]:
    """The helper (x, at, y, to, (block, sample, step, key), seed, threshold, (scale,), bounds, repeats).

    For the words of so many blocks, from `block` on: y[to + i] = x[at + i] * scale where word i is at least
    `threshold`, else 0. bounds: the first i and the one behind the last; they may lie outside. repeats: how
    many pixels have these words, and how far apart they lie.
    """
    count = 4 * blocks
    floats = ir.VectorType(F32, count)
    zero = ir.Constant(floats, [0.0] * count)

    def lower(builder: ir.IRBuilder, *values: Any) -> None:
        x, at, y, to, counter, seed, threshold, (scale,), (first, last), (pixels, apart) = values
        words = _interleaved(builder, _philox(builder, blocks, counter, seed))
        keep = builder.icmp_unsigned(">=", words, splat(builder, builder.trunc(threshold, I32), count))
        factor = splat(builder, scale, count)

        def each(load: Callable[[ir.Value], ir.Value], store: Callable[[ir.Value, ir.Value], None]) -> None:
            def pixel(w: ir.Value, nothing: list[ir.Value]) -> list[ir.Value]:
                source, target = (
                    _vector(builder, array, builder.add(start, builder.mul(w, apart)), floats)
                    for array, start in ((x, at), (y, to))
                )
                store(builder.select(keep, builder.fmul(load(source), factor), zero), target)
                return nothing

            repeat(builder, pixels, [], pixel)

        inside = builder.icmp_signed("<=", first, I64(0)), builder.icmp_signed(">=", last, I64(count))
        with builder.if_else(builder.and_(*inside)) as (all_of_them, some):
            with all_of_them:
                each(
                    lambda source: builder.load(source, align=4),
                    lambda value, target: builder.store(value, target, align=4),
                )
            with some:
                active = _between(builder, first, last, count)
                kind, pointer = active.type, floats.as_pointer()
                load = _masked(builder, "load", floats, [pointer, I32, kind, floats])
                store = _masked(builder, "store", ir.VoidType(), [floats, pointer, I32, kind])
                each(
                    lambda source: builder.call(load, [source, I32(4), active, zero]),
                    lambda value, target: builder.call(store, [value, target, I32(4), active]),
                )

    @intrinsic(lower)
    def run(x, at, y, to, counter, seed, threshold, scale, bounds, repeats) -> None:
        block, sample, step, key = counter
        first, last = max(bounds[0], 0), min(bounds[1], count)
        words = random_words(seed, key, step, np.array([sample]), 4 * (block + blocks))[0, 4 * block :]
        for w in range(repeats[0]):
            source, target = (start + w * repeats[1] + first for start in (at, to))
            kept = np.where(
                words[first:last] >= threshold, x.reshape(-1)[source:][: last - first] * scale[0], 0
            )
            y.reshape(-1)[target : target + last - first] = kept

    return run


def _vector(builder: ir.IRBuilder, base: ir.Value, place: ir.Value, kind: ir.VectorType) -> ir.Value:
    """Pointer to the vector `place` elements behind `base`."""
    start = builder.gep(builder.bitcast(base, F32.as_pointer()), [place])
    return builder.bitcast(start, kind.as_pointer())


def _between(builder: ir.IRBuilder, first: ir.Value, last: ir.Value, count: int) -> ir.Value:
    """Which of `count` lanes are from `first` on and before `last`."""
    places = ir.Constant(ir.VectorType(I32, count), [*range(count)])
    low, high = (splat(builder, builder.trunc(bound, I32), count) for bound in (first, last))
    return builder.and_(builder.icmp_signed(">=", places, low), builder.icmp_signed("<", places, high))


def _philox(builder: ir.IRBuilder, blocks: int, counter: list[ir.Value], seed: ir.Value) -> list[ir.Value]:
    """The four words of neighbouring counters, as vectors of 64-bit numbers below 2**32."""
    mask = ir.Constant(ir.VectorType(I64, blocks), [MASK] * blocks)
    half = ir.Constant(ir.VectorType(I64, blocks), [32] * blocks)
    first, *others = (splat(builder, word, blocks) for word in counter)
    numbers = builder.add(first, ir.Constant(mask.type, [*range(blocks)]))
    c0, c1, c2, c3 = (builder.and_(c, mask) for c in (numbers, *others))
    k0, k1 = builder.and_(seed, I64(MASK)), builder.and_(builder.lshr(seed, I64(32)), I64(MASK))
    for _ in range(ROUNDS):
        p0, p1 = (
            builder.mul(c, ir.Constant(mask.type, [m] * blocks))
            for c, m in zip((c0, c2), MULTIPLIERS, strict=True)
        )
        keys = (splat(builder, k, blocks) for k in (k0, k1))
        c0, c2 = (
            builder.xor(builder.xor(builder.lshr(p, half), c), k)
            for p, c, k in zip((p1, p0), (c1, c3), keys, strict=True)
        )
        c1, c3 = builder.and_(p1, mask), builder.and_(p0, mask)
        k0, k1 = (
            builder.and_(builder.add(k, I64(w)), I64(MASK)) for k, w in zip((k0, k1), WEYL, strict=True)
        )
    return [c0, c1, c2, c3]


def _interleaved(builder: ir.IRBuilder, words: list[ir.Value]) -> ir.Value:
    """The words in the order of positions, 32 bits each: all of the first counter, then of the next."""
    n = words[0].type.count
    short = [builder.trunc(word, ir.VectorType(I32, n)) for word in words]
    pairs = [i for k in range(n) for i in (k, n + k)]
    low, high = _shuffled(builder, short[0], short[1], pairs), _shuffled(builder, short[2], short[3], pairs)
    fours = [i for k in range(0, 2 * n, 2) for i in (k, k + 1, 2 * n + k, 2 * n + k + 1)]
    return _shuffled(builder, low, high, fours)


def _shuffled(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, places: list[int]) -> ir.Value:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(places)), places))


def _masked(builder: ir.IRBuilder, what: str, returned: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    count = arguments[-1].count if what == "store" else returned.count
    name, module = f"llvm.masked.{what}.v{count}f32.p0", builder.module
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(returned, arguments), name)


@functools.cache
def dropout(blocks: int) -> Kernel:
    """y = x * scale where a number's word is at least `threshold`, else 0."""
    some, count = keep_some(blocks), 4 * blocks

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
        height: i64,
        width: i64,
        pixels: i64,
        down: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        """random: seed, step, first sample. A row is `pixels` times `width` numbers with the same words.

        From row to row, words go on by `down`; a row may begin and end within a block.
        """
        for n in range(lo, hi):
            q = n % y.shape[0]
            clear_halo(y, q, y_at, y_row, height, width * pixels)
            for h in range(height):
                skip = (h * down) & 3
                at = (n % x.shape[0]) * x.shape[1] + x_at + h * x_row - skip
                to = q * y.shape[1] + y_at + h * y_row - skip
                for i in range(0, skip + width, count):
                    counter = ((h * down + i) >> 2, random[2] + n, random[1], key)
                    bounds, repeats = (skip - i, skip + width - i), (pixels, width)
                    some(x, at + i, y, to + i, counter, random[0], threshold, (scale,), bounds, repeats)

    return dropout
