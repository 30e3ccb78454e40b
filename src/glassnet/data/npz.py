"""Arrays from NumPy's files: one in .npy, several in .npz. Nothing is unpickled, nothing in them evaluated.

Source: NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays". A .npy file is a magic number,
a version, the length of a header, the header (a Python dict as text), and the values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from glassnet.data.archives import MAX_BYTES, fill, opened_zip
from glassnet.data.dataset import Dataset, from_arrays
from glassnet.errors import FileFormatError, did_you_mean

MAGIC: Final = b"\x93NUMPY"
HEADER_LIMIT: Final = 4096
HEADER: Final = re.compile(
    r"\{'descr': '([<>|=][biufU][1-9]\d{0,3})', 'fortran_order': (True|False), "
    r"'shape': \(([\d, ]*)\),? *\} *\n?"
)
NUMBERS: Final = re.compile(r"(\d{1,18}(, \d{1,18})*,?)?")

PAIRS: Final = (
    {"train": ("x_train", "y_train"), "val": ("x_val", "y_val"), "test": ("x_test", "y_test")},
    {"train": ("images", "labels"), "val": ("x_val", "y_val"), "test": ("x_test", "y_test")},
)
"""What the arrays of a data set are called: the Keras way, or plainly."""


def load_npz(
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    normalise: bool = True,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """The Dataset in an .npz file: images and labels, or x_train and y_train as Keras names them.

    Beside them may stand x_val and y_val, x_test and y_test.

    classes, normalise: see `from_arrays`. Labels (N, 1), as Keras has some, are taken as (N,).
    """
    keys = [key for pairs in PAIRS for pair in pairs.values() for key in pair]
    arrays = read_npz(path, keys, max_bytes=max_bytes)
    names = next((pairs for pairs in PAIRS if set(pairs["train"]) <= arrays.keys()), None)
    if names is None:
        with opened_zip(path) as (_, members):
            found = [name.removesuffix(".npy") for name in members]
        unknown = next((name for name in found if name not in keys), None)
        raise FileFormatError(
            f"{path} must hold x_train and y_train, or images and labels, "
            f"got {', '.join(found[:20]) or 'no arrays'}."
            + (did_you_mean(unknown.lower(), set(keys)) if unknown else "")
        )

    def pair(split: str) -> tuple[NDArray[Any], NDArray[Any]] | None:
        images, labels = (arrays.get(key) for key in names[split])
        if images is None and labels is None:
            return None
        if images is None or labels is None:
            raise FileFormatError(f"{path} must hold {' and '.join(names[split])}, but has only one of them.")
        return images, labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels

    train = pair("train")
    assert train is not None
    return from_arrays(
        *train,
        val=pair("val"),
        test=pair("test"),
        classes=classes,
        normalise=normalise,
        name=Path(path).stem,
    )


def read_npz(
    path: str | os.PathLike[str], keys: Collection[str] | None = None, *, max_bytes: int = MAX_BYTES
) -> dict[str, NDArray[Any]]:
    """The arrays in an .npz file that are called one of `keys`, or all; max_bytes is for them together.

    Sizes are checked before memory is taken. Raises FileFormatError for anything but arrays of numbers, bools
    and texts.
    """
    arrays = {}
    with opened_zip(path) as (archive, members):
        for name, member in members.items():
            key = name.removesuffix(".npy")
            if keys is not None and key not in keys:
                continue
            with archive.open(member) as file:
                arrays[key] = _read(file, f"{path}: {key}", member.file_size, max_bytes)
            max_bytes -= arrays[key].nbytes
    return arrays


def read_npy(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """The array in a .npy file. Raises FileFormatError for anything but numbers, bools and texts."""
    with open(path, "rb") as file:
        return _read(file, str(path), os.fstat(file.fileno()).st_size, max_bytes)


def _read(file: BinaryIO | Any, what: str, size: int, max_bytes: int) -> NDArray[Any]:
    """The array in the .npy file of `size` bytes that begins here."""
    dtype, fortran, shape, start = _read_header(file, what)
    promised = dtype.itemsize * prod(shape)
    if dtype.itemsize * prod(n for n in shape if n) > max_bytes:  # NumPy refuses 0 x 2**32 x 2**32, too
        raise FileFormatError(
            f"{what} is {dtype} {shape}, but at most {max_bytes} bytes are read. Raise max_bytes."
        )
    if size != start + promised:
        raise FileFormatError(
            f"{what} must have {start + promised} bytes for {dtype} {shape}, but has {size}."
        )
    values = np.empty(promised, np.uint8)
    got = fill(values, file)
    if got < promised:
        raise FileFormatError(f"{what} must have {promised} bytes of values, but ends after {got}.")
    return values.view(dtype).reshape(shape, order="F" if fortran else "C")


def _read_header(file: BinaryIO | Any, what: str) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """(dtype, whether in Fortran's order, shape, its own bytes)."""
    start = file.read(8)
    if len(start) < 8 or start[:6] != MAGIC or start[6] not in (1, 2, 3):
        raise FileFormatError(f"{what} is no NumPy array: it must begin with {MAGIC!r}, found {start[:6]!r}.")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    text = file.read(min(length, HEADER_LIMIT)).decode("latin-1")
    if "'descr': '|O'" in text:
        raise FileFormatError(
            f"{what} holds Python objects, but must hold numbers or texts. "
            f"Save labels.astype(str), or images of one size as one array."
        )
    header = HEADER.fullmatch(text)
    if header is None or len(text) != length or not NUMBERS.fullmatch(header[3].strip()):
        raise FileFormatError(
            f"{what} must have a header of at most {HEADER_LIMIT} bytes that describes an array of numbers "
            f"or texts, found {text[:80]!r}."
        )
    try:
        dtype = np.dtype(header[1])
    except TypeError as error:
        raise FileFormatError(f"{what} has values of an unknown type: {error}.") from error
    shape = tuple(int(number) for number in header[3].replace(",", " ").split())
    if len(shape) > 8:
        raise FileFormatError(f"{what} must have at most 8 dimensions, but has {len(shape)}.")
    return dtype, header[2] == "True", shape, len(start) + width + length
