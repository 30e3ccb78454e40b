"""Losses: one number a sample, already weighted by the sample's share, and the gradient of their sum."""

from __future__ import annotations

import numpy as np

from glassnet.ops.base import Ops

Array = np.ndarray

SMALLEST_PROBABILITY = 1e-30


def log_softmax(logits: Array) -> Array:
    """log softmax over the last axis, finite for logits of any size."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


class LossOps(Ops):
    """The four losses."""

    def cross_entropy(self, logits: Array, target: Array, weight: Array) -> Array:
        return -weight * (target * log_softmax(logits)).sum(axis=-1)

    def cross_entropy_grad(self, logits: Array, target: Array, weight: Array) -> Array:
        probabilities = np.exp(log_softmax(logits))
        return weight[:, None] * (probabilities * target.sum(axis=-1, keepdims=True) - target)

    def probability_cross_entropy(self, probabilities: Array, target: Array, weight: Array) -> Array:
        return -weight * (target * np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))).sum(axis=-1)

    def probability_cross_entropy_grad(self, probabilities: Array, target: Array, weight: Array) -> Array:
        return -weight[:, None] * target / np.maximum(probabilities, SMALLEST_PROBABILITY)

    def binary_cross_entropy(self, logits: Array, target: Array, weight: Array) -> Array:
        each = np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-np.abs(logits)))
        return weight * each.mean(axis=-1)

    def binary_cross_entropy_grad(self, logits: Array, target: Array, weight: Array) -> Array:
        return weight[:, None] * (_sigmoid(logits) - target) / logits.shape[-1]

    def mean_squared_error(self, scores: Array, target: Array, weight: Array) -> Array:
        return weight * np.square(scores - target).mean(axis=-1)

    def mean_squared_error_grad(self, scores: Array, target: Array, weight: Array) -> Array:
        return weight[:, None] * 2 * (scores - target) / scores.shape[-1]
