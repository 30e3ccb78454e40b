"""What callbacks change in a run that is in progress: which layers learn, when it stops, what they raise."""

from __future__ import annotations

import logging
import signal

import numpy as np
import pytest

import glassnet as gn
from glassnet.data import load
from glassnet.errors import NotFiniteError
from glassnet.train import Callback, Interrupted, resume
from messages import message_of

DATA = load("digits")
BACKENDS = pytest.mark.parametrize("backend", ["reference", "compiled"])


class After(Callback):
    """Does something to the network after the first epoch."""

    def __init__(self, do):
        self.do = do

    def on_epoch_end(self, training, record):
        if record.epoch == 1:
            self.before = training.net.store.snapshot()
            self.do(training.net)


def network(frozen=""):
    layers = [gn.Conv2d(4, 3), gn.ReLU(), gn.GlobalAvgPool2d(), gn.Linear(12), gn.ReLU(), gn.Linear(10)]
    net = gn.Sequential(layers, input_shape=(8, 8, 1), seed=0)
    if frozen:
        net[frozen].freeze()
    return net


@BACKENDS
@pytest.mark.parametrize("progressive", [(), (0.5,)])
@pytest.mark.parametrize(
    ("frozen", "do", "learning"),
    [
        ("", lambda net: net["conv2d_1"].freeze(), ["linear_1", "linear_2"]),
        ("", lambda net: net["linear_1"].freeze(), ["conv2d_1", "linear_2"]),
        ("conv2d_1", lambda net: net["conv2d_1"].freeze(False), ["conv2d_1", "linear_1", "linear_2"]),
        ("", lambda net: net["conv2d_1"].scale_lr(0.0), ["linear_1", "linear_2"]),
    ],
)
def test_layers_frozen_after_an_epoch_learn_no_more(backend, progressive, frozen, do, learning):
    net, after = network(frozen), After(do)
    few = DATA.train[:60], DATA.val
    data = gn.data.Dataset("few", *few)
    settings = {"epochs": 3, "batch_size": 20, "val_fraction": 0, "progressive": progressive}
    gn.fit(net, data, backend=backend, callbacks=[after], **settings)
    weights = net.store.snapshot()
    moved = {name.split(".")[0] for name, w in weights.items() if not np.array_equal(w, after.before[name])}
    assert sorted(moved) == learning


class StopThenInterrupt(Callback):
    def __init__(self, *, interrupt):
        self.interrupt = interrupt

    def on_step(self, training, record):
        if record.step == 5:
            training.stop = "enough"
        if record.step == 8 and self.interrupt:
            signal.raise_signal(signal.SIGINT)


def test_a_stop_that_was_asked_for_is_kept_through_an_interruption(tmp_path):
    settings = {"epochs": 6, "batch_size": 100, "backend": "reference"}
    whole = gn.fit(network(), DATA, callbacks=[StopThenInterrupt(interrupt=False)], **settings)
    with pytest.raises(Interrupted):
        gn.fit(
            *(network(), DATA),
            **settings | {"run_dir": tmp_path / "cut", "callbacks": [StopThenInterrupt(interrupt=True)]},
        )
    resumed = resume(tmp_path / "cut")[1]
    assert len(whole.history) == len(resumed.history) == 1
    assert whole.history[0].loss == resumed.history[0].loss


@BACKENDS
def test_what_a_callback_raises_leaves_the_averaged_weights(backend):
    class Failing(Callback):
        def on_epoch_end(self, training, record):
            self.seen = training.net.store.snapshot()
            raise RuntimeError("no more")

    net, failing = network(), Failing()
    with pytest.raises(RuntimeError, match="no more"):
        gn.fit(net, DATA, epochs=2, ema=0.9, backend=backend, callbacks=[failing])
    assert net.store.average is None
    for name, value in net.store.snapshot().items():
        np.testing.assert_array_equal(value, failing.seen[name])


@BACKENDS
def test_no_layer_is_blamed_by_gradients_that_are_not_numbers(backend, caplog):
    """On the compiled engine, those in the store are of the step that ended the block."""
    caplog.set_level(logging.WARNING)
    settings = {"epochs": 1, "batch_size": 20, "optimizer": gn.SGD(lr=1e12), "backend": backend}
    message_of(NotFiniteError, gn.fit, network(), DATA, **settings)
    blamed = "linear_2 has the largest gradient" in caplog.text
    assert blamed or "has the largest gradient" not in caplog.text
    assert "times the length of all weights" in caplog.text
