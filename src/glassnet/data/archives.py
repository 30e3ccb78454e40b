"""Packed files, read with bounds: gzip, zip, tar. Nothing is unpacked to disk; no name in them is a path."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from glassnet.errors import FileFormatError, GlassnetError

Path = str | os.PathLike[str]

GZIP_MAGIC: Final = b"\x1f\x8b"
DEFLATE_MAX_RATIO: Final = 1032
"""No deflate stream grows by more when unpacked (RFC 1951: 258 bytes for at least 2 bits)."""

ZIP_END: Final = struct.Struct("<4s4H2LH")
"""PK 5 6, disks and counts, length and place of the list of members, length of a comment."""
ZIP_END_64: Final = b"PK\x06\x07"
ZIP_LIST_LIMIT: Final = 4 << 20
"""Bytes of a zip's list of members: enough for 40,000, which zipfile holds as objects."""
ENCRYPTED: Final = 1

MAX_BYTES: Final = 10**9
"""Of arrays that are read from one file, unless the caller raises it."""
CHUNK: Final = 1 << 20

TAR_BLOCK: Final = 512
TAR_REGULAR: Final = (b"0", b"\0")
TAR_OTHER_LIMIT: Final = 1 << 20
"""Bytes of a member of a tar file that is not asked for."""
TAR_COUNT_LIMIT: Final = 1000


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """The file, through gzip where it begins as gzip does. A damaged gzip file raises FileFormatError."""
    with open(path, "rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        try:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileFormatError(f"{path} is a truncated or altered gzip file: {error}.") from error


def fill(buffer: NDArray[np.uint8], file: Any) -> int:
    """Read the file into a buffer (n,), as far as both go -> bytes read.

    `readinto` of a packed file would first unpack all of it beside the buffer.
    """
    for at in range(0, len(buffer), CHUNK):
        part = file.read(min(CHUNK, len(buffer) - at))
        buffer[at : at + len(part)] = np.frombuffer(part, np.uint8)
        if at + len(part) < min(at + CHUNK, len(buffer)):
            return at + len(part)
    return len(buffer)


@contextmanager
def opened_zip(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """(archive, members by name) of a zip file whose members are stored or deflated, and fit what they say.

    FileFormatError for any other file, and for what is found wrong while members are read.
    """
    with open(path, "rb") as file:
        _check_zip_end(path, file)
        try:
            with zipfile.ZipFile(file) as archive:
                size = os.fstat(file.fileno()).st_size
                yield archive, _checked_members(path, size, archive.infolist())
        except GlassnetError:
            raise
        # zipfile checks little by itself: a wrong length or place in the file ends in any of these
        except (
            zipfile.BadZipFile,
            EOFError,
            LookupError,
            RuntimeError,
            ValueError,
            struct.error,
            zlib.error,
        ) as e:
            raise FileFormatError(f"{path} is a truncated or altered zip file: {e}.") from e
        except OSError as error:
            if error.filename is not None:
                raise
            raise FileFormatError(f"{path} is a truncated or altered zip file: {error}.") from error


def read_tar(
    path: Path, names: Collection[str], size: int, *, refused: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the regular files in a tar file, gzipped or not, that are called one of `names`.

    Each must have `size` bytes and be there once; in which folder and order does not matter. A tar file is a
    header of 512 bytes, the content padded to a multiple of that, and so on (POSIX ustar). The standard
    library's reader believes lengths in extended headers, so that a small file can take any memory or time.
    refused: names of which none may be there, and what the file is then.
    """
    missing = set(names)
    with unpacked(path) as file:
        for _ in range(TAR_COUNT_LIMIT):
            header = file.read(TAR_BLOCK)
            if not missing or not header.strip(b"\0"):
                break
            name, length = _tar_header(path, header)
            if name in refused:
                raise FileFormatError(f"{path} {refused[name]}")
            wanted = name in missing
            if length != size if wanted else length > TAR_OTHER_LIMIT:
                limit = f"{size}" if wanted else f"at most {TAR_OTHER_LIMIT}"
                raise FileFormatError(f"{path}: {name!r} must have {limit} bytes, but has {length}.")
            content = file.read(length)
            file.read(-length % TAR_BLOCK)
            if len(content) < length:
                raise FileFormatError(
                    f"{path}: {name!r} must have {length} bytes, but ends after {len(content)}."
                )
            if wanted:
                missing.remove(name)
                yield name, content
    if missing:
        raise FileFormatError(f"{path} lacks {', '.join(sorted(missing))}.")


def _check_zip_end(path: Path, file: BinaryIO) -> None:
    """Hold the list of members, which zipfile reads at once, to its limit."""
    size = file.seek(0, os.SEEK_END)
    tail = ZIP_END.size + 20
    file.seek(max(0, size - tail))
    end = file.read()
    mark, *_, length, _, comment = ZIP_END.unpack(end[-ZIP_END.size :].rjust(ZIP_END.size, b"\0"))
    if mark != b"PK\x05\x06" or comment:
        raise FileFormatError(
            f"{path} is truncated or no zip file: it must end as a zip file without a comment does."
        )
    if length > ZIP_LIST_LIMIT or end.startswith(ZIP_END_64):
        raise FileFormatError(
            f"{path} has a list of members of {length} bytes, but at most {ZIP_LIST_LIMIT} are read."
        )


def _checked_members(path: Path, size: int, members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The members by name, each one readable within the bounds of its packed size."""
    for member in members:
        what = f"{path}: {member.filename!r}"
        if (
            member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            or member.flag_bits & ENCRYPTED
        ):
            raise FileFormatError(f"{what} must be stored or deflated, and not encrypted.")
        if member.compress_size > size:  # zipfile takes as much memory to read them
            raise FileFormatError(
                f"{what} promises {member.compress_size} packed bytes, more than the {size} of the file."
            )
        if member.file_size > DEFLATE_MAX_RATIO * member.compress_size:
            raise FileFormatError(
                f"{what} promises {member.file_size} bytes, more than {member.compress_size} packed bytes "
                f"can hold."
            )
    by_name = {member.filename: member for member in members}
    if len(by_name) < len(members):
        raise FileFormatError(f"{path} has {len(members)} members, but only {len(by_name)} names.")
    return by_name


def _tar_header(path: Path, header: bytes) -> tuple[str, int]:
    """(last part of the name, or "" for what is no regular file; length) in a tar header."""
    try:
        length, checksum = int(header[124:136].rstrip(b" \0"), 8), int(header[148:156].rstrip(b" \0"), 8)
        name = header[:100].rstrip(b"\0").decode().rpartition("/")[2]
    except ValueError as error:
        raise FileFormatError(f"{path} is a truncated or altered tar file: {error}.") from error
    found = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if len(header) < TAR_BLOCK or found != checksum or length < 0:
        raise FileFormatError(
            f"{path} is a truncated or altered tar file: a header must have the checksum {checksum}, "
            f"found {found}."
        )
    return name if header[156:157] in TAR_REGULAR else "", length
