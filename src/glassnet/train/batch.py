"""One step's samples: their targets and shares, in one micro-batch or several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from glassnet.data import Split
from glassnet.data.batches import micro_batches
from glassnet.data.labels import hard
from glassnet.losses import CrossEntropy, Loss, one_hot

Array = np.ndarray


@dataclass(frozen=True)
class Part:
    """A micro-batch: sample numbers (n,), targets (n, K), shares (n,), and its place in the batch."""

    index: Array
    target: Array
    share: Array
    first_sample: int


@dataclass(frozen=True)
class Batch:
    """The samples of one step. denominator: what the sum of their losses is divided by."""

    labels: Array
    parts: tuple[Part, ...]
    denominator: float

    def __len__(self) -> int:
        return len(self.labels)

    def correct(self, scores: list[Array]) -> int:
        """How many samples have their largest score at their label."""
        return int((np.concatenate(scores).argmax(axis=-1) == self.labels).sum())


class Batches:
    """Cuts batches from a split. Targets and shares are those of the whole batch, however many its parts."""

    def __init__(self, split: Split, loss: Loss, sample_weight: Array | None, accumulate: int) -> None:
        self.targets = targets_for(loss, split)
        self.labels = hard(split.labels)
        self.outputs = len(split.classes)
        self.loss, self.sample_weight, self.accumulate = loss, sample_weight, accumulate

    def cut(self, index: Array) -> Batch:
        """The batch of these samples."""
        weight = np.ones(len(index)) if self.sample_weight is None else self.sample_weight[index]
        target, share = self.loss.targets(self.targets[index], self.outputs, weight)
        heaviest = int(weight.argmax())
        return Batch(
            self.labels[index],
            tuple(self._parts(index, target, share)),
            float(weight[heaviest] / share[heaviest]),
        )

    def _parts(self, index: Array, target: Array, share: Array) -> Iterator[Part]:
        first = 0
        for part in micro_batches(index, self.accumulate):
            end = first + len(part)
            yield Part(part, target[first:end], share[first:end], first)
            first = end


def targets_for(loss: Loss, split: Split) -> Array:
    """The split's targets as this loss takes them: only cross-entropy takes class numbers."""
    if split.targets.ndim == 2 or isinstance(loss, CrossEntropy):
        return split.targets
    return one_hot(split.targets, len(split.classes))
