"""What authors of a layer forget, and what they are told: wherever it is first used, in the same words."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import ConfigError, ShapeError
from glassnet.ops.reference import ReferenceOps
from messages import message_of


class Plain(gn.Layer):
    """y = x, as its author means it."""

    def __init__(self, forward=lambda ops, x: (x, None), backward=lambda dy: (dy, {}), shape=lambda s: s):
        self.gives, self.gives_back, self.shape = forward, backward, shape

    def build(self, input_shape, generator):
        return self.shape(input_shape)

    def forward(self, ops, x, train):
        return self.gives(ops, x)

    def backward(self, ops, dy, saved, *, input_grad=True):
        return self.gives_back(dy)


FORWARD = "Plain.forward must return (y, saved), got {}."
BACKWARD = "Plain.backward must return (dx, {{parameter: gradient}}), got {}."
DX = "plain_1.backward must return dx of shape (N, 4, 4, 1), got {}."
FORGOTTEN = {
    "only y": ({"forward": lambda ops, x: x}, ConfigError, FORWARD.format("an array")),
    "only y, in NumPy": ({"forward": lambda ops, x: 2 * x}, ConfigError, FORWARD.format("an array")),
    "no y": ({"forward": lambda ops, x: None}, ConfigError, FORWARD.format("None")),
    "three": (
        {"forward": lambda ops, x: (x, x, 1)},
        ConfigError,
        FORWARD.format("(an array, an array, int)"),
    ),
    "only dx": ({"backward": lambda dy: dy}, ConfigError, BACKWARD.format("an array")),
    "no dict": ({"backward": lambda dy: (dy, dy)}, ConfigError, BACKWARD.format("(an array, an array)")),
    "only dx, in NumPy": (
        {"forward": lambda ops, x: (2 * x, None), "backward": lambda dy: 2 * dy},
        ConfigError,
        BACKWARD.format("an array"),
    ),
    "no dx": ({"backward": lambda dy: (None, {})}, ShapeError, DX.format("none")),
    "another dx": ({"backward": lambda dy: (dy.sum(0), {})}, ShapeError, DX.format("(4, 4, 1)")),
    "no build": (
        {"shape": lambda shape: None},
        ShapeError,
        "Plain.build must return a shape such as (H, W, C), whole numbers from 1 on, got None.",
    ),
    "a number": (
        {"shape": lambda shape: 4},
        ShapeError,
        "Plain.build must return a shape such as (H, W, C), whole numbers from 1 on, got 4.",
    ),
    "a name": (
        {"forward": lambda ops, x: (ops.sofmax(x), None)},
        AttributeError,
        "ops has no sofmax. Did you mean 'softmax'?",
    ),
}


def use(net, how):
    """With two images, so that an array of them could be taken for a pair."""
    images, labels = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 4, 4, 1), [0, 1]
    if how == "trace":
        net.trace(images, labels)
    elif how == "gradcheck":
        gn.gradcheck(net, images, labels)
    else:
        gn.fit(net, (images, labels), epochs=1, val_fraction=0, backend=how)


@pytest.mark.parametrize("how", ["trace", "gradcheck", "reference", "compiled"])
@pytest.mark.parametrize(("slips", "error", "message"), FORGOTTEN.values(), ids=FORGOTTEN)
def test_what_an_author_forgets_is_named(slips, error, message, how):
    def call():
        layers = [gn.Conv2d(1, 1), Plain(**slips), gn.Flatten(), gn.Linear(2)]
        use(gn.Sequential(layers, input_shape=(4, 4, 1)), how)

    assert message_of(error, call) == message


def test_ops_has_what_it_has():
    assert hasattr(ReferenceOps(), "conv2d") and not hasattr(ReferenceOps(), "__array__")
    assert message_of(AttributeError, getattr, ReferenceOps(), "_hidden") == "ops has no _hidden."


def test_a_setting_stays_as_it_was_built():
    layer = gn.LeakyReLU(0.2)
    layer.slope = 0.3
    net = gn.Sequential([layer], input_shape=(4, 4, 1))
    assert message_of(ConfigError, setattr, layer, "slope", 0.5) == (
        "leakyrelu_1.slope is a setting, fixed once built. Build a new network."
    )
    gn.Sequential([layer], input_shape=(2, 2, 1))
    assert net["leakyrelu_1"].slope == 0.3
