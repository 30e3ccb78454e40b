"""What is refused before the first step, and a NaN or infinity that stops a run before a weight changes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import glassnet as gn
from glassnet.data import Dataset, from_arrays, load
from glassnet.errors import ConfigError, DataError, EngineError, NotFiniteError, ShapeError
from glassnet.train import Callback, TrainConfig
from messages import message_of

DATA = load("digits")
fit = partial(gn.fit, backend="reference")


def network(*layers, **settings):
    return gn.Sequential(list(layers), **{"input_shape": (8, 8, 1)} | settings)


def simple():
    return network(gn.Conv2d(4, 3), gn.ReLU(), gn.Flatten(), gn.Linear(10))


def small_data(n=64):
    return from_arrays(DATA.train.images[:n], DATA.train.labels[:n], classes=DATA.classes)


# Before the first step


def test_images_of_another_shape():
    net = network(gn.Flatten(), gn.Linear(10), input_shape=(28, 28, 1))
    assert message_of(ShapeError, fit, net, DATA) == (
        "The network takes images of shape (N, 28, 28, 1), but those of 'digits' are (N, 8, 8, 1). "
        "Write Sequential([...], input_shape=(8, 8, 1))."
    )


def test_another_number_of_outputs():
    assert message_of(ShapeError, fit, network(gn.Flatten(), gn.Linear(9)), DATA) == (
        "The network ends in (N, 9), but 'digits' has 10 classes. Let it end in Linear(10)."
    )
    assert message_of(ShapeError, fit, network(gn.Conv2d(10, 3)), DATA) == (
        "The network ends in (N, 6, 6, 10), but 'digits' has 10 classes. Let it end in Linear(10)."
    )


def test_a_network_without_input_shape():
    assert message_of(ConfigError, fit, gn.Sequential([gn.Flatten(), gn.Linear(10)]), DATA) == (
        "This Sequential has no input_shape yet. Write Sequential([...], input_shape=(H, W, C))."
    )


def test_softmax_twice():
    net = network(gn.Flatten(), gn.Linear(10), gn.Softmax())
    assert message_of(ConfigError, fit, net, DATA) == (
        "The network ends in Softmax, which SoftmaxCrossEntropy applies itself. Remove that layer, "
        "or use loss=ProbabilityCrossEntropy()."
    )
    fit(net, small_data(), epochs=1, loss=gn.ProbabilityCrossEntropy())


def test_nothing_to_learn():
    net = simple()
    net.freeze()
    assert message_of(ConfigError, fit, net, DATA) == (
        "The network has no parameter that learns. Add a layer, or freeze(False) one."
    )


def test_a_batch_larger_than_the_data():
    assert message_of(ConfigError, fit, simple(), small_data(), batch_size=65, val_fraction=0) == (
        "batch_size is 65, but there are only 64 samples. Use batch_size=64 or less."
    )


@pytest.mark.parametrize(
    ("count", "val_fraction", "size"), [(20, 0.1, 10), (20, 0, 20), (200, 0.9, 20), (200, 0, 32)]
)
@pytest.mark.parametrize("kind", ["arrays", "own validation"])
def test_a_batch_that_is_not_given_is_no_larger_than_the_data(tmp_path, kind, count, val_fraction, size):
    images, labels = DATA.train.images[:count], np.arange(count) % 10
    data = images, labels
    if kind == "own validation":
        data, size = from_arrays(images, labels, val=(images, labels)), min(32, count)
    run = fit(simple(), data, epochs=1, val_fraction=val_fraction, run_dir=tmp_path / "run")
    assert run.config.batch_size == size
    assert TrainConfig.from_toml(tmp_path / "run" / "config.toml") == run.config
    assert (
        message_of(ConfigError, fit, simple(), data, batch_size=0) == "batch_size must be at least 1, got 0."
    )


def test_a_batch_too_small_for_batch_norm():
    net = network(gn.Flatten(), gn.Linear(10), gn.BatchNorm2d())
    assert message_of(ConfigError, fit, net, DATA, batch_size=7, accumulate=4) == (
        "batchnorm2d_1 sees one value a channel of each sample, so batch normalisation needs at least "
        "2 samples at a time, got batch_size=7 in accumulate=4 parts. Use batch_size=8 or more."
    )
    spatial = network(gn.BatchNorm2d(), gn.Flatten(), gn.Linear(10))  # 64 values a channel of one sample
    fit(spatial, small_data(16), epochs=1, batch_size=1, val_fraction=0)


def test_more_parts_than_samples():
    assert message_of(ConfigError, fit, simple(), DATA, batch_size=4, accumulate=5) == (
        "accumulate=5 cuts a batch of batch_size=4 into more parts than it has samples. "
        "Use a larger batch or fewer parts."
    )


def test_early_stopping_without_validation():
    assert message_of(ConfigError, fit, simple(), DATA, early_stopping=3, val_fraction=0) == (
        "early_stopping needs a validation split, but there is none. Set val_fraction=0.1, or give data.val."
    )


def test_one_class_only():
    assert message_of(DataError, fit, simple(), (DATA.train.images[:3], [1, 1, 1])) == (
        "Training needs images of at least two classes, but all 3 are of class '1'."
    )


def test_data_that_is_no_data():
    assert message_of(DataError, fit, simple(), "digits") == (
        "fit takes a Dataset or (images, labels), got str. Make one with glassnet.data.load('mnist') "
        "or glassnet.data.from_arrays(images, labels)."
    )


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0], "sample_weight must be one number for each of the 64 training samples, got shape (1,)."),
        ([-1.0] * 64, "sample_weight must be finite and at least 0, but holds other values."),
        ([np.nan] * 64, "sample_weight must be finite and at least 0, but holds other values."),
    ],
)
def test_wrong_sample_weights(weight, message):
    assert message_of(DataError, fit, simple(), small_data(), sample_weight=weight) == message


@pytest.mark.parametrize(
    "settings",
    [
        {"sample_weight": np.zeros(64)},
        {"sample_weight": np.zeros(64), "loss": gn.MeanSquaredError()},
        {"loss": gn.SoftmaxCrossEntropy(class_weights=[0.0] * 10)},
    ],
)
def test_nothing_that_weighs_anything(settings):
    assert message_of(DataError, fit, simple(), small_data(), **settings) == (
        "All training images weigh 0, so that there is nothing to learn. Give some of them a sample weight "
        "and their class a class weight above 0."
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0."),
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5."),
        ({"val_fraction": 1.0}, "val_fraction must be below 1, got 1.0."),
        ({"seed": -1}, "seed must be at least 0, got -1."),
        ({"clip_norm": -1.0}, "clip_norm must be at least 0, got -1.0."),
        ({"clip_norm": float("inf")}, "clip_norm must be a finite number, got inf."),
        ({"clip_on": "median"}, "clip_on must be 'mean' or 'sum', got 'median'."),
        ({"clip_value": 1.0, "clip_norm": 1.0}, "clip_value and clip_norm are both set. Use one of them."),
        (
            {"clip_norm": 1.0, "clip_on": "sum"},
            "clip_on='sum' concerns clip_value, which is not set. Set it, or leave clip_on='mean'.",
        ),
        ({"optimizer": 3}, "optimizer must be a name, a table or an object of class Optimizer, got 3."),
        ({"backend": "gpu"}, "backend must be 'auto', 'reference' or 'compiled', got 'gpu'."),
    ],
)
def test_wrong_settings(settings, message):
    assert message_of(ConfigError, fit, simple(), DATA, **settings) == message


def test_a_backend_that_cannot_run_a_network_is_refused_and_auto_says_why(caplog):
    net, reason = (
        simple().as_dtype(np.float64),
        "The compiled engine computes in float32, this network is float64.",
    )
    assert message_of(EngineError, gn.fit, net, DATA, epochs=1, backend="compiled") == reason
    assert gn.fit(net, DATA, epochs=1, backend="auto").backend == "reference"
    assert f"Training on the reference backend: {reason}" in caplog.messages


class Forgetful(gn.Linear):
    """A layer whose backward returns no bias gradient."""

    def backward(self, ops, dy, x, *, input_grad=True):
        dx, grads = super().backward(ops, dy, x, input_grad=input_grad)
        return dx, {"weight": grads["weight"]}


class Summing(gn.Linear):
    """A layer whose bias gradient has the wrong shape."""

    def backward(self, ops, dy, x, *, input_grad=True):
        dx, grads = super().backward(ops, dy, x, input_grad=input_grad)
        return dx, grads | {"bias": grads["bias"].sum(keepdims=True)}


def test_gradients_that_a_layer_forgets_or_sums_up():
    assert message_of(ConfigError, fit, network(gn.Flatten(), Forgetful(10)), DATA) == (
        "backward gave no gradient for forgetful_1.bias. Return it under the parameter's name."
    )
    assert message_of(ShapeError, fit, network(gn.Flatten(), Summing(10)), DATA) == (
        "The gradient of summing_1.bias must have shape (10,), got (1,)."
    )


# NaN and infinity


SEARCH = "To search for a rate: glassnet train --lr auto, or glassnet.train.find_lr."


class Poison(gn.Layer):
    """Passes everything on, but makes one value NaN in the forward or backward pass of step `step`."""

    def __init__(self, where, step):
        self.where, self.step = where, step

    def forward(self, ops, x, train):
        return self.spoilt(ops, x) if self.where == "forward" else x, None

    def backward(self, ops, dy, saved, *, input_grad=True):
        return self.spoilt(ops, dy) if self.where == "backward" else dy, {}

    def spoilt(self, ops, x):
        if ops.step == self.step:
            x = x.copy()
            x.flat[5] = np.nan
        return x


class Remember(Callback):
    """Keeps all tensors, as the last step left them."""

    def on_train_begin(self, training):
        self.tensors = training.net.store.snapshot()

    def on_step(self, training, record):
        self.tensors, self.step = training.net.store.snapshot(), record.step


def stopped(net, data=DATA, **settings):
    """(message, whether the weights are those after the last whole step, number of that step)."""
    remember = Remember()
    message = message_of(NotFiniteError, fit, net, data, callbacks=[remember], **settings)
    same = all(net.store.tensors()[name].tobytes() == a.tobytes() for name, a in remember.tensors.items())
    return message, same, getattr(remember, "step", 0)


@pytest.mark.parametrize(
    ("where", "what", "place"),
    [
        ("forward", "loss", "in the forward pass of residual_1.main.poison_1"),
        ("backward", "gradient", "in the backward pass of residual_1.main.poison_1"),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_nan_in_a_layer(where, what, place, accumulate):
    inner = [gn.Conv2d(4, 3, padding="same"), gn.BatchNorm2d(), Poison(where, 43)]
    net = network(gn.Conv2d(4, 3), gn.Residual(inner), gn.ReLU(), gn.Flatten(), gn.Linear(10))
    assert stopped(net, accumulate=accumulate) == (
        f"The {what} of step 44 (epoch 2) is NaN or infinite, which first appears {place}. This step changed "
        "no weight. Try a learning rate below 0.05, clip_norm=1.0, or look at the data. " + SEARCH,
        True,
        43,
    )


def test_a_poisoned_weight_is_named():
    net = simple()
    net["linear_1"].weight[3, 4] = np.inf
    message, same, step = stopped(net)
    assert message == (
        "The loss of step 1 (epoch 1) is NaN or infinite, which first appears in the forward pass of "
        "linear_1, whose weight held it before. This step changed no weight. No update was made before: look "
        "at the data, and try smaller first weights."
    )
    assert same and step == 0


def test_an_exploding_rate_stops_before_a_weight_is_lost():
    net = simple()
    message, same, step = stopped(net, optimizer=gn.SGD(lr=1e9))
    rate = float(message.split("Try a learning rate of ")[1].split(",")[0])
    assert 1e-3 < rate < 10 and message.endswith(f"clip_norm=1.0, or look at the data. {SEARCH}")
    assert same and step > 0
    assert all(np.isfinite(array).all() for array in net.store.tensors().values())


def test_a_loss_too_large_is_named():
    net = network(gn.Flatten(), gn.Linear(10, init=1e20))
    assert (
        "is NaN or infinite, which first appears in the loss. " in stopped(net, loss=gn.MeanSquaredError())[0]
    )


def test_a_finite_loss_of_an_infinite_slope_is_found_in_its_gradient():
    class Steep(gn.MeanSquaredError):
        def backward(self, ops, scores, target, share):
            return super().backward(ops, scores, target, share) * np.inf

    message, same, _ = stopped(network(gn.Flatten(), gn.Linear(10)), loss=Steep())
    assert message.startswith(
        "The gradient of step 1 (epoch 1) is NaN or infinite, which first appears in the gradient of the "
        "loss. "
    )
    assert same


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_a_batch_that_weighs_nothing_is_a_step_of_loss_0(backend):
    """Batches of one, each with its own bound on the summed gradient."""
    data, weight = small_data(), np.arange(64) % 4 == 1
    net, losses = simple(), []

    class Losses(Callback):
        def on_steps(self, training, records):
            losses.extend(record.loss for record in records)

    settings = {"epochs": 1, "batch_size": 1, "val_fraction": 0, "clip_value": 0.1, "clip_on": "sum"}
    gn.fit(net, data, sample_weight=weight, backend=backend, callbacks=[Losses()], **settings)
    assert sum(loss > 0 for loss in losses) == 16 and len(losses) == 64
    assert all(np.isfinite(array).all() for array in net.store.tensors().values())


def test_a_dataset_may_bring_its_own_validation():
    net, data = simple(), Dataset("own", train=DATA.train[:100], val=DATA.train[100:150])
    assert fit(net, data, epochs=1).val.samples == 50
