"""The same picture twice: the same file, or what looks the same in another size, quality or format."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

HASH_DISTANCE: Final = 3
"""Most bits in which the difference hashes of one picture may differ."""

LIKENESS: Final = 0.05
"""Most that two small copies may differ, on average, as a part of their standard deviation.

99 % of photos of 224 x 224, shrunk to 150 x 150 and back and saved with JPEG quality 60, differ by less than
half of it; two photos that are not the same seldom by less than ten times of it.
"""

NEIGHBOURS: Final = 16
"""How many hashes of the same band each one is compared with: a bound on time where thousands are alike."""

PAIRS_AT_ONCE: Final = 10_000
"""Pairs compared in one go: 10 MB of float32."""

BANDS: Final = (0, 16, 32, 48)


def find_duplicates(
    digests: NDArray[np.uint8], looks: NDArray[np.uint64], small: NDArray[np.uint8]
) -> list[tuple[int, int, bool]]:
    """(first, second, whether it is the same file) of pictures that are there twice, as numbers of images.

    digests (N, 16) of the files; looks (N,), their difference hashes; small (N, h, w), small copies in grey.
    Of equal files each is paired with the first; only firsts are compared by their looks.
    """
    first: dict[bytes, int] = {}
    exact = []
    for number, digest in enumerate(digests):
        original = first.setdefault(digest.tobytes(), number)
        if original != number:
            exact.append((original, number, True))
    alone = np.array(list(first.values()), np.int64)
    pairs = _candidates(alone, looks[alone])
    alike = [(int(a), int(b), False) for a, b in pairs[_alike(small, pairs)]]
    return sorted(exact + alike)


def _candidates(numbers: NDArray[np.int64], looks: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pairs (P, 2) of numbers whose hashes differ in HASH_DISTANCE bits or less.

    Such hashes have at least one of four bands in common, so that sorting by each band brings them together.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    for shift in BANDS:
        band = looks >> np.uint64(shift) & np.uint64(0xFFFF)
        order = np.lexsort((looks, band))
        for step in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            a, b = order[:-step], order[step:]
            close = (band[a] == band[b]) & (np.bitwise_count(looks[a] ^ looks[b]) <= HASH_DISTANCE)
            pairs.append(numbers[np.stack([a[close], b[close]], axis=1)])
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def _alike(small: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pairs (P, 2) have small copies that differ by little, in view of how much is in them."""
    alike = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        first, second = small[pairs[part, 0]].astype(np.float32), small[pairs[part, 1]].astype(np.float32)
        alike[part] = np.abs(first - second).mean(axis=(1, 2)) <= LIKENESS * first.std(axis=(1, 2))
    return alike
