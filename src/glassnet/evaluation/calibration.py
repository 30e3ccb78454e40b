"""Whether a network that says 90 % is right 9 times in 10, and the one number that mends it.

Guo et al. 2017, "On calibration of modern neural networks".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glassnet.ops.reference import ReferenceOps

Array = np.ndarray

BINS = 15
COLDEST, HOTTEST = 0.01, 100.0
"""Bounds of the temperature. Where no image is misclassified, the likelihood wants it to be 0."""
HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Calibration:
    """Confidence (the largest probability) held against accuracy in equal bins, bin b being ((b-1)/B, b/B].

    error: sum over bins of counts / N * |accuracy - confidence| (Guo et al., equation 3). counts, confidence,
    accuracy: (B,), means over each bin, 0 where it is empty.
    """

    error: float
    counts: Array
    confidence: Array
    accuracy: Array


def calibration(probabilities: Array, labels: Array, *, bins: int = BINS) -> Calibration:
    """The Calibration of probabilities (N, K) for class numbers (N,)."""
    return binned(probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels, bins)


def binned(surest: Array, right: Array, bins: int = BINS) -> Calibration:
    """The Calibration of largest probabilities (N,) that were right or not (N,)."""
    number = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], surest)
    counts = np.bincount(number, minlength=bins)
    total = np.maximum(counts, 1)
    confidence = np.bincount(number, surest, bins) / total
    accuracy = np.bincount(number, right, bins) / total
    error = float((counts * np.abs(accuracy - confidence)).sum() / len(surest))
    return Calibration(error, counts, confidence, accuracy)


def temperature(logits: Array, labels: Array) -> float:
    """T that minimises the mean of -log softmax(z / T)[label] over logits (N, K), in COLDEST..HOTTEST.

    In b = 1 / T the mean is convex with slope mean(sum over k of p_k z_k - z_label), p = softmax(b z): the
    place where the slope changes its sign is found by halving the range of log b.
    """
    z = logits.astype(np.float64)
    own = z[np.arange(len(z)), labels]
    low, high = -np.log(HOTTEST), -np.log(COLDEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        slope = ((ReferenceOps().softmax(np.exp(middle) * z) * z).sum(axis=-1) - own).mean()
        low, high = (middle, high) if slope <= 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))
