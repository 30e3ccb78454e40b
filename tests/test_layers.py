"""Every layer: gradients by central differences, PyTorch where it has one, and whole error messages."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import glassnet as gn
from compare import channels_first, channels_last, close, torch_gradients
from glassnet.errors import ConfigError, ShapeError
from glassnet.layers import Chain, Layer
from glassnet.ops.reference import ReferenceOps
from glassnet.store import Store
from gradients import gradient_error
from messages import message_of
from oracles import oracle

IMAGE, FLAT = (5, 6, 4), (6,)

# name: (layer, shape of its input without the batch); made anew for each test
LAYERS = {
    "conv": (lambda: gn.Conv2d(6, (2, 3), stride=(2, 1), padding="same", groups=2), IMAGE),
    "conv, no bias": (lambda: gn.Conv2d(3, 3, dilation=2, bias=False), IMAGE),
    "transposed": (lambda: gn.ConvTranspose2d(6, 3, stride=2, padding=1, output_padding=1, groups=2), IMAGE),
    "transposed, no bias": (lambda: gn.ConvTranspose2d(3, (2, 3), dilation=2, bias=False), IMAGE),
    "linear": (lambda: gn.Linear(3), FLAT),
    "linear, no bias": (lambda: gn.Linear(3, bias=False), FLAT),
    "flatten": (lambda: gn.Flatten(), IMAGE),
    "max pool": (lambda: gn.MaxPool2d(3, stride=2, padding=1), IMAGE),
    "average pool": (lambda: gn.AvgPool2d((2, 3), stride=2, padding="same"), IMAGE),
    "average pool, inside": (lambda: gn.AvgPool2d(3, stride=1, padding=1, count_padding=False), IMAGE),
    "global average": (lambda: gn.GlobalAvgPool2d(), IMAGE),
    "batch norm": (lambda: gn.BatchNorm2d(), IMAGE),
    "batch norm, features": (lambda: gn.BatchNorm2d(), FLAT),
    "group norm": (lambda: gn.GroupNorm(2), IMAGE),
    "layer norm": (lambda: gn.LayerNorm(), IMAGE),
    "layer norm, image": (lambda: gn.LayerNorm(axes=3), IMAGE),
    "dropout": (lambda: gn.Dropout(0.3), IMAGE),
    "dropout2d": (lambda: gn.Dropout2d(0.3), IMAGE),
    "no dropout": (lambda: gn.Dropout(0), IMAGE),
    "softmax": (lambda: gn.Softmax(), FLAT),
    "relu": (lambda: gn.ReLU(), IMAGE),
    "leaky relu": (lambda: gn.LeakyReLU(0.2), IMAGE),
    "gelu": (lambda: gn.GELU(), FLAT),
    "silu": (lambda: gn.SiLU(), IMAGE),
    "sigmoid": (lambda: gn.Sigmoid(), IMAGE),
    "tanh": (lambda: gn.Tanh(), IMAGE),
    "chain": (
        lambda: Chain([gn.Conv2d(3, 3), gn.Tanh(), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(2)]),
        IMAGE,
    ),
    "residual": (lambda: gn.Residual(gn.Conv2d(4, 3, padding="same")), IMAGE),
    "residual, shortcut": (
        lambda: gn.Residual(
            [gn.BatchNorm2d(), gn.SiLU(), gn.Conv2d(6, 3, stride=2, padding=1)], gn.Conv2d(6, 1, stride=2)
        ),
        IMAGE,
    ),
    "concat": (
        lambda: gn.Concat([gn.Conv2d(2, 1), [gn.MaxPool2d(3, stride=1, padding=1), gn.Conv2d(3, 1)]]),
        IMAGE,
    ),
    "nested": (
        lambda: Chain(
            {
                "in": gn.Conv2d(4, 2, padding="same"),
                "body": gn.Residual(
                    gn.Concat([gn.Conv2d(1, 1), Chain([gn.Residual([gn.Tanh()]), gn.Conv2d(3, 1)])]),
                    [gn.BatchNorm2d(), gn.Conv2d(4, 1)],
                ),
            }
        ),
        IMAGE,
    ),
}


def build(make, shape, generator):
    """The layer in float64, every parameter random: a gamma of 1 hides a missing factor."""
    layer = make()
    layer.build_named("layer", shape, generator)
    store = Store(layer.walk(), np.float64)
    for name in store.parameters:
        store.value(name)[...] = generator.standard_normal(store.value(name).shape)
    return layer, store


def run(layer, x, train=True):
    """One forward pass; always the same dropout masks."""
    return ReferenceOps(seed=3).call(layer, x, train)


@pytest.mark.parametrize("train", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)
def test_gradients_are_slopes(case, train, generator):
    make, shape = case
    layer, store = build(make, shape, generator)
    x = generator.standard_normal((3, *shape))
    y, saved = run(layer, x, train)
    assert y.shape == (3, *layer.output_shape)
    dy = generator.standard_normal(y.shape)
    dx, grads = ReferenceOps(seed=3).call_backward(layer, dy, saved)
    assert {f"layer.{name}" for name in grads} == set(store.parameters)
    for name, gradient in grads.items():
        error = gradient_error(
            lambda: run(layer, x, train)[0], store.value(f"layer.{name}"), dy, gradient, generator
        )
        assert error < 1e-6, name
    assert gradient_error(lambda: run(layer, x, train)[0], x, dy, dx, generator) < 1e-6
    nothing, same = ReferenceOps(seed=3).call_backward(layer, dy, saved, input_grad=False)
    assert all(np.array_equal(same[name], grads[name]) for name in grads)
    assert nothing is None or isinstance(layer, gn.Flatten)  # a new view costs nothing


def test_every_layer_is_in_the_table():
    public = {kind for kind in vars(gn.layers).values() if inspect.isclass(kind) and issubclass(kind, Layer)}
    assert {type(make()) for make, _ in LAYERS.values()} == public - {Layer}


TRANSPOSED = {
    "plain": {},
    "upsampling": {"stride": 2},
    "all": {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2), "dilation": (2, 1), "groups": 2},
}


@pytest.mark.parametrize("settings", TRANSPOSED.values(), ids=TRANSPOSED)
@pytest.mark.parametrize("kernel", [2, (3, 4)], ids=str)
def test_conv_transpose2d_is_pytorch(kernel, settings, generator):
    layer, _ = build(lambda: gn.ConvTranspose2d(6, kernel, **settings), (3, 4, 4), generator)
    x = generator.standard_normal((2, 3, 4, 4))
    y, saved = run(layer, x)
    dy = generator.standard_normal(y.shape)
    dx, grads = ReferenceOps().call_backward(layer, dy, saved)

    def conv_transpose2d(x, w, b):
        function = oracle("torch").nn.functional.conv_transpose2d
        return channels_last(function(channels_first(x), w.permute(3, 2, 0, 1), b, **settings))

    expected, gradients = torch_gradients(conv_transpose2d, dy, x, layer.weight, layer.bias)
    for ours, theirs in zip((y, dx, grads["weight"], grads["bias"]), (expected, *gradients), strict=True):
        close(ours, theirs)


def test_transposed_convolution_is_the_adjoint(generator):
    """<conv(x), y> = <x, conv_transpose(y)>, which is where its name comes from."""
    conv, _ = build(lambda: gn.Conv2d(3, 3, stride=2, padding=1, bias=False), (7, 9, 2), generator)
    back, _ = build(lambda: gn.ConvTranspose2d(2, 3, stride=2, padding=1, bias=False), (4, 5, 3), generator)
    back.weight = conv.weight
    x, y = generator.standard_normal((2, 7, 9, 2)), generator.standard_normal((2, 4, 5, 3))
    close(np.sum(run(conv, x)[0] * y), np.sum(x * run(back, y)[0]))


@pytest.mark.parametrize("kind", [gn.Dropout, gn.Dropout2d])
def test_dropout_is_off_in_evaluation(kind, generator):
    layer, _ = build(lambda: kind(0.5), IMAGE, generator)
    x = generator.standard_normal((3, *IMAGE))
    assert run(layer, x, train=False)[0] is x
    kept = run(layer, x)[0] != 0
    assert 0.2 < kept.mean() < 0.8
    assert (kept == kept[:, :1, :1]).all() == (kind is gn.Dropout2d)


def test_two_dropout_layers_draw_different_masks(generator):
    first, second = (build(lambda: gn.Dropout(0.5), IMAGE, generator)[0] for _ in range(2))
    x = np.ones((3, *IMAGE))
    assert not np.array_equal(run(first, x)[0], run(second, x)[0])


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (gn.Conv2d(8, 3), (28, 28), "here needs an input of shape (N, H, W, C), got (N, 28, 28). "
         "Grey images need a channel axis: (H, W, 1)."),
        (gn.Conv2d(8, 3), (64,),
         "here needs an input of shape (N, H, W, C), got (N, 64). Put it before Flatten."),
        (gn.MaxPool2d(2), (1, 2, 3, 4), "here needs an input of shape (N, H, W, C), got (N, 1, 2, 3, 4)."),
        (gn.Conv2d(8, 5), (4, 9, 1), "here has a window of 5x5, which does not fit its padded input of 4x9. "
         "Use a smaller kernel, more padding or fewer strided layers."),
        (gn.Conv2d(6, 3, groups=4), (5, 5, 4),
         "here has groups=4, which must divide its input and output channels, here 4 and 6."),
        (gn.ConvTranspose2d(6, 3, groups=2), (5, 5, 3),
         "here has groups=2, which must divide its input and output channels, here 3 and 6."),
        (gn.ConvTranspose2d(6, 3, stride=2, output_padding=2), (5, 5, 3),
         "here output_padding must be smaller than its stride (2, 2), got (2, 2)."),
        (gn.Linear(3), (4, 4, 2), "here needs an input of shape (N, features), got (N, 4, 4, 2). "
         "Put Flatten() or GlobalAvgPool2d() before it."),
        (gn.MaxPool2d(2, padding=2), (4, 4, 1), "here padding must be smaller than its window of 2x2, "
         "got (2, 2, 2, 2): a window would hold nothing but padding."),
        (gn.GroupNorm(3), (4, 4, 8), "here has groups=3, which must divide its 8 channels."),
        (gn.Residual(gn.Conv2d(8, 3, padding="same")), (4, 4, 3),
         "here adds (N, 4, 4, 8) from main to (N, 4, 4, 3) from its input; they must be equal. Give it a "
         "shortcut such as Conv2d(filters, 1, stride=...) that makes that shape."),
        (gn.Residual(gn.Conv2d(8, 1), gn.Conv2d(4, 1)), (4, 4, 3),
         "here adds (N, 4, 4, 8) from main to (N, 4, 4, 4) from its shortcut; they must be equal. Give it a "
         "shortcut such as Conv2d(filters, 1, stride=...) that makes that shape."),
        *((layer, (4, 4, 6), f"here {what} must be a whole number of at least 1, got {number}.")
          for layer, what, number in [
              (gn.Conv2d(0, 3), "filters", 0), (gn.Conv2d(8, 3, groups=-2), "groups", -2),
              (gn.ConvTranspose2d(8, 3, groups=0), "groups", 0), (gn.GroupNorm(0), "groups", 0),
          ]),
        *((gn.Linear(number), (6,), f"here features must be a whole number of at least 1, got {number}.")
          for number in (0, -1, 2.5)),
        (gn.Concat([gn.Conv2d(2, 1), gn.MaxPool2d(2)]), (4, 4, 3),
         "here joins branches along the channels; all else must be equal, got (N, 4, 4, 2), (N, 2, 2, 3)."),
    ],
    ids=repr,
)  # fmt: skip
def test_shape_error(layer, shape, message, generator):
    assert message_of(ShapeError, layer.build_named, "here", shape, generator) == message


def built(layer):
    return layer.build_named("here", (6,), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gn.Conv2d(1, 32, 3),
            "Conv2d: too many positional arguments. It takes Conv2d(filters, kernel_size, *, stride=1, "
            "padding=0, dilation=1, groups=1, bias=True, init='he_normal'). Input channels are inferred: "
            "PyTorch's Conv2d(1, 32, 3) is Conv2d(32, 3) here.",
        ),
        (
            lambda: gn.Linear(128, 10),
            "Linear: too many positional arguments. It takes Linear(features, *, bias=True, "
            "init='he_normal'). Input features are inferred: PyTorch's Linear(128, 10) is Linear(10) here.",
        ),
        (lambda: gn.Dropout(1.0), "Dropout rate must be at least 0 and below 1, got 1.0."),
        (lambda: gn.Concat([]), "Concat needs at least one branch, got none."),
        (lambda: built(gn.BatchNorm2d(momentum=7)), "here momentum must be 0 to 1, got 7."),
        (lambda: built(gn.BatchNorm2d(eps=-1)), "here eps must be a finite number of at least 0, got -1."),
        (lambda: built(gn.LayerNorm(eps=-1)), "here eps must be a finite number of at least 0, got -1."),
        (
            lambda: built(gn.GroupNorm(2, eps=np.nan)),
            "here eps must be a finite number of at least 0, got nan.",
        ),
        (lambda: gn.Sequential([]), "A chain of layers needs at least one layer, got none."),
        (lambda: gn.Sequential([3]), "int_1 must be a layer such as Conv2d(8, 3), got 3."),
        (
            lambda: gn.Sequential({"a.b": gn.ReLU()}),
            "A layer's name must not hold a dot, got 'a.b': dots join nested names.",
        ),
        (
            lambda: gn.Sequential([gn.ReLU(), gn.Residual([SHARED]), SHARED]),
            "A layer stands twice in one network. Each place needs a layer of its own.",
        ),
        (
            lambda: gn.LayerNorm(axes=2).build_named("norm", (6,), np.random.default_rng(0)),
            "norm has axes=2, which must be 1 to 1 for an input of (N, 6).",
        ),
        (
            lambda: gn.Linear(3, init="he").build_named("l", (6,), np.random.default_rng(0)),
            "Unknown initialisation 'he'. Known: glorot_normal, glorot_uniform, he_normal, he_uniform, "
            "lecun_normal, orthogonal, zeros.",
        ),
    ],
)
def test_settings_error(call, message):
    assert message_of(ConfigError, call) == message


SHARED = gn.ReLU()


def test_a_layer_prints_as_it_was_written():
    layer = gn.Conv2d(8, 3, stride=2, padding="same")
    assert repr(layer) == "Conv2d(filters=8, kernel_size=3, stride=2, padding='same')"


def test_an_author_forgets_forward_or_backward():
    class Half(Layer):
        pass

    assert message_of(NotImplementedError, run, Half(), 0) == "Half needs a forward(ops, x, train)."
    assert message_of(NotImplementedError, Half().backward, None, 0, 0) == (
        "Half needs a backward(ops, dy, saved, input_grad=True)."
    )


class Broken(Layer):
    """Fails on the way back."""

    def forward(self, ops, x, train):
        return x, None

    def backward(self, ops, dy, saved, *, input_grad=True):
        raise ValueError("no way back")


@pytest.mark.parametrize(("name", "place"), [("broken_1", "broken_1"), ("", "the network")])
def test_the_place_of_an_error_has_a_name(name, place):
    layer, x = Broken(), np.zeros((2, 3, 3, 1))
    layer.name = name
    with pytest.raises(ValueError, match="no way back") as caught:
        ReferenceOps().call_backward(layer, x, None)
    assert caught.value.__notes__ == [f"It was raised in the backward pass of {place}."]


class Scale(Layer):
    """y = x * tensor."""

    def __init__(self, name, kind, scale=2.0):
        self.tensor, self.kind, self.scale = name, kind, scale

    def build(self, input_shape, generator):
        getattr(self, f"add_{self.kind}")(self.tensor, np.ones(input_shape[-1]))
        return input_shape


@pytest.mark.parametrize("kind", ["parameter", "state"])
@pytest.mark.parametrize("name", ["scale", "forward", "trainable"])
def test_a_tensor_named_like_a_setting_or_a_method_is_refused(name, kind):
    assert message_of(ConfigError, gn.Sequential, [Scale(name, kind)], input_shape=(3,)) == (
        f"Scale.{name} is a setting or a method already, so it cannot be a parameter or state. Give one of "
        "them another name."
    )
    twice = gn.Sequential([Scale("factor", kind)], input_shape=(3,))["scale_1"]
    assert gn.Sequential([twice], input_shape=(5,))["scale_1"].factor.shape == (5,)
