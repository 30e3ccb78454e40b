"""A trace: every layer by its dotted name, with the values and gradients of the training pass itself."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import ConfigError, DataError, ShapeError
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


def test_labels_are_taken_as_fit_does(net, batch):
    """Whole floats are class numbers; a loss that needs one value an output gets ones and zeros."""
    images, labels = batch
    expected = net.trace(images, labels).loss
    assert net.trace(images, labels.astype(float)).loss == expected
    net.loss = gn.MeanSquaredError()
    assert net.trace(images, labels).loss == net.trace(images, np.eye(2)[labels]).loss


KINDS = (
    "The labels must be whole numbers, class names or soft labels (N, K), got {}. Convert them, for instance "
    "with np.array(labels).astype(str)."
)
SHAPES = "The labels must have shape (N,), or (N, K) as soft labels, got {}. One label is a list of one."


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([1], ShapeError, "The labels must be one for each of the 2 images, got 1."),
        ([1, 0, 1], ShapeError, "The labels must be one for each of the 2 images, got 3."),
        ([], ShapeError, "The labels must be one for each of the 2 images, got 0."),
        (1, ShapeError, SHAPES.format("()")),
        ([["no"], ["yes"]], ShapeError, SHAPES.format("(2, 1)")),
        ([b"no", b"yes"], DataError, KINDS.format("|S3")),
        ([False, True], DataError, KINDS.format("bool")),
        ([1, 0.5], DataError, "Labels must be whole numbers 0 to 1, got dtype float64."),
        ([1, np.nan], DataError, "Labels must be whole numbers 0 to 1, got dtype float64."),
        ([1, 2], DataError, "Labels must be 0 to 1 for 2 outputs, got 1 to 2."),
    ],
)
def test_label_error(labels, error, message, net, batch):
    net.classes = ("no", "yes")
    for check in (net.trace, lambda *data: gn.gradcheck(net, *data)):
        assert message_of(error, check, batch[0][:2], labels) == message


def test_a_pass_needs_an_image(net, batch):
    assert message_of(DataError, net.trace, batch[0][:0], []) == (
        "There must be at least one image with its label, got none."
    )


def test_the_table(net, batch):
    trace = net.trace(*batch)
    rms = [
        f"{np.sqrt(np.square(array).mean()):.3g}" for array in (trace.scores, trace["linear_1"].output_grad)
    ]
    header, _, *rows, last = str(trace).splitlines()
    assert header.split() == ["layer", "output", "gradients", "rms", "y", "rms", "dy"]
    assert [row.split()[0] for row in rows] == list(trace)
    assert rows[-1].split("  ")[:2] == ["linear_1", ""] and rows[-1].split()[-2:] == rms
    assert "(5, 2)" in rows[-1] and "weight (20, 2), bias (2,)" in rows[-1]
    assert last == f"loss {trace.loss:.6g}" and repr(trace) == str(trace)


class Wrong(gn.Linear):
    """Returns what it is told instead of some of its gradients."""

    def __init__(self, features, gradients):
        super().__init__(features)
        self.gradients = gradients

    def backward(self, ops, dy, x, *, input_grad=True):
        dx, grads = super().backward(ops, dy, x, input_grad=input_grad)
        return dx, self.gradients(grads)


@pytest.mark.parametrize(
    ("gradients", "error", "message"),
    [
        (
            lambda grads: {"weight": grads["weight"], "bais": grads["bias"]},
            ConfigError,
            "backward gave no gradient for wrong_1.bias. Return it under the parameter's name.",
        ),
        (
            lambda grads: grads | {"bias": grads["bias"].sum(keepdims=True)},
            ShapeError,
            "The gradient of wrong_1.bias must have shape (2,), got (1,).",
        ),
    ],
    ids=["name", "shape"],
)
def test_wrong_gradients_are_refused_as_in_training(gradients, error, message, batch):
    net = gn.Sequential([gn.Flatten(), Wrong(2, gradients)], input_shape=(4, 4, 1))
    assert message_of(error, net.trace, *batch) == message
