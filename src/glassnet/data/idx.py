"""The idx format of MNIST: two zero bytes, a type, a rank, that many big-endian sizes, then the values.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "file formats".
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from gzip import GzipFile
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from glassnet.data.archives import DEFLATE_MAX_RATIO, MAX_BYTES, fill, unpacked
from glassnet.data.dataset import Dataset, from_arrays
from glassnet.errors import DataError, FileFormatError

UNSIGNED_BYTE = 0x08


def holds_idx(folder: Path) -> bool:
    """Whether the folder has training images under the name that MNIST gave them."""
    return _idx_file(folder, "train-images-idx3-ubyte") is not None


def load_idx(folder: Path, *, classes: Sequence[str] | None = None, normalise: bool = True) -> Dataset:
    """The grey images of any size in a folder of idx files with MNIST's names, gzipped or not.

    The test files may be missing. classes, normalise: see `from_arrays`.
    """

    def read(prefix: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        images, labels = (_idx_file(folder, name) for name in names)
        if images is None or labels is None:
            lacking = names[0] if images is None else names[1]
            raise DataError(f"The folder {folder} lacks {lacking}, or the same gzipped as {lacking}.gz.")
        return read_idx(images, (None, None, None)), read_idx(labels, (None,))

    has_test = any(_idx_file(folder, f"t10k-{what}") for what in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    return from_arrays(
        *read("train"),
        test=read("t10k") if has_test else None,
        classes=classes,
        normalise=normalise,
        name=folder.name,
    )


def _idx_file(folder: Path, name: str) -> Path | None:
    """The file of that name, as it is or gzipped."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_idx(
    path: str | os.PathLike[str], shape: tuple[int | None, ...], *, max_bytes: int = MAX_BYTES
) -> NDArray[np.uint8]:
    """The unsigned bytes in an idx file, gzipped or not, as an array of `shape` (None: any size there).

    Everything is checked before memory is taken: type, rank, sizes, and that the file can hold what it
    promises. Raises FileFormatError, with what was expected and found.
    """
    path = Path(path)
    with unpacked(path) as file:
        return _read(file, path, shape, max_bytes)


def _read(file: BinaryIO, path: Path, shape: tuple[int | None, ...], max_bytes: int) -> NDArray[np.uint8]:
    packed = isinstance(file, GzipFile)
    sizes = _read_header(file, path, shape)
    promised, header = prod(sizes), 4 + 4 * len(sizes)
    if max(promised, prod(size for size in sizes if size)) > max_bytes:  # NumPy refuses 0 x 2**32 x 2**32
        raise FileFormatError(f"{path} has sizes {sizes}, but at most {max_bytes} values are read.")
    on_disk = path.stat().st_size
    if not packed and on_disk != header + promised:
        raise FileFormatError(
            f"{path} must have {header + promised} bytes for its sizes {sizes}, but has {on_disk}."
        )
    if packed and promised > DEFLATE_MAX_RATIO * on_disk:
        raise FileFormatError(
            f"{path} promises {promised} values, more than {on_disk} packed bytes can hold."
        )
    values = np.empty(sizes, np.uint8)
    got = fill(values.reshape(-1), file)
    if got != promised:
        raise FileFormatError(f"{path} must hold {promised} values for sizes {sizes}, but ends after {got}.")
    if file.read(1):
        raise FileFormatError(f"{path} goes on after the {promised} values that its sizes {sizes} promise.")
    return values


def _read_header(file: BinaryIO, path: Path, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """The sizes in the header, once type, rank and sizes are as expected."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        raise FileFormatError(
            f"{path} is no idx file: two zero bytes, a type and a rank must come first, not {start.hex()!r}."
        )
    kind, rank = start[2], start[3]
    if kind != UNSIGNED_BYTE:
        raise FileFormatError(f"{path} must hold unsigned bytes (type 0x08), but its type is 0x{kind:02x}.")
    if rank != len(shape):
        raise FileFormatError(f"{path} must have {len(shape)} dimensions, but has {rank}.")
    packed_sizes = file.read(4 * rank)
    if len(packed_sizes) < 4 * rank:
        raise FileFormatError(f"{path} ends within its header.")
    sizes = struct.unpack(f">{rank}I", packed_sizes)
    if any(want is not None and want != size for want, size in zip(shape, sizes, strict=True)):
        wanted = " x ".join("any" if want is None else str(want) for want in shape)
        raise FileFormatError(f"{path} must have sizes {wanted}, but has {' x '.join(map(str, sizes))}.")
    return sizes
