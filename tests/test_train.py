"""Whole runs: real digits to 98 %, hold-out, early stopping, callbacks, and Ctrl-C."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import threading
from functools import partial

import numpy as np
import pytest

import glassnet as gn
from glassnet.data import Dataset, load
from glassnet.runs.records import EpochRecord, best_epoch
from glassnet.train import Callback, Interrupted, TrainConfig, fit_config
from glassnet.train.interrupt import Requests

DATA = load("digits")
fit = partial(gn.fit, backend="reference")  # the definition of what training does


def network(seed=0):
    return gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1), seed=seed)


class Recorder(Callback):
    """Every moment of a run, in order, and the weights after each epoch."""

    def __init__(self):
        self.moments, self.weights = [], []

    def on_train_begin(self, training):
        self.moments.append("begin")
        self.training = training

    def on_step(self, training, record):
        self.moments.append(f"step {record.step}")

    def on_epoch_end(self, training, record):
        self.moments.append(f"epoch {record.epoch}")
        self.weights.append(training.net.store.snapshot())

    def on_train_end(self, training):
        self.moments.append("end")


class Interrupt(Callback):
    """Ctrl-C after a given step or epoch."""

    def __init__(self, *, step=None, epoch=None):
        self.step, self.epoch = step, epoch

    def on_step(self, training, record):
        if record.step == self.step:
            self.weights = training.net.store.snapshot()
            signal.raise_signal(signal.SIGINT)

    def on_epoch_end(self, training, record):
        if record.epoch == self.epoch:
            raise KeyboardInterrupt


# Accuracy


def test_digits_reach_98_percent():
    _, run = fit_config(TrainConfig.resolve({"data": "digits", "backend": "reference"}))
    assert run.test.accuracy >= 0.98
    assert run.val.accuracy >= 0.98
    assert run.seconds < 60
    assert len(run.history) == run.config.epochs and run.stopped is None and run.folder is None


@pytest.mark.slow
def test_mnist_reaches_98_percent_in_one_epoch(real_data):
    _, run = fit_config(TrainConfig.resolve({"data": "mnist", "backend": "reference"}))
    assert len(run.history) == 1
    assert run.test.accuracy >= 0.98


# What fit does


def test_fit_on_arrays_makes_a_network_that_knows_its_classes():
    names = np.array([f"digit {label}" for label in DATA.train.labels])
    net = network()
    run = fit(net, (DATA.train.images, names), epochs=3)
    assert net.classes == tuple(f"digit {i}" for i in range(10))
    assert net.preprocessing.size == (8, 8)
    assert run.test is None and run.val.samples == 143
    assert (net.predict(DATA.test.images) == [f"digit {i}" for i in DATA.test.labels]).mean() > 0.85


def test_fit_sets_the_loss_and_takes_the_networks_own():
    net = network()
    smooth = gn.SoftmaxCrossEntropy(label_smoothing=0.1)
    fit(net, DATA, epochs=1, loss=smooth)
    assert net.loss == smooth
    assert fit(net, DATA, epochs=1).config.loss == smooth


def test_the_hold_out_is_stratified_seeded_and_optional():
    run = fit(network(), DATA, epochs=1, val_fraction=0.2, seed=1)
    assert [row.support for row in run.val.per_class] == DATA.holdout(0.2, 1).val.counts().tolist()
    own = Dataset("own", train=DATA.train, val=DATA.test)
    assert fit(network(), own, epochs=1).val.samples == len(DATA.test)
    none = fit(network(), DATA, epochs=1, val_fraction=0)
    assert none.val is None and none.history[0].val_loss is None and none.best_epoch == 1


def test_sample_weights_stay_with_their_samples_after_the_hold_out():
    """Without weight, a class is as good as absent."""
    weight = np.where(DATA.train.labels == 3, 0.0, 1.0)
    run = fit(network(), DATA, epochs=5, sample_weight=weight)
    recall = [row.recall for row in run.test.per_class]
    assert recall[3] == 0 and min(recall[:3] + recall[4:]) > 0.6


def test_callbacks_are_told_every_moment_in_order():
    recorder = Recorder()
    run = fit(network(), DATA, epochs=2, batch_size=800, callbacks=[recorder])
    assert recorder.moments == ["begin", "step 1", "step 2", "epoch 1", "step 3", "step 4", "epoch 2", "end"]
    assert recorder.training.backend == run.backend == "reference"
    assert (recorder.training.batches, recorder.training.train_samples) == (2, 1295)
    assert recorder.training.val_samples == 143


def test_the_records_of_an_epoch():
    run = fit(network(), DATA, epochs=2, optimizer=gn.SGD(lr=1e-12), val_fraction=0)
    split = gn.evaluate(network_like(run), DATA.train)
    for record in run.history:  # hardly anything is learned at this rate, so that every step sees one network
        assert record.loss == pytest.approx(split.loss, rel=1e-5)
        assert record.accuracy == pytest.approx(split.accuracy, abs=1e-9)
        assert record.images_per_second > 0 and 0 < record.seconds <= run.seconds


def network_like(run):
    """The untrained network, ready to evaluate."""
    net = network()
    net.backend = "reference"
    net.classes, net.preprocessing, net.loss = DATA.classes, DATA.preprocessing, run.config.loss
    return net


def test_the_run_says_its_backend(caplog):
    with caplog.at_level(logging.INFO, logger="glassnet"):
        fit(network(), DATA, epochs=1)
    assert "Training on the reference backend." in caplog.messages


def test_validation_sees_the_network_as_prediction_does():
    """Running statistics and no dropout: the figures are those of the saved network."""
    layers = [gn.BatchNorm2d(), gn.Flatten(), gn.Dropout(0.5), gn.Linear(10)]
    net = gn.Sequential(layers, input_shape=(8, 8, 1))
    run = fit(net, DATA, epochs=2)
    val = DATA.holdout(0.1, seed=0).val
    assert run.history[-1].val_loss == run.val.loss == pytest.approx(gn.evaluate(net, val).loss, rel=1e-6)
    assert run.test.loss == pytest.approx(gn.evaluate(net, DATA.test).loss, rel=1e-6)


# Early stopping


def test_early_stopping_restores_the_best_weights():
    recorder, net = Recorder(), network()
    run = fit(
        net,
        Dataset("few", train=DATA.train[:60], val=DATA.train[60:200]),
        epochs=200,
        early_stopping=3,
        optimizer=gn.SGD(lr=5.0),
        callbacks=[recorder],
    )
    losses = [record.val_loss for record in run.history]
    assert run.best_epoch == 1 + int(np.argmin(losses)) == len(losses) - 3 < 197
    assert run.stopped == "no lower validation loss in 3 epochs"
    best = recorder.weights[run.best_epoch - 1]
    for name, array in net.store.tensors().items():
        np.testing.assert_array_equal(array, best[name])
    assert run.val.loss == min(losses) < losses[-1]


def test_the_best_weights_are_restored_after_the_last_epoch_too():
    net, data = network(), Dataset("few", train=DATA.train[:60], val=DATA.train[60:200])
    run = fit(net, data, epochs=20, early_stopping=20, optimizer=gn.SGD(lr=5.0))
    assert run.stopped is None and run.best_epoch < 20
    assert run.val.loss == min(record.val_loss for record in run.history)


def test_accuracy_can_be_monitored():
    """The loss still falls, ever less, long after the highest accuracy; equal ones go by the loss."""
    data = Dataset("few", train=DATA.train[:60], val=DATA.train[60:200])
    settings = {"epochs": 40, "early_stopping": 10, "optimizer": gn.SGD(lr=1.0)}
    by_loss, recorder, net = fit(network(), data, **settings), Recorder(), network()
    run = fit(net, data, monitor="accuracy", callbacks=[recorder], **settings)
    highest = max(record.val_accuracy for record in run.history)
    equals = [record for record in run.history if record.val_accuracy == highest]
    assert run.best_epoch == min(equals, key=lambda record: record.val_loss).epoch != by_loss.best_epoch
    assert len(equals) > 1 and run.stopped == "no higher validation accuracy in 10 epochs"
    for name, array in net.store.tensors().items():
        np.testing.assert_array_equal(array, recorder.weights[run.best_epoch - 1][name])
    assert run.val.accuracy == highest > by_loss.val.accuracy


def test_the_best_epoch_by_either_figure():
    """Of validation where there is any; of equal accuracies the lower loss, of equal epochs the first."""
    figures = ((0.4, 0.9), (0.2, 0.8), (0.3, 0.9), (0.3, 0.9))
    val = [EpochRecord(n, n, 0.1 * n, 0.1 * n, *pair, 0.1, 1.0, 1.0) for n, pair in enumerate(figures, 1)]
    train = [dataclasses.replace(record, val_loss=None, val_accuracy=None) for record in val]
    assert [best_epoch(history, "loss") for history in (val, train, [])] == [2, 1, 0]
    assert [best_epoch(history, "accuracy") for history in (val, train, [])] == [3, 4, 0]


# Ctrl-C


def test_an_interrupt_leaves_the_last_whole_step_and_saves_it(tmp_path):
    net, interrupt = network(), Interrupt(step=60)
    with pytest.raises(Interrupted) as caught:
        fit(net, DATA, epochs=5, early_stopping=2, run_dir=tmp_path / "run", callbacks=[interrupt])
    run = caught.value.run
    assert (
        str(caught.value)
        == f"Training was interrupted in epoch 2. Its model is {tmp_path / 'run' / 'last.gnet'}. "
        f"To go on: glassnet resume {tmp_path / 'run'}"
    )
    assert isinstance(caught.value, KeyboardInterrupt)
    assert (run.stopped, len(run.history), run.val, run.test) == ("interrupted", 1, None, None)
    saved = gn.load(tmp_path / "run" / "last.gnet").store.tensors()
    for name, array in net.store.tensors().items():
        assert array.tobytes() == interrupt.weights[name].tobytes() == saved[name].tobytes()
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["stopped"] == "interrupted"


def test_an_interrupt_between_epochs_and_before_the_first():
    with pytest.raises(Interrupted, match="interrupted in epoch 2"):
        fit(network(), DATA, epochs=5, callbacks=[Interrupt(epoch=1)])
    with pytest.raises(Interrupted, match="interrupted in epoch 1") as caught:
        fit(network(), DATA, epochs=5, callbacks=[Interrupt(step=1)])
    assert caught.value.run.best_epoch == 0


class InterruptedInside(gn.SGD):
    """Ctrl-C arrives while the weights are being updated."""

    def update(self, ops, store, scalars):
        signal.raise_signal(signal.SIGINT)
        super().update(ops, store, scalars)


def test_an_update_is_finished_before_an_interrupt_is_heard():
    net = network()
    before = net.store.snapshot()
    with pytest.raises(Interrupted, match="interrupted in epoch 1"):
        fit(net, DATA, optimizer=InterruptedInside())
    assert all((array != before[name]).any() for name, array in net.store.tensors().items())


def test_the_first_signal_is_a_request_and_the_second_acts():
    before = signal.getsignal(signal.SIGTERM)
    with Requests() as requests:
        os.kill(os.getpid(), signal.SIGTERM)
        assert requests.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            requests.check()
        assert signal.getsignal(signal.SIGTERM) is before
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_users_own_stays():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with Requests() as requests:
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM] and requests.received is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_training_in_another_thread():
    """Only the main thread may set signal handlers."""
    runs = []
    thread = threading.Thread(target=lambda: runs.append(fit(network(), DATA, epochs=1)))
    thread.start()
    thread.join()
    assert len(runs) == 1
