"""The settings that data is trained with unless others are given, chosen on held-out images."""

from __future__ import annotations

from typing import Any, Final

from glassnet.data.augment import kind_of
from glassnet.data.catalog import ALIASES
from glassnet.data.dataset import Dataset

Table = dict[str, Any]

DEFAULTS: Final[dict[str, Table]] = {
    "any": {
        "model": "small",
        "optimizer": {"name": "adam", "lr": 0.005},
        "schedule": {"name": "one_cycle"},
    },
    "digits": {
        "model": "small_norm",
        "epochs": 30,
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "one_cycle"},
    },
    "mnist": {
        "model": "small",
        "epochs": 1,
        "optimizer": {"name": "adam", "lr": 0.005},
        "schedule": {"name": "one_cycle"},
    },
    "fashion-mnist": {
        "model": "small",
        "epochs": 5,
        "optimizer": {"name": "adam", "lr": 0.005},
        "schedule": {"name": "one_cycle"},
    },
}

PHOTOS: Final[Table] = {
    "optimizer": {"name": "adamw", "lr": 0.003, "weight_decay": 0.05},
    "schedule": {"name": "one_cycle"},
    "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
    "ema": 0.998,
}
"""Under one_cycle the last epochs are the best ones, so that stopping early would only lose them."""

SEEN: Final = 240_000
"""Images that a run on photos sees, each epoch counted, within EPOCHS."""
EPOCHS: Final = (20, 100)

TINY, SMALL = 12, 48
"""Up to these sides, images are as small as the digits, or as MNIST and CIFAR.

Of an image that is not square, the side is that of a square with as many pixels. TINY ones are not augmented:
a shift by two pixels moves a quarter of a digit out of the picture.
"""
FEW: Final = 500
"""Training images below which a network is half as wide."""
BATCHES: Final = 4
"""Batches that an epoch has at least, where there are few images. Half of very few ones may be held out."""


def defaults_for(name: str, data: Dataset | None = None) -> Table:
    """The defaults of a set known by name; of other data what suits it, once it is read."""
    name = ALIASES.get(name, name)
    if name in DEFAULTS or data is None:
        return dict(DEFAULTS.get(name, DEFAULTS["any"]))
    return suited(data)


def suited(data: Dataset) -> Table:
    """Settings that suit the size, the kind and the number of training images."""
    height, width, channels = data.image_shape
    samples, side = len(data.train), round((height * width) ** 0.5)
    if side <= SMALL and channels == 1:
        kind = DEFAULTS["any"] | {"model": "small_norm" if side <= TINY else "small"}
    else:
        kind = PHOTOS | suitable_model(side, samples)
    least, most = EPOCHS
    return kind | {
        "epochs": min(most, max(least, round(SEEN / samples))),
        "batch_size": min(32, max(4, samples // BATCHES), samples // 2),
        "augment": kind_of(data.image_shape) if side > TINY else {},
    }


def suitable_model(side: int, samples: int) -> Table:
    """A residual network that ends in 4 to 8 pixels a side, narrow where there are few images."""
    width = 16 if samples < FEW else 32
    if side <= SMALL:
        options = {"width": width, "stages": 3, "halvings": 0}
    else:
        options = {"width": width, "stages": 4, "halvings": 1 if side < 112 else 2}
    return {"model": "resnet", "model_options": options}
