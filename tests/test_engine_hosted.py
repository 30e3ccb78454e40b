"""What a layer may not ask of a plan: each of these runs in NumPy, with the numbers of the reference."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import ShapeError
from glassnet.plan.record import RecordingOps
from glassnet.plan.symbols import RecordingError
from messages import message_of
from networks import Recipe, assert_alike, images, network, train
from test_engine_custom import layers


def times(a, b):
    return a * b


def minus(a, b):
    return a - b


class Straight(gn.Layer):
    """A layer of which only `forward` is written: its gradient is dy, as in a straight-through estimate."""

    def backward(self, ops, dy, saved, *, input_grad=True):
        return dy, {}


class SignOfWeight(gn.Layer):
    """A convolution with binary weights, which NumPy makes of the learned ones (Courbariaux et al. 2015)."""

    def build(self, input_shape, generator):
        self.geometry = gn.shapes.geometry("binary", input_shape[:2], 1)
        self.add_parameter(
            "weight", 0.1 * generator.standard_normal((1, 1, input_shape[-1], input_shape[-1]))
        )
        return input_shape

    def binary(self):
        return np.sign(self.weight)

    def forward(self, ops, x, train):
        return ops.conv2d(x, self.binary(), None, self.geometry), x

    def backward(self, ops, dy, x, *, input_grad=True):
        grads = {"weight": ops.conv2d_weight_grad(dy, x, self.geometry)}
        return ops.conv2d_input_grad(dy, self.binary(), self.geometry), grads


class SignOnlyInBackward(SignOfWeight):
    def forward(self, ops, x, train):
        self.now = np.sign(self.weight)
        return ops.conv2d(x, self.weight, None, self.geometry), x

    def binary(self):
        return self.now


class TurnedWeight(SignOfWeight):
    """The same memory and shape as the weight, but read across."""

    def binary(self):
        return self.weight.transpose(0, 1, 3, 2)


class MeanOfWeight(SignOfWeight):
    """A number that NumPy computes of a parameter."""

    def forward(self, ops, x, train):
        return ops.elementwise(times, x, 1 + self.weight.mean()), x

    def backward(self, ops, dy, x, *, input_grad=True):
        return ops.elementwise(times, dy, 1 + self.weight.mean()), {
            "weight": ops.conv2d_weight_grad(dy, x, self.geometry)
        }


class WideConstant(Straight):
    """Adds a constant in float64, which no kernel takes."""

    def build(self, input_shape, generator):
        self.constant = np.linspace(0, 1, input_shape[-1])
        return input_shape

    def forward(self, ops, x, train):
        return ops.add_bias(x, self.constant), None


class Count(Straight):
    """Counts its steps."""

    def build(self, input_shape, generator):
        self.add_state("count", np.zeros(1))
        return input_shape

    def forward(self, ops, x, train):
        if train:
            ops.set_state(self.count, self.count + 1)
        return x, None


class LastMean(Straight):
    """Keeps the mean of the last batch."""

    def build(self, input_shape, generator):
        self.add_state("mean", np.zeros(input_shape[-1]))
        return input_shape

    def forward(self, ops, x, train):
        if train:
            mean, _ = ops.batch_norm_statistics(x)
            ops.set_state(self.mean, mean)
        return x, None


class Restless(gn.BatchNorm2d):
    """Announces state in evaluation, too, where it comes to nothing."""

    def forward(self, ops, x, train):
        return super().forward(ops, x, True)


class HalfGradient(SignOfWeight):
    """Computes with a gradient, which has no sample axis."""

    def binary(self):
        return self.weight

    def backward(self, ops, dy, x, *, input_grad=True):
        grad = ops.elementwise(times, ops.conv2d_weight_grad(dy, x, self.geometry), 0.5)
        return ops.conv2d_input_grad(dy, self.weight, self.geometry), {"weight": grad}


class Centre(Straight):
    """x minus the mean of each channel, which NumPy broadcasts."""

    def forward(self, ops, x, train):
        mean, _ = ops.batch_norm_statistics(x)
        return ops.elementwise(minus, x, mean), None


class AddAsBias(Straight):
    """An array of samples in the place of a bias."""

    def forward(self, ops, x, train):
        return ops.add_bias(x, x), None


class OneBias(Straight):
    def build(self, input_shape, generator):
        self.one = np.full(1, 0.3, np.float32)
        return input_shape

    def forward(self, ops, x, train):
        return ops.add_bias(x, self.one), None


class OfTheBatchSize(gn.Layer):
    """x times a number that depends on how many images there are."""

    def forward(self, ops, x, train):
        factor = 1 + 1 / x.shape[0]
        return ops.elementwise(times, x, factor), factor

    def backward(self, ops, dy, factor, *, input_grad=True):
        return ops.elementwise(times, dy, factor), {}


class OfTheLength(OfTheBatchSize):
    def forward(self, ops, x, train):
        factor = 1 + 1 / len(x)
        return ops.elementwise(times, x, factor), factor


class Compared(gn.Layer):
    """ReLU, by an operator of NumPy."""

    def mask(self, x):
        return x >= 0

    def forward(self, ops, x, train):
        mask = self.mask(x)
        return ops.elementwise(times, x, mask), mask

    def backward(self, ops, dy, mask, *, input_grad=True):
        return ops.elementwise(times, dy, mask), {}


class Equalled(Compared):
    def mask(self, x):
        return 1 - (x == 0)


class GateByMean(gn.Residual):
    """A container that NumPy runs, with a batch norm that sees one value of each image."""

    def __init__(self):
        super().__init__([gn.GlobalAvgPool2d(), gn.BatchNorm2d()])

    def build(self, input_shape, generator):
        self.main.build_named(f"{self.name}.main", input_shape, generator)
        return input_shape

    def forward(self, ops, x, train):
        gate, saved = ops.call(self.main, x, train)
        return x * (2 + np.tanh(gate))[:, None, None], (gate, saved, x)

    def backward(self, ops, dy, saved, *, input_grad=True):
        gate, inner, x = saved
        tanh = np.tanh(gate)
        dx, grads = ops.call_backward(self.main, (dy * x).sum(axis=(1, 2)) * (1 - tanh**2), inner)
        grads = {f"main.{name}": grad for name, grad in grads.items()}
        return dx + dy * (2 + tanh)[:, None, None], grads


HOSTED = [
    *(SignOfWeight, SignOnlyInBackward, TurnedWeight, MeanOfWeight, WideConstant, Count, LastMean),
    *(HalfGradient, Centre, AddAsBias, OneBias, OfTheBatchSize, OfTheLength, Compared, Equalled, GateByMean),
]


@pytest.mark.parametrize("layer", HOSTED)
def test_it_runs_in_numpy_with_the_numbers_of_the_reference(layer):
    ours, theirs = network(layers(layer())), network(layers(layer())).as_dtype(np.float64)
    marked = [row.name for row in ours.summary().rows if row.host]
    assert marked and all(name.startswith(list(ours.children())[1]) for name in marked)
    assert_same_numbers(ours, theirs)


def test_a_number_that_only_the_reference_knows_says_so():
    ops = RecordingOps(4)
    x = ops.batch("input", (2, 2, 1))
    errors = {
        OfTheBatchSize(): "The number of samples is another each step: a plan knows only the largest.",
        OfTheLength(): "input is recorded, not computed: it has no number of samples. `ops` has what can be "
        "compiled.",
        Centre(): "The network calls elementwise on [input(4, 2, 2, 1),  batch_norm_statistics(1,)], which "
        "fit only where NumPy broadcasts.",
    }
    for layer, message in errors.items():
        assert message_of(RecordingError, ops.call, layer, x, True) == message


def assert_same_numbers(ours, theirs):
    """In training, in prediction, and in what both leave."""
    recipe = Recipe(steps=5, optimizer=gn.SGD(lr=0.005))
    assert_alike(train(ours, "compiled", recipe), train(theirs, "reference", recipe), 1e-4)
    ours.backend, theirs.backend = "compiled", "reference"
    x = np.random.default_rng(0).normal(size=(5, 8, 7, 3)).astype(np.float32)
    before = ours.store.snapshot()
    np.testing.assert_allclose(ours.scores(x), theirs.scores(x), rtol=1e-3, atol=1e-4)
    assert all(np.array_equal(before[name], array) for name, array in ours.store.tensors().items())


class Shifted(Straight):
    """A constant that the layer keeps, in float32: part of a plan."""

    def build(self, input_shape, generator):
        self.shift = np.linspace(0, 1, input_shape[-1], dtype=np.float32)
        return input_shape

    def forward(self, ops, x, train):
        return ops.add_bias(x, self.shift), None


class Slice(Straight):
    """A part of a parameter is that parameter's memory."""

    def build(self, input_shape, generator):
        self.add_parameter("table", generator.standard_normal((2, input_shape[-1])))
        return input_shape

    def forward(self, ops, x, train):
        return ops.add_bias(x, self.table[1]), None

    def backward(self, ops, dy, saved, *, input_grad=True):
        return dy, {}


class Renormalised(gn.BatchNorm2d):
    """Normalises by the new running statistics, as they will be after the step."""

    def forward(self, ops, x, train):
        if not train:
            return super().forward(ops, x, train)
        statistics = ops.batch_norm_statistics(x)
        mean, var = ops.batch_norm_running(self.running_mean, self.running_var, *statistics, x, self.momentum)
        ops.set_state(self.running_mean, mean)
        ops.set_state(self.running_var, var)
        return ops.batch_norm(x, self.gamma, self.beta, mean, var, self.eps), (x, mean, var, False)


@pytest.mark.parametrize("layer", [Shifted, Slice, Renormalised, Restless])
def test_it_is_compiled(layer):
    ours, theirs = network(layers(layer())), network(layers(layer())).as_dtype(np.float64)
    for net in (ours, theirs):
        net[f"{layer.__name__.lower()}_1"].freeze()
    assert not any(row.host for row in ours.summary().rows)
    assert_same_numbers(ours, theirs)


def test_the_average_of_a_hosts_state_is_of_the_step_just_taken():
    counts = []
    for backend in ("compiled", "reference"):
        net = network(layers(Count()))
        data = gn.data.Dataset("noise", images())
        gn.fit(net, data, epochs=2, batch_size=8, val_fraction=0, ema=0.5, backend=backend)
        counts.append(net["count_1"].count)
    np.testing.assert_allclose(*counts, rtol=1e-6)


# What build promised -----------------------------------------------------------------------------------


class Forgot(gn.Layer):
    """A mean over the pixels, whose shape `build` does not tell."""

    def forward(self, ops, x, train):
        return ops.global_avg_pool2d(x), x.shape[1:3]

    def backward(self, ops, dy, size, *, input_grad=True):
        return ops.global_avg_pool2d_grad(dy, size), {}


class ForgotInNumPy(Forgot):
    def forward(self, ops, x, train):
        return x.mean(axis=(1, 2)), x.shape[1:3]


class OneForAll(Straight):
    """The same scores for all images, once."""

    def forward(self, ops, x, train):
        return x[:1], None


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("layer", [Forgot, ForgotInNumPy])
def test_an_output_that_build_did_not_promise_is_refused_alike(layer, backend):
    net = gn.Sequential([layer(), gn.Flatten(), gn.Linear(5)], input_shape=(8, 7, 3))
    net.backend = backend
    for call in (lambda: net.scores(np.zeros((3, 8, 7, 3), np.float32)), lambda: train(net, backend)):
        assert message_of(ShapeError, call) == (
            f"{next(iter(net.children()))} gives (N, 3), but its build promised (N, 8, 7, 3). Return the "
            "output shape from build."
        )


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_fewer_samples_than_came_in_are_refused_alike(backend):
    net = gn.Sequential([gn.Flatten(), OneForAll(), gn.Linear(5)], input_shape=(8, 7, 3))
    net.backend = backend
    assert message_of(ShapeError, net.scores, np.zeros((3, 8, 7, 3), np.float32)) == (
        "oneforall_1 gives (1, 168), but its build promised (N, 168). Return the output shape from build."
    )
