"""System 2, "Coding a CNN from scratch" (Wayne82/nn-learn): a small and a large network on MNIST.

50,000 images to train, the last 10,000 of the training files to watch, 10,000 to test, values in [0, 1].
Batch 10, rate 0.05, 30 epochs of plain SGD, shuffled; He initialisation, zero biases. Gradients are summed
over a batch and divided by its length.
"""

from __future__ import annotations

from dataclasses import replace

import glassnet as gn
from glassnet.data import Dataset
from glassnet.recipes.base import Published, Recipe, scaled
from glassnet.train import TrainConfig

SOURCE = "Coding a CNN from scratch (Wayne82/nn-learn)"


def simple(seed: int) -> gn.Sequential:
    """15,770 parameters."""
    layers = [gn.Conv2d(8, 3, padding="same"), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(10)]
    return gn.Sequential(layers, input_shape=(28, 28, 1), seed=seed)


def complex_(seed: int) -> gn.Sequential:
    """467,818 parameters."""
    layers: list[gn.Layer] = []
    for filters in (32, 64):
        for _ in range(2):
            layers += [gn.Conv2d(filters, 3, padding="same"), gn.ReLU()]
        layers.append(gn.MaxPool2d(2))
    layers += [gn.Flatten(), gn.Linear(128), gn.ReLU(), gn.Linear(10)]
    return gn.Sequential(layers, input_shape=(28, 28, 1), seed=seed)


def three_splits(data: Dataset) -> Dataset:
    """The last sixth of the training images is only watched: 50,000 and 10,000 of MNIST's 60,000."""
    kept = len(data.train) * 5 // 6
    return scaled(replace(data, train=data.train[:kept], val=data.train[kept:]))


SETTINGS = TrainConfig(data="mnist", epochs=30, batch_size=10, optimizer=gn.SGD(lr=0.05), val_fraction=0)

RECIPES = (
    Recipe(
        name="nn-learn-simple",
        about="System 2, small network: one convolution",
        published=Published(SOURCE, test_accuracy=0.9767, seconds=3600),
        config=SETTINGS,
        network=simple,
        prepare=three_splits,
        as_published=True,
        required=0.976,
        within=30,
        today="mnist-fast",
    ),
    Recipe(
        name="nn-learn-complex",
        about="System 2, large network: four convolutions",
        published=Published(SOURCE, test_accuracy=0.9933, seconds=11.6 * 3600),
        config=SETTINGS,
        network=complex_,
        prepare=three_splits,
        as_published=True,
        required=0.992,
        within=18 * 60,
        today="mnist-best",
    ),
)
