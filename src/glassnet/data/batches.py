"""Which samples make up which batch: decided by seed and epoch alone, so that a run can resume anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassnet.errors import ConfigError


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """The batches of every epoch over n samples: epoch e is shuffled by (seed, e), or not at all.

    balance (n,): class numbers, where an epoch takes as many samples of each class: n / K, or one more. Those
    of a large class are then not all in one epoch, and those of a small one are there more than once, none of
    them twice before all of them were there.

    The last batch holds what is left. Where that is fewer than `min_last` samples, it joins the batch before
    (batch normalisation needs more than one value a channel).
    """

    n: int
    batch_size: int
    seed: int = 0
    min_last: int = 1
    shuffle: bool = True
    balance: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more, got {self.batch_size}.")
        if self.batch_size > self.n:
            raise ConfigError(
                f"batch_size is {self.batch_size}, but there are only {self.n} samples. "
                f"Use batch_size={self.n} or less."
            )
        if not 1 <= self.min_last <= self.batch_size:
            raise ConfigError(
                f"min_last must lie between 1 and the batch size {self.batch_size}, got {self.min_last}."
            )
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}.")

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, left = divmod(self.n, self.batch_size)
        return whole + (left >= self.min_last)

    @property
    def capacity(self) -> int:
        """Samples in the largest batch, which is the last one where it took in the rest."""
        return max(self.batch_size, self.n - (len(self) - 1) * self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """All sample numbers (n,) in the order of this epoch, counted from 0."""
        if not self.shuffle:
            return np.arange(self.n)
        # PCG64 by name: NumPy may change its default generator, and a resumed run must not notice.
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
        if self.balance is None:
            return generator.permutation(self.n)
        return generator.permutation(self._balanced(self.balance, generator))

    def _balanced(self, labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """n sample numbers, of each class n / K; the classes that get one more are drawn."""
        classes = generator.permutation(np.unique(labels))
        share, more = divmod(self.n, len(classes))
        parts = []
        for place, label in enumerate(classes):
            members, count = np.flatnonzero(labels == label), share + (place < more)
            rounds = [generator.permutation(members) for _ in range(-(-count // len(members)))]
            parts.append(np.concatenate([members[:0], *rounds])[:count])
        return np.concatenate(parts)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The sample numbers of each batch of this epoch."""
        cuts = range(self.batch_size, len(self) * self.batch_size, self.batch_size)
        return np.split(self.order(epoch), list(cuts))

    def blocks(self, epoch: int, first: int, most: int) -> Iterator[NDArray[np.int64]]:
        """The batches of this epoch from number `first` on, up to `most` of one size at a time: (k, n)."""
        order, cut = self.order(epoch), (len(self) - 1) * self.batch_size
        whole = order[:cut].reshape(-1, self.batch_size)
        for start in range(first, len(whole), most):
            yield whole[start : start + most]
        if first < len(self):
            yield order[cut:][None]


def micro_batches(index: NDArray[np.int64], parts: int) -> list[NDArray[np.int64]]:
    """One batch cut in `parts` nearly equal pieces, in order, to accumulate gradients; never an empty one."""
    if parts < 1:
        raise ConfigError(f"A batch is cut in 1 part or more, got {parts}.")
    return np.array_split(index, min(parts, len(index)))
