"""What can be known to be wrong before the first step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from glassnet.data import Dataset, Split
from glassnet.data.batches import BatchPlan
from glassnet.data.labels import hard
from glassnet.errors import ConfigError, DataError, ShapeError
from glassnet.layers import BatchNorm2d, Softmax
from glassnet.losses import Loss, SoftmaxCrossEntropy
from glassnet.network import Sequential
from glassnet.settings.config import TrainConfig
from glassnet.shapes import batched


def check_network(net: Sequential, data: Dataset, loss: Loss) -> None:
    """The network must take these images, give one score a class, and have something to learn."""
    if net.built().input_shape != data.image_shape:
        raise ShapeError(
            f"The network takes images of shape {batched(net.input_shape or ())}, but those of "
            f"{data.name!r} are {batched(data.image_shape)}. Write "
            f"Sequential([...], input_shape={data.image_shape})."
        )
    classes = len(data.classes)
    if net.output_shape != (classes,):
        raise ShapeError(
            f"The network ends in {batched(net.output_shape or ())}, but {data.name!r} has {classes} "
            f"classes. Let it end in Linear({classes})."
        )
    last = list(net.walk())[-1]
    if isinstance(last, Softmax) and isinstance(loss, SoftmaxCrossEntropy):
        raise ConfigError(
            "The network ends in Softmax, which SoftmaxCrossEntropy applies itself. Remove that layer, "
            "or use loss=ProbabilityCrossEntropy()."
        )
    if not any(True for _ in net.store.learning()):
        raise ConfigError("The network has no parameter that learns. Add a layer, or freeze(False) one.")


def check_watching(config: TrainConfig, data: Dataset) -> None:
    """Early stopping needs images that training does not see."""
    if config.early_stopping and data.val is None:
        raise ConfigError(
            "early_stopping needs a validation split, but there is none. Set val_fraction=0.1, "
            "or give data.val."
        )


def batch_plan(config: TrainConfig, nets: Sequence[Sequential], train: Split) -> BatchPlan:
    """The batches of the run; each part of each is large enough for batch normalisation at every size."""
    if config.accumulate > config.batch_size:
        raise ConfigError(
            f"accumulate={config.accumulate} cuts a batch of batch_size={config.batch_size} into more parts "
            "than it has samples. Use a larger batch or fewer parts."
        )
    norm = next((layer for net in nets for layer in net.walk() if has_one_value(layer)), None)
    smallest = 1 if norm is None else 2 * config.accumulate
    if norm is not None and config.batch_size < smallest:
        raise ConfigError(
            f"{norm.name} sees one value a channel of each sample, so batch normalisation needs at least "
            f"2 samples at a time, got batch_size={config.batch_size} in accumulate={config.accumulate} "
            f"parts. Use batch_size={smallest} or more."
        )
    labels = hard(train.labels) if config.sampling == "balanced" else None
    return BatchPlan(len(train), config.batch_size, seed=config.seed, min_last=smallest, balance=labels)


def has_one_value(layer: object) -> bool:
    """Whether this is a batch normalisation that one sample gives a single value a channel."""
    return isinstance(layer, BatchNorm2d) and math.prod((layer.input_shape or ())[:-1]) == 1


def checked_weights(sample_weight: ArrayLike | None, samples: int) -> np.ndarray | None:
    """(N,) float64, one weight a training sample, as given before the hold-out."""
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight, np.float64)
    if weight.shape != (samples,):
        raise DataError(
            f"sample_weight must be one number for each of the {samples} training samples, "
            f"got shape {weight.shape}."
        )
    if not np.isfinite(weight).all() or weight.min() < 0:
        raise DataError("sample_weight must be finite and at least 0, but holds other values.")
    return weight
