"""Split: images with their labels. Dataset: the splits a run needs. Both are checked when they are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassnet.data.folder_report import FolderReport
from glassnet.data.labels import check_same_kind, class_names, encode, hard, label_array
from glassnet.errors import ConfigError, DataError, ShapeError
from glassnet.preprocessing import CHANNELS, Preprocessing, image_array

BLOCK_VALUES = 1 << 20
"""Statistics go through the images this many values at a time: 8 MB as float64."""


@dataclass(frozen=True, eq=False)
class Split:
    """Raw images (N, H, W, C), uint8 or float32, with labels (N,) int64 or soft labels (N, K) float32.

    split[:100] and split[[4, 7]] are Splits again; a slice shares memory, an index array copies.

    files: the path that each image was read from, (N,); None where they come from no files of their own.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    files: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ShapeError(
                f"A split needs one label for each image, got {len(self.images)} images and "
                f"{len(self.labels)} labels."
            )
        if self.files is not None and len(self.files) != len(self.images):
            raise ShapeError(
                f"A split needs one file for each image, got {len(self.images)} images and "
                f"{len(self.files)} files."
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | ArrayLike) -> Split:
        if not isinstance(index, slice):
            index = np.asarray(index)
            if index.ndim != 1 or index.dtype.kind not in "iub":
                raise ConfigError(
                    f"A split is indexed by a slice or by one row of whole numbers, got {index.dtype} "
                    f"{index.shape}. One sample is split[i:i + 1]."
                )
        files = self.files
        if files is not None:
            files = tuple(files[i] for i in np.arange(len(files))[index])
        return replace(self, images=self.images[index], labels=self.labels[index], files=files)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C): the input shape of a network for these images."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def targets(self) -> NDArray[Any]:
        """What a loss compares predictions with: (N,) class numbers or (N, K) soft labels."""
        return self.labels

    def inputs(self, index: slice | ArrayLike | None = None) -> NDArray[np.float32]:
        """Network input (n, H, W, C), float32, of the samples at `index`, or of all."""
        return self.preprocessing.apply((self if index is None else self[index]).images)

    def counts(self) -> NDArray[np.int64]:
        """Samples of each class, (K,); a soft label counts for its largest entry."""
        return np.bincount(hard(self.labels), minlength=len(self.classes))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training split, and perhaps a validation and a test split, of the same image shape and classes.

    report: what was found and left out, where the images were read from a folder.
    """

    name: str
    train: Split
    val: Split | None = None
    test: Split | None = None
    report: FolderReport | None = None

    def __post_init__(self) -> None:
        counts = self.train.counts()
        if np.count_nonzero(counts) < 2:
            only = self.classes[int(counts.argmax())]
            raise DataError(
                f"Training needs images of at least two classes, but all {len(self.train)} are "
                f"of class {only!r}."
            )
        for what, split in self._others():
            for fact in ("image_shape", "classes", "preprocessing"):
                wanted, found = getattr(self.train, fact), getattr(split, fact)
                if wanted != found:
                    raise DataError(
                        f"The {what} split must have the {fact} of the train split, {wanted}, got {found}."
                    )

    def __repr__(self) -> str:
        others = "".join(f", {what}={len(split)}" for what, split in self._others())
        shape, classes = self.image_shape, len(self.classes)
        return (
            f"Dataset({self.name!r}, train={len(self.train)}{others}, image_shape={shape}, classes={classes})"
        )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def preprocessing(self) -> Preprocessing:
        return self.train.preprocessing

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C): the input shape of a network for these images."""
        return self.train.image_shape

    def holdout(self, fraction: float, seed: int) -> Dataset:
        """The same data with `fraction` of each class of train moved to val, drawn from this seed alone.

        Each class with two images or more is in both; order within a split stays as it was.
        """
        if self.val is not None:
            raise ConfigError(
                f"Dataset {self.name!r} already has a validation split of {len(self.val)} images. "
                f"Use it, or build the dataset without it."
            )
        held = stratified(hard(self.train.labels), fraction, seed)
        if not held.any():
            raise DataError(
                f"Nothing can be held out: each of the {len(self.train)} training images is alone "
                f"in its class. Set val_fraction=0 to train without validation images."
            )
        return replace(self, train=self.train[~held], val=self.train[held])

    def _others(self) -> Iterator[tuple[str, Split]]:
        for what, split in (("val", self.val), ("test", self.test)):
            if split is not None:
                yield what, split


def from_arrays(
    images: ArrayLike,
    labels: ArrayLike,
    *,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    val: tuple[ArrayLike, ArrayLike] | None = None,
    classes: Sequence[str] | None = None,
    normalise: bool = True,
    name: str = "arrays",
) -> Dataset:
    """A Dataset of training images (N, H, W, C) or (N, H, W), uint8 0..255 or float 0..1, with their labels.

    Floats may also be standardised: with negative values among them they have any scale.
    labels: whole numbers from 0, strings (classes are then their sorted names), or float soft labels (N, K).
    test, val: (images, labels) of the same kind.
    normalise: subtract the mean of the training images and divide by their standard deviation, per channel.
    Raises DataError or ShapeError, naming the array and the place, for anything that cannot be learned from.
    """
    train_images = image_array(images, "train images")
    train_labels = label_array(labels, "train labels")
    names = class_names(train_labels, classes, "train labels")
    channels = next(key for key, count in CHANNELS.items() if count == train_images.shape[3])
    preprocessing = Preprocessing.identity(channels)
    if normalise:
        mean, std = channel_statistics(train_images)
        # A constant channel carries nothing: it becomes 0 instead of 0 / 0.
        preprocessing = replace(preprocessing, mean=tuple(mean), std=tuple(s if s > 0 else 1.0 for s in std))
    preprocessing = replace(preprocessing, size=train_images.shape[1:3])

    def split(what: str, images: NDArray[Any], labels: NDArray[Any]) -> Split:
        if len(images) != len(labels):
            raise ShapeError(
                f"The {what} split has {len(images)} images but {len(labels)} labels; each image needs one."
            )
        return Split(images, encode(labels, names, f"{what} labels"), names, preprocessing)

    def checked(what: str, pair: tuple[ArrayLike, ArrayLike] | None) -> Split | None:
        if pair is None:
            return None
        images, labels = image_array(pair[0], f"{what} images"), label_array(pair[1], f"{what} labels")
        check_same_kind(labels, train_labels, f"{what} labels")
        return split(what, images, labels)

    return Dataset(
        name, split("train", train_images, train_labels), checked("val", val), checked("test", test)
    )


def channel_statistics(images: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of (N, H, W, C), in unit scale, summed in float64.

    Two passes (first the mean, then the squared distances from it), a block of samples at a time.
    """
    count = images.size // images.shape[3]
    mean = sum(block.sum(axis=0) for block in _pixel_blocks(images)) / count
    variance = sum(np.square(block - mean).sum(axis=0) for block in _pixel_blocks(images)) / count
    unit = 255.0 if images.dtype == np.uint8 else 1.0
    return (mean / unit).tolist(), (np.sqrt(variance) / unit).tolist()


def stratified(labels: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """A mask (N,) of round(fraction * n) samples of each class of n, at least 1 and at most n - 1 of them."""
    if not 0 < fraction < 1:
        raise ConfigError(f"The fraction to hold out must lie between 0 and 1, got {fraction}.")
    generator = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        take = max(1, round(fraction * len(members)))
        held[members[: min(take, len(members) - 1)]] = True
    return held


def _pixel_blocks(images: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """The images as float64 rows (pixels, C), a block of samples at a time."""
    step = max(1, BLOCK_VALUES // images[0].size)
    for start in range(0, len(images), step):
        yield images[start : start + step].astype(np.float64).reshape(-1, images.shape[3])
