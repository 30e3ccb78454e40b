"""Losses. Each turns labels into targets and shares, and names the pair of operations that computes it.

The loss of a batch is the sum over samples of share[n] * l(scores[n], target[n]); the shares hold sample
weights and the denominator of the whole batch, so that a batch may be computed in parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from glassnet.errors import ConfigError, DataError, ShapeError, did_you_mean
from glassnet.ops.base import Array, Ops

Targets = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Loss:
    """`operation` names the pair in Ops; `output` says how scores become predictions."""

    operation: ClassVar[str]
    output: ClassVar[str]

    def forward(self, ops: Ops, scores: Array, target: Array, share: Array) -> Array:
        """(N,): each sample's part of the loss."""
        return getattr(ops, self.operation)(scores, target, share)

    def backward(self, ops: Ops, scores: Array, target: Array, share: Array) -> Array:
        """(N, K): the gradient of the sum of those parts with respect to the scores."""
        return getattr(ops, f"{self.operation}_grad")(scores, target, share)

    def targets(self, labels: np.ndarray, outputs: int, sample_weight: np.ndarray | None = None) -> Targets:
        """(target (N, K), share (N,)), float64, for a whole batch of labels (N,) or (N, K)."""
        target, weight, parts = self.encode(labels, outputs, sample_weight)
        return target, weight / denominator(parts)

    def encode(
        self, labels: np.ndarray, outputs: int, sample_weight: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(target (N, K), weight (N,), part (N,)); a batch of these is divided by `denominator(part)`.

        The parts of labels are the weights of their samples and classes, those of other targets 1.
        """
        labels = np.asarray(labels)
        weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if weight.shape != (len(labels),) or not np.isfinite(weight).all() or (weight < 0).any():
            raise DataError(
                f"sample_weight must be {len(labels)} finite numbers of at least 0, one a sample."
            )
        target, parts = self._encode(labels, outputs, weight)
        return target, weight, parts

    def _encode(self, labels: np.ndarray, outputs: int, weight: np.ndarray) -> Targets:
        """(targets as they are, 1 for each sample): the mean over samples."""
        target = np.asarray(labels, np.float64)
        target = target[:, None] if target.ndim == 1 and outputs == 1 else target
        if target.shape != (len(labels), outputs):
            raise ShapeError(
                f"{type(self).__name__} needs targets of shape (N, {outputs}), one for each output of the "
                f"network, got {labels.shape}."
            )
        if not np.isfinite(target).all():
            raise DataError(f"{type(self).__name__} needs finite targets, got NaN or infinity.")
        return target, np.ones(len(labels))


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-sum over k of t[n,k] * log p[n,k], from labels (N,) or class probabilities (N, K).

    label_smoothing a: t = (1 - a) * t + a / K (Szegedy et al. 2015). class_weights (K,) scale t. The mean is
    taken as PyTorch does: labels are divided by the sum of the weights of their classes, probabilities by N.
    class_weights="balanced": training puts numbers in its place, such that each class counts the same.
    """

    label_smoothing: float = 0.0
    class_weights: Sequence[float] | Literal["balanced"] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing}.")
        weights = self.class_weights
        if isinstance(weights, Mapping) or (isinstance(weights, str) and weights != "balanced"):
            raise ConfigError(f"class_weights must be one number a class or 'balanced', got {weights!r}.")

    def _encode(self, labels: np.ndarray, outputs: int, weight: np.ndarray) -> Targets:
        if isinstance(self.class_weights, str):
            raise ConfigError("class_weights='balanced' is for training, which counts images. Give numbers.")
        scale = np.ones(outputs) if self.class_weights is None else np.asarray(self.class_weights, np.float64)
        if scale.shape != (outputs,) or not np.isfinite(scale).all() or (scale < 0).any():
            raise ConfigError(
                f"class_weights needs {outputs} finite numbers of at least 0, one a class, "
                f"got {self.class_weights}."
            )
        by_label = labels.ndim == 1
        target = one_hot(labels, outputs) if by_label else super()._encode(labels, outputs, weight)[0]
        if (target < 0).any():
            raise DataError(
                f"{type(self).__name__} needs class probabilities of at least 0, got {target.min():g}."
            )
        parts = weight * scale[labels] if by_label else np.ones(len(labels))
        return scale * ((1 - self.label_smoothing) * target + self.label_smoothing / outputs), parts


@dataclass(frozen=True)
class SoftmaxCrossEntropy(CrossEntropy):
    """Cross-entropy on logits, p = softmax(z). dz = share * (p * sum(t) - t); stable at any logits."""

    operation = "cross_entropy"
    output = "softmax"


@dataclass(frozen=True)
class ProbabilityCrossEntropy(CrossEntropy):
    """Cross-entropy on probabilities, for a network that ends in Softmax. dp = -share * t / p."""

    operation = "probability_cross_entropy"
    output = "probabilities"


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Mean over labels of -t log s(z) - (1 - t) log(1 - s(z)), s the sigmoid; targets (N, K) in [0, 1]."""

    operation = "binary_cross_entropy"
    output = "sigmoid"

    def _encode(self, labels: np.ndarray, outputs: int, weight: np.ndarray) -> Targets:
        target, parts = super()._encode(labels, outputs, weight)
        if ((target < 0) | (target > 1)).any():
            raise DataError(
                f"BinaryCrossEntropy needs targets between 0 and 1, got {target.min():g} to {target.max():g}."
            )
        return target, parts


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean over outputs and samples of (y - t)^2; dy = share * 2 (y - t) / K."""

    operation = "mean_squared_error"
    output = "raw"


LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": SoftmaxCrossEntropy,
    "probability_cross_entropy": ProbabilityCrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "mean_squared_error": MeanSquaredError,
}


def loss_named(name: str, **settings: Any) -> Loss:
    """The loss of that name in a config."""
    if name not in LOSSES:
        raise ConfigError(f"Unknown loss {name!r}.{did_you_mean(name, LOSSES)}")
    return LOSSES[name](**settings)


def targets_for(loss: Loss, targets: np.ndarray, classes: int) -> np.ndarray:
    """Class numbers (N,) or soft labels (N, K) as this loss takes them: only cross-entropy takes numbers.

    Of a single output, targets (N,) are no classes but its values.
    """
    as_they_are = targets.ndim > 1 or classes == 1 or isinstance(loss, CrossEntropy)
    return targets if as_they_are else one_hot(targets, classes)


def denominator(parts: np.ndarray) -> np.ndarray:
    """(...,): the sum of a batch's parts (..., n); infinity where all are 0, which then have no loss."""
    total = parts.sum(axis=-1)
    return np.where(total > 0, total, np.inf)


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """(N,) labels -> (N, classes) of 0 and 1."""
    if labels.size and not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"Labels must be whole numbers 0 to {classes - 1}, got dtype {labels.dtype}.")
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(
            f"Labels must be 0 to {classes - 1} for {classes} outputs, got {labels.min()} to {labels.max()}."
        )
    return np.eye(classes)[labels]
