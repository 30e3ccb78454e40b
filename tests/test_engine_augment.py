"""Augmentation compiled: the numbers of its NumPy definition to the bit, through a plan and uncompiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augmenting import AUGMENTS, pictures, scale_shift
from glassnet.data.augment import DEFAULTS, Augment
from glassnet.engine.compile import compile_operations
from glassnet.engine.kernels.augment import augment_bytes, augment_floats
from glassnet.engine.lowering.base import Slots
from glassnet.engine.machine.cpu import host
from glassnet.engine.machine.executor import Executor
from glassnet.engine.machine.kernel import interpreted
from glassnet.ops.augment import augment_images, identity_rows
from glassnet.plan.record import RecordingOps
from glassnet.plan.symbols import Operation, Symbol
from glassnet.shapes import geometry
from glassnet.store import aligned

HERE = Path(__file__)
SIZES = st.tuples(*[st.integers(1, 9)] * 2)
OUTPUTS = st.sampled_from([(1, 1), (5, 7), (9, 3)])  # each compiles a convolution of its own


def test_everything_here_passes_uncompiled():
    """The tests of this module once more, in a process where Numba compiles nothing."""
    if interpreted():
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE)]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout and "skipped" not in done.stdout


class Plan:
    """A plan that augments, then copies by a convolution, which needs a halo: it exports network input."""

    def __init__(self, images, scale, shift, size, *, capacity, cpu=None, threads=1):
        channels = images.shape[3]
        self.index, self.partner = np.zeros(capacity, np.int64), np.zeros(capacity, np.int64)
        self.rows = identity_rows((capacity,))
        self.out = aligned(capacity * size[0] * size[1] * channels, np.float32).reshape(
            capacity, *size, channels
        )
        self.slots, self.threads = Slots(), threads
        ops = RecordingOps(capacity)
        x = ops.batch("input", (*size, channels))
        feed = [ops.bound(a, "feed") for a in (images, self.index, scale, shift, self.rows, self.partner)]
        ops.operations.append(Operation("augment", feed, [x], "input"))
        copy = np.zeros((3, 3, channels, channels), np.float32)
        copy[1, 1] = np.eye(channels)
        y = ops.conv2d(x, copy, None, geometry("copy", size, 3, padding=1))
        done = Symbol((1,), "done", batched=False)
        ops.operations.append(Operation("export", [y, ops.bound(self.out)], [done], "result"))
        self.plan = compile_operations(
            ops.operations, [done], capacity=capacity, slots=self.slots, workers=threads, cpu=cpu
        )

    def __call__(self, index, rows, partner):
        n = len(index)
        self.index[:n], self.rows[:n], self.partner[:n], self.slots.samples[0] = index, rows, partner, n
        with np.errstate(all="ignore"):
            Executor().run(self.plan.program, samples=n, threads=self.threads)
        return self.out[:n].copy()


def assert_same(augment, size, output, channels, dtype, seed, **options):
    """A batch of 5 of the plan, cut in two, and the definition's."""
    images = pictures(np.random.default_rng(seed), 7, size, channels, dtype)
    scale, shift = scale_shift(channels)
    index = np.random.default_rng(seed).integers(0, 7, 5)
    (rows,), (partner,) = augment.draw(seed=seed, step=2, samples=5, size=size, output=output)
    others = index[partner]
    wanted = augment_images(images[index], rows, images[others], scale, shift, output)
    plan = Plan(images, scale, shift, output, capacity=6, **options)
    np.testing.assert_array_equal(plan(index, rows, others), wanted)
    parts = [plan(index[part], rows[part], others[part]) for part in (slice(3), slice(3, 5))]
    np.testing.assert_array_equal(np.concatenate(parts), wanted)


@settings(max_examples=8 if interpreted() else 60)
@given(
    AUGMENTS,
    SIZES,
    OUTPUTS,
    st.sampled_from([1, 3]),
    st.sampled_from([np.uint8, np.float32]),
    st.integers(0, 2**16),
)
def test_plan_gives_the_bits_of_the_definition(augment, size, output, channels, dtype, seed):
    assert_same(augment, size, output, channels, dtype, seed)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_defaults(kind):
    """Rows long enough for vectors, and every border."""
    size = (12, 40)
    assert_same(DEFAULTS[kind], size, size, 1 if kind in ("digits", "clothes") else 3, np.uint8, 3)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_processor_and_number_of_threads(lanes, dtype):
    """Sums are never fused, so that processors with and without fused operations agree."""
    augment = Augment(
        horizontal_flip=0.5,
        crop=(0.5, 1),
        rotation=(0, 30),
        contrast=0.5,
        saturation=0.5,
        cutout=4,
        mixup=1.0,
    )
    for threads in (1, 2):
        assert_same(augment, (20, 37), (20, 37), 3, dtype, 1, cpu=host().limited(lanes), threads=threads)


@pytest.mark.parametrize(("make", "dtype"), [(augment_bytes, np.uint8), (augment_floats, np.float32)])
def test_kernel_writes_every_value_and_its_halo(make, dtype, generator):
    """Rows of 5 pixels, 8 apart, behind 10 values; NaN wherever it does not write."""
    images = pictures(generator, 4, (6, 5), 1, dtype)
    scale, shift = scale_shift(1)
    index = np.array([3, 0, 1])
    rows, partner = Augment(mixup=1.0, crop=(0.5, 1)).draw(seed=0, step=0, samples=3, size=(6, 5))
    others = index[partner[0]]
    y = np.full((2, 64), np.nan, np.float32)
    feed = (images.reshape(4, -1), 6, 5, index, scale, shift, rows[0], others)
    make(1)(*feed, y, 10, 8, 6, 5, lo=1, hi=3)
    wanted = augment_images(images[index], rows[0], images[others], scale, shift)
    for n in (1, 2):
        framed = np.zeros(64, np.float32)
        for h in range(6):
            framed[10 + 8 * h : 15 + 8 * h] = wanted[n, h, :, 0]
        np.testing.assert_array_equal(y[n % 2], framed)


def test_rows_that_change_nothing_copy(generator):
    """Of bytes and floats, raw values times scale plus shift."""
    images = pictures(generator, 5, (8, 8), 3)
    scale, shift = scale_shift(3)
    plan = Plan(images, scale, shift, (8, 8), capacity=5)
    same = np.arange(5)
    np.testing.assert_array_equal(plan(same, identity_rows((5,)), same), images * scale + shift)
