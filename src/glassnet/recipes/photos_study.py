"""What went wrong with batch normalisation and dropout in the fifth system: each fault anew, and measured.

There both "overfitted in validation". The faults were three: 2400 photos as they are, which the network
learns by heart with or without normalisation; files without running statistics; and dropout that always drops
the same channels. The recipes here train on the photos as they are, for 30,000 steps, and keep the last
weights. One more shows what normalisation is for: the same network without it, at the rate that it bears.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import glassnet as gn
from glassnet.data.augment import Augment
from glassnet.layers.base import Layer
from glassnet.ops.base import Array, Grads, Ops
from glassnet.recipes.base import Published
from glassnet.recipes.photos_from_scratch import HIGH_RATE, SETTINGS, SOURCE, SYSTEM, network
from glassnet.shapes import Shape

RATE = 0.4
"""Of dropout, as published."""


class PublishedDropout(Layer):
    """The dropout of the fifth system as it was: (N, H, W, C), the same shape out.

    In training the first int(rate * C) channels are 0, others as they are; in evaluation (1 - rate) * x.
    Faulty: what is dropped should be drawn anew at every step. As it is always the same channels, neither
    they nor the weights that read them ever learn; evaluation switches them on as they were first drawn.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        dropped = int(self.rate * input_shape[-1])
        self.sizes = dropped, input_shape[-1] - dropped
        return input_shape

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        return (self.masked(ops, x) if train else ops.elementwise(times, x, 1 - self.rate)), train

    def backward(self, ops: Ops, dy: Array, train: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        return (self.masked(ops, dy) if train else ops.elementwise(times, dy, 1 - self.rate)), {}

    def masked(self, ops: Ops, x: Array) -> Array:
        """x without the first channels."""
        dropped, kept = ops.split(x, self.sizes)
        return ops.concat([ops.elementwise(times, dropped, 0.0), kept])


def times(x: Any, factor: float) -> Any:
    """x * factor."""
    return x * factor


def published_norm() -> Layer:
    """Batch normalisation whose gradients were summed over a batch, where all others were averaged."""
    layer = gn.BatchNorm2d()
    layer.scale_lr(SETTINGS.batch_size)
    return layer


def scores_without_statistics(net: gn.Sequential, images: Any) -> Array:
    """(N, K): of the network as its file gave it back, with the mean and variance of a new one: both 0."""
    twin = net.as_dtype(np.float32)
    for layer in twin.walk():
        if isinstance(layer, gn.BatchNorm2d):
            layer.running_mean = layer.running_var = np.zeros_like(layer.running_mean)
    return twin.scores(images)


UNAUGMENTED = replace(
    SYSTEM,
    name="photos-unaugmented",
    about="As published, on photos as they are",
    as_published=False,
    required=None,
    published=Published(SOURCE),
    config=SETTINGS.model_copy(update={"augment": Augment(), "epochs": 50, "early_stopping": 0}),
)
NORMALISED = replace(
    UNAUGMENTED,
    name="photos-unaugmented-batch-norm",
    about="Batch normalisation as published, on photos as they are",
    network=partial(network, norm=published_norm),
)

RECIPES = (
    UNAUGMENTED,
    NORMALISED,
    replace(
        NORMALISED,
        name="photos-unaugmented-lost-statistics",
        about="The same, saved without running statistics and read again",
        runs_of=NORMALISED.name,
        scores=scores_without_statistics,
    ),
    replace(
        UNAUGMENTED,
        name="photos-unaugmented-published-dropout",
        about="Dropout as published: always the same channels",
        network=partial(network, dropout=partial(PublishedDropout, RATE)),
    ),
    replace(
        UNAUGMENTED,
        name="photos-unaugmented-dropout",
        about="Dropout that draws, on photos as they are",
        network=partial(network, dropout=partial(gn.Dropout2d, RATE)),
    ),
    replace(
        UNAUGMENTED,
        name="photos-high-rate",
        about="The rate that batch normalisation bears, without it, for 10 epochs",
        config=HIGH_RATE.override("epochs=10", "early_stopping=0"),
    ),
)

STUDY = {  # recipe -> validation accuracy there, and what it shows
    "photos-unaugmented": ("81 %", "the photos are learnt by heart"),
    "photos-unaugmented-batch-norm": ("77 %", "so they are where layers are normalised"),
    "photos-unaugmented-lost-statistics": ("47 %", "train and test are those of the network read again"),
    "photos-unaugmented-published-dropout": ("-", "channels that never learnt are switched on in evaluation"),
    "photos-unaugmented-dropout": ("-", "as many channels, drawn anew at every step"),
    "photos-from-scratch": ("91.3 %", "what augmentation gives"),
    "photos-high-rate": ("-", "half of the channels die in the first steps"),
    "photos-from-scratch-batch-norm": ("-", "batch normalisation beside augmentation, at that rate"),
    "photos-from-scratch-dropout": ("-", "dropout beside both"),
}
