"""Dropout. Its random words are those of Philox4x32-10 (see `ops.philox`), four to a counter."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.kernels.vectors import F32, I32, I64
from glassnet.engine.machine.kernel import Kernel, f32, i64, inline, intrinsic, kernel
from glassnet.ops.philox import MASK, MULTIPLIERS, ROUNDS, WEYL, random_words

M0, M1, W0, W1 = MULTIPLIERS[0], MULTIPLIERS[1], WEYL[0], WEYL[1]


@functools.cache
def keep_some(blocks: int) -> Callable[..., None]:
    """The helper (x, at, y, to, (block, sample, step, key), seed, threshold, (scale,), skip, end).

    For the words of so many blocks, from `block` on: y[to + i] = x[at + i] * scale where word i is at least
    `threshold`, else 0. Only for i from `skip` up to `end`, which may lie outside.
    """
    count = 4 * blocks
    floats = ir.VectorType(F32, count)

    def lower(builder: ir.IRBuilder, *values: Any) -> None:
        x, at, y, to, counter, seed, threshold, (scale,), skip, end = values
        words = _interleaved(builder, _philox(builder, blocks, counter, seed))
        keep = builder.icmp_unsigned(">=", words, _spread(builder, builder.trunc(threshold, I32), count))
        source, target = (
            builder.bitcast(builder.gep(_floats(builder, array), [place]), floats.as_pointer())
            for array, place in ((x, at), (y, to))
        )
        zero, factor = ir.Constant(floats, [0.0] * count), _spread(builder, scale, count)

        def kept(value: ir.Value) -> ir.Value:
            return builder.select(keep, builder.fmul(value, factor), zero)

        whole = builder.and_(
            builder.icmp_signed("<=", skip, I64(0)), builder.icmp_signed(">=", end, I64(count))
        )
        with builder.if_else(whole) as (all_of_them, some):
            with all_of_them:
                builder.store(kept(builder.load(source, align=4)), target, align=4)
            with some:
                place = ir.Constant(ir.VectorType(I32, count), [*range(count)])
                bounds = (_spread(builder, builder.trunc(bound, I32), count) for bound in (skip, end))
                first, last = bounds
                active = builder.and_(
                    builder.icmp_signed(">=", place, first), builder.icmp_signed("<", place, last)
                )
                load = _masked(builder, "load", floats, [source.type, I32, active.type, floats])
                value = builder.call(load, [source, I32(4), active, zero])
                store = _masked(builder, "store", ir.VoidType(), [floats, target.type, I32, active.type])
                builder.call(store, [kept(value), target, I32(4), active])

    @intrinsic(lower)
    def run(x, at, y, to, counter, seed, threshold, scale, skip, end) -> None:
        block, sample, step, key = counter
        words = random_words(seed, key, step, np.array([sample]), 4 * (block + blocks))[0, 4 * block :]
        for i in range(max(skip, 0), min(end, count)):
            value = x.reshape(-1)[at + i] * scale[0]
            y.reshape(-1)[to + i] = value if words[i] >= threshold else ZERO

    return run


def _philox(builder: ir.IRBuilder, blocks: int, counter: list[ir.Value], seed: ir.Value) -> list[ir.Value]:
    """The four words of neighbouring counters, as vectors of 64-bit numbers below 2**32."""
    mask = ir.Constant(ir.VectorType(I64, blocks), [MASK] * blocks)
    half = ir.Constant(ir.VectorType(I64, blocks), [32] * blocks)
    first, *others = (_spread(builder, word, blocks) for word in counter)
    numbers = builder.add(first, ir.Constant(mask.type, [*range(blocks)]))
    c0, c1, c2, c3 = (builder.and_(c, mask) for c in (numbers, *others))
    k0, k1 = builder.and_(seed, I64(MASK)), builder.and_(builder.lshr(seed, I64(32)), I64(MASK))
    for _ in range(ROUNDS):
        p0, p1 = (
            builder.mul(c, ir.Constant(mask.type, [m] * blocks))
            for c, m in zip((c0, c2), MULTIPLIERS, strict=True)
        )
        keys = (_spread(builder, k, blocks) for k in (k0, k1))
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


def _spread(builder: ir.IRBuilder, value: ir.Value, count: int) -> ir.Value:
    """The same number in every lane."""
    nothing = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    return _shuffled(builder, builder.insert_element(nothing, value, I32(0)), nothing, [0] * count)


def _floats(builder: ir.IRBuilder, base: ir.Value) -> ir.Value:
    return builder.bitcast(base, F32.as_pointer())


def _masked(builder: ir.IRBuilder, what: str, returned: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    count = arguments[-1].count if what == "store" else returned.count
    name, module = f"llvm.masked.{what}.v{count}f32.p0", builder.module
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(returned, arguments), name)


@functools.cache
def dropout(lanes: int) -> Kernel:
    """y = x * scale where a number's word is at least `threshold`, else 0; `lanes` blocks at once."""
    some, count = keep_some(lanes), 4 * lanes

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
        lo: i64,
        hi: i64,
    ) -> None:
        """random: seed, step, first sample. Image rows may begin and end within a block."""
        for n in range(lo, hi):
            q = n % y.shape[0]
            clear_halo(y, q, y_at, y_row, height, width)
            for h in range(height):
                skip = (h * width) & 3
                first = h * width - skip
                at = (n % x.shape[0]) * x.shape[1] + x_at + h * x_row - skip
                to = q * y.shape[1] + y_at + h * y_row - skip
                for i in range(0, skip + width, count):
                    counter = ((first + i) >> 2, random[2] + n, random[1], key)
                    left, right = skip - i, skip + width - i
                    some(x, at + i, y, to + i, counter, random[0], threshold, (scale,), left, right)

    return dropout


@inline
def philox_block(block, sample, step, key, seed):
    """The four words of Philox4x32-10 at counter (block, sample, step, key): see `ops.philox`."""
    c0, c1, c2, c3 = block & MASK, sample & MASK, step & MASK, key & MASK
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    for _ in range(ROUNDS):
        # Products of 32-bit words fill 64 bits; the upper word is taken without its sign.
        p0, p1 = M0 * c0, M1 * c2
        c0, c1 = ((p1 >> 32) & MASK) ^ c1 ^ k0, p1 & MASK
        c2, c3 = ((p0 >> 32) & MASK) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return c0, c1, c2, c3


@inline
def keep(x, r, at, y, q, to, word, threshold, scale):
    """y = x * scale where the word is at least `threshold`, else 0."""
    y[q, to] = x[r, at] * scale if word >= threshold else ZERO


@kernel
def dropout_channels(
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
    """The same with one word a channel, which all pixels share."""
    seed, step = random[0], random[1]
    pixels = width // channels
    for n in range(lo, hi):
        r, q, sample = n % x.shape[0], n % y.shape[0], random[2] + n
        clear_halo(y, q, y_at, y_row, height, width)
        for b in range((channels + 3) >> 2):
            words = philox_block(b, sample, step, key, seed)
            few = channels - 4 * b
            for h in range(height):
                for w in range(pixels):
                    i = w * channels + 4 * b
                    at, to = x_at + h * x_row + i, y_at + h * y_row + i
                    keep(x, r, at, y, q, to, words[0], threshold, scale)
                    if few > 1:
                        keep(x, r, at + 1, y, q, to + 1, words[1], threshold, scale)
                    if few > 2:
                        keep(x, r, at + 2, y, q, to + 2, words[2], threshold, scale)
                    if few > 3:
                        keep(x, r, at + 3, y, q, to + 3, words[3], threshold, scale)
