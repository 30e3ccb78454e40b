"""Smaller inputs in the first part of a run: which size when, one network at all sizes, and resuming."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet.data.augment import Augment
from glassnet.errors import ConfigError, NotFiniteError
from glassnet.ops.reference import ReferenceOps
from glassnet.train import Callback, Interrupted, TrainConfig, resume
from glassnet.train.sizes import at_size, input_size, smaller_sizes
from messages import message_of
from test_resume import FEW, Stop, outcome

SETTINGS = {
    "half": {"progressive": [0.5]},
    "three sizes, augmentation, average": {
        "progressive": [0.5, 0.75],
        "augment": Augment(shift=1, rotation=(0, 15), cutout=2),
        "ema": 0.9,
    },
    "mixing, parts, balanced": {
        "progressive": [0.6],
        "augment": Augment(mixup=0.4, cutmix=1.0),
        "accumulate": 2,
        "sampling": "balanced",
        "loss": gn.SoftmaxCrossEntropy(class_weights="balanced"),
        "tta": "flip",
    },
}


def network(size=(8, 8)):
    layers = [
        *(gn.Conv2d(6, 3, padding="same"), gn.BatchNorm2d(), gn.ReLU(), gn.MaxPool2d(2)),
        gn.Residual([gn.Conv2d(6, 3, padding="same"), gn.BatchNorm2d()]),
        *(gn.GlobalAvgPool2d(), gn.Dropout(0.2), gn.Linear(10)),
    ]
    return gn.Sequential(layers, input_shape=(*size, 1), seed=2)


def train(folder, backend="compiled", callbacks=(), **settings):
    """Four epochs of nine steps and a smaller last one."""
    settings = {"epochs": 4, "batch_size": 16, "seed": 3, "checkpoint_steps": 2} | settings
    net = network()
    return net, gn.fit(net, FEW, backend=backend, run_dir=folder, callbacks=callbacks, **settings)


@pytest.mark.parametrize(
    ("progressive", "epochs", "sides"),
    [
        ([], 3, [20, 20, 20]),
        ([0.5], 4, [10, 10, 20, 20]),
        ([0.5], 5, [10, 10, 20, 20, 20]),
        ([0.5, 0.75], 6, [10, 10, 15, 15, 20, 20]),
        ([0.5, 0.75], 2, [15, 20]),
        ([0.5, 0.75], 1, [20]),
        ([0.01], 2, [1, 20]),
    ],
)
def test_the_size_is_a_function_of_the_epoch(progressive, epochs, sides):
    config = TrainConfig(data="", progressive=progressive, epochs=epochs)
    found = [input_size(config, epoch, (20, 40)) for epoch in range(epochs)]
    assert [height for height, _ in found] == sides
    assert [width for _, width in found] == [max(1, 2 * side - (side == 1)) for side in sides]
    assert smaller_sizes(config, (20, 40)) == set(found) - {(20, 40)}


def test_a_network_at_another_size_is_the_same_network():
    net = network()
    net["conv2d_1"].freeze()
    net["dropout_1"].key = 7
    twin, fresh = at_size(net, (4, 6)), network((4, 6))
    assert twin.input_shape == (4, 6, 1) and net.input_shape == (8, 8, 1)
    assert (twin["dropout_1"].key, twin["conv2d_1"].trainable) == (7, False)
    net["linear_1"].bias = np.arange(10)
    fresh.store.restore(net.store.snapshot())
    x = np.random.default_rng(0).normal(size=(3, 4, 6, 1)).astype(np.float32)
    scores = [ReferenceOps().call(other, x, False)[0] for other in (twin, fresh)]
    np.testing.assert_array_equal(*scores)
    twin["linear_1"].bias = -np.arange(10)
    assert net["linear_1"].bias[3] == -3 and twin.store is net.store


def test_a_network_for_one_size_is_refused():
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    assert message_of(ConfigError, gn.fit, net, FEW, epochs=2, progressive=[0.5]) == (
        "progressive needs a network for inputs of any size, but linear_1.weight would be (16, 10) for "
        "inputs of 4 x 4. End convolutions in GlobalAvgPool2d(), not Flatten()."
    )


def ends_in_one_pixel():
    """At half the size, batch normalisation sees one value of each image."""
    layers = [*(gn.Conv2d(4, 3, stride=2, padding=1) for _ in range(2)), gn.BatchNorm2d()]
    return gn.Sequential([*layers, gn.GlobalAvgPool2d(), gn.Linear(10)], input_shape=(8, 8, 1))


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_no_batch_is_too_small_for_batch_normalisation_at_a_smaller_size(backend):
    images, labels = np.random.default_rng(0).integers(0, 256, (17, 8, 8, 1), np.uint8), np.arange(17) % 10
    settings = {"epochs": 2, "val_fraction": 0, "progressive": [0.5], "backend": backend}
    net = ends_in_one_pixel()
    gn.fit(net, (images, labels), batch_size=8, **settings)
    assert np.isfinite(net["batchnorm2d_1"].running_var).all()
    assert message_of(
        ConfigError, gn.fit, ends_in_one_pixel(), (images, labels), batch_size=1, **settings
    ) == (
        "batchnorm2d_1 sees one value a channel of each sample, so batch normalisation needs at least 2 "
        "samples at a time, got batch_size=1 in accumulate=1 parts. Use batch_size=2 or more."
    )


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.5, "half"])
def test_sizes_are_parts(wrong):
    assert "progressive.0 must be" in message_of(ConfigError, TrainConfig, data="", progressive=[wrong])


def test_backends_take_the_same_steps_at_each_size(tmp_path):
    settings = SETTINGS["three sizes, augmentation, average"] | {"epochs": 3}
    runs = [train(None, backend, **settings)[1] for backend in ("compiled", "reference")]
    losses = [[record.loss for record in run.history] for run in runs]
    np.testing.assert_allclose(*losses, rtol=2e-3)
    whole = train(None, "compiled", **(settings | {"progressive": []}))[1]
    assert whole.history[0].loss != runs[0].history[0].loss


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_the_bits_are_those_of_a_run_never_stopped(name, backend, tmp_path):
    train(tmp_path / "whole", backend, **SETTINGS[name])
    for step in (7, 23) if backend == "compiled" else (14,):
        folder = tmp_path / f"stopped after {step}"
        with pytest.raises(Interrupted):
            train(folder, backend, [Stop(step)], **SETTINGS[name])
        net, _ = resume(folder, data=FEW)
        assert outcome(folder) == outcome(tmp_path / "whole")
        saved = gn.load(folder / "last.gnet").store.tensors()
        assert all(saved[key].tobytes() == array.tobytes() for key, array in net.store.tensors().items())


def test_a_step_at_a_small_size_that_is_not_finite_is_placed():
    """A weight breaks in the middle of the first epoch, and the place is looked for at its size."""

    class Break(Callback):
        def on_step(self, training, record):
            if record.step == 3:
                training.net["linear_1"].bias = np.full(10, np.nan)

    message = message_of(NotFiniteError, train, None, "compiled", [Break()], progressive=[0.5])
    assert "in the forward pass of linear_1, whose bias held it before" in message
