"""Convolution and linear layers on the engine, in every setting, to the bit.

Small whole numbers: every product and sum is exact in float32, so that any order of summation, with fused
multiply-adds or without, gives the same number, and the tolerance is zero.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from engines import compiled, exact, whole
from glassnet.engine.lowering import conv_input_grad
from glassnet.engine.lowering.conv_input_grad import by_runs
from glassnet.engine.machine.cpu import host
from glassnet.ops.activations import relu
from glassnet.shapes import Geometry, geometry

CHANNELS = st.sampled_from([1, 2, 3, 8, 10, 16, 17, 33, 100])
FEW = st.sampled_from([1, 2, 3, 8, 10])
SEEDS = st.integers(0, 2**16)
SIDES = st.tuples(*[st.integers(0, 3)] * 4)


@st.composite
def geometries(draw):
    """Any window over an image of at most 9x9, and the channels that go in and out."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, "depthwise", "multiplier"]))
    if isinstance(groups, int):
        c, o = (
            groups * draw(CHANNELS if groups == 1 else FEW),
            groups * draw(CHANNELS if groups == 1 else FEW),
        )
    else:
        c = draw(st.sampled_from([2, 3, 8, 10, 16, 33]))
        groups, o = c, c * (1 if groups == "depthwise" else 2)
    size, kernel, stride, dilation = (draw(st.tuples(*[st.integers(1, most)] * 2)) for most in (9, 4, 3, 2))
    padding = draw(st.one_of(st.just("same"), SIDES))
    sides = (0, 0, 0, 0) if padding == "same" else padding
    window = Geometry(size, kernel, stride, dilation, sides)
    assume(padding == "same" or min(window.output) > 0)
    shape = geometry("conv", size, kernel, stride=stride, dilation=dilation, padding=padding, groups=groups)
    return shape, c, o


def assert_same(record, *arrays, **options):
    """The engine's results are the reference's, to the bit."""
    got, wanted = compiled(record, *arrays, **options), exact(record, *arrays)
    for number, (ours, theirs) in enumerate(zip(got, wanted, strict=True)):
        assert np.array_equal(ours, theirs), f"Result {number} differs."


def conv_passes(shape, w, b, *, fused=False):
    """Forward, with a bias or without, and all gradients; `fused`: forward ends in ReLU."""

    def record(ops, x, dy):
        forward = [ops.conv2d(x, w, b, shape), ops.conv2d(x, w, None, shape)]
        return (
            *(ops.elementwise(relu, y) if fused else y for y in forward),
            ops.conv2d_input_grad(dy, w, shape),
            ops.conv2d_weight_grad(dy, x, shape),
            ops.bias_grad(dy),
        )

    return record


def check_conv(problem, batch, capacity, seed, *, fused=False, cpu=None):
    shape, c, o = problem
    generator = np.random.default_rng(seed)
    w, b = whole(generator, *shape.kernel, c // shape.groups, o), whole(generator, o)
    x, dy = whole(generator, batch, *shape.input, c), whole(generator, batch, *shape.output, o)
    assert_same(conv_passes(shape, w, b, fused=fused), x, dy, capacity=capacity, cpu=cpu)


NOTHING_READ = Geometry((1, 1), (1, 1), (3, 3), (1, 1), (1, 1, 1, 1)), 2, 3


@settings(max_examples=60)
@given(geometries(), st.integers(1, 5), st.integers(0, 20), st.booleans(), SEEDS)
@example(NOTHING_READ, 1, 0, False, 0)
@example((Geometry((5, 5), (1, 1), (3, 2)), 8, 8), 1, 0, False, 0)
@example((Geometry((9, 9), (3, 3), padding=(1, 1, 1, 1)), 32, 64), 16, 17, True, 0)
def test_conv2d(problem, batch, spare, fused, seed):
    """Capacity is the batch and some more: a full batch, a partial one, more samples than are in flight."""
    check_conv(problem, batch, batch + spare, seed, fused=fused)


@settings(max_examples=15)
@given(geometries(), st.integers(1, 3), SEEDS)
def test_conv2d_on_avx2(problem, batch, seed):
    check_conv(problem, batch, batch, seed, cpu=host().limited(8))


@settings(max_examples=8)
@given(geometries(), SEEDS)
def test_conv2d_on_narrow_vectors(problem, seed):
    check_conv(problem, 2, 2, seed, cpu=host().limited(4))


@settings(max_examples=40)
@given(geometries(), SEEDS)
@example((Geometry((13, 13), (5, 5)), 10, 16), 0)
@example((Geometry((9, 9), (4, 4), (2, 1), padding=(3, 2, 0, 0)), 3, 8), 0)
@example((Geometry((3, 40), (2, 2), padding=(1, 1, 0, 0)), 2, 3), 0)
@example((Geometry((1, 4), (1, 2), (3, 1), padding=(1, 1, 0, 0)), 2, 3), 0)
def test_conv2d_input_grad_by_runs(problem, seed):
    """Wherever it can go that way, also where the other is quicker: one row, two rows, none that is read."""
    shape, c, o = problem
    shape = dataclasses.replace(
        shape, dilation=(shape.dilation[0], 1), padding=(*shape.padding[:2], 0, 0), groups=1
    )
    assume(min(shape.output) > 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_input_grad, "LOADING", 0.0)
        assert by_runs(shape, c, host())
        check_conv((shape, c, o), 2, 2, seed)


def test_runs_are_chosen_where_they_fill_vectors():
    few, padded = Geometry((13, 13), (5, 5)), Geometry((13, 13), (5, 5), padding=(2, 2, 2, 2))
    assert by_runs(few, 10, host()) and not by_runs(padded, 10, host())
    assert not by_runs(Geometry((32, 32), (3, 3)), 16, host())


@settings(max_examples=40)
@given(geometries(), st.integers(1, 2), st.integers(0, 4), st.booleans(), SEEDS)
@example((Geometry((28, 28), (3, 3)), 1, 1), 1, 0, True, 0)
@example((Geometry((30, 7), (3, 2), (2, 1), (2, 2), (1, 0, 0, 1)), 1, 1), 2, 3, False, 0)
def test_conv2d_of_one_channel_to_one(problem, batch, spare, fused, seed):
    """Image rows take the place of channels, where neighbours come from neighbours."""
    shape = problem[0]
    check_conv((dataclasses.replace(shape, groups=1), 1, 1), batch, batch + spare, seed, fused=fused)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_conv2d_of_one_channel_in_any_vectors(lanes):
    check_conv((Geometry((28, 28), (3, 3)), 1, 1), 2, 2, 0, cpu=host().limited(lanes))


@pytest.mark.parametrize(("batch", "capacity"), [(1, 1), (2, 4), (1, 40), (7, 40), (40, 40), (150, 150)])
@pytest.mark.parametrize(
    ("inputs", "outputs"), [(1, 1), (3, 10), (17, 100), (300, 256), (1024, 10), (65, 1025), (2051, 128)]
)
def test_linear(inputs, outputs, batch, capacity, generator):
    """Small ones by samples, large ones over the whole batch, split by output; few samples have kernels of
    their own.
    """
    w, b = whole(generator, inputs, outputs), whole(generator, outputs)

    def record(ops, x, dy):
        return (
            ops.linear(x, w, b),
            ops.linear(x, w, None),
            ops.elementwise(relu, ops.linear(x, w, b)),
            ops.linear_input_grad(dy, w),
            ops.linear_weight_grad(dy, x),
            ops.bias_grad(dy),
        )

    x, dy = whole(generator, batch, inputs), whole(generator, batch, outputs)
    assert_same(record, x, dy, capacity=capacity)


@settings(max_examples=20)
@given(
    st.tuples(*[st.integers(1, 5)] * 2), st.lists(FEW, min_size=1, max_size=3), st.integers(1, 3),
    st.booleans(), SEEDS,
)  # fmt: skip
def test_joins(size, channels, batch, padded, seed):
    """add, add_bias, concat and split, with and without a halo around what they write and read."""
    generator = np.random.default_rng(seed)
    total = sum(channels)
    shape = geometry("conv", size, 3, padding="same" if padded else (1, 1, 1, 1))
    w, b = whole(generator, 3, 3, total, 2), whole(generator, total)

    def read_by_a_convolution(ops, x):
        return ops.conv2d(x, w, None, shape)

    def record(ops, x, *parts):
        joined = ops.concat(parts)
        total = ops.add(joined, x)
        cut = ops.split(ops.add_bias(total, b), channels)
        return joined, total, *cut, read_by_a_convolution(ops, total), read_by_a_convolution(ops, joined)

    arrays = [whole(generator, batch, *size, n) for n in (total, *channels)]
    assert_same(record, *arrays, capacity=batch + 1)


@pytest.mark.parametrize(("before", "after"), [((4, 6, 2), (48,)), ((48,), (4, 6, 2)), ((4, 6, 2), (6, 4, 2)),
                                               ((1, 6, 2), (3, 2, 2)), ((4, 6, 2), (4, 3, 4))])  # fmt: skip
@pytest.mark.parametrize("halo", ["none", "before", "after", "both"])
def test_reshape(before, after, halo, generator):
    """Between vectors and images, where a padded convolution reads what comes before, after, or both."""

    def read(ops, x):
        return ops.conv2d(x, ones[x.shape[-1]], None, geometry("conv", x.shape[1:3], 3, padding=1))

    ones = {c: whole(generator, 3, 3, c, 2) for c in (2, 4)}

    def record(ops, x):
        y = ops.reshape(x, after)
        results = [y]
        if halo in ("before", "both") and len(before) == 3:
            results.append(read(ops, x))
        if halo in ("after", "both") and len(after) == 3:
            results.append(read(ops, y))
        return results

    assert_same(record, whole(generator, 3, *before), capacity=4)
