"""The gradient checker for users: it proves what is right and names what is wrong by 0.1 %."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import ConfigError, DataError, ShapeError
from glassnet.explain import GradcheckReport, GradcheckRow
from messages import message_of

SHAPE = (4, 4, 2)


def network(*layers, before=(), classes=3):
    """Some layers in the middle of a small network."""
    body = [gn.Conv2d(4, 3, padding="same"), *before, *layers]
    return gn.Sequential([*body, gn.Flatten(), gn.Linear(classes)], input_shape=SHAPE)


@pytest.fixture
def batch(generator):
    return generator.standard_normal((4, *SHAPE), np.float32), np.array([0, 1, 2, 1])


def rows_of(report):
    return {row.name: row for row in report.rows}


def test_a_network_of_everything_is_proved(batch):
    net = network(
        gn.BatchNorm2d(),
        gn.ReLU(),
        gn.Residual([gn.Conv2d(4, 3, padding="same", groups=2), gn.GroupNorm(2), gn.Dropout(0.3), gn.SiLU()]),
        gn.Concat([[gn.MaxPool2d(3, stride=2, padding=1)], [gn.AvgPool2d(2), gn.Dropout2d(0.5)]]),
    )
    before = net.store.snapshot()
    report = gn.gradcheck(net, *batch)
    assert report.ok, str(report)
    assert report.worst.error == max(row.error for row in report.rows) < 1e-6
    assert all(map(np.array_equal, net.store.tensors().values(), before.values()))  # running statistics too
    names = [f"{layer.name}.x" for layer in net.walk() if not isinstance(layer, gn.layers.Chain)]
    through = [f"network.{name}" for name in ("x", *net.store.parameters)]
    assert sorted(rows_of(report)) == sorted([*names, *net.store.parameters, *through, "loss.scores"])
    modes = {row.name: row.mode for row in report.rows if row.mode != "training"}
    assert modes == {"network.conv2d_1.bias": "evaluation"}  # batch normalisation takes any bias away again


@pytest.mark.parametrize("then", [gn.MaxPool2d(3, stride=2), gn.ReLU()], ids=repr)
def test_ties_and_kinks_are_evaded(then):
    """Flat images, and what ReLU made 0: without moving, most inputs lie exactly on a kink."""
    net = network(gn.ReLU(), then)
    report = gn.gradcheck(net, np.zeros((4, *SHAPE), np.float32), [0, 1, 2, 1])
    assert report.ok, str(report)
    assert sum(row.kinks for row in report.rows) == 0


def test_a_saturated_network_is_proved(batch):
    """As after long training: logits so large that the loss is 0, and so is every gradient of it."""
    images, labels = batch
    net = network(gn.BatchNorm2d(), gn.Tanh())
    net.store.values *= 1000
    labels = net.trace(images, labels).scores.argmax(axis=-1)
    assert not net.trace(images, labels).grads["linear_1.weight"].any()
    report = gn.gradcheck(net, images, labels)
    assert report.ok, str(report)


class Scaled(gn.Layer):
    """y = a * x; `mistakes` are factors of what backward returns."""

    def __init__(self, **mistakes: float) -> None:
        self.mistakes = mistakes

    def build(self, input_shape, generator):
        self.add_parameter("a", generator.standard_normal(input_shape[-1]))
        return input_shape

    def forward(self, ops, x, train):
        return x * self.a, x

    def backward(self, ops, dy, x, *, input_grad=True):
        da = (dy * x).sum(axis=(0, 1, 2))
        da[1] *= self.mistakes.get("one_entry", 1)
        return dy * self.a * self.mistakes.get("x", 1), {"a": da * self.mistakes.get("a", 1)}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("mistake", "culprit"), [("x", "x"), ("a", "a"), ("one_entry", "a")])
@pytest.mark.parametrize("nested", [False, True])
def test_a_gradient_wrong_by_a_thousandth_is_named(nested, mistake, culprit, sign, batch):
    wrong = Scaled(**{mistake: 1 + sign * 1e-3})
    net = network(gn.Residual([gn.Tanh(), wrong]) if nested else wrong, gn.ReLU(), before=[gn.Tanh()])
    report = gn.gradcheck(net, *batch)
    name = f"{wrong.name}.{culprit}"
    assert (report.ok, report.worst.name, report.worst.verdict) == (False, name, "wrong")
    assert report.worst.error == pytest.approx(1e-3, rel=0.01)
    assert str(report).endswith(f" Look at {name} first.")
    unproved = {row.layer for row in report.rows if not row.ok}
    around = {"network", "residual_1"} if nested and mistake == "x" else {"network"}
    assert unproved == {wrong.name, *around}
    assert rows_of(gn.gradcheck(network(Scaled()), *batch))["scaled_1.x"].ok


class WrongShortcut(gn.Residual):
    """What goes past main comes back wrong."""

    def backward(self, ops, dy, saved, *, input_grad=True):
        dx, grads = super().backward(ops, dy, saved, input_grad=input_grad)
        return dx + 1e-3 * dy, grads


class WrongMain(gn.Residual):
    """What is inside main gets a wrong gradient."""

    def backward(self, ops, dy, saved, *, input_grad=True):
        dx, grads = super().backward(ops, dy, saved, input_grad=input_grad)
        return dx, {name: grad * 1.001 for name, grad in grads.items()}


@pytest.mark.parametrize(
    ("kind", "culprit"),
    [(WrongShortcut, "wrongshortcut_1.x"), (WrongMain, "network.wrongmain_1.main.conv2d_1.bias")],
)
def test_a_wrong_hand_over_is_named(kind, culprit, batch):
    report = gn.gradcheck(network(kind([gn.Conv2d(4, 1)])), *batch)
    assert (report.worst.name, report.worst.verdict) == (culprit, "wrong")
    assert all(row.ok for row in report.rows if row.layer not in ("network", "wrongshortcut_1"))


class TooLarge(gn.SoftmaxCrossEntropy):
    def backward(self, ops, scores, target, share):
        return 1.001 * super().backward(ops, scores, target, share)


class TooSharp(gn.SoftmaxCrossEntropy):
    """Invisible where the logits are large."""

    def backward(self, ops, scores, target, share):
        return super().backward(ops, 1.001 * scores, target, share)


class SureOfLabels(gn.SoftmaxCrossEntropy):
    """Invisible where targets sum to 1."""

    def backward(self, ops, scores, target, share):
        return share[:, None] * (ops.softmax(scores) - target)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("loss", [TooLarge, TooSharp, SureOfLabels])
def test_a_wrong_loss_is_named(loss, size, batch):
    net = network(gn.Tanh())
    net.loss = loss()
    net.store.values *= size
    report = gn.gradcheck(net, *batch)
    assert [(row.name, row.verdict) for row in report.rows if not row.ok] == [("loss.scores", "wrong")]
    assert report.worst.error > 1e-4


class NoGamma(gn.BatchNorm2d):
    """Forgets gamma on the way back: invisible in a fresh network, where gamma is 1."""

    def backward(self, ops, dy, saved, *, input_grad=True):
        dx, grads = super().backward(ops, dy, saved, input_grad=input_grad)
        return dx / self.gamma, grads


def test_what_a_fresh_network_hides_is_found(batch):
    worst = gn.gradcheck(network(NoGamma()), *batch).worst
    assert (worst.name, worst.verdict) == ("nogamma_1.x", "wrong")


class Ignored(gn.Layer):
    """y = 1 whatever x and b are."""

    def build(self, input_shape, generator):
        self.add_parameter("b", np.ones(3))
        return input_shape

    def forward(self, ops, x, train):
        return np.ones_like(x), x

    def backward(self, ops, dy, x, *, input_grad=True):
        return 0 * x, {"b": np.zeros(3)}


def test_what_has_no_effect_is_not_proved(batch):
    report = gn.gradcheck(network(Ignored()), *batch)
    rows = rows_of(report)
    assert not report.ok
    for name in ("network.x", "network.conv2d_1.weight", "ignored_1.x", "ignored_1.b"):
        assert (rows[name].verdict, rows[name].checked) == ("no effect", 0)
    assert rows["conv2d_1.weight"].ok and rows["linear_1.weight"].ok and rows["network.linear_1.weight"].ok


class Bent(gn.Layer):
    """y = x + max(p - anchor, 0), the anchor where p is first seen: no step is small enough."""

    anchor = None

    def build(self, input_shape, generator):
        self.add_parameter("p", np.ones(3))
        return input_shape

    def forward(self, ops, x, train):
        self.anchor = self.p.copy() if self.anchor is None else self.anchor
        return x + np.maximum(self.p - self.anchor, 0).sum() * x, x

    def backward(self, ops, dy, x, *, input_grad=True):
        return dy, {"p": np.zeros(3)}


def test_kinks_are_counted_and_not_passed(batch):
    row = rows_of(gn.gradcheck(network(Bent()), *batch))["bent_1.p"]
    assert (row.kinks, row.checked, row.verdict) == (3, 0, "too many kinks")


class Broken(Scaled):
    def backward(self, ops, dy, x, *, input_grad=True):
        return dy * self.a, {"a": self.mistakes["gradient"]} if self.mistakes else {}


def test_errors(batch):
    images, labels = batch
    net = network()
    assert message_of(ConfigError, gn.gradcheck, net, images) == (
        "A gradient check needs labels: gradcheck(net, images, labels), or a Split."
    )
    assert message_of(DataError, gn.gradcheck, net, images[:0], []) == (
        "There must be at least one image with its label, got none."
    )
    assert message_of(ShapeError, gn.gradcheck, network(Broken()), images, labels) == (
        "broken_1.backward must return a gradient of shape (4,) for 'a', got none."
    )
    misshapen = network(Broken(gradient=np.zeros((4, 1))))
    assert message_of(ShapeError, gn.gradcheck, misshapen, images, labels) == (
        "broken_1.backward must return a gradient of shape (4,) for 'a', got (4, 1)."
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_any_float_can_be_checked(dtype, batch):
    assert gn.gradcheck(network(gn.Tanh()), batch[0].astype(dtype), batch[1].astype(float)).ok


def test_a_split_brings_its_own_preprocessing_and_labels():
    data = gn.data.load("digits")
    net = gn.Sequential([gn.Conv2d(4, 3), gn.ReLU(), gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    report = gn.gradcheck(net, data.train[:4])
    net.preprocessing, net.classes = data.preprocessing, data.classes
    names = np.array(data.classes)[data.train.labels[:4]]
    assert report.ok and str(gn.gradcheck(net, data.train.images[:4], names)) == str(report)


@pytest.mark.parametrize(
    "loss",
    [gn.MeanSquaredError(), gn.BinaryCrossEntropy(), gn.SoftmaxCrossEntropy(label_smoothing=0.1)],
    ids=repr,
)
def test_the_networks_own_loss_is_checked(loss, batch):
    net = network(gn.Tanh())
    net.loss = loss
    assert gn.gradcheck(net, batch[0], np.eye(3)[batch[1]]).ok


@pytest.mark.parametrize("size", [1, 1000])
def test_probabilities(size, batch):
    layers = [gn.Conv2d(4, 3), gn.Flatten(), gn.Linear(3), gn.Softmax()]
    net = gn.Sequential(layers, input_shape=SHAPE)
    net.loss = gn.ProbabilityCrossEntropy()
    net.store.values *= size  # probabilities of 0 and 1, but for the scaling of what Softmax is given
    report = gn.gradcheck(net, *batch)
    assert report.ok, str(report)


def test_the_table():
    rows = (
        GradcheckRow("conv2d_1", "x", (4, 28, 28, 1), 201, 0, 1.4e-8, "a direction", "training", "ok"),
        GradcheckRow("conv2d_1", "bias", (8,), 7, 1, 1e-3, "[5]", "evaluation", "wrong"),
        GradcheckRow("linear_1", "weight", (1568, 10), 0, 0, np.nan, "", "evaluation", "no effect"),
    )
    report = GradcheckReport(rows, 1e-6)
    assert (report.ok, report.worst) == (False, rows[2])
    assert str(report).splitlines() == [
        "gradient of      shape           checked  kinks    error           at        mode    verdict",
        "--------------------------------------------------------------------------------------------",
        "conv2d_1.x       (4, 28, 28, 1)      201      0  1.4e-08  a direction    training         ok",
        "conv2d_1.bias    (8,)                  7      1  1.0e-03          [5]  evaluation      wrong",
        "linear_1.weight  (1568, 10)            0      0      nan               evaluation  no effect",
        "1 of 3 gradients proved to 1e-06. Look at linear_1.weight first.",
    ]
