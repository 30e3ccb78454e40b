"""Losses: values and gradients as PyTorch divides, all kinds of labels, extreme scores, whole errors."""

from __future__ import annotations

import numpy as np
import pytest

import naive
from compare import close, torch_gradients
from glassnet.errors import ConfigError, DataError, ShapeError
from glassnet.layers import Softmax
from glassnet.losses import (
    BinaryCrossEntropy,
    MeanSquaredError,
    ProbabilityCrossEntropy,
    SoftmaxCrossEntropy,
    loss_named,
)
from glassnet.ops.reference import ReferenceOps
from gradients import gradient_error
from messages import message_of
from oracles import oracle

ops = ReferenceOps()
N, K = 6, 4
CLASS_WEIGHTS = (0.5, 1.0, 2.0, 0.25)
SAMPLE_WEIGHTS = np.array([1.0, 0.5, 0.0, 2.0, 3.0, 1.5])


def labels_of(kind, generator):
    labels = generator.integers(0, K, N)
    soft = generator.dirichlet(np.ones(K), N)
    return {"labels": labels, "one-hot": np.eye(K, dtype=int)[labels], "soft": soft}[kind]


def value_and_gradient(loss, scores, labels, sample_weight=None):
    """(loss, dscores) of a batch."""
    target, share = loss.targets(labels, scores.shape[-1], sample_weight)
    losses = loss.forward(ops, scores, target, share)
    assert losses.shape == (len(scores),)
    return losses.sum(), loss.backward(ops, scores, target, share)


def assert_slope(loss, scores, labels, generator, sample_weight=None):
    """The gradient is that of central differences."""
    gradient = value_and_gradient(loss, scores, labels, sample_weight)[1]

    def f():
        return value_and_gradient(loss, scores, labels, sample_weight)[0]

    assert gradient_error(f, scores, np.ones(()), gradient, generator) < 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("kind", ["labels", "one-hot", "soft"])
def test_cross_entropy_is_pytorch(kind, class_weights, smoothing, generator):
    z, labels = generator.standard_normal((N, K)), labels_of(kind, generator)
    torch = oracle("torch")

    def cross_entropy(z):
        return torch.nn.functional.cross_entropy(
            z,
            torch.tensor(labels if kind == "labels" else labels.astype(float)),
            weight=None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64),
            label_smoothing=smoothing,
        )

    loss = SoftmaxCrossEntropy(label_smoothing=smoothing, class_weights=class_weights)
    expected, (gradient,) = torch_gradients(cross_entropy, np.ones(()), z)
    value, dz = value_and_gradient(loss, z, labels)
    close(value, expected)
    close(dz, gradient)
    assert_slope(loss, z, labels, generator)


@pytest.mark.parametrize("kind", ["labels", "one-hot", "soft"])
def test_cross_entropy_with_every_weight_is_the_loops(kind, generator):
    z, labels = generator.standard_normal((N, K)), labels_of(kind, generator)
    loss = SoftmaxCrossEntropy(label_smoothing=0.1, class_weights=CLASS_WEIGHTS)
    options = {"label_smoothing": 0.1, "class_weights": CLASS_WEIGHTS, "sample_weights": SAMPLE_WEIGHTS}
    value, dz = value_and_gradient(loss, z, labels, SAMPLE_WEIGHTS)
    expected, gradient = naive.softmax_cross_entropy(z, labels, **options)
    close(value, expected)
    close(dz, gradient)
    assert_slope(loss, z, labels, generator, SAMPLE_WEIGHTS)


@pytest.mark.parametrize("kind", ["labels", "one-hot", "soft"])
def test_softmax_layer_and_probability_cross_entropy_are_softmax_cross_entropy(kind, generator):
    z, labels = generator.standard_normal((N, K)), labels_of(kind, generator)
    settings = {"label_smoothing": 0.1, "class_weights": CLASS_WEIGHTS}
    layer, loss = Softmax(), ProbabilityCrossEntropy(**settings)
    p, saved = layer.forward(ops, z, True)
    value, dp = value_and_gradient(loss, p, labels, SAMPLE_WEIGHTS)
    expected, dz = value_and_gradient(SoftmaxCrossEntropy(**settings), z, labels, SAMPLE_WEIGHTS)
    close(value, expected)
    close(layer.backward(ops, dp, saved)[0], dz)
    close(dp, naive.cross_entropy(p, labels, **settings, sample_weights=SAMPLE_WEIGHTS)[1])
    assert_slope(loss, p, labels, generator, SAMPLE_WEIGHTS)


@pytest.mark.parametrize(
    ("loss", "name", "loops"),
    [
        (BinaryCrossEntropy(), "binary_cross_entropy_with_logits", naive.binary_cross_entropy),
        (MeanSquaredError(), "mse_loss", naive.mean_squared_error),
    ],
    ids=["binary", "squared"],
)
def test_elementwise_losses_are_pytorch(loss, name, loops, generator):
    z, target = generator.standard_normal((N, K)), generator.random((N, K))
    torch = oracle("torch")
    function = getattr(torch.nn.functional, name)
    expected, (gradient,) = torch_gradients(lambda z: function(z, torch.tensor(target)), np.ones(()), z)
    for value, dz in ((expected, gradient), loops(z, target)):
        close(value_and_gradient(loss, z, target)[0], value)
        close(value_and_gradient(loss, z, target)[1], dz)
    assert_slope(loss, z, target, generator, SAMPLE_WEIGHTS)
    expected, (gradient,) = torch_gradients(
        lambda z: (
            (function(z, torch.tensor(target), reduction="none").mean(1) @ torch.tensor(SAMPLE_WEIGHTS)) / N
        ),
        np.ones(()),
        z,
    )
    value, dz = value_and_gradient(loss, z, target, SAMPLE_WEIGHTS)
    close(value, expected)
    close(dz, gradient)


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), MeanSquaredError()])
def test_one_output_takes_flat_targets(loss, generator):
    z, target = generator.standard_normal((N, 1)), generator.random(N)
    close(value_and_gradient(loss, z, target)[1], value_and_gradient(loss, z, target[:, None])[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_scores_stay_finite(dtype):
    """At +-1e4 the loss is the distance between the scores, and the gradient that of a sure prediction."""
    z = np.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]], dtype)
    share = np.ones(2, dtype)
    target = np.eye(3, dtype=dtype)[[0, 1]]
    losses, dz = ops.cross_entropy(z, target, share), ops.cross_entropy_grad(z, target, share)
    assert losses.tolist() == [0.0, 2e4] and dz.tolist() == [[0, 0, 0], [1, -1, 0]]
    losses, dz = ops.binary_cross_entropy(z, target, share), ops.binary_cross_entropy_grad(z, target, share)
    close(losses, np.array([np.log(2), 2e4 + np.log(2)]) / 3, rtol=1e-6)
    close(dz, np.array([[0, 0, 0.5], [1, -1, 0.5]]) / 3, rtol=1e-6)
    p = ops.softmax(z)
    losses = ops.probability_cross_entropy(p, target, share)
    close(losses, [0.0, -np.log(1e-30)], rtol=1e-6)
    assert np.isfinite(ops.softmax_grad(ops.probability_cross_entropy_grad(p, target, share), p)).all()
    assert {losses.dtype, dz.dtype} == {np.dtype(dtype)}


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(class_weights=CLASS_WEIGHTS), MeanSquaredError()])
def test_a_batch_in_parts_is_the_whole(loss, generator):
    """The shares hold the denominator of the whole batch: parts add up."""
    z, labels = generator.standard_normal((N, K)), labels_of("labels", generator)
    labels = labels if isinstance(loss, SoftmaxCrossEntropy) else np.eye(K)[labels]
    target, share = loss.targets(labels, K, SAMPLE_WEIGHTS)
    parts = [loss.backward(ops, z[s], target[s], share[s]) for s in (slice(0, 4), slice(4, N))]
    close(np.concatenate(parts), loss.backward(ops, z, target, share))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("class_weights", "sample_weight"),
    [(None, np.zeros(N)), ((0, 1, 1, 1), None), ((0, 1, 1, 1), SAMPLE_WEIGHTS)],
)
def test_samples_that_all_weigh_nothing_have_no_loss(class_weights, sample_weight, smoothing, generator):
    """As the batches of a run may be, where many images or a class weigh 0."""
    z, loss = generator.standard_normal((N, K)), SoftmaxCrossEntropy(smoothing, class_weights)
    value, dz = value_and_gradient(loss, z, np.zeros(N, int), sample_weight)
    assert value == 0 and not dz.any()


def targets_of(loss, labels, sample_weight=None):
    return lambda: loss.targets(labels, 3, sample_weight)


WEIGHT_ERROR = "sample_weight must be 3 finite numbers of at least 0, one a sample."
LABELS = np.array([0, 1, 2])
CE = SoftmaxCrossEntropy()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (targets_of(CE, [0, 1, 3]), DataError, "Labels must be 0 to 2 for 3 outputs, got 0 to 3."),
        (targets_of(CE, [-1, 1, 2]), DataError, "Labels must be 0 to 2 for 3 outputs, got -1 to 2."),
        (targets_of(CE, [0.5, 1, 2]), DataError, "Labels must be whole numbers 0 to 2, got dtype float64."),
        (
            targets_of(CE, np.eye(4)),
            ShapeError,
            "SoftmaxCrossEntropy needs targets of shape (N, 3), one for each output of the network, "
            "got (4, 4).",
        ),
        (
            targets_of(MeanSquaredError(), LABELS),
            ShapeError,
            "MeanSquaredError needs targets of shape (N, 3), one for each output of the network, got (3,).",
        ),
        (
            targets_of(BinaryCrossEntropy(), 2 * np.eye(3)),
            DataError,
            "BinaryCrossEntropy needs targets between 0 and 1, got 0 to 2.",
        ),
        *(
            (
                targets_of(loss, target),
                DataError,
                f"{type(loss).__name__} needs finite targets, got NaN or infinity.",
            )
            for loss in (CE, BinaryCrossEntropy(), MeanSquaredError())
            for target in (np.diag([1, np.nan, 1]), np.diag([1, np.inf, 1]))
        ),
        (
            targets_of(CE, np.diag([1, 1, -3])),
            DataError,
            "SoftmaxCrossEntropy needs class probabilities of at least 0, got -3.",
        ),
        (targets_of(CE, LABELS, [1, 2]), DataError, WEIGHT_ERROR),
        (targets_of(CE, LABELS, [1, 2, -1]), DataError, WEIGHT_ERROR),
        (targets_of(CE, LABELS, [1, 2, np.nan]), DataError, WEIGHT_ERROR),
        (
            targets_of(SoftmaxCrossEntropy(class_weights=(1, 2)), LABELS),
            ConfigError,
            "class_weights needs 3 finite numbers of at least 0, one a class, got (1, 2).",
        ),
        (
            targets_of(SoftmaxCrossEntropy(class_weights=(1, 2, -3)), LABELS),
            ConfigError,
            "class_weights needs 3 finite numbers of at least 0, one a class, got (1, 2, -3).",
        ),
        (
            lambda: SoftmaxCrossEntropy(label_smoothing=1),
            ConfigError,
            "label_smoothing must be at least 0 and below 1, got 1.",
        ),
        (
            lambda: SoftmaxCrossEntropy(class_weights={0: 1.0}),
            ConfigError,
            "class_weights must be one number a class or 'balanced', got {0: 1.0}.",
        ),
        (
            lambda: loss_named("cross_entropie"),
            ConfigError,
            "Unknown loss 'cross_entropie'. Did you mean 'cross_entropy'?",
        ),
    ],
)
def test_error(call, error, message):
    assert message_of(error, call) == message


def test_loss_by_name():
    assert loss_named("cross_entropy", label_smoothing=0.1) == SoftmaxCrossEntropy(label_smoothing=0.1)
