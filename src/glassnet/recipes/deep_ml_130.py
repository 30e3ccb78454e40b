"""deep-ml problem 130, "Simple CNN training function with backpropagation": two programs carry this name.

`train_cnn` is the write-up's: conv 3x3 -> ReLU -> linear, mean squared error, one full-batch update an epoch.
`train_simple_cnn_with_backprop` is the official problem's: the same layers with softmax and cross-entropy,
updated image by image, in order. Both draw their first weights from NumPy's global generator, as published,
and compute in the precision of X: float32 on the compiled engine, anything else in float64 on the reference
backend.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

import glassnet as gn
from glassnet.backends import choose_backend
from glassnet.data import Dataset
from glassnet.errors import ConfigError, ShapeError
from glassnet.losses import Loss
from glassnet.ops.reference import ReferenceOps
from glassnet.recipes.base import Published, Recipe, Say, scaled
from glassnet.recipes.result import SeedResult
from glassnet.train import Callback, TrainConfig

Array = np.ndarray


def train_cnn(
    X: ArrayLike, y: ArrayLike, epochs: int = 100, lr: float = 0.01
) -> tuple[Array, Array, Array, Array, float]:
    """(kernel (1, C, 3, 3), bias_conv (1,), W_fc (H'W', K), b_fc (K,), loss) from X (N, C, H, W), y (N, K).

    y (N,) means one output. The loss is the mean of (p - y)^2 over N*K, before the last update. First weights
    are 0.1 * randn, the kernel before W_fc; biases are zero. Raises ShapeError for other shapes, and
    ConfigError for less than one epoch.
    """
    x, y = images(X, "NCHW"), np.asarray(y, np.float64)
    targets = checked(y[:, None] if y.ndim == 1 else y, x, epochs)
    net = network(x, 3, 1, targets)
    conv, linear = net["conv2d_1"], net["linear_1"]
    conv.weight = 0.1 * drawn(1, x.shape[3], 3, 3).transpose(2, 3, 1, 0)
    linear.weight = 0.1 * drawn(*linear.weight.shape)
    loss = descend(net, gn.MeanSquaredError(), x, targets, lr=lr, epochs=epochs, batch_size=len(x))
    return conv.weight.transpose(3, 2, 0, 1), conv.bias, linear.weight, linear.bias, loss


def train_simple_cnn_with_backprop(
    X: ArrayLike, y: ArrayLike, epochs: int, learning_rate: float, kernel_size: int = 3, num_filters: int = 1
) -> tuple[Array, Array, Array, Array]:
    """(W_conv (k, k, F), b_conv (F,), W_dense (H'W'F, K), b_dense (K,)) from X (N, H, W) and y (N, K).

    First weights are 0.01 * randn, W_conv before W_dense; biases are zero. Raises ShapeError for other shapes
    and ConfigError for less than one epoch.
    """
    x = images(X, "NHW")
    targets = checked(np.asarray(y, np.float64), x, epochs)
    net = network(x, kernel_size, num_filters, targets)
    conv, linear = net["conv2d_1"], net["linear_1"]
    conv.weight = 0.01 * drawn(kernel_size, kernel_size, num_filters)[:, :, None]
    linear.weight = 0.01 * drawn(*linear.weight.shape)
    descend(net, gn.SoftmaxCrossEntropy(), x, targets, lr=learning_rate, epochs=epochs, batch_size=1)
    return conv.weight[:, :, 0], conv.bias, linear.weight, linear.bias


def images(X: ArrayLike, layout: str) -> Array:
    """X (N, C, H, W) or (N, H, W) as (N, H, W, C): float32 stays so, all else becomes float64."""
    x = np.asarray(X)
    if x.ndim != len(layout) or not x.size:
        raise ShapeError(f"X must have shape ({', '.join(layout)}), got {x.shape}.")
    x = x.transpose(0, 2, 3, 1) if layout == "NCHW" else x[..., None]
    return np.ascontiguousarray(x, np.float32 if x.dtype == np.float32 else np.float64)


def checked(y: Array, x: Array, epochs: int) -> Array:
    """y (N, K), a row for each image."""
    if y.ndim != 2 or len(y) != len(x) or not y.size:
        raise ShapeError(f"y must have shape (N, K) with a row for each of {len(x)} images, got {y.shape}.")
    if epochs < 1:
        raise ConfigError(f"epochs must be 1 or more, got {epochs}.")
    return y


def network(x: Array, kernel_size: int, filters: int, targets: Array) -> gn.Sequential:
    """Conv, valid -> ReLU -> Flatten (H', W', F) -> Linear, in the precision of x."""
    layers = [gn.Conv2d(filters, kernel_size), gn.ReLU(), gn.Flatten(), gn.Linear(targets.shape[-1])]
    net = gn.Sequential(layers, input_shape=x.shape[1:])
    return net if x.dtype == np.float32 else net.as_dtype(np.float64)


def drawn(*shape: int) -> Array:
    """N(0, 1) from NumPy's global generator, which callers of the published functions seed."""
    return np.random.randn(*shape)  # noqa: NPY002


def descend(
    net: gn.Sequential, loss: Loss, x: Array, targets: Array, *, lr: float, epochs: int, batch_size: int
) -> float:
    """Plain gradient descent, in order, again in each epoch; the last batch's loss before its update.

    batch_size divides the number of samples: it is 1, or all of them.
    """
    optimizer = gn.SGD(lr=lr)
    scalars = {name: optimizer.scalars(slot, lr, 1) for name, slot in net.store.learning()}
    order = np.tile(np.arange(len(x)), epochs).reshape(-1, batch_size)
    target, _ = loss.targets(targets, net.outputs)
    share = np.full(batch_size, 1 / batch_size)
    if x.dtype == np.float32 and choose_backend("auto") == "compiled":
        from glassnet.engine.steps import TrainingStep

        one, zero = np.ones(x.shape[-1], np.float32), np.zeros(x.shape[-1], np.float32)
        step = TrainingStep(net, loss, optimizer, x, one, zero, capacity=batch_size)
        for first in range(0, len(order), step.most):
            index = order[first : first + step.most]
            rates = [scalars] * len(index)
            results = step.replay(index, np.zeros_like(index), target[index], share, rates, step=first)
        return float(results[-1, 0])
    ops = ReferenceOps()
    for index in order:
        losses, _, grads = net.loss_and_gradients(ops, x[index], target[index], share, loss)
        for name, grad in net.store.checked(grads):
            net.store.grad(name)[...] = grad
        optimizer.update(ops, net.store, scalars)
    return float(losses.sum())


GOLDEN = (  # X, y, epochs, learning_rate; then W_conv by rows, b_conv, W_dense, b_dense of seed 42
    (
        (np.arange(1, 10).reshape(1, 3, 3), [[1, 0]], 1, 0.01),
        (
            [
                *(0.00501739, -0.00128214, 0.00662764, 0.01543131, -0.00209028),
                *(-0.00203986, 0.01614389, 0.00807636, -0.00424248),
            ],
            [5.02517066e-05],
            [0.00635715, -0.00556573],
            [0.00499531, -0.00499531],
        ),
    ),
    (
        (np.stack([np.arange(1, 10), np.arange(9, 0, -1)]).reshape(2, 3, 3), [[0, 1], [1, 0]], 2, 0.01),
        (
            [
                *(0.00561561, -0.00091884, 0.00675603, 0.01532478, -0.00243171),
                *(-0.00261621, 0.01533262, 0.00703018, -0.00552357),
            ],
            [-1.80360153e-05],
            [0.00561137, -0.00481995],
            [3.23124658e-05, -3.23124658e-05],
        ),
    ),
    (
        (np.arange(2, 11).reshape(1, 3, 3), [[0.5, 0.5]], 1, 0.005),
        (
            [
                *(0.00496708, -0.00138273, 0.00647677, 0.01523016, -0.00234171),
                *(-0.00234157, 0.0157919, 0.00767409, -0.00469503),
            ],
            [-2.85717013e-08],
            [0.00542496, -0.00463354],
            [-2.84019221e-06, 2.84019221e-06],
        ),
    ),
)
"""The official problem's three cases, with the digits that it prints (NumPy's 8 decimals or 9 digits)."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """NumPy's global generator, seeded inside and as it was outside."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def golden_error() -> float:
    """The largest difference between the official program's results here and the printed ones."""
    errors = []
    for arguments, printed in GOLDEN:
        with seeded(42):
            got = train_simple_cnn_with_backprop(*arguments)
        errors += [np.abs(g.ravel() - p).max() for g, p in zip(got, printed, strict=True)]
    return float(max(errors))


@dataclass(frozen=True, kw_only=True)
class PublishedFunction(Recipe):
    """The official program on images: its settings are arguments, and its log says how golden it is."""

    def train(
        self,
        seed: int,
        *,
        data: Dataset | None = None,
        steps: int | None = None,
        hold_out: int = 0,
        folder: Path | None = None,
        callbacks: Iterable[Callback] = (),
        say: Say = lambda line: None,
    ) -> SeedResult:
        """As Recipe.train; a run of seconds needs no run folder, and has no epochs to tell callbacks of."""
        line = f"Golden cases of the official program: largest difference {golden_error():.1e}."
        say(line)
        data = self.prepared(data, hold_out)
        train, config = data.train if steps is None else data.train[:steps], self.config
        x = train.inputs()[..., 0]
        start = time.perf_counter()
        with seeded(seed):
            conv, conv_bias, dense, dense_bias = train_simple_cnn_with_backprop(
                x, np.eye(len(data.classes))[train.labels], config.epochs, config.optimizer.lr
            )
        seconds = time.perf_counter() - start
        net = self.network(seed)
        net["conv2d_1"].weight, net["conv2d_1"].bias = conv[:, :, None], conv_bias
        net["linear_1"].weight, net["linear_1"].bias = dense, dense_bias
        net.preprocessing = data.preprocessing
        test, learned = self.accuracy(net, data.test), self.accuracy(net, train)
        backend = choose_backend("auto")
        return SeedResult(seed, test, learned, seconds, backend, log=(line,))


def on_digits(seed: int) -> gn.Sequential:
    """The network that the official program trains, for the digits that come with the package."""
    return network(np.zeros((1, 8, 8, 1), np.float32), 3, 1, np.zeros((1, 10)))


RECIPES = (
    PublishedFunction(
        name="deep-ml-130",
        about="Both programs of the name; the official one on the digits in the package",
        published=Published("deep-ml problem 130, Simple CNN training function with backpropagation"),
        config=TrainConfig(data="digits", epochs=20, batch_size=1, optimizer=gn.SGD(lr=0.01), val_fraction=0),
        network=on_digits,
        prepare=scaled,
        as_published=True,
        required=0.9,
        seeds=3,
    ),
)
