"""Philox4x32-10, the counter-based random generator behind dropout and augmentation.

Random bits are a pure function of (seed, key, step, sample, position): any backend, thread or machine
draws the same ones in any order. Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy
as 1, 2, 3", SC 2011.

Counter layout: key = (seed low, seed high); counter = (position // 4, sample, step, key of the layer);
position p of a sample takes word p % 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MASK = 0xFFFFFFFF


def philox4x32(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """(..., 4) counters of 32-bit words -> (..., 4) random 32-bit words, each held in a uint64."""
    c0, c1, c2, c3 = np.moveaxis(counter, -1, 0)
    k0, k1 = key
    mask, shift = np.uint64(MASK), np.uint64(32)
    for _ in range(ROUNDS):
        p0, p1 = np.uint64(MULTIPLIERS[0]) * c0, np.uint64(MULTIPLIERS[1]) * c2
        c0, c1, c2, c3 = (
            (p1 >> shift) ^ c1 ^ np.uint64(k0),
            p1 & mask,
            (p0 >> shift) ^ c3 ^ np.uint64(k1),
            p0 & mask,
        )
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return np.stack([c0, c1, c2, c3], axis=-1)


def random_words(
    seed: int, key: int, step: int, samples: NDArray[np.integer], count: int
) -> NDArray[np.uint32]:
    """(len(samples), count) uniform 32-bit words."""
    blocks = -(-count // 4)
    counter = np.empty((len(samples), blocks, 4), np.uint64)
    counter[..., 0] = np.arange(blocks, dtype=np.uint64)
    counter[..., 1] = samples[:, None]
    counter[..., 2] = step & MASK
    counter[..., 3] = key & MASK
    words = philox4x32(counter, (seed & MASK, (seed >> 32) & MASK))
    return words.reshape(len(samples), 4 * blocks)[:, :count].astype(np.uint32)


def keep_threshold(rate: float) -> int:
    """A word keeps its unit when it is at least this: P(drop) = rate to within 2**-32."""
    return min(round(rate * 2**32), 2**32 - 1)
