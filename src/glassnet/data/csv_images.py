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
ZIP_START: Final = b"PK\3\4"
LABEL: Final = "label"
NAME_IT: Final = (
    "Name the column of the labels: label=..., or --set data_options.label=... on the command line."
)
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
    where each is one, else texts; none may be blank.
    shape: (H, W) or (H, W, C); left out, images are square with that many channels (1 or 3).
    max_bytes: of images and labels. Raises FileFormatError that names the line for what does not fit.
    """
    path = Path(path)
    with unpacked(path) as file:
        blocks = _blocks(path, file)
        first, _, rest = next(blocks, b"").partition(b"\n")
        rest = rest or next(blocks, b"")  # where the first line fills a block
        fields = _first_fields(path, first, rest)
        column = _label_column(path, fields, _fields(path, _text(path, rest.partition(b"\n")[0])), label)
        wanted = _image_shape(path, len(fields) - 1, shape, channels)
        table = _Table(path, len(fields), column or 0, max_bytes)
        if column is None:
            rest = first + b"\n" + rest
        else:
            table.line = 2
        for part in chain([rest], blocks):
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
        if "" in self.codes:
            raise self._problem(lines, "a label is blank")
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
            raise FileFormatError(f"{self.path} has more than {MAX_UNNAMED} different labels. {NAME_IT}")
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
            if not fields.pop(self.label).strip():
                return FileFormatError(f"{where} has no label.")
            wrong = next((text for text in fields if not 0 <= _number(text) <= 255), None)
            if wrong is not None:
                return FileFormatError(f"{where} must have pixels from 0 to 255, but has {wrong[:40]!r}.")
        return FileFormatError(f"{self.path} from line {self.line} on cannot be read: {reason.rstrip('.')}.")


def _blocks(path: Path, file: BinaryIO) -> Iterator[bytes]:
    r"""The file in parts of whole lines, ended by \n, without a byte order mark."""
    kept = file.read(BLOCK).removeprefix(BOM)
    if kept.startswith(ZIP_START):
        raise FileFormatError(f"{path} is a zip file, but must be text. Unpack it first.")
    if b"\r" in kept[:-1] and b"\n" not in kept:
        raise FileFormatError(f"{path} must end its lines with LF or CR LF, but has CR alone.")
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


def _first_fields(path: Path, first: bytes, rest: bytes) -> list[str]:
    """The two values or more in the first line."""
    if not first and not rest:
        raise FileFormatError(f"{path} is empty.")
    line = _text(path, first)
    fields = _fields(path, line)
    if len(fields) < 2:
        found = repr(line[:40]) if line.strip() else "blank"
        raise FileFormatError(f"{path} line 1 must be values divided by commas, but is {found}.")
    return fields


def _label_column(path: Path, fields: list[str], second: list[str], label: str | None) -> int | None:
    """The place of the label by the header in the first line; None where there is no header."""
    names = [text.strip() for text in fields]
    if label is None and not _is_header(names, second):
        if "" in names[1:]:
            raise FileFormatError(f"{path} line 1 must have pixels from 0 to 255, but has ''.")
        return None
    label = LABEL if label is None else str(label)  # on the command line 0 is a number
    if label not in names:
        ends = {*names[:10], *names[-10:]}  # where labels are
        raise ConfigError(
            f"{path} has no column {label!r} in its first line. {NAME_IT}{did_you_mean(label, ends)}"
        )
    return names.index(label)


def _is_header(names: list[str], second: list[str]) -> bool:
    """Whether the first line names columns: by a text over pixels or a number, or by 0, 1, 2 as in pandas."""
    if LABEL in names or any(text and math.isnan(_number(text)) for text in names[1:]):
        return True
    count = [str(i) for i in range(len(names))]
    if not math.isnan(_number(names[0])):
        return names == count
    return names[1:] == count[:-1] or not math.isnan(_number("".join(second[:1])))


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
