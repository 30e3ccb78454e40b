"""CIFAR-10: 60,000 colour images of 32 x 32 pixels, from the official binaries or from lossless mosaics.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. A record of the binary
version is a label and 3 x 32 x 32 pixels, red first, then green, then blue: 3073 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from glassnet.data.archives import opened_zip, read_tar
from glassnet.data.dataset import Dataset, Split
from glassnet.errors import ConfigError, DataError, FileFormatError
from glassnet.preprocessing import Preprocessing

CLASSES: Final = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
PREPROCESSING: Final = Preprocessing((32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), "RGB")

ARCHIVE: Final = "cifar-10-binary.tar.gz"
ARCHIVE_SHA256: Final = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
MIRRORS: Final = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
UNPACKED: Final = "cifar-10-batches-bin"
"""The folder in the archive."""

TRAIN: Final = tuple(f"data_batch_{i}" for i in range(1, 6))
BINARIES: Final = (*(f"{name}.bin" for name in TRAIN), "test_batch.bin")
MOSAICS: Final = tuple(f"{name}.webp" for name in TRAIN)
MOSAIC_TEST: Final = "test_first1000.png"
PYTHON: Final = dict.fromkeys(
    (*TRAIN, "test_batch"), f"is the Python version of CIFAR-10, but must be the binary one, {ARCHIVE}."
)
JPEG_TEST: Final = "test_jpeg_10000.zip"
JPEG_NAME: Final = re.compile(rf"test/({'|'.join(CLASSES)})/\d{{4}}\.jpg")
JPEG_LIMIT: Final = 1 << 16

BATCH: Final = 10_000
GRID: Final = (100, 100)
TEST_GRID: Final = (20, 50)
RECORD: Final = 3073
Labelled = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""(images (N, 32, 32, 3), labels (N,))."""


def form_of(path: Path) -> str | None:
    """Which form of CIFAR-10 a path holds: "archive", "binaries", "mosaics" or none."""
    if path.is_file():
        return "archive" if path.name.endswith(".tar.gz") else None
    if _has_any(path, BINARIES) or _has_any(path / UNPACKED, BINARIES):
        return "binaries"
    if (path / ARCHIVE).is_file():
        return "archive"
    return "mosaics" if _has_any(path, MOSAICS) else None


def load_cifar10(path: Path, *, lossy_test: bool = False) -> Dataset:
    """CIFAR-10 from a folder that holds it in one of its forms, or from the official archive.

    The official binaries have all 10,000 test images. The mosaics have the first 1000 of them as they were;
    lossy_test: all 10,000 instead, as JPEG, on which accuracy comes out a little different.
    Raises FileFormatError for files that are missing, truncated or of another size.
    """
    form = form_of(path)
    if lossy_test and form != "mosaics":
        raise ConfigError(
            f"lossy_test is for the mosaics of CIFAR-10 only; {path} holds the official test set."
        )
    if form == "mosaics":
        mosaics = MOSAICS if lossy_test else (*MOSAICS, MOSAIC_TEST)
        last = JPEG_TEST if lossy_test else MOSAIC_TEST
        _check_files(path, [*MOSAICS, last, *(_labels_of(Path(name)).name for name in mosaics)])
        train = [read_mosaic(path / name, GRID) for name in MOSAICS]
        test = read_jpegs(path / last, BATCH) if lossy_test else read_mosaic(path / last, TEST_GRID)
    elif form == "binaries":
        folder = path if _has_any(path, BINARIES) else path / UNPACKED
        _check_files(folder, BINARIES)
        *train, test = (read_batch(folder / name, BATCH) for name in BINARIES)
    else:
        by_name = dict(read_archive(path if path.is_file() else path / ARCHIVE, BATCH))
        *train, test = (by_name[name] for name in BINARIES)
    return Dataset("cifar10", train=_split(train), test=_split([test]))


def read_batch(path: Path, count: int) -> Labelled:
    """The images of an official binary batch of that many records."""
    size, wanted = path.stat().st_size, count * RECORD
    if size != wanted:
        raise FileFormatError(
            f"{path} must have {wanted} bytes, {count} records of {RECORD}, but has {size}."
        )
    return _records(np.fromfile(path, np.uint8, wanted), str(path), count)


def read_archive(path: Path, count: int) -> Iterator[tuple[str, Labelled]]:
    """(name, images) of each of the six batches in the official archive, in its order."""
    for name, content in read_tar(path, BINARIES, count * RECORD, refused=PYTHON):
        yield name, _records(np.frombuffer(content, np.uint8), f"{path}: {name}", count)


def read_mosaic(path: Path, grid: tuple[int, int]) -> Labelled:
    """The images of a mosaic of (rows, columns) tiles, row by row, with the labels in the file beside it."""
    rows, columns = grid
    beside = _labels_of(path)
    size, wanted = beside.stat().st_size, rows * columns
    if size != wanted:
        raise FileFormatError(f"{beside} must have {wanted} bytes, a label for each tile, but has {size}.")
    with path.open("rb") as file:
        pixels = _pixels(file, str(path), (columns * 32, rows * 32))
    tiles = pixels.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2)
    return tiles.reshape(-1, 32, 32, 3), _checked(np.fromfile(beside, np.uint8, wanted), str(beside))


def read_jpegs(path: Path, count: int) -> Labelled:
    """The images of the zip file of test/<class>/NNNN.jpg, class by class; lossy."""
    images, labels = np.empty((count, 32, 32, 3), np.uint8), np.empty(count, np.uint8)
    with opened_zip(path) as (archive, members):
        names = sorted(name for name in members if JPEG_NAME.fullmatch(name))
        if len(names) != count:
            raise FileFormatError(
                f"{path} must hold {count} images test/<class>/NNNN.jpg, but has {len(names)}."
            )
        for i, name in enumerate(names):
            what = f"{path}: {name}"
            if members[name].file_size > JPEG_LIMIT:
                raise FileFormatError(
                    f"{what} must have at most {JPEG_LIMIT} bytes, but has {members[name].file_size}."
                )
            images[i] = _pixels(BytesIO(archive.read(name)), what, (32, 32))
            labels[i] = CLASSES.index(name.split("/")[1])
    return images, labels


def _labels_of(mosaic: Path) -> Path:
    return mosaic.with_suffix(".labels.u8")


def _has_any(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def _check_files(folder: Path, names: Sequence[str]) -> None:
    if lacking := [name for name in names if not (folder / name).is_file()]:
        raise DataError(f"The folder {folder} lacks {', '.join(lacking)} of CIFAR-10.")


def _pixels(file: BinaryIO, what: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of an RGB image of that (width, height), checked before it is decoded."""
    from PIL import Image  # not needed to import glassnet.data

    try:
        with Image.open(file, formats=("JPEG", "PNG", "WEBP")) as image:
            found = (image.mode, image.size)
            pixels = np.asarray(image) if found == ("RGB", size) else None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise FileFormatError(f"{what} is a truncated or altered image: {error}.") from error
    if pixels is None:
        raise FileFormatError(f"{what} must be an RGB image of {size}, (width, height), but is {found}.")
    return pixels


def _records(values: NDArray[np.uint8], what: str, count: int) -> Labelled:
    """Records (N * 3073,) -> images, channels last, and labels."""
    if len(values) != count * RECORD:  # the file was cut short since its size was read
        raise FileFormatError(f"{what} must have {count * RECORD} bytes, but ends after {len(values)}.")
    records = values.reshape(count, RECORD)
    return np.moveaxis(records[:, 1:].reshape(count, 3, 32, 32), 1, 3), _checked(records[:, 0], what)


def _checked(labels: NDArray[np.uint8], what: str) -> NDArray[np.uint8]:
    """The labels (N,), once each is that of a class."""
    wrong = labels >= len(CLASSES)
    if wrong.any():
        record = int(wrong.argmax())
        raise FileFormatError(
            f"{what} must have labels from 0 to 9, but has {labels[record]} in record {record}."
        )
    return labels


def _split(batches: Sequence[Labelled]) -> Split:
    labels = np.concatenate([labels for _, labels in batches]).astype(np.int64)
    images = np.concatenate([images for images, _ in batches])
    return Split(images, labels, CLASSES, PREPROCESSING)
