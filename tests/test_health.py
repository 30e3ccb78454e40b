"""Networks made sick on purpose, each reported with layer and step, and healthy ones, which are not."""

from __future__ import annotations

import logging
import signal

import numpy as np
import pytest

import glassnet as gn
from glassnet.data import Dataset, load
from glassnet.errors import NotFiniteError
from glassnet.train import (
    Callback,
    EpochRecord,
    Interrupted,
    TrainConfig,
    Training,
    build_model,
    fit_config,
    health,
    resume,
)
from glassnet.train.health import Health
from glassnet.train.symptoms import LayerGradient, dead_relus, gap, guessing_loss

DIGITS = load("digits")
ADVICE = (
    "Try a learning rate of {:g}, or clip_norm=1.0. To search for a rate: glassnet train --lr auto, or "
    "glassnet.train.find_lr."
)


class StepByStep(Callback):
    """Makes the loop take each step by itself, so that steps are seen when they happen."""

    def on_step(self, training, record):
        pass


def reports(*layers, sicken=lambda net: None, data=DIGITS, blocks=False, **settings):
    """What is reported of a network, trained step by step or in blocks of steps."""
    net, watched = gn.Sequential(list(layers), input_shape=data.image_shape), Health(data.train)
    sicken(net)
    callbacks = [watched] if blocks else [watched, StepByStep()]
    gn.fit(net, data, callbacks=callbacks, **{"epochs": 2, "backend": "reference"} | settings)
    return watched.reports


def convolutions():
    return [
        *(gn.Conv2d(64, 3), gn.ReLU(), gn.Conv2d(16, 3), gn.ReLU()),
        *(gn.Flatten(), gn.Linear(10)),
    ]


def stack(activation, depth, width=16):
    layers = [layer for _ in range(depth) for layer in (gn.Linear(width), activation())]
    return [gn.Flatten(), *layers, gn.Linear(10)]


def seen(found):
    return [(report.layer, report.kind) for report in found]


class StopAfterAnEpoch(Callback):
    """Ctrl-C."""

    def on_epoch_end(self, training, record):
        if record.epoch == 1:
            signal.raise_signal(signal.SIGINT)


# Sick --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_a_rate_of_a_thousand(backend):
    steep, lost, *_ = reports(*convolutions(), optimizer=gn.SGD(lr=1e3), backend=backend)
    assert (steep.step, steep.kind, lost.step, lost.kind) == (1, "exploding gradient", 2, "exploding loss")
    assert steep.fact.startswith("The gradient's norm is ") and steep.layer in steep.fact
    assert "times the learning rate 1000, " in steep.fact
    assert lost.fact.startswith("The loss is ")
    assert lost.fact.endswith(f" times that of guessing; {lost.layer} has the largest gradient")
    way = float(steep.fact.split("times the learning rate 1000, ")[1].split()[0])
    assert steep.advice == lost.advice == ADVICE.format(float(f"{1e3 / (10 * way):.1e}"))
    assert way > 100


def test_a_loss_that_explodes_slowly():
    """No step is far from guessing, but a whole epoch is."""
    found = reports(gn.Flatten(), gn.Linear(10), optimizer=gn.SGD(lr=10.0))
    assert seen(found) == [("linear_1", "exploding loss")]
    assert found[0].fact.startswith("The mean loss of epoch 1 is ") and found[0].step == 41
    assert found[0].advice == ADVICE.format(1)  # the loss is four times that of guessing


def test_a_loss_alone_tells_by_how_much_the_rate_is_too_high():
    """Clipped, no gradient is too long."""
    (found,) = reports(gn.Flatten(), gn.Linear(10), optimizer=gn.SGD(lr=1e4), clip_norm=1.0)
    times = float(found.fact.split(", ")[1].split()[0])
    assert times > 100 and found.advice == ADVICE.format(float(f"{1e4 / times:.1e}"))


def test_what_was_said_is_not_said_again_when_a_run_is_resumed(tmp_path):
    layers = [gn.Flatten(), gn.Linear(16), gn.ReLU(), gn.Linear(10)]
    net = gn.Sequential(layers, input_shape=DIGITS.image_shape)
    net["linear_1"].bias = [-100.0] * 16
    with pytest.raises(Interrupted):
        gn.fit(net, DIGITS, run_dir=tmp_path / "run", callbacks=[StopAfterAnEpoch()], epochs=3)
    _, run = resume(tmp_path / "run", data=DIGITS, net=net)
    assert len(run.warnings) == 1 and run.warnings[0].startswith("relu_1 after linear_1 is dead: ")


def test_first_weights_that_are_too_large():
    def sicken(net):
        net.store.values *= 100

    found = reports(*stack(gn.ReLU, 2), sicken=sicken, optimizer=gn.SGD(lr=1e-12))
    assert seen(found) == [("linear_1", "exploding loss")]
    assert found[0].step == 1
    assert found[0].advice == "No update was made before: try smaller first weights."


def test_clipping_bounds_the_gradient():
    found = reports(*convolutions(), optimizer=gn.SGD(lr=100.0), clip_norm=0.001)
    assert "exploding gradient" not in [report.kind for report in found]


@pytest.mark.parametrize("backend", ["reference", "compiled"])
@pytest.mark.parametrize(("dead", "told"), [(64, True), (61, True), (31, False)])
def test_dead_relus(dead, told, backend):
    def sicken(net):
        net["conv2d_1"].bias[:dead] = -100

    found = [r for r in reports(*convolutions(), sicken=sicken, backend=backend) if r.layer == "relu_1"]
    assert [str(report) for report in found] == told * [
        f"relu_1 after conv2d_1 is dead: {dead} of 64 channels gave 0 for all of 256 images (step 16). "
        "Try a lower learning rate, other first weights, BatchNorm2d before it, or LeakyReLU."
    ]


def test_a_dead_relu_in_a_branch_of_a_normalised_network():
    def sicken(net):
        net["residual_1.main.batchnorm2d_1"].beta = np.full(8, -100)

    main = [gn.Conv2d(8, 3, padding="same"), gn.BatchNorm2d(), gn.ReLU()]
    layers = [gn.Conv2d(8, 3), gn.ReLU(), gn.Residual(main), gn.Flatten(), gn.Dropout(0.5), gn.Linear(10)]
    found = reports(*layers, sicken=sicken)
    assert seen(found) == [("residual_1.main.relu_1", "dead ReLU")]
    assert "relu_1 after residual_1.main.batchnorm2d_1 is dead: 8 of 8 channels" in found[0].fact


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_twenty_sigmoids(backend):
    (found,) = reports(*stack(gn.Sigmoid, 20), backend=backend)
    assert (found.layer, found.kind) == ("linear_1", "vanishing gradient")
    factor = float(found.fact.removeprefix("The gradient of linear_1 is ").split()[0])
    assert 1e-13 < factor < 1e-8 and found.fact.endswith("e-11 times that of linear_21")
    assert found.advice.startswith("Try ReLU in place of Sigmoid or Tanh")


def test_weights_of_zero():
    (found,) = reports(*stack(gn.Tanh, 2), sicken=lambda net: net.store.values.fill(0))
    assert str(found) == (
        "The gradient of linear_1 is exactly 0, that of linear_3 is not (step 32). Look at the weights "
        "between them: where all are 0, nothing passes."
    )


def test_gradients_that_grow_on_their_way_back():
    """Steep Tanhs keep what flows forward within 1, but not what flows back."""

    def sicken(net):
        net.store.values *= 10

    found = reports(*stack(gn.Tanh, 20, width=64), sicken=sicken, optimizer=gn.SGD(lr=1e-12))
    (report,) = (report for report in found if report.kind == "exploding gradient")
    assert report.fact.startswith("The gradient of linear_1 is ")
    assert report.fact.endswith((" times that of linear_20", " times that of linear_21"))


def test_blocks_of_steps_tell_the_same():
    def sicken(net):
        net["conv2d_1"].bias[:] = -100

    settings = {"backend": "compiled", "blocks": True, "epochs": 4}
    steep, lost, *_ = reports(*convolutions(), optimizer=gn.SGD(lr=1e3), **settings)
    assert (steep.step, steep.kind, lost.step, lost.kind) == (1, "exploding gradient", 2, "exploding loss")
    dead = reports(*convolutions(), sicken=sicken, **settings)
    assert seen(dead)[0] == ("relu_1", "dead ReLU")
    assert seen(reports(*stack(gn.Sigmoid, 20), **settings)) == [("linear_1", "vanishing gradient")]


def test_a_report_comes_once_and_as_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "glassnet"):
        found = reports(*stack(gn.Sigmoid, 20), epochs=6)
    assert caplog.messages == 2 * [str(report) for report in found]  # `fit` watches by itself, too
    assert len(found) == 1


def test_reports_come_before_the_nan():
    watched = Health(DIGITS.train)
    net = gn.Sequential(convolutions(), input_shape=(8, 8, 1))
    with pytest.raises(NotFiniteError):
        gn.fit(net, DIGITS, optimizer=gn.SGD(lr=1e9), callbacks=[watched], backend="reference")
    assert [report.kind for report in watched.reports][:2] == ["exploding gradient", "exploding loss"]


# Healthy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_nothing_is_said_of_the_recipe_for_digits(backend):
    watched = Health(DIGITS.train)
    config = TrainConfig.resolve({"data": "digits"}).override("epochs=6", f"backend={backend}")
    fit_config(config, callbacks=[watched])
    assert watched.reports == [] and watched.spent > 0


def test_nothing_is_said_of_the_recipe_for_mnist(real_data):
    mnist, config = load("mnist"), TrainConfig.resolve({"data": "mnist"})
    data = Dataset("mnist", train=mnist.train[:6000], test=mnist.test[:1000])
    watched, net = Health(data.train), build_model(config, data)
    settings = {"optimizer": config.optimizer, "schedule": config.schedule, "batch_size": config.batch_size}
    gn.fit(net, data, epochs=3, callbacks=[watched], **settings)
    assert watched.reports == [] and watched.spent > 0


@pytest.mark.parametrize("batch_size", [1, 32])
def test_nothing_is_said_of_usual_networks(batch_size):
    main = [gn.Conv2d(8, 3, padding="same"), gn.BatchNorm2d(), gn.ReLU(), gn.Dropout(0.5)]
    layers = [gn.Conv2d(8, 3), gn.LeakyReLU(), gn.Residual(main), gn.Flatten(), gn.Linear(10)]
    settings = {"optimizer": gn.SGD(lr=0.001 * batch_size), "batch_size": batch_size, "epochs": 4}
    some = Dataset("some digits", DIGITS.train[:400])
    assert reports(*layers, data=some, **settings) == []
    assert reports(*stack(gn.Sigmoid, 3), data=some, **settings) == []


# Parts -------------------------------------------------------------------------------------------------


def gradients(*sizes):
    return {f"layer_{i}": LayerGradient(size, 0.0) for i, size in enumerate(sizes)}


@pytest.mark.parametrize(
    ("sizes", "blamed", "vanishes"),
    [
        ((1e-6, 1e-3, 1.0), "layer_0", True),
        ((1.0, 1e-3, 1e-6), "layer_0", False),
        ((1.0, 0.0, 1.0), "layer_1", True),
        ((1.0, 1.0, 0.0), "layer_2", True),
    ],
)
def test_which_layer_is_to_blame(sizes, blamed, vanishes):
    found = gap(gradients(*sizes))
    assert (found.layer, found.vanishes) == (blamed, vanishes)


@pytest.mark.parametrize("sizes", [(1e-4, 1.0), (1.0, 1e-4), (0.0, 0.0), (1.0,)])
def test_no_gap(sizes):
    assert gap(gradients(*sizes)) is None


@pytest.mark.parametrize(
    ("loss", "guess"),
    [
        (gn.SoftmaxCrossEntropy(), np.log(10)),
        (gn.SoftmaxCrossEntropy(label_smoothing=0.1), np.log(10)),
        (gn.ProbabilityCrossEntropy(), np.log(10)),
        (gn.BinaryCrossEntropy(), np.log(2)),
        (gn.MeanSquaredError(), 0.1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_loss_of_guessing(loss, guess):
    assert guessing_loss(loss, DIGITS.train) == pytest.approx(guess, rel=1e-6)


def test_looking_changes_nothing():
    layers = [gn.Conv2d(4, 3), gn.BatchNorm2d(), gn.ReLU(), gn.Flatten(), gn.Dropout(0.5), gn.Linear(10)]
    net = gn.Sequential(layers, input_shape=(8, 8, 1))
    net["batchnorm2d_1"].beta = np.full(4, -100)
    before = net.store.snapshot()
    assert dead_relus(net, DIGITS.train) == ({"relu_1": (4, 4)}, 256)
    assert all(before[name].tobytes() == array.tobytes() for name, array in net.store.tensors().items())


def test_a_few_idle_channels_are_no_dead_relu():
    net = gn.Sequential([gn.Conv2d(4, 3), gn.ReLU(), gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    net["conv2d_1"].bias[:1] = -100
    assert dead_relus(net, DIGITS.train)[0] == {}


def test_looking_stays_within_its_budget(monkeypatch):
    """With a clock of a second a look and a second a step, one look in two hundred steps is taken."""
    now = [0.0]
    looks = []

    def look(store):
        now[0] += 1
        looks.append(now[0])
        return gradients(1.0, 1.0)

    monkeypatch.setattr(health.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(health, "layer_gradients", look)
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    training = Training(net, TrainConfig(data="digits"), "reference", "", None, 1, 1, 0)
    watched = Health(DIGITS.train)
    watched.on_train_begin(training)
    for step in range(1, 1001):
        now[0] += 1
        watched.on_epoch_end(training, EpochRecord(step, step, 1.0, 0.5, None, None, 0.1, 1.0, 1.0))
    assert 5 <= len(looks) <= 6 and watched.spent == len(looks)
