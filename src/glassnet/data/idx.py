"""The idx format of MNIST: two zero bytes, a type, a rank, that many big-endian sizes, then the values.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "file formats".
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from io import BufferedIOBase
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassnet.errors import FileFormatError

UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"
DEFLATE_MAX_RATIO = 1032
"""No deflate stream grows by more when unpacked (RFC 1951: 258 bytes for at least 2 bits)."""


def read_idx(
    path: str | os.PathLike[str], shape: tuple[int | None, ...], *, max_bytes: int = 1 << 30
) -> NDArray[np.uint8]:
    """The unsigned bytes in an idx file, gzipped or not, as an array of `shape` (None: any size there).

    Everything is checked before memory is taken: type, rank, sizes, and that the file can hold what it
    promises. Raises FileFormatError, with what was expected and found.
    """
    path = Path(path)
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        file: BufferedIOBase = gzip.GzipFile(fileobj=raw) if packed else raw
        try:
            return _read(file, path, shape, packed, max_bytes)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileFormatError(f"{path} is a truncated or altered gzip file: {error}.") from error


def _read(
    file: BufferedIOBase, path: Path, shape: tuple[int | None, ...], packed: bool, max_bytes: int
) -> NDArray[np.uint8]:
    sizes = _read_header(file, path, shape)
    promised, header = prod(sizes), 4 + 4 * len(sizes)
    if promised > max_bytes:
        raise FileFormatError(f"{path} promises {promised} values, but at most {max_bytes} are read.")
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
    got = file.readinto(values.reshape(-1).data)
    if got != promised:
        raise FileFormatError(f"{path} must hold {promised} values for sizes {sizes}, but ends after {got}.")
    if file.read(1):
        raise FileFormatError(f"{path} goes on after the {promised} values that its sizes {sizes} promise.")
    return values


def _read_header(file: BufferedIOBase, path: Path, shape: tuple[int | None, ...]) -> tuple[int, ...]:
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
