"""The size and the channels that suit a folder of images, from their headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from glassnet.data.decode import open_image, orientation
from glassnet.errors import ConfigError, FileFormatError
from glassnet.preprocessing import Preprocessing

AUTO_SIDE: Final = 128
"""The largest side that size="auto" chooses: a network from random weights gains little beyond it."""

SAMPLED: Final = 1000
"""Files whose headers are read, evenly drawn."""

GREY: Final = ("1", "L", "LA", "F", "I", "I;16", "I;16B", "I;16L")
"""Modes of Pillow without colour."""


CROPPED: Final = 0.5
"""Below this part of the median picture, cropping is worth a warning: a 16:9 photo keeps 0.56 in a square."""


class Headers(NamedTuple):
    """(height, width) of upright images, and whether each is grey."""

    sizes: list[tuple[int, int]]
    grey: list[bool]


def headers(paths: Sequence[str]) -> Headers:
    """What the headers of SAMPLED of these files say; those that cannot be read say nothing."""
    found = Headers([], [])
    for index in np.linspace(0, len(paths) - 1, min(len(paths), SAMPLED)).astype(int):
        try:
            with open(paths[index], "rb") as file:
                image = open_image(file)
                width, height = image.size
                on_its_side = image.format != "TIFF" and orientation(image) >= 5  # Pillow swaps those of TIFF
                found.sizes.append((width, height) if on_its_side else (height, width))
                found.grey.append(image.mode in GREY)
        except (OSError, FileFormatError):
            continue
    return found


def choose(size: tuple[int, int] | int | str, channels: str, resize: str, found: Headers) -> Preprocessing:
    """The size and channels that were asked for, or those that suit the files; not yet normalised.

    size="auto": that of the images, where all have one and no side is above AUTO_SIDE; else a square whose
    side is the median of their shorter sides, rounded down to a multiple of 8 from 32 on, at most AUTO_SIDE.
    channels="auto": "L" where all images are grey, else "RGB".
    """
    if size == "auto":
        size = _size_of(found.sizes or [(AUTO_SIDE, AUTO_SIDE)])
    elif isinstance(size, str | bool):
        raise ConfigError(f"size must be (height, width), a side or 'auto', got {size!r}.")
    elif isinstance(size, int):
        size = size, size
    if channels == "auto":
        channels = "L" if found.grey and all(found.grey) else "RGB"
    unit = Preprocessing.identity(channels)
    return Preprocessing(size, unit.mean, unit.std, channels, resize)


def crop_warning(chosen: Preprocessing, found: Headers) -> str | None:
    """What to do where cropping to the chosen size leaves little of the files."""
    if chosen.resize != "crop" or chosen.size is None or not found.sizes:
        return None
    share = _share(chosen.size, found)
    if share >= CROPPED:
        return None
    height, width = np.median(found.sizes, axis=0)
    scale = min(1, AUTO_SIDE / np.sqrt(height * width))
    fitting = max(8, round(height * scale / 8) * 8), max(8, round(width * scale / 8) * 8)
    size = f" or --size {fitting[0]}x{fitting[1]}" if _share(fitting, found) >= CROPPED else ""
    return f"Of the median picture {share:.0%} is used, its centre. Use --resize stretch{size}."


def _share(size: tuple[int, int], found: Headers) -> float:
    """The part of the median file that is left when it is cropped to a size."""
    down, across = (np.array(found.sizes) / size).T
    return float(np.median(np.minimum(down, across) / np.maximum(down, across)))


def _size_of(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    if len(set(sizes)) == 1 and max(sizes[0]) <= AUTO_SIDE:
        return sizes[0]
    side = min(int(np.median([min(pair) for pair in sizes])), AUTO_SIDE)
    side -= side % 8 if side > 32 else 0
    return side, side
