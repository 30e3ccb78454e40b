"""The samples of the steps to come, with their targets and shares: of several steps, or parts of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from glassnet.data import Split
from glassnet.data.batches import micro_batches
from glassnet.data.labels import hard
from glassnet.losses import CrossEntropy, Loss, one_hot, shares

Array = np.ndarray


@dataclass(frozen=True)
class Part:
    """A micro-batch: sample numbers (n,), targets (n, K), shares (n,), and its place in the batch."""

    index: Array
    target: Array
    share: Array
    first_sample: int


@dataclass(frozen=True)
class Block:
    """k steps on n samples each: index, labels, share (k, n), target (k, n, K), denominator (k,).

    step: the number of the first, counted from 0. denominator: what the sum of a step's losses is divided by.
    parts: in how many micro-batches each is computed.
    """

    step: int
    index: Array
    labels: Array
    target: Array
    share: Array
    denominator: Array
    parts: int

    def __len__(self) -> int:
        return len(self.index)

    @property
    def samples(self) -> int:
        """Of each step."""
        return self.index.shape[1]

    def parts_of(self, number: int) -> Iterator[Part]:
        """The micro-batches of one step."""
        first = 0
        for part in micro_batches(self.index[number], self.parts):
            end = first + len(part)
            yield Part(part, self.target[number, first:end], self.share[number, first:end], first)
            first = end


class Batches:
    """Makes blocks from a split. Targets and shares are those of the whole batch, however many its parts."""

    def __init__(self, split: Split, loss: Loss, sample_weight: Array | None, accumulate: int) -> None:
        self.labels = hard(split.labels)
        outputs = len(split.classes)
        self._target, self._weight, self._part = loss.encode(targets_for(loss, split), outputs, sample_weight)
        self._accumulate = accumulate

    def block(self, step: int, index: Array) -> Block:
        """The steps from number `step` on that take these samples (k, n)."""
        parts = self._part[index]
        return Block(
            step,
            index,
            self.labels[index],
            self._target[index],
            shares(self._weight[index], parts),
            parts.sum(axis=-1),
            self._accumulate,
        )


def targets_for(loss: Loss, split: Split) -> Array:
    """The split's targets as this loss takes them: only cross-entropy takes class numbers."""
    if split.targets.ndim == 2 or isinstance(loss, CrossEntropy):
        return split.targets
    return one_hot(split.targets, len(split.classes))
