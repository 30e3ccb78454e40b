"""The search for a learning rate: what it takes, what it says, and that it leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import ConfigError
from glassnet.train import TrainConfig, build_model, fit_config
from glassnet.train.lr_finder import HIGHEST, LOWEST, RateSearch, find_lr
from messages import message_of

DIGITS = gn.data.load("digits")


def search(backend="compiled", steps=60, **settings):
    config = TrainConfig(data="digits", model="small", backend=backend, **settings)
    net = build_model(config, DIGITS)
    before = net.store.snapshot()
    found = find_lr(net, DIGITS, config, steps=steps)
    assert all((before[name] == array).all() for name, array in net.store.tensors().items())
    assert not net.store.optimizer and net.preprocessing is None
    return found


def test_rates_rise_exponentially_until_the_loss_grows():
    found = search()
    assert found.rates[0] == pytest.approx(LOWEST) and found.rates[-1] <= HIGHEST
    np.testing.assert_allclose(np.diff(np.log(found.rates)), np.log(HIGHEST / LOWEST) / 59, rtol=1e-9)
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert min(found.smoothed) < 0.85 * found.smoothed[0]
    assert found.suggestion == float(f"{found.lowest / 10:.1e}") and found.steepest <= found.lowest


def test_a_rate_that_is_too_high_ends_the_search():
    found = search(steps=40, optimizer=gn.SGD(lr=0.1, momentum=0.9))
    assert len(found.rates) < 40 and found.smoothed[-1] > min(found.smoothed)


def test_backends_search_alike():
    one, other = search("compiled", 30, ema=0.9), search("reference", 30)
    np.testing.assert_allclose(one.losses[:15], other.losses[:15], rtol=1e-3)


def test_the_moving_average_is_corrected_for_its_start():
    found = search(steps=30)
    weights = 0.9 ** np.arange(12)[::-1]
    assert found.smoothed[11] == pytest.approx((weights * found.losses[:12]).sum() / weights.sum())


def test_what_is_suggested_of_known_losses():
    rates = np.geomspace(1e-4, 1, 41)
    smoothed = np.where(np.arange(41) < 30, 2 - np.arange(41) * 0.05, 5)
    smoothed[20] -= 0.03  # falls fastest up to there
    found = RateSearch(tuple(rates), tuple(smoothed), tuple(smoothed))
    assert found.lowest == rates[29] and found.suggestion == float(f"{rates[29] / 10:.1e}")
    assert found.steepest == rates[19]


def test_the_suggestion_trains():
    found = search()
    config = TrainConfig(data="digits", model="small", epochs=2, optimizer=gn.SGD(lr=found.suggestion))
    assert fit_config(config, data=DIGITS)[1].test.accuracy > 0.7


def test_what_cannot_be_searched():
    assert message_of(ConfigError, search, steps=19) == (
        "A search for the learning rate needs 20 steps or more, got 19."
    )
    images = np.full((40, 8, 8, 1), -3e38, np.float32)
    wild = gn.data.from_arrays(images, np.arange(40) % 2, normalise=False)
    config = TrainConfig(data="", model="small", batch_size=8)
    message = message_of(ConfigError, find_lr, build_model(config, wild), wild, config)
    assert message.startswith("The loss grew beyond all bounds after 0 steps, at a learning rate of 1e-05")
