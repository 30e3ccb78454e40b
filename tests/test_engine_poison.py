"""Nothing reads what was not written: memory is poisoned with NaN before an operation writes its results."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from glassnet.engine import compile as compiling
from glassnet.engine.lowering import base, conv, image, linear
from glassnet.engine.machine.kernel import f32, i64, kernel, u8, u16
from glassnet.engine.machine.tile import TileSpec
from glassnet.plan.passes import memory
from glassnet.plan.plan import Rows, Span, Step
from glassnet.store import aligned
from networks import NETWORKS, Recipe, assert_alike, images, network, train


@kernel
def poison(y: f32[2], lo: i64, hi: i64) -> None:
    for n in range(lo, hi):
        for i in range(y.shape[1]):
            y[n % y.shape[0], i] = np.float32(np.nan)


@kernel
def poison_index(y: u16[2], lo: i64, hi: i64) -> None:
    for n in range(lo, hi):
        for i in range(y.shape[1]):
            y[n % y.shape[0], i] = 65535


def with_poison(operation, steps, context):
    """The steps, and before the first that works on samples others that fill results and halos with NaN."""
    in_place = operation.kind == "relu_mask" or (
        operation.kind == "reshape" and context.layout.same_memory(operation)
    )
    touched = {symbol for step in steps for symbol in step.symbols()}
    fills = [
        Step(poison_index if symbol.dtype == np.uint16 else poison, (Rows(symbol),))
        for symbol in operation.outputs
        if symbol in touched and not in_place
    ]
    first = next(
        (i for i, step in enumerate(steps) if any(isinstance(a, Span | Rows) for a in step.arguments)), 0
    )
    return [*steps[:first], *fills, *steps[first:]]


def nan_filled(count, dtype):
    """Memory as `aligned` gives it, but of NaN."""
    memory = aligned(count, dtype)
    memory.view(np.uint8)[:] = 255
    return memory


@pytest.fixture
def poisoned(monkeypatch):
    """Plans are made with poison from now on; gives the kinds of operations that were."""
    kinds = set()

    def poisoned_lower(operation, context):
        steps = with_poison(operation, base.lower(operation, context), context)
        if any(step.kernel in (poison, poison_index) for step in steps):
            kinds.add(operation.kind)
        return steps

    monkeypatch.setattr(compiling, "lower", poisoned_lower)
    monkeypatch.setattr(compiling, "arena", lambda count: nan_filled(count, np.uint8))
    for module in (base, conv, linear, image):
        monkeypatch.setattr(module, "aligned", nan_filled)
    return kinds


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_training_and_prediction_read_only_what_was_written(layers, poisoned):
    net, twin = network(layers()), network(layers()).as_dtype(np.float64)
    outcome = train(net, "compiled", Recipe(steps=4))
    assert {"gather", "cross_entropy"} < poisoned
    assert_alike(outcome, train(twin, "reference", Recipe(steps=4)), 1e-5)
    net.backend, twin.backend = "compiled", "reference"
    x = images().inputs()
    np.testing.assert_allclose(net.scores(x), twin.scores(x), rtol=1e-4, atol=1e-5)


@kernel
def gather_without_halo(
    images: u8[2], index: i64[1], scale: f32[1], shift: f32[1], y: f32[2], y_at: i64, y_row: i64, height: i64,
    width: i64, lo: i64, hi: i64,
) -> None:  # fmt: skip
    for n in range(lo, hi):
        for h in range(height):
            for i in range(width):
                y[n % y.shape[0], y_at + h * y_row + i] = np.float32(images[index[n], h * width + i])


def test_a_halo_that_is_not_cleared_is_seen(poisoned, monkeypatch):
    gather = base.LOWER["gather"]

    def careless(operation, context):
        (step,) = gather(operation, context)
        is_bytes = step.arguments[0].dtype == np.uint8  # what prediction is given is not
        return [Step(gather_without_halo, step.arguments)] if is_bytes else [step]

    monkeypatch.setitem(base.LOWER, "gather", careless)
    assert np.isnan(train(network(NETWORKS["plain"]()), "compiled", Recipe(steps=1)).losses).all()


def test_memory_that_is_used_twice_too_early_is_seen(poisoned, monkeypatch):
    """A plan of memory in which every symbol's life ends where it begins."""
    pack = memory._pack

    def careless(lives, reuse):
        for life in lives:
            life.end = life.start
        return pack(lives, reuse)

    monkeypatch.setattr(memory, "_pack", careless)
    assert not np.isfinite(train(network(NETWORKS["plain"]()), "compiled", Recipe(steps=1)).norms).all()


def test_a_wrong_tile_is_seen(monkeypatch):
    """The largest tiles compute one row fewer than planned."""
    net, twin = network(NETWORKS["residual"]()), network(NETWORKS["residual"]()).as_dtype(np.float64)
    wanted = train(twin, "reference", Recipe(steps=2))
    address = TileSpec.address

    def short(spec, cpu=None):
        wrong = spec.rows > 4 and spec.start == "zero"
        return address(dataclasses.replace(spec, rows=spec.rows - 1) if wrong else spec, cpu)

    monkeypatch.setattr(TileSpec, "address", short)
    outcome = train(net, "compiled", Recipe(steps=2))
    with pytest.raises(AssertionError, match="is wrong by"):
        assert_alike(outcome, wanted, 1e-4)
