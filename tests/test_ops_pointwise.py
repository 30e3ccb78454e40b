"""Activations, softmax, shapes and dropout against nested loops, PyTorch and central differences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import naive
from compare import close, torch_gradients
from glassnet.ops.activations import ACTIVATIONS
from glassnet.ops.philox import keep_threshold, random_words
from glassnet.ops.reference import ReferenceOps
from gradients import gradient_error
from oracles import oracle

ops = ReferenceOps()
SETTINGS = {"leaky_relu": (0.01,)}  # what naive.py and PyTorch take by default

RANGE = np.concatenate(
    [np.linspace(-1e4, 1e4, 41), np.linspace(-40, 40, 161), [0.0, -0.0, 1e-8, -1e-8, 1e-300, -1e-300]]
)


def activate(name, x):
    return ops.elementwise(ACTIVATIONS[name].function, x, *SETTINGS.get(name, ()))


def activate_grad(name, dy, x):
    row = ACTIVATIONS[name]
    saved = activate(name, x) if row.saves == "output" else x
    return ops.elementwise(row.gradient, dy, saved, *SETTINGS.get(name, ()))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_over_the_whole_range(name, generator):
    dy = generator.standard_normal(RANGE.shape)
    y, (dx,) = torch_gradients(getattr(oracle("torch").nn.functional, name), dy, RANGE)
    for expected, expected_grad in (
        (y, dx),
        (naive.activation(name, RANGE), naive.activation_grad(name, dy, RANGE)),
    ):
        close(activate(name, RANGE), expected)
        close(activate_grad(name, dy, RANGE), expected_grad)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_in_float32(name):
    """Finite over the whole range, and the float64 values to float32 precision."""
    x = RANGE.astype(np.float32)
    for ours, exact in (
        (activate(name, x), activate(name, x.astype(np.float64))),
        (
            activate_grad(name, np.ones_like(x), x),
            activate_grad(name, np.ones(x.shape), x.astype(np.float64)),
        ),
    ):
        assert ours.dtype == np.float32 and np.isfinite(ours).all()
        close(ours, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradient_is_a_slope(name, generator):
    x, dy = 3 * generator.standard_normal((2, 10, 12))
    assert gradient_error(lambda: activate(name, x), x, dy, activate_grad(name, dy, x), generator) < 1e-6


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_keeps_nan(name):
    assert np.isnan(activate(name, np.array([np.nan, 1.0]))).tolist() == [True, False]


def test_leaky_relu_takes_any_slope():
    row, x = ACTIVATIONS["leaky_relu"], np.array([-2.0, 0.0, 3.0])
    assert ops.elementwise(row.function, x, 0.25).tolist() == [-0.5, 0.0, 3.0]
    assert ops.elementwise(row.gradient, np.ones(3), x, 0.25).tolist() == [0.25, 0.25, 1.0]


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 3, 5)], ids=str)
def test_softmax(shape, generator):
    x, dy = 4 * generator.standard_normal((2, *shape))
    y, (expected,) = torch_gradients(lambda x: x.softmax(-1), dy, x)
    p = ops.softmax(x)
    dx = ops.softmax_grad(dy, p)
    close(p, y)
    close(dx, expected)
    assert gradient_error(lambda: ops.softmax(x), x, dy, dx, generator) < 1e-6
    flat = x.reshape(-1, 5)
    close(p.reshape(-1, 5), naive.softmax(flat))
    close(dx.reshape(-1, 5), naive.softmax_grad(dy.reshape(-1, 5), naive.softmax(flat)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_huge_numbers(dtype):
    p = ops.softmax(np.array([[1e4, -1e4, 0], [1e4, 1e4, -1e4]], dtype))
    assert p.tolist() == [[1, 0, 0], [0.5, 0.5, 0]] and p.dtype == dtype


def test_split_undoes_concat(generator):
    sizes = (1, 3, 2)
    parts = [generator.standard_normal((2, 3, 4, size)) for size in sizes]
    joined = ops.concat(parts)
    assert joined.shape == (2, 3, 4, 6)
    assert all(map(np.array_equal, ops.split(joined, sizes), parts))
    y, gradients = torch_gradients(lambda *parts: oracle("torch").cat(parts, -1), 2 * joined, *parts)
    assert np.array_equal(joined, y)
    assert all(map(np.array_equal, ops.split(2 * joined, sizes), gradients))


def test_reshape_and_add(generator):
    x = generator.standard_normal((2, 3, 4, 5))
    assert np.array_equal(ops.reshape(x, (60,)), x.reshape(2, 60))
    assert np.array_equal(ops.reshape(ops.reshape(x, (60,)), (3, 4, 5)), x)
    assert np.array_equal(ops.add(x, 2 * x), x + 2 * x)


# Dropout


def mask(rate=0.5, key=7, samples=4, units=(50, 50, 4), seed=1, step=3, first_sample=0, **options):
    """Which units are kept."""
    context = ReferenceOps(seed=seed, step=step, first_sample=first_sample)
    return context.dropout(np.ones((samples, *units)), rate, key, **options) > 0


def test_random_words_are_philox_in_the_stated_layout():
    """key = the two halves of seed; counter = (position // 4, sample, step, key of the layer)."""
    seed, key, step, samples = 0x9_8765_4321, 0xABCDEF01, 12, np.array([3, 70_000])
    words = random_words(seed, key, step, samples, 10)
    for sample, row in zip(samples.tolist(), words.tolist(), strict=True):
        blocks = [naive.philox4x32((b, sample, step, key), (0x8765_4321, 0x9)) for b in range(3)]
        assert row == [word for block in blocks for word in block][:10]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_at_its_rate(rate):
    kept = mask(rate).mean()
    assert abs(kept - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / 40_000)


def test_the_threshold_of_a_rate():
    assert [keep_threshold(rate) for rate in (0.0, 0.5, 1 - 2**-40)] == [0, 2**31, 2**32 - 1]


@pytest.mark.parametrize("other", [{"step": 4}, {"key": 8}, {"seed": 2}, {"seed": 1 + 2**32}], ids=str)
def test_masks_differ_by_step_layer_and_seed(other):
    assert abs(np.corrcoef(mask().ravel(), mask(**other).ravel())[0, 1]) < 4 / np.sqrt(40_000)
    assert np.array_equal(mask(), mask())


def test_masks_differ_by_sample_and_unit():
    masks = mask(samples=4).reshape(4, -1)
    assert np.abs(np.corrcoef(masks) - np.eye(4)).max() < 4 / np.sqrt(10_000)
    neighbours = np.corrcoef(masks[:, :-1].ravel(), masks[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(40_000)


def test_a_batch_in_parts_draws_the_masks_of_the_whole():
    whole = mask(samples=5)
    assert np.array_equal(whole, np.concatenate([mask(samples=2), mask(samples=3, first_sample=2)]))


@pytest.mark.parametrize("channels", [False, True])
def test_dropout_is_its_own_backward(channels, generator):
    x, dy = 1 + generator.random((2, 3, 4, 5, 6))
    y = ops.dropout(x, 0.3, 7, channels=channels)
    dx = ops.dropout(dy, 0.3, 7, channels=channels)
    close(y, np.where(y != 0, x / 0.7, 0))
    close(dx, np.where(y != 0, dy / 0.7, 0))
    f = partial(ops.dropout, x, 0.3, 7, channels=channels)
    assert gradient_error(f, x, dy, dx, generator) < 1e-6


@pytest.mark.parametrize("channels", [False, True])
def test_the_mean_over_steps_is_the_input(channels):
    """Inverted dropout: what training gives on average is what evaluation gives."""
    x = np.linspace(1, 2, 2 * 3 * 3 * 4).reshape(2, 3, 3, 4)
    steps = [ReferenceOps(step=step).dropout(x, 0.4, 7, channels=channels) for step in range(2000)]
    deviation = x * np.sqrt(0.4 / 0.6 / 2000)
    assert (np.abs(np.mean(steps, axis=0) - x) < 5 * deviation).all()


def test_dropout2d_drops_whole_channels():
    kept = mask(samples=40, units=(3, 3, 50), channels=True)
    assert (kept == kept[:, :1, :1]).all()
    assert abs(kept.mean() - 0.5) < 4 * np.sqrt(0.25 / 2000)


def test_dropout_stays_float32():
    assert ops.dropout(np.ones((2, 3), np.float32), 0.5, 1).dtype == np.float32
