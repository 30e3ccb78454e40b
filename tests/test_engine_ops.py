"""Pooling, normalisation, activations, dropout and losses of the engine against the reference in float64.

EPS is what one rounding adds, relative to its result; a sum of k numbers in any order is off by at most
k * EPS times the sum of their sizes (Higham 2002, section 4.2). Bounds below count roundings in that way.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engines import EPS, assert_within, compiled, exact, normal, whole
from glassnet.engine.kernels.update import RUN, judge, squared_norm
from glassnet.engine.machine.cpu import host
from glassnet.ops.activations import ACTIVATIONS, relu, relu_gradient
from glassnet.ops.reference import ReferenceOps
from glassnet.shapes import Geometry, geometry

CHANNELS = st.sampled_from([1, 3, 8, 10, 16, 17, 33])
SIZES = st.tuples(*[st.integers(1, 9)] * 2)
SEEDS = st.integers(0, 2**16)
TINY = 1e-36


def assert_close(record, bounds, *arrays, **options):
    """Each result of the engine is within its bound of the reference's."""
    got, wanted = compiled(record, *arrays, **options), exact(record, *arrays)
    for ours, theirs, bound in zip(got, wanted, bounds, strict=True):
        assert_within(ours, theirs, bound)


@st.composite
def windows(draw):
    """A pooling window with less padding than itself."""
    size, kernel = draw(SIZES), draw(st.tuples(*[st.integers(1, 4)] * 2))
    stride = draw(st.one_of(st.just(kernel), st.tuples(*[st.integers(1, 4)] * 2)))
    padding = draw(
        st.one_of(st.just("same"), st.tuples(*[st.integers(0, k - 1) for k in kernel for _ in "ab"]))
    )
    sides = (0,) * 4 if padding == "same" else padding
    assume(padding == "same" or min(Geometry(size, kernel, stride, padding=sides).output) > 0)
    return geometry("pool", size, kernel, stride=stride, padding=padding)


@settings(max_examples=50)
@given(windows(), CHANNELS, st.integers(1, 3), SEEDS)
def test_pooling(shape, channels, batch, seed):
    """Whole numbers, full of ties: the first of equal values takes the gradient. Averages round twice."""
    generator = np.random.default_rng(seed)
    x, dy = whole(generator, batch, *shape.input, channels), whole(generator, batch, *shape.output, channels)

    def maximum(ops, x, dy):
        y, index = ops.max_pool2d(x, shape)
        dx = ops.max_pool2d_grad(dy, index, shape)
        return y, dx

    def before_relu(ops, x, dy):
        """The order in which a network has them, that the passes turn round."""
        z = ops.elementwise(relu, x)
        y, index = ops.max_pool2d(z, shape)
        return y, ops.elementwise(relu_gradient, ops.max_pool2d_grad(dy, index, shape), z)

    def averages(ops, x, dy):
        return [
            result
            for counted in (True, False)
            for result in (ops.avg_pool2d(x, shape, counted), ops.avg_pool2d_grad(dy, shape, counted))
        ]

    options = {"capacity": batch + 2}
    assert_close(maximum, (0, 0), x, dy, **options)
    assert_close(before_relu, (0, 0), x, dy, **options)
    # A gradient sums at most 16 shares of at most 4, each of them rounded; a mean is rounded once or twice.
    assert_close(averages, (8 * EPS, 17 * 64 * EPS) * 2, x, dy, **options)


@settings(max_examples=20)
@given(SIZES, CHANNELS, st.integers(1, 3), SEEDS)
def test_global_pooling(size, channels, batch, seed):
    generator = np.random.default_rng(seed)
    x, dy = whole(generator, batch, *size, channels), whole(generator, batch, channels)

    def record(ops, x, dy):
        return ops.global_avg_pool2d(x), ops.global_avg_pool2d_grad(dy, size)

    assert_close(record, (8 * EPS, 8 * EPS), x, dy, capacity=batch + 1)


@pytest.mark.parametrize("kernel", [2, 3])
def test_pooling_keeps_nan_and_gives_it_the_gradient(kernel, generator):
    shape = geometry("pool", (6, 6), kernel, stride=2)
    x, dy = normal(generator, 2, 6, 6, 3), normal(generator, 2, *shape.output, 3)
    x[0, 1, 1, 0] = x[0, 1, 0, 0] = x[1, 4, 4, 2] = np.nan

    def record(ops, x, dy):
        y, index = ops.max_pool2d(x, shape)
        return y, ops.max_pool2d_grad(dy, index, shape)

    assert_close(record, (0, 4 * EPS), x, dy)
    assert np.isnan(compiled(record, x, dy)[0]).any()


# Of each activation: error of its value and of its derivative near zero and relative to |x|, in units of EPS.
ROUNDINGS = {"relu": 0, "leaky_relu": 2, "sigmoid": 8, "tanh": 12, "silu": 16, "gelu": 16}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("spread", [1, 30])
def test_activations(name, spread, generator):
    """Values and derivatives; polynomials in place of the C library's functions cost a few more roundings."""
    row, scalars = ACTIVATIONS[name], (0.25,) if name == "leaky_relu" else ()
    x, dy = spread * normal(generator, 3, 5, 4, 7), normal(generator, 3, 5, 4, 7)

    def record(ops, x, dy):
        y = ops.elementwise(row.function, x, *scalars)
        return y, ops.elementwise(row.gradient, dy, y if row.saves == "output" else x, *scalars)

    size = np.maximum(np.abs(x), 1)
    assert_close(record, (ROUNDINGS[name] * EPS * size, ROUNDINGS[name] * EPS * np.abs(dy) * size), x, dy)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_the_ends(name):
    row, scalars = ACTIVATIONS[name], (0.25,) if name == "leaky_relu" else ()
    x = np.array([[0.0, -0.0, 1e-30, -1e-30, 90.0, -90.0, 1e4, -1e4, np.inf, -np.inf, np.nan]], np.float32)

    def record(ops, x):
        return (ops.elementwise(row.function, x, *scalars),)

    with np.errstate(all="ignore"):
        (wanted,) = exact(record, x)
    (got,) = compiled(record, x)
    finite = np.isfinite(wanted)
    assert np.abs(got[finite] - wanted[finite]).max() <= 1e-6
    assert np.array_equal(got[np.isinf(wanted)], wanted[np.isinf(wanted)])
    assert not np.isfinite(got[np.isnan(wanted)]).any()
    assert np.isnan(got[0, -1])


@settings(max_examples=20)
@given(st.one_of(st.just(()), SIZES), st.sampled_from([1, 2, 5, 10, 100]), st.sampled_from([1, 20]), SEEDS)
def test_softmax(size, classes, spread, seed):
    generator = np.random.default_rng(seed)
    x, dy = spread * normal(generator, 3, *size, classes), normal(generator, 3, *size, classes)
    y, largest = exact(lambda ops, x: ops.softmax(x), x), np.abs(x).max()

    def record(ops, x, dy):
        y = ops.softmax(x)
        return y, ops.softmax_grad(dy, y)

    # x - max is off by EPS * |x|, which exp makes a relative error; then a sum of `classes`, two roundings,
    # and numbers below the smallest normal one, which are flushed.
    relative = (4 * largest + classes + 8) * EPS
    mass = np.abs(dy * y).sum(axis=-1, keepdims=True)
    assert_close(
        record, (relative * y + TINY, 3 * relative * y * (np.abs(dy) + mass) + TINY), x, dy, capacity=4
    )


LOSSES = ["cross_entropy", "binary_cross_entropy", "mean_squared_error", "probability_cross_entropy"]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [1, 2, 10, 101])
@pytest.mark.parametrize("spread", [1, 25])
def test_losses(name, classes, spread, generator):
    """Each sample's loss and the gradient of its scores, with a share of its own and soft targets."""
    z, share = spread * normal(generator, 6, classes), generator.random(6).astype(np.float32)
    target = generator.random((6, classes)).astype(np.float32)
    if name == "probability_cross_entropy":
        z = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)).astype(np.float32)
        z[0, 0] = 0.0

    def record(ops, z):
        return getattr(ops, name)(z, target, share), getattr(ops, f"{name}_grad")(z, target, share)

    values, gradients = exact(record, z)
    # Scores enter exponentials, which makes their rounding relative; then a sum over the classes.
    size = (np.abs(z).max() + classes) * EPS
    wide = (np.abs(target).sum(axis=1) + 1) * share
    bounds = (
        4 * size * wide * (1 + np.abs(z).max()) + 4 * EPS * values,
        4 * size * (wide[:, None] + np.abs(gradients)),
    )
    assert_close(record, bounds, z)


def test_cross_entropy_of_huge_scores(generator):
    """Adding 2**28 to every score changes nothing, and loses nothing."""
    z = 64 * np.round(4 * normal(generator, 6, 10)) + np.float32(2**28)
    target = np.eye(10, dtype=np.float32)[generator.integers(0, 10, 6)]
    share = np.full(6, 1 / 6, np.float32)

    def record(ops, z):
        return ops.cross_entropy(z, target, share), ops.cross_entropy_grad(z, target, share)

    assert_close(record, (1e-6 * exact(record, z)[0].max(), 4 * EPS), z)


NORM_SIZES = st.one_of(st.just(()), SIZES)


def spread_of(x, axes):
    """How much larger numbers are than their differences: what centring them costs in relative accuracy."""
    return 1 + np.abs(x).max() / np.sqrt(x.astype(np.float64).var(axis=axes) + 1e-5).min()


@settings(max_examples=25)
@given(NORM_SIZES, CHANNELS, st.integers(2, 20), st.sampled_from([0, 10]), st.booleans(), SEEDS)
def test_batch_norm(size, channels, batch, offset, fused, seed):
    """Statistics, values and gradients over one leaf or several, with its statistics and constant ones."""
    generator = np.random.default_rng(seed)
    x, dy = (
        normal(generator, batch, *size, channels) + np.float32(offset),
        normal(generator, batch, *size, channels),
    )
    gamma, beta, mean, var = (np.abs(normal(generator, channels)) + np.float32(0.5) for _ in range(4))

    def record(ops, x, dy):
        statistics = ops.batch_norm_statistics(x)
        results = []
        for m, v in (statistics, (mean, var)):
            y = ops.batch_norm(x, gamma, beta, m, v, 1e-5)
            sums = ops.batch_norm_parameter_grads(dy, x, m, v, 1e-5)
            through = sums if m is not mean else (None, None)
            results += [ops.elementwise(relu, y) if fused else y, *sums]
            results.append(ops.batch_norm_input_grad(dy, x, gamma, m, v, *through, 1e-5))
        return (*statistics, *results)

    axes = tuple(range(x.ndim - 1))
    count, cost = x.size // channels, spread_of(x, axes) ** 2
    relative = (count + 32) * cost * EPS
    wanted = exact(record, x, dy)
    bounds = [relative * (np.abs(w) + np.abs(w).max() + 1) for w in wanted]
    assert_close(record, bounds, x, dy, capacity=batch + 3)


@settings(max_examples=20)
@given(NORM_SIZES, st.sampled_from([(1, 1), (1, 10), (3, 2), (8, 1), (2, 17)]), st.integers(1, 9), SEEDS)
def test_group_norm(size, shape, batch, seed):
    groups, own = shape
    assume(own * int(np.prod(size)) > 1)
    generator = np.random.default_rng(seed)
    x, dy = normal(generator, batch, *size, groups * own), normal(generator, batch, *size, groups * own)
    gamma, beta = normal(generator, groups * own), normal(generator, groups * own)

    def record(ops, x, dy):
        y, mean, rstd = ops.group_norm(x, gamma, beta, groups, 1e-5)
        sums = ops.group_norm_parameter_grads(dy, x, mean, rstd, groups)
        return y, *sums, ops.group_norm_input_grad(dy, x, gamma, mean, rstd, groups)

    by_group = x.reshape(batch, -1, groups, own)
    assert_normalised(record, spread_of(by_group, (1, 3)), x, dy, batch)


def assert_normalised(record, spread, x, dy, batch):
    """Within one rounding for each number summed, times what centring and dividing by the deviation cost."""
    relative = (x[0].size + 32) * spread**2 * EPS
    bounds = [relative * (np.abs(w) + np.abs(w).max() + 1) for w in exact(record, x, dy)]
    assert_close(record, bounds, x, dy, capacity=batch + 1)


@settings(max_examples=20)
@given(NORM_SIZES, st.sampled_from([2, 8, 10, 33]), st.integers(1, 3), st.integers(1, 9), SEEDS)
def test_layer_norm(size, channels, axes, batch, seed):
    """Over the channels of each pixel, over rows of pixels, over whole images."""
    shape = (*size, channels)
    assume(axes <= len(shape))
    generator = np.random.default_rng(seed)
    x, dy = normal(generator, batch, *shape), normal(generator, batch, *shape)
    gamma, beta = normal(generator, *shape[-axes:]), normal(generator, *shape[-axes:])

    def record(ops, x, dy):
        y, mean, rstd = ops.layer_norm(x, gamma, beta, 1e-5)
        sums = ops.layer_norm_parameter_grads(dy, x, mean, rstd, gamma.shape)
        return y, *sums, ops.layer_norm_input_grad(dy, x, gamma, mean, rstd)

    assert_normalised(record, spread_of(x, tuple(range(x.ndim - axes, x.ndim))), x, dy, batch)


@settings(max_examples=20)
@given(NORM_SIZES, CHANNELS, st.sampled_from([0.1, 0.5, 0.9]), st.booleans(), SEEDS)
def test_dropout_draws_the_same_masks(size, channels, rate, by_channel, seed):
    generator = np.random.default_rng(seed)
    x, key = normal(generator, 5, *size, channels), int(generator.integers(2**32))
    random = (int(generator.integers(2**40)), int(generator.integers(2**31)), int(generator.integers(1000)))

    def record(ops, x):
        return (ops.dropout(x, rate, key, channels=by_channel),)

    (got,) = compiled(record, x, capacity=8, random=random)
    ops = ReferenceOps(seed=random[0], step=random[1], first_sample=random[2])
    assert np.array_equal(got, record(ops, x)[0])


@settings(max_examples=20)
@given(SIZES, CHANNELS, st.sampled_from([4, 8, 16]), *[st.booleans()] * 3, SEEDS)
def test_dropout_within_a_halo(size, channels, lanes, before, after, by_channel, seed):
    """Image rows of any length then lie apart, and begin and end within a block of four words."""
    generator = np.random.default_rng(seed)
    x, w = whole(generator, 3, *size, channels), whole(generator, 3, 3, channels, 2)
    shape = geometry("conv", size, 3, padding=1)

    def record(ops, x):
        doubled = ops.add(x, x)
        dropped = ops.dropout(doubled, 0.5, 7, channels=by_channel)
        read = [symbol for symbol, wanted in ((doubled, before), (dropped, after)) if wanted]
        return dropped, *(ops.conv2d(symbol, w, None, shape) for symbol in read)

    got = compiled(record, x, random=(3, 2, 1), cpu=host().limited(lanes))
    for ours, theirs in zip(got, record(ReferenceOps(seed=3, step=2, first_sample=1), x), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("size", [1.0, 1e25, 1e-15])
def test_squared_norm_of_gradients_whose_squares_may_not_be_float32(size, generator):
    g, sums = normal(generator, 2 * RUN + 7) * np.float32(size), np.zeros(3)
    squared_norm(g, sums, lo=0, hi=3)
    wanted = [np.square(run, dtype=np.float64).sum() for run in np.split(g, (RUN, 2 * RUN))]
    np.testing.assert_allclose(sums, wanted, rtol=3e-6)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_squared_norm_tells_of_a_number_that_is_none(number):
    g, sums = np.full(2 * RUN, 1e30, np.float32), np.zeros(2)
    g[RUN + 3] = number
    squared_norm(g, sums, lo=0, hi=2)
    assert np.isfinite(sums[0]) and not np.isfinite(sums[1])


def test_more_steps_than_rows_of_results_write_over_them_and_nothing_else():
    """As in a profile, which takes one step thousands of times."""
    memory, cursor = np.full((5, 3), 7.0), np.zeros(1, np.int64)
    losses, scores, labels = np.ones(2, np.float32), np.eye(2, dtype=np.float32), np.array([0, 0])
    limits, go = np.ones(2, np.float32), np.ones(1, np.int64)
    for _ in range(5):
        seen = (losses, np.array([9.0]), scores, labels, np.array([2]), np.full(2, np.inf))
        judge(*seen, limits, memory[:2], cursor, go)
    assert cursor == 1
    np.testing.assert_array_equal(memory, [[2, 3, 1]] * 2 + [[7] * 3] * 3)
