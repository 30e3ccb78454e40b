"""The samples of the steps to come, with their targets and shares: of several steps, or parts of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from glassnet.data import Split
from glassnet.data.augment import Augment, Drawn, mix_targets
from glassnet.data.batches import micro_batches
from glassnet.data.labels import hard
from glassnet.errors import DataError
from glassnet.losses import Loss, denominator, targets_for
from glassnet.ops.augment import OWN, augment_images

Array = np.ndarray


@dataclass(frozen=True)
class Part:
    """A micro-batch: sample numbers (n,), targets (n, K), shares (n,), and its place in the batch.

    rows (n, COLUMNS), partner (n,): where images are augmented, what `ops.augment` does, and with whom each
    is mixed. size: (H, W) of the input.
    """

    index: Array
    target: Array
    share: Array
    first_sample: int = 0
    rows: Array | None = None
    partner: Array | None = None
    size: tuple[int, int] | None = None

    def inputs(self, split: Split) -> Array:
        """(n, H, W, C) float32: network input."""
        if self.rows is None:
            return split.inputs(self.index)
        scaling = split.preprocessing.scale_shift(split.images.dtype)
        return augment_images(
            split.images[self.index], self.rows, split.images[self.partner], *scaling, self.size
        )


@dataclass(frozen=True)
class Block:
    """k steps on n samples each: index, labels, share (k, n), target (k, n, K), denominator (k,).

    step: the number of the first, counted from 0. denominator: what the sum of a step's losses is divided by.
    parts: in how many micro-batches each is computed. rows (k, n, COLUMNS), partner (k, n), size: see Part.
    """

    step: int
    index: Array
    labels: Array
    target: Array
    share: Array
    denominator: Array
    parts: int
    rows: Array | None = None
    partner: Array | None = None
    size: tuple[int, int] | None = None

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
            cut = (number, slice(first, end))
            rows = None if self.rows is None else self.rows[cut]
            partner = None if self.partner is None else self.partner[cut]
            yield Part(part, self.target[cut], self.share[cut], first, rows, partner, self.size)
            first = end


class Batches:
    """Makes blocks from a split. Targets and shares are those of the whole batch, however many its parts.

    resized: whether inputs may have another size than images; `resize` says which.
    """

    def __init__(
        self,
        split: Split,
        loss: Loss,
        sample_weight: Array | None = None,
        *,
        accumulate: int = 1,
        augment: Augment | None = None,
        resized: bool = False,
        seed: int = 0,
    ) -> None:
        self._size, self._seed = split.image_shape[:2], seed
        self._output = self._size
        augment = augment or Augment()
        self._augment = None if augment.off and not resized else augment
        self.sample_weight = sample_weight
        self._ahead = NOTHING_AHEAD
        self.labels = hard(split.labels)
        outputs = len(split.classes)
        targets = targets_for(loss, split.targets, outputs)
        self._target, self._weight, self._part = loss.encode(targets, outputs, sample_weight)
        if not (self._weight * self._part).any():
            raise DataError(
                "All training images weigh 0, so that there is nothing to learn. Give some of them a sample "
                "weight and their class a class weight above 0."
            )
        self._accumulate = accumulate

    def resize(self, size: tuple[int, int]) -> None:
        """From now on inputs are (H, W)."""
        if size != self._output:
            self._output, self._ahead = size, NOTHING_AHEAD

    def block(self, step: int, index: Array) -> Block:
        """The steps from number `step` on that take these samples (k, n)."""
        target, rows, partner = self._target[index], None, None
        divisor = denominator(self._part[index])
        if self._augment is not None:
            drawn = self._draw(self._augment, step, *index.shape)
            rows, partner = drawn.rows, np.take_along_axis(index, drawn.partner, axis=1)
            if self._augment.mixes:
                target = mix_targets(target, drawn.partner, rows[..., OWN])
        return Block(
            step,
            index,
            self.labels[index],
            target,
            self._weight[index] / divisor[:, None],
            divisor,
            self._accumulate,
            rows,
            partner,
            self._output,
        )

    def _draw(self, augment: Augment, step: int, steps: int, samples: int) -> Drawn:
        """What happens to each image. Drawing for many steps takes little longer than for one, so it is done
        ahead, unless images are mixed: a partner depends on the number of samples.
        """
        draw = partial(augment.draw, seed=self._seed, step=step, size=self._size, output=self._output)
        if augment.mixes:
            return draw(steps=steps, samples=samples)
        first, drawn = self._ahead
        at, (most_steps, most_samples) = step - first, drawn.partner.shape
        if at < 0 or at + steps > most_steps or samples > most_samples:
            count = max(steps, AHEAD // samples)
            drawn = draw(steps=count, samples=samples)
            self._ahead, at = (step, drawn), 0
        return Drawn(drawn.rows[at : at + steps, :samples], drawn.partner[at : at + steps, :samples])


AHEAD = 4096
"""Samples for which augmentation is drawn at a time."""

NOTHING_AHEAD = (0, Drawn(np.zeros((0, 0, 0), np.float32), np.zeros((0, 0), np.int64)))
