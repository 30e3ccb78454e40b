"""The network: it learns, repeats itself to the bit, keeps training out of evaluation, explains misuse."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import ConfigError, DataError, NotFiniteError, ShapeError
from glassnet.ops.reference import ReferenceOps
from glassnet.preprocessing import Preprocessing
from gradients import gradient_error
from messages import message_of
from oracles import oracle

SHAPE = (8, 8, 1)
GOLDEN = [3.397315, 2.165176, 0.3517537, 0.2979296, 0.5433881]


def network(seed=0):
    """Every kind of state: running statistics, dropout, a shortcut."""
    main = [gn.Conv2d(4, 3, padding="same"), gn.BatchNorm2d(), gn.ReLU(), gn.Dropout(0.2)]
    layers = [gn.Conv2d(4, 3), gn.ReLU(), gn.Residual(main), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(3)]
    return gn.Sequential(layers, input_shape=SHAPE, seed=seed)


@pytest.fixture
def batch(generator):
    return generator.standard_normal((10, *SHAPE), np.float32), generator.integers(0, 3, 10)


def train(net, batch, steps, optimizer=None, seed=0):
    """Full-batch steps as a training loop makes them; the loss of each."""
    optimizer = optimizer or gn.SGD(lr=0.1)
    x, labels = batch
    target, share = (array.astype(np.float32) for array in net.loss.targets(labels, net.outputs))
    history = []
    for step in range(steps):
        ops = ReferenceOps(seed=seed, step=step)
        losses, _, grads = net.loss_and_gradients(ops, x, target, share)
        history.append(float(losses.sum()))
        for name, _ in net.store.learning():
            net.store.grad(name)[...] = grads[name]
        scalars = {n: optimizer.scalars(s, optimizer.lr, step + 1) for n, s in net.store.learning()}
        optimizer.update(ops, net.store, scalars)
        ops.commit()
    return history


def test_ten_samples_are_learned_by_heart(batch):
    layers = [gn.Conv2d(8, 3), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(3)]
    net = gn.Sequential(layers, input_shape=SHAPE)
    history = train(net, batch, 150, gn.SGD(lr=0.2, momentum=0.9))
    assert history[0] > 0.8 and history[-1] < 1e-3
    assert np.array_equal(net.predict(batch[0]), batch[1])


def test_the_same_seed_gives_the_same_bits(batch):
    runs = [network(), network(), network(seed=1)]
    histories = [train(net, batch, 5) for net in runs]
    assert histories[0] == histories[1] != histories[2]
    assert np.array_equal(runs[0].store.values, runs[1].store.values)
    assert np.array_equal(runs[0].store.state, runs[1].store.state)
    assert histories[0] != train(network(), batch, 5, seed=1)  # other dropout masks


def test_golden_first_losses(batch):
    """A fixed run: these change only where the meaning of an operation, a draw or a rule changes."""
    assert train(network(), batch, 5) == pytest.approx(GOLDEN, rel=1e-4)


def test_running_statistics_become_those_of_the_population(batch):
    """Batch norm of 10 images again and again: the running mean and unbiased variance are theirs."""
    net = gn.Sequential([gn.BatchNorm2d(), gn.Flatten(), gn.Linear(3)], input_shape=SHAPE)
    for step in range(300):
        ops = ReferenceOps(step=step)
        ops.call(net, batch[0], True)
        ops.commit()
    norm = net["batchnorm2d_1"]
    np.testing.assert_allclose(norm.running_mean, batch[0].mean(), atol=1e-6)
    np.testing.assert_allclose(norm.running_var, batch[0].var(ddof=1), rtol=1e-5)
    trained = ReferenceOps().call(net, batch[0], True)[0]
    np.testing.assert_allclose(trained, ReferenceOps().call(net, batch[0], False)[0], atol=0.01)


def test_training_does_not_leak_into_evaluation(batch):
    net = network()
    train(net, batch, 3)
    scores, before = net.scores(batch[0]), net.store.snapshot()
    ops = ReferenceOps(step=7)
    ops.call(net, batch[0], True)  # a training pass that nobody commits
    ops = ReferenceOps(step=8)
    ops.call(net, batch[0], False)  # an evaluation that somebody commits
    ops.commit()
    assert all(map(np.array_equal, net.store.tensors().values(), before.values()))
    assert np.array_equal(net.scores(batch[0]), scores)


def test_a_batch_is_predicted_like_its_images(batch):
    net = network()
    train(net, batch, 3)
    whole = net.scores(batch[0])
    parts = [net.scores(batch[0][i : i + 3]) for i in range(0, len(whole), 3)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net.scores(batch[0][2:3])[0], whole[2], rtol=1e-4, atol=1e-6)


def test_scores_of_many_bytes_take_the_memory_of_a_batch():
    images = np.zeros((4000, 32, 32, 1), np.uint8)  # 16 MB as float32
    net = gn.Sequential([gn.GlobalAvgPool2d()], input_shape=(32, 32, 1))
    net.preprocessing = Preprocessing((32, 32), (0.5,), (1.0,), "L")
    net.scores(images[:300])
    tracemalloc.start()
    net.scores(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000


# Backward: what is frozen costs nothing


class Counting(ReferenceOps):
    """Counts the layers that backward reaches, and operations by name."""

    def __init__(self):
        super().__init__()
        self.reached, self.operations = [], Counter()

    def call_backward(self, layer, dy, saved, *, input_grad=True):
        self.reached.append(layer.name)
        return super().call_backward(layer, dy, saved, input_grad=input_grad)

    def conv2d_input_grad(self, *args):
        self.operations["conv2d_input_grad"] += 1
        return super().conv2d_input_grad(*args)


def backward(net, batch):
    ops = Counting()
    target, share = net.loss.targets(batch[1], net.outputs)
    return ops, net.loss_and_gradients(ops, batch[0], target, share)[2]


@pytest.mark.parametrize("backend", ["reference", "compiled"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_raw_images_give_the_bits_of_their_inputs(backend, dtype, generator):
    """They are made input as they are read; another preprocessing is another input."""
    net = network()
    net.backend = backend
    images = generator.integers(0, 256, (5, *SHAPE)).astype(dtype)
    images = images if dtype == np.uint8 else images / 255
    for mean, std in ((0.5, 0.25), (0.1, 0.3)):
        net.preprocessing = Preprocessing(SHAPE[:2], (mean,), (std,), "L")
        np.testing.assert_array_equal(net.scores(images), net.predictor()(net.inputs(images)))


def test_backward_stops_at_the_first_layer_that_learns(batch):
    net = network()
    ops, full = backward(net, batch)
    assert set(full) == set(net.store.parameters)
    assert ops.operations["conv2d_input_grad"] == 1  # the images need no gradient
    net["conv2d_1"].freeze()
    ops, grads = backward(net, batch)
    assert ops.reached[-1] == "residual_1.main.conv2d_1" and ops.operations["conv2d_input_grad"] == 0
    assert set(grads) == {name for name, _ in net.store.learning()}
    assert all(np.array_equal(grads[name], full[name]) for name in grads)
    net["residual_1"].freeze()
    ops, grads = backward(net, batch)
    assert ops.reached == ["", "linear_1"] and set(grads) == {"linear_1.weight", "linear_1.bias"}
    net.freeze()
    assert backward(net, batch)[1] == {}


def test_a_frozen_layer_between_lets_the_gradient_through(batch):
    net = network()
    _, full = backward(net, batch)
    net["residual_1"].freeze()
    _, grads = backward(net, batch)
    assert np.array_equal(grads["conv2d_1.weight"], full["conv2d_1.weight"])
    before = net.store.snapshot()
    train(net, batch, 1)
    changed = {
        name for name in net.store.parameters if not np.array_equal(net.store.value(name), before[name])
    }
    assert changed == {"conv2d_1.weight", "conv2d_1.bias", "linear_1.weight", "linear_1.bias"}


def test_the_whole_network_is_a_slope(batch, generator):
    """loss_and_gradients through every container, dropout and batch norm included."""
    net = network().as_dtype(np.float64)
    x = batch[0].astype(np.float64)
    target, share = net.loss.targets(batch[1], net.outputs, np.arange(10))

    def run():
        return net.loss_and_gradients(ReferenceOps(seed=1), x, target, share)

    grads = run()[2]
    for name in ("linear_1.weight", "residual_1.main.batchnorm2d_1.gamma", "conv2d_1.weight"):
        error = gradient_error(lambda: run()[0], net.store.value(name), np.ones(10), grads[name], generator)
        assert error < 1e-6, name


def test_the_whole_network_is_pytorch(batch):
    """The same layers in torch.nn, one training step: loss, scores, gradients and running statistics."""
    torch = oracle("torch")
    layers = [
        gn.Conv2d(4, 3, stride=2, padding=1),
        gn.BatchNorm2d(),
        gn.ReLU(),
        gn.AvgPool2d(2),
        gn.Flatten(),
    ]
    net = gn.Sequential([*layers, gn.Linear(3)], input_shape=SHAPE)
    conv, norm = torch.nn.Conv2d(1, 4, 3, stride=2, padding=1), torch.nn.BatchNorm2d(4)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(net["conv2d_1"].weight).permute(3, 2, 0, 1))
        conv.bias.zero_()
    x, labels = batch
    hidden = torch.relu(norm(conv(torch.tensor(x).permute(0, 3, 1, 2))))
    flat = torch.nn.functional.avg_pool2d(hidden, 2).permute(0, 2, 3, 1).flatten(1)
    scores = flat @ torch.tensor(net["linear_1"].weight)
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(labels))
    loss.backward()
    target, share = net.loss.targets(labels, 3)
    ops = ReferenceOps()
    losses, ours, grads = net.loss_and_gradients(ops, x, target, share)
    ops.commit()
    pairs = [
        (losses.sum(), loss),
        (ours, scores),
        (grads["conv2d_1.weight"], conv.weight.grad.permute(2, 3, 1, 0)),
        (grads["batchnorm2d_1.gamma"], norm.weight.grad),
        (grads["batchnorm2d_1.beta"], norm.bias.grad),
        (net["batchnorm2d_1"].running_mean, norm.running_mean),
        (net["batchnorm2d_1"].running_var, norm.running_var),
    ]
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-4, atol=1e-6)


# Prediction and misuse


def test_names_and_probabilities(batch):
    net = network()
    net.classes = ("ant", "bee", "cat")
    probabilities = net.predict_proba(batch[0])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert net.predict(batch[0]).tolist() == [net.classes[i] for i in probabilities.argmax(axis=1)]
    assert net.labels(["cat", "ant"]).tolist() == [2, 0]
    assert net.labels([1, 0]).tolist() == [1, 0]


def test_preprocessing_makes_the_input(generator):
    net = network()
    images = generator.integers(0, 256, (4, 8, 8), np.uint8)
    net.preprocessing = Preprocessing((8, 8), (0.5,), (0.25,), "L")
    expected = ((images / 255 - 0.5) / 0.25).astype(np.float32)[..., None]
    np.testing.assert_allclose(net.inputs(images), expected, atol=1e-5)


def test_layers_are_found_by_their_dotted_name():
    net = network()
    assert net["residual_1.main.conv2d_1"].name == "residual_1.main.conv2d_1"
    assert message_of(ConfigError, net.__getitem__, "residual_1.conv2d_1") == (
        "There is no layer 'residual_1.conv2d_1'. residual_1 has main."
    )
    assert message_of(ConfigError, net.__getitem__, "conv") == (
        "There is no layer 'conv'. The network has conv2d_1, relu_1, residual_1, maxpool2d_1, flatten_1, "
        "linear_1."
    )
    assert message_of(ConfigError, net.__getitem__, 0) == (
        "A layer is found by its name, got 0. The network has conv2d_1, relu_1, residual_1, maxpool2d_1, "
        "flatten_1, linear_1."
    )


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_is_input(dtype, precision, batch):
    net, images = network().as_dtype(precision), batch[0].astype(dtype)
    assert net.inputs(images).dtype == net.trace(images, batch[1]).scores.dtype == precision
    assert np.array_equal(net.scores(images), net.scores(images.astype(precision)))


WHOLE = (
    "Without a preprocessing the input must be float, got {}. Train the network with `fit`, set "
    "net.preprocessing, or convert it with x.astype(np.float32)."
)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (
            np.zeros((5, 1, 8, 8), np.float32),
            ShapeError,
            "The input must have shape (N, 8, 8, 1), got (5, 1, 8, 8). Images are channels-last here: "
            "x.transpose(0, 2, 3, 1).",
        ),
        (
            np.zeros((8, 8, 1), np.float32),
            ShapeError,
            "The input must have shape (N, 8, 8, 1), got (8, 8, 1). One image is a batch of one: x[None].",
        ),
        (
            np.zeros((5, 9, 8, 1), np.float32),
            ShapeError,
            "The input must have shape (N, 8, 8, 1), got (5, 9, 8, 1).",
        ),
        (
            [np.zeros((8, 8, 1)), np.zeros((7, 8, 1))],
            ShapeError,
            "The images must all have the shape (8, 8, 1), got images of different shapes.",
        ),
        (np.zeros((5, 8, 8, 1), np.uint8), DataError, WHOLE.format("uint8")),
        (np.zeros((5, 8, 8, 1), np.int64), DataError, WHOLE.format("int64")),
        *(
            (
                np.full((5, 8, 8, 1), number),
                DataError,
                "The input must be finite numbers, but holds NaN or infinity.",
            )
            for number in (np.nan, np.float32(np.inf), 1e300)
        ),
        (np.zeros((0, 8, 8, 1), np.float32), DataError, "Prediction needs at least one image, got none."),
    ],
    ids=["channels first", "one image", "size", "sizes", "bytes", "whole", "nan", "inf", "large", "empty"],
)
def test_input_error(images, error, message):
    assert message_of(error, network().predict, images) == message


@pytest.mark.parametrize("height", [8, 12])
@pytest.mark.parametrize(("channels", "names"), [(1, "L"), (3, "RGB")])
def test_one_image_is_no_batch_of_grey_ones(channels, names, height):
    """With a preprocessing too, which takes (N, H, W)."""
    net = gn.Sequential([gn.Flatten(), gn.Linear(2)], input_shape=(8, 8, channels))
    message = (
        f"The input must have shape (N, 8, 8, {channels}), got ({height}, 8, {channels}). "
        "One image is a batch of one: x[None]."
    )
    for net.preprocessing in (None, Preprocessing.identity(names)):
        for call in (net.predict, net.inputs):
            assert message_of(ShapeError, call, np.zeros((height, 8, channels), np.uint8)) == message


@pytest.mark.parametrize("shape", [(5, 8, 8, 1), (5, 8, 8)])
def test_a_wrong_shape_is_told_as_it_is(shape):
    net = gn.Sequential([gn.Flatten(), gn.Linear(2)], input_shape=(8, 8, 3))
    net.preprocessing = Preprocessing.identity("RGB")
    assert message_of(ShapeError, net.predict, np.zeros(shape, np.uint8)) == (
        "The images must be 'RGB', of shape (N, H, W, 3), got (5, 8, 8, 1)."
    )


def test_a_batch_of_grey_images_may_be_as_wide_as_it_has_channels():
    net = gn.Sequential([gn.Flatten(), gn.Linear(2)], input_shape=(8, 1, 1))
    net.preprocessing = Preprocessing.identity("L")
    assert net.predict(np.zeros((5, 8, 1), np.uint8)).shape == (5,)


@pytest.mark.parametrize("backend", ["reference", "compiled"])
@pytest.mark.parametrize("call", ["scores", "predict", "predict_proba"])
def test_scores_that_are_not_finite_are_no_prediction(call, backend, batch):
    net = network()
    net.backend = backend
    net["linear_1"].bias = [0, np.nan, 0]
    assert message_of(NotFiniteError, getattr(net, call), batch[0]) == (
        "The network's scores of 10 of 10 images are NaN or infinite. Look at its weights, or train again "
        "with a lower learning rate."
    )


def test_other_errors(batch):
    unbuilt = gn.Sequential([gn.Flatten()])
    assert message_of(ConfigError, unbuilt.summary) == (
        "This Sequential has no input_shape yet. Write Sequential([...], input_shape=(H, W, C))."
    )
    images = gn.Sequential([gn.Conv2d(3, 3)], input_shape=SHAPE)
    assert message_of(ShapeError, images.trace, *batch) == (
        "A loss needs scores of shape (N, K), the network ends in (N, 6, 6, 3). Put Flatten() or "
        "GlobalAvgPool2d() before its last layer."
    )
    net = network()
    net.classes = ("ant", "bee")
    assert (
        message_of(DataError, net.labels, ["ant", "cow"]) == "Unknown class cow. This network knows ant, bee."
    )
