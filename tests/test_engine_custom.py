"""Layers of one's own on the engine: compiled where they can be, and where not, an error or the reference."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import ConfigError, ShapeError
from glassnet.plan.symbols import RecordingError
from messages import message_of
from networks import Recipe, assert_alike, images, network, train


def squash(x, slope):
    """x / (1 + slope * |x|), softsign with a slope."""
    return x / (1 + slope * np.abs(x))


def squash_gradient(dy, x, slope):
    return dy / (1 + slope * np.abs(x)) ** 2


def bump(x):
    return np.exp(-x * x) + 0.1 * np.sin(x) + np.maximum(x, 0.5)


def bump_gradient(dy, x):
    return dy * (-2 * x * np.exp(-x * x) + 0.1 * np.cos(x) + (1.0 if x > 0.5 else 0.0))


class Squash(gn.Layer):
    def __init__(self, slope=0.7):
        self.slope = slope

    def forward(self, ops, x, train):
        return ops.elementwise(squash, x, self.slope), x

    def backward(self, ops, dy, x, *, input_grad=True):
        return (ops.elementwise(squash_gradient, dy, x, self.slope) if input_grad else None), {}


class TwoBiases(gn.Layer):
    """y = x + a + b: two parameters with the same gradient."""

    def build(self, input_shape, generator):
        self.add_parameter("a", np.zeros(input_shape[-1]))
        self.add_parameter("b", np.ones(input_shape[-1]))
        return input_shape

    def forward(self, ops, x, train):
        return ops.add_bias(ops.add_bias(x, self.a), self.b), None

    def backward(self, ops, dy, saved, *, input_grad=True):
        gradient = ops.bias_grad(dy)
        return dy, {"a": gradient, "b": gradient}


class Gate(gn.Layer):
    """x * tanh(x), of two arrays."""

    def forward(self, ops, x, train):
        t = ops.elementwise(np_tanh, x)
        return ops.elementwise(times, x, t), (x, t)

    def backward(self, ops, dy, saved, *, input_grad=True):
        x, t = saved
        through = ops.elementwise(times, dy, ops.elementwise(gate_slope, x, t))
        return through, {}


def np_tanh(x):
    return np.tanh(x)


def times(a, b):
    return a * b


def gate_slope(x, t):
    return t + x * (1 - t * t)


def layers(*custom):
    return [gn.Conv2d(6, 3, padding="same"), *custom, gn.Conv2d(4, 3), gn.Flatten(), gn.Linear(5)]


@pytest.mark.parametrize("custom", [Squash, TwoBiases, Gate])
@pytest.mark.parametrize("parts", [1, 3])
def test_compiled_custom_layers_are_those_of_the_reference(custom, parts):
    ours, theirs = network(layers(custom())), network(layers(custom())).as_dtype(np.float64)
    recipe = Recipe(parts=parts, optimizer=gn.SGD(lr=0.005, momentum=0.9))
    assert_alike(train(ours, "compiled", recipe), train(theirs, "reference", recipe), 1e-4)


def test_one_function_with_other_settings_is_another_kernel():
    for slope in (0.1, 2.0):
        ours, theirs = network(layers(Squash(slope))), network(layers(Squash(slope))).as_dtype(np.float64)
        assert_alike(train(ours, "compiled"), train(theirs, "reference"), 1e-4)


# Layers that cannot be recorded ------------------------------------------------------------------------


class WithNumPy(gn.Layer):
    def forward(self, ops, x, train):
        return np.clip(x, -1, 1), x

    def backward(self, ops, dy, x, *, input_grad=True):
        return dy * (np.abs(x) < 1), {}


class WithParameter(gn.Layer):
    """PReLU, with its slope handed to elementwise as if it were a setting."""

    def build(self, input_shape, generator):
        self.add_parameter("slope", np.array(0.25))
        return input_shape

    def forward(self, ops, x, train):
        return ops.elementwise(squash, x, self.slope), x

    def backward(self, ops, dy, x, *, input_grad=True):
        return ops.elementwise(squash_gradient, dy, x, self.slope), {"slope": np.zeros(())}


class WithNumberFirst(gn.Layer):
    def forward(self, ops, x, train):
        return ops.elementwise(times, 2.0, x), None

    def backward(self, ops, dy, saved, *, input_grad=True):
        return ops.elementwise(times, 2.0, dy), {}


class WithUfunc(gn.Layer):
    def forward(self, ops, x, train):
        return ops.elementwise(np.tanh, x), x

    def backward(self, ops, dy, x, *, input_grad=True):
        return ops.elementwise(times, dy, x), {}


class WithThreeArrays(gn.Layer):
    def forward(self, ops, x, train):
        return ops.elementwise(lambda a, b, c: a * b + c, x, x, x), x

    def backward(self, ops, dy, x, *, input_grad=True):
        return ops.elementwise(lambda dy, x: dy * (2 * x + 1), dy, x), {}


class WithArrayGradient(TwoBiases):
    def backward(self, ops, dy, saved, *, input_grad=True):
        return dy, {"a": np.zeros(self.a.shape, self.a.dtype), "b": np.zeros(self.b.shape, self.b.dtype)}


UNRECORDED = {
    WithNumPy: "conv2d_1",
    WithParameter: "withparameter_1",
    WithNumberFirst: "withnumberfirst_1",
    WithUfunc: "withufunc_1",
    WithThreeArrays: "takes 3 arrays",
    WithArrayGradient: "witharraygradient_1",
}


@pytest.mark.parametrize("layer", UNRECORDED, ids=lambda layer: layer.__name__)
def test_a_layer_that_cannot_be_recorded_is_named(layer):
    with pytest.raises(RecordingError, match=UNRECORDED[layer]):
        train(network(layers(layer())), "compiled", Recipe(steps=1))


@pytest.mark.parametrize("layer", UNRECORDED, ids=lambda layer: layer.__name__)
def test_auto_trains_it_on_the_reference_and_says_so(layer, caplog):
    caplog.set_level(logging.INFO)
    net, data = network(layers(layer())), gn.data.Dataset("noise", images())
    run = gn.fit(net, data, epochs=1, batch_size=8, val_fraction=0)
    assert run.backend == "reference"
    said = [record.getMessage() for record in caplog.records]
    assert any(m.startswith("Training on the reference backend: ") for m in said)
    assert "Training on the reference backend." in said


def test_the_error_of_a_symbol_says_what_to_do():
    message = message_of(RecordingError, train, network(layers(WithNumPy())), "compiled", Recipe(steps=1))
    assert message == (
        "conv2d_1 conv2d is recorded, not computed: it has no clip. In forward and backward, use `ops` only; "
        "a layer that needs NumPy runs on the reference backend."
    )


def test_a_window_too_large_for_its_positions_is_refused():
    net = gn.Sequential([gn.MaxPool2d(257), gn.Flatten(), gn.Linear(5)], input_shape=(300, 300, 3))
    message = message_of(RecordingError, train, net, "compiled", Recipe(steps=1), images(10, (300, 300, 3)))
    assert message == (
        "maxpool2d_1 has a window of 257x257; recorded ones hold at most 65536 values, for their positions "
        "are 16 bits wide."
    )


class Forgetful(TwoBiases):
    def backward(self, ops, dy, saved, *, input_grad=True):
        return dy, {"a": ops.bias_grad(dy)}


class Misshapen(TwoBiases):
    def backward(self, ops, dy, saved, *, input_grad=True):
        return dy, {
            "a": ops.bias_grad(dy),
            "b": ops.conv2d_weight_grad(dy, dy, gn.shapes.Geometry((8, 7), (1, 1))),
        }


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_wrong_gradients_are_refused_alike(backend):
    recipe = Recipe(steps=1)
    message = message_of(ConfigError, train, network(layers(Forgetful())), backend, recipe)
    assert message == "backward gave no gradient for forgetful_1.b. Return it under the parameter's name."
    message = message_of(ShapeError, train, network(layers(Misshapen())), backend, recipe)
    assert message == "The gradient of misshapen_1.b must have shape (6,), got (1, 1, 6, 6)."
