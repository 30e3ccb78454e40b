"""Images from text: a row for each image, its label and its pixels divided by commas, as MNIST is passed on.

NumPy's own parser reads a block of rows at a time, so that memory is that of the images and one block.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from glassnet.data.archives import unpacked
from glassnet.data.dataset import Dataset, from_arrays
from glassnet.data.labels import MAX_UNNAMED, label_array
from glassnet.errors import ConfigError, FileFormatError, did_you_mean
from glassnet.preprocessing import CHANNELS

MAX_BYTES: Final = 10**9 // 2
"""Half of what other readers take, for the blocks are joined at the end."""
BLOCK: Final = 1 << 20
"""Bytes of text that are parsed at a time."""
ROW_LIMIT: Final = 1 << 23
BOM: Final = b"\xef\xbb\xbf"
LABEL: Final = "label"
NUMBER_BYTES: Final = 16
TEXT_BYTES: Final = 8
"""Of a label as a number, float and then whole; and of each character of the longest, with one copy."""


def load_csv(
    path: str | os.PathLike[str],
    *,
    test: str | os.PathLike[str] | None = None,
    val: str | os.PathLike[str] | None = None,
    label: str | None = None,
    shape: tuple[int, ...] | None = None,
    channels: int = 1,
    classes: Sequence[str] | None = None,
    normalise: bool = True,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """The Dataset in a CSV file of images, and perhaps others for test and val; see `read_csv`.

    classes, normalise: see `from_arrays`.
    """

    def read(file: str | os.PathLike[str]) -> tuple[NDArray[Any], NDArray[Any]]:
        return read_csv(file, label=label, shape=shape, channels=channels, max_bytes=max_bytes)

    return from_arrays(
        *read(path),
        val=None if val is None else read(val),
        test=None if test is None else read(test),
        classes=classes,
        normalise=normalise,
        name=Path(path).name.removesuffix(".gz").removesuffix(".csv"),
    )


def read_csv(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    shape: tuple[int, ...] | None = None,
    channels: int = 1,
    max_bytes: int = MAX_BYTES,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(images (N, H, W, C), labels (N,)) of a CSV file, gzipped or not.

    The label stands first, or in the column that a header calls `label` ("label" where not given); all other
    columns are pixels, row by row, the channels of a pixel side by side. Whole numbers from 0 to 255 make
    uint8 images; if any is a fraction, all must lie from 0 to 1 and make float32 images. Labels are numbers
    where each is one, else texts.
    shape: (H, W) or (H, W, C); left out, images are square with that many channels (1 or 3).
    max_bytes: of images and labels. Raises FileFormatError that names the line for what does not fit.
    """
    path = Path(path)
    with unpacked(path) as file:
        blocks = _blocks(path, file)
        block = next(blocks, b"")
        first, _, rest = block.partition(b"\n")
        fields = _fields(path, _text(path, first))
        column = _label_column(path, fields, label)
        wanted = _image_shape(path, max(len(fields) - 1, 0), shape, channels)
        table = _Table(path, len(fields), column or 0, max_bytes)
        if column is not None:
            block, table.line = rest, 2
        for part in chain([block], blocks):
            table.add(part)
    images, labels = table.finish()
    return images.reshape(-1, *wanted), labels


@dataclass
class _Table:
    """The rows read so far: pixels by block, as uint8 while they are whole numbers, and numbered labels."""

    path: Path
    columns: int
    label: int
    max_bytes: int
    line: int = 1
    high: float = 0.0
    fractions: bool = False
    values: int = 0
    rows: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    labels: list[NDArray[Any]] = field(default_factory=list)
    pixels: list[NDArray[Any]] = field(default_factory=list)

    def add(self, block: bytes) -> None:
        """Parse whole lines."""
        lines = _text(self.path, block.rstrip(b"\n")).split("\n")
        if lines == [""]:
            return
        # A parser of whole numbers takes a sixth of the time of one of floats.
        dtype = np.float32 if block.translate(None, b"0123456789,\n") else np.uint16
        try:
            values = np.loadtxt(
                lines, dtype, comments=None, delimiter=",", quotechar='"', ndmin=2,
                converters={self.label: self._code},
            )  # fmt: skip
        except (ValueError, OverflowError) as error:
            raise self._problem(lines, str(error)) from error
        if values.shape != (len(lines), self.columns):
            raise self._problem(lines, f"{len(lines)} rows read as {values.shape}")
        pixels = np.delete(values, self.label, axis=1)
        if not ((pixels >= 0) & (pixels <= 255)).all():
            raise self._problem(lines, "a pixel is not from 0 to 255")
        whole = dtype == np.uint16 or bool((pixels == np.floor(pixels)).all())
        self.fractions |= not whole
        self.high = max(self.high, float(pixels.max()))
        self.values += pixels.size
        self.rows += len(pixels)
        self.labels.append(values[:, self.label].astype(np.uint16))
        self.pixels.append(pixels.astype(np.uint8) if whole else pixels)
        self._check(lines)
        self.line += len(lines)

    def finish(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """(pixels (N, columns - 1) uint8 or float32, labels (N,) int64 or texts)."""
        if not self.pixels:
            raise FileFormatError(f"{self.path} holds no images.")
        names: list[Any] = list(self.codes)
        with suppress(ValueError):
            names = [float(name) for name in names]
        labels = label_array(np.array(names)[np.concatenate(self.labels)], f"labels in {self.path}")
        return np.concatenate(self.pixels, dtype=np.float32 if self.fractions else np.uint8), labels

    def _code(self, text: str) -> int:
        """The number of a label, in the order of first appearance."""
        return self.codes.setdefault(text.strip(), min(len(self.codes), MAX_UNNAMED))

    def _check(self, lines: list[str]) -> None:
        """What concerns all rows up to here."""
        if self.fractions and self.high > 1:
            raise FileFormatError(
                f"{self.path} holds fractions and also values up to {self.high:g} by line "
                f"{self.line + len(lines) - 1}. Pixels are whole numbers from 0 to 255, or all from 0 to 1."
            )
        if len(self.codes) > MAX_UNNAMED:
            raise FileFormatError(
                f"{self.path} has more than {MAX_UNNAMED} different labels. Name the column of the labels."
            )
        label_bytes = NUMBER_BYTES + TEXT_BYTES * max(map(len, self.codes))
        if self.values * (4 if self.fractions else 1) + self.rows * label_bytes > self.max_bytes:
            raise FileFormatError(
                f"{self.path} holds more than {self.max_bytes} bytes of images and labels. "
                f"Raise max_bytes to read it."
            )

    def _problem(self, lines: list[str], reason: str) -> FileFormatError:
        """The error for the first line that is wrong, or else for the reason that the parser gave."""
        for number, line in enumerate(lines, self.line):
            where, fields = f"{self.path} line {number}", _fields(self.path, line)
            if len(fields) != self.columns:
                return FileFormatError(f"{where} must have {self.columns} values, but has {len(fields)}.")
            del fields[self.label]
            wrong = next((text for text in fields if not 0 <= _number(text) <= 255), None)
            if wrong is not None:
                return FileFormatError(f"{where} must have pixels from 0 to 255, but has {wrong[:40]!r}.")
        return FileFormatError(f"{self.path} from line {self.line} on cannot be read: {reason.rstrip('.')}.")


def _blocks(path: Path, file: BinaryIO) -> Iterator[bytes]:
    r"""The file in parts of whole lines, ended by \n, without a byte order mark."""
    kept = file.read(BLOCK).removeprefix(BOM)
    while part := file.read(BLOCK):
        lines, newline, rest = kept.rpartition(b"\n")
        if newline:
            yield (lines + newline).replace(b"\r\n", b"\n")
        kept = rest + part
        if len(rest) > ROW_LIMIT:
            raise FileFormatError(f"{path} has a line of more than {ROW_LIMIT} bytes.")
    if kept:
        yield kept.replace(b"\r\n", b"\n")


def _text(path: Path, block: bytes) -> str:
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is no text in UTF-8: {error}.") from error


def _fields(path: Path, line: str) -> list[str]:
    """The values in a line, quotes taken off."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error as error:
        raise FileFormatError(f"{path} is no CSV file: {error}.") from error


def _label_column(path: Path, fields: list[str], label: str | None) -> int | None:
    """The place of the label by the header in the first line; None where there is no header."""
    names = [text.strip() for text in fields]
    header = names[:1] == [LABEL] or any(math.isnan(_number(text)) for text in names[1:])
    if not header and label is None:
        return None
    label = label or LABEL
    if label not in names:
        raise ConfigError(
            f"{path} has no column {label!r} in its first line. Name the column of the labels: label=..."
            + did_you_mean(label, names[:20])
        )
    return names.index(label)


def _image_shape(path: Path, pixels: int, shape: tuple[int, ...] | None, channels: int) -> tuple[int, ...]:
    """(H, W, C) of images with that many values, as asked for or square."""
    if channels not in CHANNELS.values():
        raise ConfigError(f"channels must be 1 or 3, got {channels!r}.")
    if shape is None:
        side = math.isqrt(pixels // channels)
        shape = (side, side, channels)
        asked = f"a square image with {channels} channel{'s' * (channels > 1)}"
    else:
        shape = tuple(shape)
        asked = f"an image of shape {shape}"
    if len(shape) == 2:
        shape = (*shape, channels)
    if pixels < 1 or math.prod(shape) != pixels or min(shape) < 1 or len(shape) != 3:
        raise ConfigError(
            f"{path} has {pixels} pixels in a row, which do not make {asked}. "
            f"Give shape=(height, width) or shape=(height, width, 3)."
        )
    return shape


def _number(text: str) -> float:
    """The number that a text is; NaN for any other text."""
    try:
        return float(text)
    except ValueError:
        return math.nan
