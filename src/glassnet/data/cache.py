"""Pixels that were decoded once, kept in a file that later runs map into memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from glassnet.data.decode import DECODE_VERSION
from glassnet.data.decoding import Block, Facts, Progress, decode_blocks, decode_with_facts, no_facts
from glassnet.errors import DataError, FileFormatError
from glassnet.preprocessing import Preprocessing

CACHE_LIMIT: Final = 8 << 30
"""Bytes that all cached pixels together may take, unless another limit is given: 8.6 GB."""

PART: Final = ".part-"
STALE_S: Final = 24 * 3600
"""What an interrupted run left unfinished is removed after a day."""

PIXELS, FACTS = "pixels.u8", "facts.npz"


class Pixels(NamedTuple):
    """Images (M, H, W, C) of the files at `rows` (M,), why others failed, and where the images are kept."""

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    facts: Facts
    failures: dict[int, str]
    decoded: int
    folder: Path | None


def pixels_of(
    paths: Sequence[str],
    preprocessing: Preprocessing,
    cache: Path,
    limit: int = CACHE_LIMIT,
    progress: Progress | None = None,
) -> Pixels:
    """The pixels of image files, from the cache where they were decoded before, else decoded.

    Kept in the folder `cache` for the next time where they fit below `limit` bytes, and the sets used longest
    ago are removed for them; held in memory where they do not fit, or where the disk has no room.
    """
    each = image_bytes(preprocessing)
    target = cache / key_of(paths, preprocessing)
    found = _load(target, paths, preprocessing)
    if found is not None:
        return found
    if len(paths) * each <= limit:
        try:
            return _decode_to_file(target, paths, preprocessing, limit, progress)
        except OSError:
            pass  # no room or no right to write there: memory serves as well, and the report says so
    return _decode_to_memory(paths, preprocessing, progress)


def image_bytes(preprocessing: Preprocessing) -> int:
    """Bytes of one image."""
    assert preprocessing.size is not None
    return preprocessing.size[0] * preprocessing.size[1] * len(preprocessing.mean)


def key_of(paths: Sequence[str], preprocessing: Preprocessing) -> str:
    """Another name for any change of a path, a file's time or size, the target, or how files are decoded."""
    how = [DECODE_VERSION, PIL.__version__, preprocessing.size, preprocessing.channels, preprocessing.resize]
    digest = hashlib.sha256(json.dumps(how).encode())
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            digest.update(b"gone")
        else:
            digest.update(os.fsencode(os.path.abspath(path)))
            digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:32]


def _decode_to_memory(
    paths: Sequence[str], preprocessing: Preprocessing, progress: Progress | None
) -> Pixels:
    shape = _shape(len(paths), preprocessing)
    try:
        images = np.empty(shape, np.uint8)
    except MemoryError:
        raise DataError(
            f"{len(paths)} images of {shape[1]} x {shape[2]} take {np.prod(shape) / 1e9:.1f} GB, more than "
            f"there is memory and than the cache may keep. Raise cache_limit, or choose a smaller size."
        ) from None
    parts = _Parts(preprocessing)
    for block in decode_blocks(paths, preprocessing, progress):
        images[parts.count : parts.count + len(block.rows)] = block.images
        parts.add(block)
    return parts.joined(images[: parts.count], None)


def _decode_to_file(
    target: Path, paths: Sequence[str], preprocessing: Preprocessing, limit: int, progress: Progress | None
) -> Pixels:
    """Decode into a folder that takes its name only when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    make_room(target.parent, limit - len(paths) * image_bytes(preprocessing))
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=PART) as name:
        folder, parts = Path(name) / "whole", _Parts(preprocessing)
        folder.mkdir()
        with open(folder / PIXELS, "wb") as file:
            for block in decode_blocks(paths, preprocessing, progress):
                file.write(block.images.data)
                parts.add(block)
        pixels = parts.joined(np.empty(0, np.uint8), target)
        np.savez(
            folder / FACTS,
            rows=pixels.rows,
            failed=np.array(list(pixels.failures), np.int64),
            reasons=np.array(list(pixels.failures.values()), np.str_),
            **pixels.facts._asdict(),
        )
        shutil.rmtree(target, ignore_errors=True)  # a damaged one
        try:
            os.replace(folder, target)
        except OSError:
            if not target.is_dir():  # else another run was as quick
                raise
    return pixels._replace(images=_map(target, len(pixels.rows), preprocessing))


def _load(target: Path, paths: Sequence[str], preprocessing: Preprocessing) -> Pixels | None:
    """What the cache has; None where that is nothing, damaged, or lacks a file that can be read by now."""
    try:
        with open(target / FACTS, "rb") as file, np.load(file, allow_pickle=False) as stored:
            content: dict[str, Any] = dict(stored)
        facts = Facts(*(content[name] for name in Facts._fields))
        rows = content["rows"]
        images = _map(target, len(rows), preprocessing)
        failures = dict(zip(content["failed"].tolist(), content["reasons"].tolist(), strict=True))
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error):
        return None
    if any(_can_be_read(paths[row], preprocessing) for row in failures):
        return None
    with suppress(OSError):  # a cache that is only to be read serves as well
        os.utime(target)  # used last now
    return Pixels(images, rows, facts, failures, 0, target)


def _can_be_read(path: str, preprocessing: Preprocessing) -> bool:
    try:
        decode_with_facts(path, preprocessing)
    except (OSError, FileFormatError):
        return False
    return True


def _map(target: Path, count: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The pixels in a file as an array that is read from disk when it is read."""
    shape = _shape(count, preprocessing)
    if (target / PIXELS).stat().st_size != np.prod(shape):
        raise ValueError
    if not count:  # an empty file cannot be mapped
        return np.empty(shape, np.uint8)
    return np.asarray(np.memmap(target / PIXELS, np.uint8, "r", shape=shape))


def make_room(cache: Path, room: int) -> None:
    """Remove the sets used longest ago until those that stay take at most `room` bytes."""
    newest_first = sorted(_folders(cache), reverse=True)
    for used, folder, size in newest_first:
        room -= size
        unfinished = folder.name.startswith(PART)
        if unfinished and time.time() - used < STALE_S:
            continue
        if room < 0 or unfinished:
            shutil.rmtree(folder, ignore_errors=True)


def _folders(cache: Path) -> Iterator[tuple[float, Path, int]]:
    """(last use, folder, bytes) of each cached set; one that another run removes meanwhile is left out."""
    for folder in cache.iterdir():
        try:
            size = sum(file.stat().st_size for file in folder.rglob("*"))
            yield folder.stat().st_mtime, folder, size
        except OSError:
            continue


def _shape(count: int, preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    assert preprocessing.size is not None
    return (count, *preprocessing.size, len(preprocessing.mean))


class _Parts:
    """Blocks as they come, without their pixels."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.rows: list[int] = []
        self.facts = [no_facts(len(preprocessing.mean))]
        self.failures: dict[int, str] = {}

    @property
    def count(self) -> int:
        return len(self.rows)

    def add(self, block: Block) -> None:
        self.rows += block.rows
        self.facts.append(block.facts)
        self.failures |= block.failures

    def joined(self, images: NDArray[np.uint8], folder: Path | None) -> Pixels:
        facts = Facts(*(np.concatenate(column) for column in zip(*self.facts, strict=True)))
        return Pixels(images, np.array(self.rows, np.int64), facts, self.failures, self.count, folder)
