"""The gradient checker itself: it accepts the truth, rejects 0.1 %, and refuses to prove nothing."""

from __future__ import annotations

import numpy as np
import pytest

from gradients import assert_gradient, numerical_gradient


@pytest.fixture(params=[(3, 4), (15, 20)], ids=["every entry", "sampled"])
def problem(request, generator):
    """f, x, a random dy and the true dx of y = x^3 + e^x."""
    x = generator.standard_normal(request.param)
    dy = generator.standard_normal(request.param)
    return lambda: x**3 + np.exp(x), x, dy, dy * (3 * x**2 + np.exp(x))


def test_true_gradient_is_accepted(problem, generator):
    f, x, dy, dx = problem
    before = x.copy()
    assert_gradient(f, x, dy, dx, generator)
    assert np.array_equal(x, before)


def test_gradient_wrong_by_a_thousandth_is_rejected(problem, generator):
    f, x, dy, dx = problem
    with pytest.raises(AssertionError, match=r"wrong by 0\.001"):
        assert_gradient(f, x, dy, 1.001 * dx, generator)


def test_one_entry_wrong_by_a_thousandth_is_rejected(generator):
    x = generator.standard_normal((3, 4))
    dx = 3 * x**2
    dx[1, 2] *= 1.001
    with pytest.raises(AssertionError, match=r"wrong by 0\.001"):
        assert_gradient(lambda: x**3, x, np.ones(x.shape), dx, generator)


def test_nan_is_rejected(problem, generator):
    f, x, dy, dx = problem
    with pytest.raises(AssertionError, match="wrong by nan"):
        assert_gradient(f, x, dy, dx * np.nan, generator)


def test_zero_gradient_is_refused(generator):
    x, other = generator.standard_normal((2, 3, 4))
    with pytest.raises(AssertionError, match="vacuous"):
        assert_gradient(
            lambda: other, x, generator.standard_normal(other.shape), np.zeros(x.shape), generator
        )


def test_gradient_lost_in_rounding_is_refused(generator):
    x = generator.standard_normal(20)
    with pytest.raises(AssertionError, match="vacuous"):  # shifts cancel, so the sum of dy is what is left
        assert_gradient(lambda: x - x.mean() + 1, x, np.ones(20), np.zeros(20), generator)


def test_empty_check_is_refused(generator):
    x = np.zeros((0, 3))
    with pytest.raises(AssertionError, match="nothing to check"):
        assert_gradient(lambda: 2 * x, x, x, x, generator)


def test_wrong_shape_is_refused(problem, generator):
    f, x, dy, dx = problem
    with pytest.raises(AssertionError, match="has shape"):
        assert_gradient(f, x, dy, dx.sum(axis=0), generator)


def test_float32_is_refused(generator):
    x = np.ones(3, np.float32)
    with pytest.raises(AssertionError, match="float64"):
        assert_gradient(lambda: 2 * x, x, np.ones(3), np.full(3, 2.0), generator)


def test_numerical_gradient_of_a_product(generator):
    a, b, dy = generator.standard_normal((3, 2, 2))
    np.testing.assert_allclose(numerical_gradient(lambda: a @ b, a, dy), dy @ b.T, rtol=1e-8)
