"""System 3, "A convolutional network in numpy, serial and vectorised" (Xunius/simple-nn).

Conv 3x3, 10, ReLU -> MaxPool 2 -> Conv 5x5, 16, ReLU -> Linear 100 ReLU -> Linear 10, softmax: 134,826
parameters. MNIST as x/255, batch 512, 50 epochs, rate 0.1, a tenth of it in the last layer.

One update, with g the gradient summed over 512 images:
w = w (1 - lr lambda/512) - lr clip(g)/512, clip to +-0.5, lambda = 0.01; biases do not decay. That bounds the
mean gradient by 0.5/512, and is written so. The last batch of an epoch has 96 images. The publication divides
its sum by 512 too; clipped at 0.5 and divided by 96, it would make a step five times as large as all others.
`accumulate` is the serial form: with 512, image by image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import glassnet as gn
from glassnet.data import Dataset
from glassnet.init import fans
from glassnet.recipes.base import Log, Published, Recipe, scaled
from glassnet.train import EpochRecord, TrainConfig, Training

BATCH, DECAY = 512, 0.01


def network(seed: int) -> gn.Sequential:
    """He initialisation, N(0, 2/fan_in), of the biases too; the last layer learns at a tenth of the rate."""
    layers = [
        *(gn.Conv2d(10, 3), gn.ReLU(), gn.MaxPool2d(2)),
        *(gn.Conv2d(16, 5), gn.ReLU(), gn.Flatten()),
        *(gn.Linear(100), gn.ReLU(), gn.Linear(10)),
    ]
    net = gn.Sequential(layers, input_shape=(28, 28, 1), seed=seed)
    generator = np.random.default_rng([seed, 1])
    for name in ("conv2d_1", "conv2d_2", "linear_1", "linear_2"):
        layer = net[name]
        layer.bias = np.sqrt(2 / fans(layer.weight.shape)[0]) * generator.standard_normal(layer.bias.shape)
    net["linear_2"].scale_lr(0.1)
    return net


def watching_train(data: Dataset) -> Dataset:
    """Values in [0, 1]; each epoch ends with the loss of all training images, as in the publication."""
    return scaled(replace(data, val=data.train))


class Cost(Log):
    """The publication's line, `# <batchTrain>: cost at epoch 10, j = 0.148900`.

    Its cost is the mean loss over train, and the sum of w^2 over N.
    """

    def on_epoch_end(self, training: Training, record: EpochRecord) -> None:
        slots = training.net.store.parameters.values()
        squares = sum(float(np.square(s.tensor.value).sum()) for s in slots if s.tensor.decays)
        assert record.val_loss is not None
        cost = record.val_loss + squares / training.train_samples
        self.add(f"# <batchTrain>: cost at epoch {record.epoch - 1}, j = {cost:.6f}")


def costs(log: Sequence[str]) -> list[float]:
    """The cost of each epoch, from a run's log."""
    return [float(line.rpartition("= ")[2]) for line in log]


RECIPES = (
    Recipe(
        name="simple-nn",
        about="System 3: clipped sums, a rate by layer, weight decay",
        published=Published(
            "A convolutional network in numpy, serial and vectorised (Xunius/simple-nn)",
            test_accuracy=0.9855,
            train_accuracy=0.9894,
            seconds=2936,
            cost={0: 0.5786, 10: 0.1489, 20: 0.0882, 30: 0.0656, 40: 0.0532, 49: 0.0437},
        ),
        config=TrainConfig(
            data="mnist",
            epochs=50,
            batch_size=BATCH,
            optimizer=gn.SGD(lr=0.1, weight_decay=DECAY / BATCH),
            clip_value=0.5 / BATCH,
            val_fraction=0,
        ),
        network=network,
        prepare=watching_train,
        as_published=True,
        required=0.984,
        required_train=0.988,
        within=90,
        today="mnist-fast",
        log=Cost,
    ),
)
