"""From a folder of photos to a Dataset, with a report of what was found and what was left out."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from glassnet.data.cache import CACHE_LIMIT, Pixels, pixels_of
from glassnet.data.dataset import Dataset, Split
from glassnet.data.decoding import Facts, Progress, statistics
from glassnet.data.duplicates import find_duplicates
from glassnet.data.folder_report import Duplicate, FolderReport, Skipped, listed, readable
from glassnet.data.input_size import Headers, choose, crop_warning, headers
from glassnet.data.listing import Listing, Photo, list_photos
from glassnet.errors import ConfigError, DataError
from glassnet.preprocessing import Preprocessing

log = logging.getLogger(__name__)

UNEQUAL = 10
"""Classes whose images differ by this factor in number are hard to learn equally well."""

PathLike = str | os.PathLike[str]


def load_folder(
    path: PathLike,
    *,
    size: tuple[int, int] | int | str = "auto",
    channels: str = "auto",
    resize: str = "crop",
    split_files: Mapping[str, PathLike] | None = None,
    strict: bool = False,
    cache: PathLike | None = None,
    cache_limit: int = CACHE_LIMIT,
    name: str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """The photos in root/class/*, root/{train,val,test}/class/*, split files or a table of paths.

    path: a folder, or a .csv file with columns path, label and perhaps split. split_files: {"train": file, …}
    with a path from the folder on in each line, whose folder is the class.
    size: (H, W), a side of a square, or "auto"; channels: "L", "RGB" or "auto"; see input_size.choose.
    resize: see Preprocessing.
    strict: refuse unreadable images instead of leaving them out. cache: a folder other than the user's.
    cache_limit: bytes that decoded pixels may take there; 0 keeps them in memory only.
    progress: called with the images decoded, and all.

    The report of the Dataset says what was found. Raises DataError where there is nothing to learn from.
    """
    from glassnet.data.catalog import user_cache

    _check_options(split_files, strict, cache_limit)
    root = Path(path)
    listing = list_photos(root, split_files)
    found = headers([photo.path for photo in listing.photos if photo.split == "train"])
    chosen = choose(size, channels, resize, found)
    started = time.perf_counter()
    pixels = pixels_of(
        [photo.path for photo in listing.photos],
        chosen,
        (Path(cache) if cache is not None else user_cache()) / "photos",
        cache_limit,
        progress,
    )
    seconds = time.perf_counter() - started
    unreadable = listing.unreadable + [
        Skipped(readable(listing.photos[row].path), reason) for row, reason in pixels.failures.items()
    ]
    if unreadable and (strict or not len(pixels.rows)):
        raise DataError(
            f"{len(unreadable)} of the images of {readable(root)} cannot be read: "
            f"{listed([f'{file}: {reason}' for file, reason in unreadable])}"
        )
    photos = [listing.photos[row] for row in pixels.rows]
    preprocessing = _normalising(chosen, pixels.facts, photos)
    report = _report(root, listing, photos, pixels, chosen, found, unreadable, seconds)
    for warning in report.warnings:
        log.warning("%s: %s", readable(root), warning)
    splits = _splits(photos, pixels, preprocessing)
    place = root.resolve()
    return Dataset(name or (place.name if place.is_dir() else place.stem), report=report, **splits)


def _check_options(split_files: object, strict: object, cache_limit: object) -> None:
    """They may come from a file of settings."""
    if split_files is not None and not isinstance(split_files, Mapping):
        raise ConfigError(f"split_files must be such as {{'train': 'train.txt'}}, got {split_files!r}.")
    if type(strict) is not bool:
        raise ConfigError(f"strict must be true or false, got {strict!r}.")
    if type(cache_limit) is not int:
        raise ConfigError(f"cache_limit must be a whole number of bytes, got {cache_limit!r}.")


def _normalising(chosen: Preprocessing, facts: Facts, photos: Sequence[Photo]) -> Preprocessing:
    """With the mean and standard deviation of the training images; a constant channel becomes 0."""
    train = np.array([photo.split == "train" for photo in photos])
    if not train.any():
        raise DataError("None of the training images can be read.")
    assert chosen.size is not None
    mean, std = statistics(Facts(*(column[train] for column in facts)), chosen.size[0] * chosen.size[1])
    return Preprocessing(
        chosen.size, tuple(mean), tuple(s if s > 0 else 1.0 for s in std), chosen.channels, chosen.resize
    )


def _splits(photos: Sequence[Photo], pixels: Pixels, preprocessing: Preprocessing) -> dict[str, Split]:
    """Slices of the pixels, for photos are in order of their splits."""
    classes = tuple(sorted({photo.label for photo in photos}))
    number = {label: i for i, label in enumerate(classes)}
    splits = {}
    for split in dict.fromkeys(photo.split for photo in photos):
        rows = [i for i, photo in enumerate(photos) if photo.split == split]
        part = slice(rows[0], rows[-1] + 1)
        labels = np.array([number[photo.label] for photo in photos[part]], np.int64)
        files = tuple(photo.path for photo in photos[part])
        splits[split] = Split(pixels.images[part], labels, classes, preprocessing, files)
    return splits


def _report(
    root: Path,
    listing: Listing,
    photos: Sequence[Photo],
    pixels: Pixels,
    chosen: Preprocessing,
    found: Headers,
    unreadable: Sequence[Skipped],
    seconds: float,
) -> FolderReport:
    pairs = find_duplicates(pixels.facts.digest, pixels.facts.look, pixels.facts.small)
    named = [(photos[a], photos[b], exact) for a, b, exact in pairs]
    across_splits = [(a, b, exact) for a, b, exact in named if a.split != b.split]
    across_classes = [(a, b, exact) for a, b, exact in named if a.label != b.label]
    repeated = sum(a.split == b.split and a.label == b.label for a, b, _ in named)
    counts: dict[str, dict[str, int]] = {}
    for photo in photos:
        classes = counts.setdefault(photo.split, {})
        classes[photo.label] = classes.get(photo.label, 0) + 1
    shorter = sorted(min(pair) for pair in found.sizes)
    warnings = _warnings(listing, counts, len(unreadable), len(across_splits), len(across_classes), repeated)
    cropped = crop_warning(chosen, found)
    assert chosen.size is not None
    return FolderReport(
        root=readable(root),
        layout=listing.layout,
        counts=counts,
        size=chosen.size,
        channels=chosen.channels,
        resize=chosen.resize,
        found=(shorter[0], shorter[len(shorter) // 2], shorter[-1]) if shorter else (0, 0, 0),
        unreadable=tuple(unreadable),
        passed_over=tuple(listing.passed_over),
        warnings=(*warnings, *([cropped] if cropped else [])),
        across_splits=tuple(_duplicates(across_splits)),
        across_classes=tuple(_duplicates(across_classes)),
        repeated=repeated,
        decoded=pixels.decoded,
        seconds=seconds,
        pixels=pixels.images.nbytes,
        cached=None if pixels.folder is None else readable(pixels.folder),
    )


def _duplicates(pairs: Sequence[tuple[Photo, Photo, bool]]) -> list[Duplicate]:
    return [Duplicate(readable(a.path), readable(b.path), exact) for a, b, exact in pairs]


def _warnings(
    listing: Listing,
    counts: dict[str, dict[str, int]],
    unreadable: int,
    leaks: int,
    conflicts: int,
    repeated: int,
) -> list[str]:
    """What would spoil training or its measurement, in one sentence each."""
    train = counts.get("train", {})
    every = sorted({label for classes in counts.values() for label in classes})
    lost = sorted({photo.label for photo in listing.photos} - set(every))
    missing = {split: [label for label in every if label not in classes] for split, classes in counts.items()}
    single = [label for label, count in train.items() if count == 1]
    found = [*listing.warnings]
    if listing.empty or lost:
        found.append(f"Classes without images are left out: {listed(listing.empty + lost)}.")
    for split, labels in missing.items():
        effect = "cannot be learned" if split == "train" else "are not measured there"
        if labels:
            found.append(f"Classes without {split} images, which {effect}: {listed(labels)}.")
    if single:
        found.append(f"Classes with one training image: {listed(single)}.")
    few, many = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
    if train[many] >= UNEQUAL * train[few]:
        found.append(
            f"Class {many} has {train[many]} training images, {few} {train[few]}. sampling=balanced shows as "
            "many of each."
        )
    if unreadable:
        found.append(f"{unreadable} unreadable image{'s' * (unreadable > 1)} left out.")
    if leaks:
        found.append(f"{leaks} pictures are in two splits, so that measured accuracy would be too high.")
    if conflicts:
        found.append(f"{conflicts} pictures are in two classes.")
    if repeated and counts.keys() == {"train"}:
        found.append(
            f"{repeated} pictures are in their class twice. Where one of two is held out, the other is "
            f"trained on, so that measured accuracy would be too high. Remove copies."
        )
    return found
