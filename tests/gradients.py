"""Central differences: what an analytic gradient is held against."""

from __future__ import annotations

import numpy as np

EPS = 1e-5
SAMPLED = 200


def numerical_gradient(f, x, dy, eps=EPS):
    """Central-difference gradient of sum(f() * dy) with respect to x, which f reads. float64."""
    gradient = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        gradient[at] = directional_slope(f, x, dy, one_at(x.shape, at), eps)
    return gradient


def directional_slope(f, x, dy, direction, eps=EPS):
    """Central-difference slope of sum(f() * dy) as x moves along `direction`. x is restored."""
    start = x.copy()
    x[...] = start + eps * direction
    above = np.sum(f() * dy)
    x[...] = start - eps * direction
    below = np.sum(f() * dy)
    x[...] = start
    return (above - below) / (2 * eps)


def one_at(shape, at):
    """Zeros, and a one at index `at`."""
    direction = np.zeros(shape)
    direction[at] = 1.0
    return direction


def gradient_error(f, x, dy, dx, generator, eps=EPS):
    """The largest |a - n| / max(|a|, |n|, 1e-3 max|n|) over slopes a of dx and n of central differences.

    The slopes are along every entry of x or, beyond 200 entries, along 200 drawn ones and one random
    direction. A check that proves nothing is refused: nothing to compare, or slopes lost in rounding.
    """
    y = f()
    assert x.dtype == np.float64 and y.dtype == np.float64, "Central differences need float64."
    assert x.size and y.size, "There is nothing to check: x or f() is empty."
    assert dx.shape == x.shape, f"The gradient has shape {dx.shape}, x has shape {x.shape}."
    entries = list(np.ndindex(x.shape))
    if x.size <= SAMPLED:
        directions = (one_at(x.shape, at) for at in entries)
    else:
        drawn = (one_at(x.shape, entries[i]) for i in generator.choice(x.size, SAMPLED, replace=False))
        directions = (*drawn, generator.standard_normal(x.shape))
    slopes = [(np.sum(dx * d), directional_slope(f, x, dy, d, eps)) for d in directions]
    analytic, numeric = np.array(slopes).T
    rounding = np.finfo(np.float64).eps * np.sum(np.abs(y * dy)) / eps
    assert np.max(np.abs(numeric)) > 10 * rounding, "The check is vacuous: the loss does not depend on x."
    scale = np.maximum(np.abs(analytic), np.abs(numeric))
    return float(np.max(np.abs(analytic - numeric) / np.maximum(scale, 1e-3 * np.max(np.abs(numeric)))))


def assert_gradient(f, x, dy, dx, generator, tolerance=1e-5):
    """Fail where dx is not the gradient of sum(f() * dy) with respect to x, which f reads.

    Use a random dy, never ones, and keep x away from kinks.
    """
    error = gradient_error(f, x, dy, dx, generator)
    assert error < tolerance, f"The gradient is wrong by {error:.2g} of its size, allowed is {tolerance:.2g}."
