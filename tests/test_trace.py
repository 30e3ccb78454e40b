"""A trace: every layer by its dotted name, with the values and gradients of the training pass itself."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import ConfigError
from glassnet.ops.reference import ReferenceOps
from messages import message_of


@pytest.fixture
def net():
    branches = gn.Concat([gn.MaxPool2d(2), [gn.Conv2d(2, 2, stride=2), gn.BatchNorm2d()]])
    layers = [
        gn.Conv2d(3, 3, padding="same"),
        gn.ReLU(),
        branches,
        gn.Dropout(0.5),
        gn.Flatten(),
        gn.Linear(2),
    ]
    return gn.Sequential(layers, input_shape=(4, 4, 1))


@pytest.fixture
def batch(generator):
    return generator.standard_normal((5, 4, 4, 1), np.float32), np.array([0, 1, 1, 0, 1])


def test_every_layer_is_there(net, batch):
    trace = net.trace(*batch)
    assert set(trace) == {layer.name for layer in net.walk() if layer.name} and len(trace) == 10
    for name, seen in trace.items():
        layer = net[name]
        for array, shape in (
            (seen.input, layer.input_shape),
            (seen.input_grad, layer.input_shape),
            (seen.output, layer.output_shape),
            (seen.output_grad, layer.output_shape),
        ):
            assert array.shape == (5, *shape), name


@pytest.mark.parametrize("frozen", [False, True])
def test_it_is_the_training_pass(net, batch, frozen):
    net["conv2d_1"].freeze(frozen)
    trace = net.trace(*batch, seed=3, step=4)
    target, share = (a.astype(np.float32) for a in net.loss.targets(batch[1], 2))
    losses, scores, grads = net.loss_and_gradients(ReferenceOps(seed=3, step=4), batch[0], target, share)
    assert trace.loss == losses.sum(dtype=np.float64) and np.array_equal(trace.scores, scores)
    assert set(grads) == {name for name, _ in net.store.learning()}
    for name, gradient in grads.items():
        layer, _, tensor = name.rpartition(".")
        assert np.array_equal(trace[layer].grads[tensor], gradient)
        assert np.array_equal(trace.grads[name], gradient)


def test_the_layers_are_chained(net, batch):
    trace = net.trace(*batch)
    for before, after in (("conv2d_1", "relu_1"), ("concat_1", "dropout_1"), ("flatten_1", "linear_1")):
        assert trace[before].output is trace[after].input
        assert trace[after].input_grad is trace[before].output_grad
    assert np.array_equal(trace["conv2d_1"].input, batch[0])
    assert trace["linear_1"].output is trace.scores


def test_a_trace_changes_nothing(net, batch):
    before = net.store.snapshot()
    net.trace(*batch)
    assert all(map(np.array_equal, net.store.tensors().values(), before.values()))


def test_class_names_are_labels(net, batch):
    net.classes = ("no", "yes")
    assert net.trace(batch[0], [net.classes[i] for i in batch[1]]).loss == net.trace(*batch).loss


def test_an_unknown_layer(net, batch):
    assert message_of(ConfigError, net.trace(*batch).__getitem__, "conv2d1") == (
        "The trace has no layer 'conv2d1'. Did you mean 'conv2d_1'?"
    )
