"""deep-ml 130: both programs to all printed digits, against nested loops, and on the compiled engine."""

from __future__ import annotations

import numpy as np
import pytest

from glassnet.errors import ConfigError, ShapeError
from glassnet.recipes import recipe_named, train_cnn, train_simple_cnn_with_backprop
from glassnet.recipes.deep_ml_130 import GOLDEN, drawn, golden_error, seeded
from messages import message_of
from naive_deep_ml import official_by_loops, write_up_by_loops


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


@pytest.mark.parametrize(
    ("function", "x", "y", "epochs", "error", "message"),
    [
        *(
            (train_simple_cnn_with_backprop, (3, 5, 5), y, 1, ShapeError, f"y must have shape (N, K) {rest}")
            for y, rest in (
                ((3,), "with a row for each of 3 images, got (3,)."),
                ((2, 2), "with a row for each of 3 images, got (2, 2)."),
            )
        ),
        (
            *(train_cnn, (3, 1, 5, 5), (4,), 1, ShapeError),
            "y must have shape (N, K) with a row for each of 3 images, got (4, 1).",
        ),
        (train_cnn, (3, 1, 5, 5), (3,), 0, ConfigError, "epochs must be 1 or more, got 0."),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_targets_and_no_epochs_are_refused(function, x, y, epochs, error, message, dtype):
    assert message_of(error, function, np.ones(x, dtype), np.ones(y), epochs, 0.01) == message


def test_the_recipe_says_how_golden_it_is_and_learns_digits():
    said = []
    result = recipe_named("deep-ml-130").train(0, say=said.append)
    assert said == list(result.log) == ["Golden cases of the official program: largest difference 4.8e-09."]
    assert result.test_accuracy >= 0.9 and result.train_accuracy >= 0.93
