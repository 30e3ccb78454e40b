"""Tensors and a JSON document in one safetensors file, under one checksum.

A safetensors file is the header's length (8 bytes, little-endian), a JSON header, and the tensors' bytes.
The header names each tensor's dtype, shape and place; its string metadata holds our document and SHA-256.
This reader is our own, and narrower than the library's: it says what it expected and what it found, and no
length in the file is believed before it is held to the file's size.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, BinaryIO, Final

import numpy as np
from safetensors.numpy import save

from glassnet.errors import FileFormatError

ENTRY: Final = "glassnet"
"""The one key in the metadata: the library does not promise an order of several."""
HEADER_LIMIT: Final = 4 << 20
"""Bytes. A thousand layers take under one mebibyte."""
AXES_LIMIT: Final = 8
DTYPES: Final = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "|u1"}
"""The kinds of numbers that a file may hold, by their names in a header. A model holds the first only."""
MODEL: Final = ("F32",)

Tensors = dict[str, np.ndarray]
Place = tuple[str, tuple[int, ...], int, int]
"""What a header says of one tensor: (NumPy dtype, shape, first byte, end)."""
Document = dict[str, Any]


def pack(tensors: Mapping[str, np.ndarray], document: Document) -> bytes:
    """The bytes of a file with these float32 tensors and this document of plain JSON values."""
    arrays = {name: np.ascontiguousarray(array, "<f4") for name, array in tensors.items()}
    text = canonical({"sha256": digest(arrays, document), "document": document})
    return save(arrays, metadata={ENTRY: text})


def read(path: str | os.PathLike[str]) -> tuple[Tensors, Document]:
    """(tensors, document) of a file that `pack` made; FileFormatError for any other file.

    The tensors are read-only.
    """
    if os.path.isdir(path):
        held = sorted(name for name in os.listdir(path) if name.endswith(".gnet"))
        models = ", ".join(os.path.join(path, name) for name in held)
        raise FileFormatError(
            f"{path} is a folder. " + (f"Load a file in it: {models}." if held else "It holds no model file.")
        )
    with open(path, "rb") as file:
        header, places = read_header(path, file)
        tensors = read_tensors(path, file, places)
    expected, document = opened(path, header)
    found = digest(tensors, document)
    if found != expected:
        raise FileFormatError(f"{path} was altered: expected SHA-256 {expected}, found {found}.")
    return tensors, document


def digest(tensors: Mapping[str, np.ndarray], document: Document) -> str:
    """SHA-256 of the document and of each tensor's name, shape and bytes."""
    sha = hashlib.sha256(canonical(document).encode())
    for name in sorted(tensors):
        sha.update(canonical([name, tensors[name].shape]).encode())
        sha.update(tensors[name].data)
    return sha.hexdigest()


def canonical(value: Any) -> str:
    """The one JSON text of a value; dicts keep their order, which is that of the layers."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def read_header(
    path: str | os.PathLike[str], file: BinaryIO, dtypes: Collection[str] = MODEL
) -> tuple[dict[str, Any], dict[str, Place]]:
    """(metadata, {tensor: its place}), consistent with each other and with the file's size."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > HEADER_LIMIT:
        raise FileFormatError(
            f"{path} is no glassnet model: it must begin with a header's length of at most {HEADER_LIMIT} "
            f"in 8 bytes, found {length} in {len(start)}."
        )
    if 8 + length > size:
        raise FileFormatError(
            f"{path} is truncated or altered: its header ends at byte {8 + length}, the file at {size}."
        )
    try:
        entries = json.loads(file.read(length))
        metadata = dict(entries.pop("__metadata__", {}))
        places = {name: place(entry, dtypes) for name, entry in entries.items()}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} is no glassnet model: its header cannot be read ({error}).") from error
    at = 0
    for name, (_, _, first, end) in sorted(places.items(), key=lambda item: item[1][2]):
        if first != at:
            raise FileFormatError(f"{path} was altered: {name} must begin at byte {at}, found {first}.")
        at = end
    return metadata, places


def place(entry: Mapping[str, Any], dtypes: Collection[str]) -> Place:
    """Where one tensor is; ValueError where dtype, shape and bytes do not agree."""
    shape, (first, end) = tuple(entry["shape"]), entry["data_offsets"]
    if entry["dtype"] not in dtypes:
        raise ValueError(f"dtype must be {' or '.join(dtypes)}, got {entry['dtype']}")
    dtype = np.dtype(DTYPES[entry["dtype"]])
    if not all(type(n) is int and n > 0 for n in shape) or len(shape) > AXES_LIMIT:
        raise ValueError(f"a shape is up to {AXES_LIMIT} numbers from 1 on, got {list(shape)}")
    if type(first) is not int or first < 0 or end != first + dtype.itemsize * math.prod(shape):
        raise ValueError(f"a tensor {list(shape)} cannot take bytes {first} to {end}")
    return dtype.str, shape, first, end


def read_tensors(path: str | os.PathLike[str], file: BinaryIO, places: Mapping[str, Place]) -> Tensors:
    """The tensors after a header that `read_header` has read; they are read-only."""
    end = max((end for *_, end in places.values()), default=0)
    found = os.fstat(file.fileno()).st_size - file.tell()
    data = file.read(end) if found == end else b""
    if found != end or len(data) != end:
        raise FileFormatError(
            f"{path} is truncated or altered: its header describes {end} bytes of tensors, found {found}."
        )
    return {
        name: np.frombuffer(data, dtype, math.prod(shape), first).reshape(shape)
        for name, (dtype, shape, first, _) in places.items()
    }


def opened(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> tuple[str, Document]:
    """(SHA-256, document) in the metadata."""
    if ENTRY not in metadata:
        raise FileFormatError(
            f"{path} is a safetensors file, but no glassnet model: its metadata has no {ENTRY!r}."
        )
    try:
        entry = json.loads(metadata[ENTRY])
        expected, document = entry["sha256"], dict(entry["document"])
        canonical(document)  # raises ValueError for NaN and infinity
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} was altered: its description cannot be read ({error}).") from error
    return expected, document


def check_format(path: str | os.PathLike[str], stored: Document, ours: int, missing: Sequence[str]) -> None:
    """The format of a document must be ours, and none of its fields missing."""
    if stored.get("format") != ours:
        raise FileFormatError(
            f"{path} has format {stored.get('format')!r}, written by glassnet {stored.get('glassnet')}; this "
            f"glassnet reads format {ours}. A newer one reads newer files: pip install --upgrade glassnet."
        )
    if missing:
        raise FileFormatError(f"{path} is incomplete: it lacks {', '.join(missing)}.")
