"""deep-ml 130: both programs to all printed digits, against nested loops, and on the compiled engine."""

from __future__ import annotations

import numpy as np
import pytest

import naive
from glassnet.errors import ShapeError
from glassnet.recipes import recipe_named, train_cnn, train_simple_cnn_with_backprop
from glassnet.recipes.deep_ml_130 import GOLDEN, drawn, golden_error, seeded
from messages import message_of


@pytest.mark.parametrize(("arguments", "printed"), GOLDEN)
def test_the_official_program_gives_all_printed_digits(arguments, printed):
    with seeded(42):
        got = train_simple_cnn_with_backprop(*arguments)
    for array, expected in zip(got, printed, strict=True):
        assert str(array.ravel()) == str(np.array(expected))


def test_the_official_programs_shapes_and_draws():
    x, y = np.arange(75.0).reshape(3, 5, 5) / 75, np.eye(4)[:3]
    with seeded(7):
        w_conv, b_conv, w_dense, b_dense = train_simple_cnn_with_backprop(x, y, 1, 1e-12, 2, 3)
    assert (w_conv.shape, b_conv.shape, w_dense.shape, b_dense.shape) == ((2, 2, 3), (3,), (48, 4), (4,))
    drawn = np.random.RandomState(7)
    np.testing.assert_allclose(w_conv, 0.01 * drawn.randn(2, 2, 3), atol=1e-9)
    np.testing.assert_allclose(w_dense, 0.01 * drawn.randn(48, 4), atol=1e-9)


def official_by_loops(random, x, y, epochs, lr, kernel_size, filters):
    """The official program in nested loops: an update after each image, in order."""
    w = 0.01 * random.randn(kernel_size, kernel_size, filters)[:, :, None]
    x = x[..., None]
    side = x.shape[1] - kernel_size + 1, x.shape[2] - kernel_size + 1
    v, b = 0.01 * random.randn(side[0] * side[1] * filters, y.shape[1]), np.zeros(filters)
    c = np.zeros(y.shape[1])
    for n in list(range(len(x))) * epochs:
        image, z = x[n : n + 1], naive.conv2d(x[n : n + 1], w, b)
        flat = np.maximum(z, 0).reshape(1, -1)
        dscores = naive.softmax(naive.linear(flat, v, c)) - y[n]
        dflat, dv, dc = naive.linear_grad(dscores, flat, v)
        dz = dflat.reshape(z.shape) * (z > 0)
        w, b = w - lr * naive.conv2d_weight_grad(dz, image, w.shape), b - lr * naive.bias_grad(dz)
        v, c = v - lr * dv, c - lr * dc
    return w[:, :, 0], b, v, c


def write_up_by_loops(random, x, y, epochs, lr):
    """The write-up's program in nested loops: p = relu(x * w + b) v + c, dp = 2 (p - y) / (N K)."""
    w = 0.1 * random.randn(1, x.shape[1], 3, 3).transpose(2, 3, 1, 0)
    x = x.transpose(0, 2, 3, 1)
    v = 0.1 * random.randn((x.shape[1] - 2) * (x.shape[2] - 2), y.shape[1])
    b, c = np.zeros(1), np.zeros(y.shape[1])
    for _ in range(epochs):
        z = naive.conv2d(x, w, b)
        flat = np.maximum(z, 0).reshape(len(x), -1)
        loss, dscores = naive.mean_squared_error(naive.linear(flat, v, c), y)
        dflat, dv, dc = naive.linear_grad(dscores, flat, v)
        dz = dflat.reshape(z.shape) * (z > 0)
        w, b = w - lr * naive.conv2d_weight_grad(dz, x, w.shape), b - lr * naive.bias_grad(dz)
        v, c = v - lr * dv, c - lr * dc
    return w.transpose(3, 2, 0, 1), b, v, c, loss


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
def test_loops_reference_and_engine_agree_on_the_official_program(generator, dtype, tolerance):
    x, y = generator.standard_normal((5, 6, 7)), np.eye(3)[[0, 2, 1, 1, 0]]
    expected = official_by_loops(np.random.RandomState(1), x, y, 2, 0.05, 3, 2)
    with seeded(1):
        got = train_simple_cnn_with_backprop(x.astype(dtype), y, 2, 0.05, 3, 2)
    for array, wanted in zip(got, expected, strict=True):
        assert array.dtype == dtype
        np.testing.assert_allclose(array, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize("outputs", [None, 2])
def test_loops_reference_and_engine_agree_on_the_write_up(generator, dtype, tolerance, outputs):
    x = generator.standard_normal((4, 2, 6, 5))
    y = generator.standard_normal(4 if outputs is None else (4, outputs))
    expected = write_up_by_loops(np.random.RandomState(1), x, y[:, None] if outputs is None else y, 3, 0.05)
    with seeded(1):
        got = train_cnn(x.astype(dtype), y, epochs=3, lr=0.05)
    for array, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=tolerance, atol=tolerance)
    assert got[0].shape == (1, 2, 3, 3) and isinstance(got[4], float)


def test_the_write_up_learns():
    x, y = np.random.default_rng(0).standard_normal((20, 1, 6, 6)), np.repeat([0.0, 1.0], 10)
    x[10:] += 1
    with seeded(0):
        first, last = (train_cnn(x, y, epochs=epochs, lr=0.1)[4] for epochs in (1, 100))
    assert last < 0.3 * first


def test_the_callers_random_numbers_go_on_as_if_nothing_had_been_seeded():
    expected = np.random.RandomState(3).randn(2)
    with seeded(3):
        assert drawn(1) == expected[0]
        assert golden_error() < 5e-9
        assert drawn(1) == expected[1]


def test_images_of_another_rank_are_refused():
    assert message_of(ShapeError, train_cnn, np.zeros((2, 5, 5)), np.zeros(2)) == (
        "X must have shape (N, C, H, W), got (2, 5, 5)."
    )


def test_the_recipe_says_how_golden_it_is_and_learns_digits():
    said = []
    result = recipe_named("deep-ml-130").train(0, say=said.append)
    assert said == list(result.log) == ["Golden cases of the official program: largest difference 4.8e-09."]
    assert result.test_accuracy >= 0.9 and result.train_accuracy >= 0.93
