"""Layers of one's own on the engine: compiled where they can be, and where not, run in NumPy in between."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import glassnet as gn
from glassnet.engine.profile import profile
from glassnet.errors import ConfigError, ShapeError
from glassnet.plan.record import RecordingOps
from glassnet.plan.show import show
from glassnet.plan.symbols import RecordingError
from glassnet.train.example import example_step
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


def cubed(x):
    return x * squared(x)


def squared(x):
    return x * x


def cubed_gradient(dy, x):
    return 3 * dy * squared(x)


class Cube(gn.Layer):
    """x^3, by functions that call functions."""

    def forward(self, ops, x, train):
        return ops.elementwise(cubed, x), x

    def backward(self, ops, dy, x, *, input_grad=True):
        return ops.elementwise(cubed_gradient, dy, x), {}


def layers(*custom):
    return [gn.Conv2d(6, 3, padding="same"), *custom, gn.Conv2d(4, 3), gn.Flatten(), gn.Linear(5)]


@pytest.mark.parametrize("custom", [Squash, TwoBiases, Gate, Cube])
@pytest.mark.parametrize("parts", [1, 3])
def test_compiled_custom_layers_are_those_of_the_reference(custom, parts):
    ours, theirs = network(layers(custom())), network(layers(custom())).as_dtype(np.float64)
    recipe = Recipe(parts=parts, optimizer=gn.SGD(lr=0.005, momentum=0.9))
    assert_alike(train(ours, "compiled", recipe), train(theirs, "reference", recipe), 1e-4)


def test_one_function_with_other_settings_is_another_kernel():
    for slope in (0.1, 2.0):
        ours, theirs = network(layers(Squash(slope))), network(layers(Squash(slope))).as_dtype(np.float64)
        assert_alike(train(ours, "compiled"), train(theirs, "reference"), 1e-4)


FACTOR = 2.0


def by_default(factor):
    def scaled(x, by=factor):
        return by * x

    return scaled


def by_global(x):
    return FACTOR * x


class By(gn.Layer):
    """One function or another, in prediction only."""

    def __init__(self, function):
        self.function = function

    def forward(self, ops, x, train):
        return ops.elementwise(self.function, x), None


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_defaults_and_globals_are_those_of_now(backend, monkeypatch):
    x = np.ones((1, 2, 2, 1), np.float32)

    def doubled(function):
        net = gn.Sequential([By(function)], input_shape=(2, 2, 1))
        net.backend = backend
        return net.scores(x).flat[0]

    assert [doubled(by_default(2.0)), doubled(by_default(3.0)), doubled(by_global)] == [2, 3, 2]
    monkeypatch.setitem(globals(), "FACTOR", 7.0)
    assert doubled(by_global) == 7


def selected(x):
    return np.select([x > 0], [x], 0.1 * x)


class Select(Cube):
    def forward(self, ops, x, train):
        return ops.elementwise(selected, x), x


def test_a_function_that_does_not_compile_is_named_and_auto_goes_on_without_the_engine(caplog):
    caplog.set_level(logging.INFO)
    message = message_of(RecordingError, train, network(layers(Select())), "compiled")
    assert message == (
        "select_1 calls elementwise with selected, which Numba cannot compile. Write it for single numbers, "
        "or call it without elementwise, so that the layer runs in NumPy."
    )
    data = gn.data.Dataset("noise", images())
    run = gn.fit(network(layers(Select())), data, epochs=1, batch_size=8, val_fraction=0)
    assert run.backend == "reference" and any("select_1 calls" in line for line in caplog.messages)


# Layers that only NumPy can run ------------------------------------------------------------------------


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


class WithState(gn.Layer):
    """x minus a running mean of its largest values, times a factor; dropout of what is left, all in NumPy."""

    def build(self, input_shape, generator):
        self.add_parameter("factor", np.full(input_shape[-1], 0.9))
        self.add_state("mean", np.zeros(input_shape[-1]))
        return (input_shape[0] - 1, *input_shape[1:])

    def forward(self, ops, x, train):
        x = x[:, 1:]
        if train:
            ops.set_state(self.mean, 0.9 * self.mean + 0.1 * x.max(axis=(0, 1, 2)))
        x = x - self.mean
        return ops.dropout(x * self.factor, 0.25, 7), x

    def backward(self, ops, dy, x, *, input_grad=True):
        dy = ops.dropout(dy, 0.25, 7)
        dx = np.zeros((len(dy), dy.shape[1] + 1, *dy.shape[2:]), dy.dtype)
        dx[:, 1:] = dy * self.factor
        return dx, {"factor": (dy * x).sum(axis=(0, 1, 2))}


class AroundOthers(gn.Residual):
    """A container that joins its branches in NumPy: those inside run there too."""

    def forward(self, ops, x, train):
        y, saved = super().forward(ops, x, train)
        return np.tanh(y), (saved, np.tanh(y))

    def backward(self, ops, dy, saved, *, input_grad=True):
        return super().backward(ops, dy * (1 - saved[1] ** 2), saved[0], input_grad=input_grad)


def around_others():
    return AroundOthers([gn.Conv2d(6, 3, padding="same"), gn.BatchNorm2d()])


HOSTS = [
    *(WithNumPy, WithParameter, WithNumberFirst, WithUfunc, WithThreeArrays, WithArrayGradient),
    *(WithState, around_others),
]
each_host = pytest.mark.parametrize("layer", HOSTS, ids=lambda layer: layer.__name__)


@each_host
@pytest.mark.parametrize("parts", [1, 3])
def test_what_cannot_be_recorded_runs_in_numpy_between_compiled_sections(layer, parts):
    ours, theirs = network(layers(layer())), network(layers(layer())).as_dtype(np.float64)
    recipe = Recipe(parts=parts, optimizer=gn.SGD(lr=0.005, momentum=0.9))
    assert_alike(train(ours, "compiled", recipe), train(theirs, "reference", recipe), 1e-4)
    ours.backend, theirs.backend = "compiled", "reference"
    x = np.random.default_rng(0).normal(size=(5, 8, 7, 3)).astype(np.float32)
    np.testing.assert_allclose(ours.scores(x), theirs.scores(x), rtol=1e-3, atol=1e-4)


@each_host
def test_it_is_named_in_the_log_and_marked_in_the_summary(layer, caplog):
    net = network(layers(layer()))
    named = list(net.children())[1]
    marked = [row.name for row in net.summary().rows if row.host]
    assert marked and all(name.split(".")[0] == named for name in marked)
    assert f"{named}" in str(net.summary()) and "(host)" in str(net.summary())
    caplog.set_level(logging.INFO)
    run = gn.fit(net, gn.data.Dataset("noise", images()), epochs=1, batch_size=8, val_fraction=0)
    assert run.backend == "compiled"
    assert any(m.startswith(f"{named} runs in NumPy: ") for m in caplog.messages)


def test_compiled_layers_are_not_marked():
    assert not any(row.host for row in network(layers(Squash(), TwoBiases(), Gate())).summary().rows)


def test_a_host_call_first_or_twice_in_a_row():
    chain = [WithNumPy(), WithNumPy(), *layers(WithNumPy(), WithState())]
    again = [WithNumPy(), WithNumPy(), *layers(WithNumPy(), WithState())]
    assert_alike(train(network(chain), "compiled"), train(network(again), "reference"), 1e-3)


def test_a_plan_with_a_host_call_can_be_shown_and_profiled():
    compiled = example_step(network(layers(WithNumPy())), gn.SoftmaxCrossEntropy(), gn.SGD(), 8).compiled
    rows, _ = show(compiled.sections, compiled.layout, compiled.memory, capacity=8, chunk=compiled.chunk)
    hosts = [row for row in rows if row.section.endswith("host")]
    assert [row.kernel for row in hosts] == ["WithNumPy.forward", "WithNumPy.backward"]
    assert all(row.reads and row.writes for row in hosts)
    measured = [row for row in profile(compiled, rounds=1).rows if row.section.endswith("host")]
    assert [row.kernel for row in measured] == ["WithNumPy.forward", "WithNumPy.backward"]
    assert all(row.seconds > 0 for row in measured)


def test_the_error_of_a_symbol_says_what_to_do():
    ops = RecordingOps(4)
    message = message_of(RecordingError, ops.call, WithNumPy(), ops.batch("input", (2, 2, 1)), True)
    assert message == "input is recorded, not computed: it has no clip. `ops` has what can be compiled."


def test_a_window_too_large_for_its_positions_runs_in_numpy():
    net = gn.Sequential([gn.MaxPool2d(257), gn.Flatten(), gn.Linear(5)], input_shape=(300, 300, 3))
    assert [row.name for row in net.summary().rows if row.host] == ["maxpool2d_1"]
    split = images(10, (300, 300, 3))
    double = gn.Sequential([gn.MaxPool2d(257), gn.Flatten(), gn.Linear(5)], input_shape=(300, 300, 3))
    recipe = Recipe(steps=1)
    assert_alike(train(net, "compiled", recipe, split), train(double, "reference", recipe, split), 1e-4)


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
