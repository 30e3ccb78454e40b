"""The compiled engine beside the reference: single operations, and whole networks step by step."""

from __future__ import annotations

import numpy as np

from glassnet.engine.compile import compile_operations
from glassnet.engine.lowering.base import Slots
from glassnet.engine.machine.executor import Executor
from glassnet.ops.reference import ReferenceOps
from glassnet.plan.record import RecordingOps
from glassnet.plan.symbols import Operation, Symbol
from glassnet.store import aligned

EPS = 2.0**-24
"""Half a unit in the last place of float32: what one rounding may add, relative to the result."""


def whole(generator, *shape):
    """Small whole numbers as float32: their sums of products are exact, in any order."""
    return generator.integers(-4, 5, shape).astype(np.float32)


def normal(generator, *shape):
    """Random numbers, float32."""
    return generator.standard_normal(shape).astype(np.float32)


def compiled(record, *batched, capacity=None, cpu=None, threads=1, random=(0, 0, 0)):
    """What record(ops, *symbols) returns, computed by the engine: one array for each symbol of the tuple.

    `batched` (n, ...) float32 enter as symbols of `capacity` samples, of which n are there. Symbols without a
    sample axis come back whole. random: seed, step and first sample.
    """
    n = len(batched[0])
    capacity = capacity or n
    ops = RecordingOps(capacity)
    symbols = [_fed(ops, array, capacity) for array in batched]
    results = record(ops, *symbols)
    arrays, needed = [], []
    for symbol in results:
        array = aligned(int(np.prod(symbol.shape)), np.float32).reshape(symbol.shape)
        arrays.append(array[:n] if symbol.batched else array)
        if symbol.batched and symbol.ndim == 1:  # losses are written where the caller reads them
            symbol.array = array
            needed.append(symbol)
            continue
        done = Symbol((1,), "done", batched=False)
        kind = "export" if symbol.batched else "deliver"
        ops.operations.append(Operation(kind, [symbol, ops.bound(array)], [done], "result"))
        needed.append(done)
    slots = Slots()
    slots.samples[0], slots.random[:] = n, random
    plan = compile_operations(
        ops.operations, needed, capacity=capacity, slots=slots, workers=threads, cpu=cpu
    )
    with np.errstate(all="ignore"):  # uncompiled, kernels meet NumPy's warnings
        Executor().run(plan.program, samples=n, threads=threads)
    return arrays


def _fed(ops, array, capacity):
    """A symbol that holds `array`, each step anew."""
    symbol = ops.batch("input", array.shape[1:])
    channels = array.shape[-1] if array.ndim > 1 else 1
    same = (np.arange(capacity), np.ones(channels, np.float32), np.zeros(channels, np.float32))
    feed = [ops.bound(a) for a in (np.ascontiguousarray(array, np.float32), *same)]
    ops.operations.append(Operation("gather", feed, [symbol], "input"))
    return symbol


def exact(record, *batched):
    """The same from the reference backend in float64."""
    return record(ReferenceOps(), *(array.astype(np.float64) for array in batched))


def assert_within(got, wanted, bound):
    """|got - wanted| <= bound, number by number; NaN equals NaN."""
    assert got.shape == wanted.shape, f"Shape {got.shape}, expected {wanted.shape}."
    error = np.abs(got - wanted)
    wrong = ~((error <= bound) | (np.isnan(got) & np.isnan(wanted)) | (got == wanted))
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} numbers are wrong, by {error[wrong].max():.3g}."
