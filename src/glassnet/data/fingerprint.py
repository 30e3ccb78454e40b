"""What tells one data set from another: a run is resumed on the data that it began with, or not at all."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np

from glassnet.data.dataset import Dataset, Split

BLOCK_BYTES: Final = 1 << 24
"""Arrays are read this much at a time: one that is mapped from a file never has to fit in memory."""
SPLITS: Final = ("train", "val", "test")
WEIGHTS: Final = "sample weights"

Fingerprint = dict[str, Any]


def fingerprint(data: Dataset, sample_weight: np.ndarray | None = None) -> Fingerprint:
    """Classes and preprocessing; of each split a line of text and two SHA-256. Plain JSON values.

    sample_weight: the training samples' (N,), where they have any.
    """
    found: Fingerprint = {"classes": list(data.classes), "preprocessing": data.preprocessing.to_dict()}
    for what in SPLITS:
        split = getattr(data, what)
        if split is not None:
            found |= {
                what: outline(split),
                f"{what} images": digest(split.images),
                f"{what} labels": digest(split.labels),
            }
    return found if sample_weight is None else found | {WEIGHTS: digest(sample_weight)}


def changes(old: Fingerprint, new: Fingerprint) -> list[str]:
    """What differs, in words, such as "test labels differ"; empty where nothing does."""
    found = []
    for what in ("classes", "preprocessing", *SPLITS):
        was, now = old.get(what), new.get(what)
        if was != now:
            found.append(f"{what}: {now or 'none'}, before {was or 'none'}")
        else:
            found += differing(old, new, f"{what} images", f"{what} labels")
    return found + differing(old, new, WEIGHTS)


def differing(old: Fingerprint, new: Fingerprint, *parts: str) -> list[str]:
    """Which of these arrays are other ones."""
    return [f"{part} differ" for part in parts if old.get(part) != new.get(part)]


def outline(split: Split) -> str:
    """Such as "60,000 images (28, 28, 1) uint8, labels int64"; soft labels have a shape too."""
    return f"{len(split):,} images {sample(split.images)}, labels {sample(split.labels)}"


def sample(array: np.ndarray) -> str:
    """Shape and dtype of one sample."""
    return f"{array.shape[1:]} {array.dtype}".removeprefix("() ")


def digest(array: np.ndarray) -> str:
    """SHA-256 of the array's bytes in C order."""
    sha = hashlib.sha256()
    step = max(1, BLOCK_BYTES // (array[:1].nbytes or 1))
    for start in range(0, len(array), step):
        sha.update(np.ascontiguousarray(array[start : start + step]).data)
    return sha.hexdigest()
