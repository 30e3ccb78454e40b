"""Many image files -> pixels, in threads, with what else is worth knowing of each while it is at hand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glassnet.data.decode import decode, read_bytes
from glassnet.errors import FileFormatError
from glassnet.preprocessing import Preprocessing

BLOCK: Final = 256
"""Images decoded before they are handed on: what bounds the memory of files and pixels in flight."""

SMALL: Final = 16
"""Side of the small copies that tell whether two images show the same."""

VALUES: Final = np.arange(256)
"""What a byte can be."""

Progress = Callable[[int, int], None]
"""Called with the number of files done, and of all."""


class Facts(NamedTuple):
    """What is known of M images beside their pixels.

    digest (M, 16) uint8: BLAKE2 of the file. look (M,) uint64: see `difference_hash`.
    small (M, 16, 16) uint8: the image in grey.
    sums, squares (M, C) int64: of the pixel values of each channel, exact, so that any statistics are.
    """

    digest: NDArray[np.uint8]
    look: NDArray[np.uint64]
    small: NDArray[np.uint8]
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]


class Block(NamedTuple):
    """A run of files: pixels (m, H, W, C) of those that could be read, which those are, why others not."""

    images: NDArray[np.uint8]
    rows: list[int]
    facts: Facts
    failures: dict[int, str]


Decoded = tuple[NDArray[np.uint8], Facts]


def decode_blocks(
    paths: Sequence[str], preprocessing: Preprocessing, progress: Progress | None = None
) -> Iterator[Block]:
    """Decode files to the size of the preprocessing, in as many threads as there are processors."""

    def attempt(path: str) -> Decoded | str:
        try:
            return decode_with_facts(path, preprocessing)
        except FileFormatError as error:
            return str(error)
        except OSError as error:  # gone since it was listed, or not for us to read
            return f"{error.strerror or error}."

    with ThreadPoolExecutor(threads()) as pool:
        for start in range(0, len(paths), BLOCK):
            results = list(pool.map(attempt, paths[start : start + BLOCK]))
            yield _block(start, results, preprocessing)
            if progress is not None:
                progress(start + len(results), len(paths))


def _block(start: int, results: list[Decoded | str], preprocessing: Preprocessing) -> Block:
    """The results from file number `start` on, put together."""
    assert preprocessing.size is not None
    done = {start + i: found for i, found in enumerate(results) if not isinstance(found, str)}
    failures = {start + i: found for i, found in enumerate(results) if isinstance(found, str)}
    images = np.array([pixels for pixels, _ in done.values()], np.uint8)
    images = images.reshape(-1, *preprocessing.size, len(preprocessing.mean))
    if not done:
        return Block(images, [], no_facts(len(preprocessing.mean)), failures)
    columns = zip(*(facts for _, facts in done.values()), strict=True)
    return Block(images, list(done), Facts(*map(np.array, columns)), failures)


def decode_with_facts(path: str, preprocessing: Preprocessing) -> Decoded:
    """One file's pixels (H, W, C), and its facts without their first axis."""
    content = read_bytes(path)
    pixels = decode(content, preprocessing)
    digest = np.frombuffer(hashlib.blake2b(content, digest_size=16).digest(), np.uint8)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    histogram = np.array(image.histogram(), np.int64).reshape(-1, VALUES.size)
    grey = image.convert("L")
    small = np.asarray(grey.resize((SMALL, SMALL), Image.Resampling.BOX))
    return pixels, Facts(digest, difference_hash(grey), small, histogram @ VALUES, histogram @ VALUES**2)


def difference_hash(grey: Image.Image) -> NDArray[np.uint64]:
    """64 bits of a grey image: shrunk to 8 x 9, whether each pixel is brighter than its left one.

    Source: N. Krawetz, "Kind of like that", 2013 (dHash). Alike for copies in other sizes and qualities.
    """
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    return np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64).reshape(())


def no_facts(channels: int) -> Facts:
    """The facts of no image."""
    return Facts(
        np.zeros((0, 16), np.uint8),
        np.zeros(0, np.uint64),
        np.zeros((0, SMALL, SMALL), np.uint8),
        np.zeros((0, channels), np.int64),
        np.zeros((0, channels), np.int64),
    )


def statistics(facts: Facts, pixels_each: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in unit scale, from exact sums."""
    count = pixels_each * len(facts.sums)
    mean, deviation = [], []
    for total, squared in zip(facts.sums.sum(axis=0), facts.squares.sum(axis=0), strict=True):
        mean.append(int(total) / count / 255)
        variance = (count * int(squared) - int(total) ** 2) / count**2  # whole numbers: nothing cancels
        deviation.append(variance**0.5 / 255)
    return mean, deviation


def threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
