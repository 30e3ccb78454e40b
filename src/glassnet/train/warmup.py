"""Compile in advance, once, what usual networks need."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from glassnet import layers
from glassnet.backends import choose_backend
from glassnet.layers import Layer
from glassnet.losses import (
    BinaryCrossEntropy,
    Loss,
    MeanSquaredError,
    ProbabilityCrossEntropy,
    SoftmaxCrossEntropy,
)
from glassnet.models import MODELS
from glassnet.network import Sequential
from glassnet.optim import SGD, Adam, AdamW, Optimizer, RMSProp
from glassnet.shapes import Shape
from glassnet.train.example import example_step

BATCH_SIZES = 1, 32
CLASSES = 10
IMAGES: tuple[Shape, ...] = ((8, 8, 1), (28, 28, 1), (32, 32, 3))


def warm_up() -> None:
    """Compile all kernels and the usual tiles, then whatever else `networks` need to train and to predict."""
    choose_backend("compiled")
    from glassnet.engine.machine.cache import compile_all
    from glassnet.engine.machine.cpu import host
    from glassnet.engine.warm import usual_codes

    compile_all(usual_codes(host()), host())
    for net, loss, optimizer in networks():
        net.scores(np.zeros((1, *(net.input_shape or ())), np.float32))
        for batch_size in BATCH_SIZES:
            example_step(net, loss, optimizer, batch_size)


def networks() -> Iterator[tuple[Sequential, Loss, Optimizer]]:
    """The models that have a name, on usual images; every layer, loss and optimiser at least once."""
    cross_entropy, sgd = SoftmaxCrossEntropy(), SGD()
    for shape in IMAGES:
        for make in MODELS.values():
            yield Sequential(make(CLASSES), input_shape=shape), cross_entropy, sgd
        yield Sequential(every_layer(), input_shape=shape), cross_entropy, sgd
    for optimizer in (SGD(momentum=0.9), SGD(momentum=0.9, nesterov=True), RMSProp(), Adam(), AdamW()):
        yield Sequential(MODELS["linear"](CLASSES), input_shape=IMAGES[0]), cross_entropy, optimizer
    for loss in (BinaryCrossEntropy(), MeanSquaredError()):
        yield Sequential(MODELS["linear"](CLASSES), input_shape=IMAGES[0]), loss, sgd
    probabilities = [*MODELS["linear"](CLASSES), layers.Softmax()]
    yield Sequential(probabilities, input_shape=IMAGES[0]), ProbabilityCrossEntropy(), sgd


def every_layer() -> list[Layer]:
    """Every layer, and every way in which the engine computes a convolution."""
    return [
        *(layers.Conv2d(16, 3, padding="same"), layers.BatchNorm2d(), layers.ReLU()),
        layers.Residual(
            [layers.Conv2d(16, 3, padding="same", groups=16, bias=False), layers.BatchNorm2d()],
            [layers.Conv2d(16, 1, bias=False)],
        ),
        *(layers.LeakyReLU(), layers.GroupNorm(4), layers.GELU(), layers.SiLU()),
        layers.Concat(
            [[layers.Conv2d(8, 3, padding=1), layers.Tanh()], [layers.Conv2d(8, 1), layers.Sigmoid()]]
        ),
        *(layers.MaxPool2d(2), layers.Dropout(0.1), layers.Dropout2d(0.1), layers.LayerNorm()),
        *(layers.MaxPool2d(3, stride=1, padding=1), layers.AvgPool2d(3, stride=1, padding=1)),
        *(layers.Conv2d(32, 3, stride=2, padding=1), layers.ConvTranspose2d(32, 2, stride=2)),
        *(layers.GlobalAvgPool2d(), layers.Flatten(), layers.Linear(CLASSES)),
    ]
