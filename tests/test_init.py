"""Initial weights: their spread, bounds and orthogonality, each from the generator it is given."""

from __future__ import annotations

import math

import numpy as np
import pytest

from glassnet.errors import ConfigError
from glassnet.init import RULES, fans, initializer
from messages import message_of
from oracles import oracle

SHAPE = (3, 2, 40, 50)  # fan_in 240, fan_out 300

# rule: (variance, largest possible value)
SPREADS = {
    "he_normal": (2 / 240, math.inf),
    "he_uniform": (2 / 240, math.sqrt(6 / 240)),
    "glorot_normal": (2 / 540, math.inf),
    "glorot_uniform": (2 / 540, math.sqrt(6 / 540)),
    "lecun_normal": (1 / 240, math.inf),
    0.1: (0.01, math.inf),
}


@pytest.mark.parametrize(("shape", "channels_first"), [(SHAPE, (50, 40, 3, 2)), ((7, 5), (5, 7))], ids=str)
def test_fans_are_pytorchs(shape, channels_first):
    torch = oracle("torch")
    assert fans(shape) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(channels_first))


@pytest.mark.parametrize("rule", SPREADS)
def test_spread(rule, generator):
    variance, bound = SPREADS[rule]
    w = initializer(rule)(SHAPE, generator)
    assert w.shape == SHAPE
    assert abs(w.mean()) < 4 * math.sqrt(variance / w.size)
    assert abs(w.var() / variance - 1) < 0.06  # four standard errors of the variance of 12,000 normal draws
    assert np.abs(w).max() <= bound
    if bound < math.inf:
        assert np.abs(w).max() > 0.99 * bound
    else:
        assert np.abs(w).max() > 3 * math.sqrt(variance)  # no uniform draw


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (2, 2, 2, 30), (9, 9)], ids=str)
def test_orthogonal(shape, generator):
    w = initializer("orthogonal")(shape, generator).reshape(-1, shape[-1])
    product = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-12)


def test_orthogonal_draws_every_sign(generator):
    """Without fixing the signs of the factorisation every draw has the same ones."""
    corners = [initializer("orthogonal")((3, 3), generator)[0, 0] for _ in range(200)]
    assert 70 < sum(corner > 0 for corner in corners) < 130


def test_zeros(generator):
    assert not initializer("zeros")(SHAPE, generator).any()


@pytest.mark.parametrize("rule", [*RULES, 0.1])
def test_the_same_generator_gives_the_same_weights(rule):
    one, two, other = (initializer(rule)(SHAPE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert rule == "zeros" or not np.array_equal(one, other)


def test_errors():
    assert message_of(ConfigError, initializer, "he_norm") == (
        "Unknown initialisation 'he_norm'. Did you mean 'he_normal'?"
    )
    assert message_of(ConfigError, fans, (3,)) == (
        "An initial weight needs at least the axes (in, out), got shape (3,)."
    )
