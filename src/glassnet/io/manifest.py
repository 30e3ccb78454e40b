"""Tensors in a safetensors file, with a manifest beside it: what a checkpoint is on disk.

NAME.json holds the size and SHA-256 of NAME.safetensors, the facts, and a SHA-256 of all that itself. It is
written last: tensors without a manifest were never finished.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save

from glassnet import __version__
from glassnet.errors import ConfigError, FileFormatError
from glassnet.io.files import write_atomically
from glassnet.io.tensors import (
    AXES_LIMIT,
    DTYPES,
    HEADER_LIMIT,
    Document,
    Tensors,
    canonical,
    check_format,
    read_header,
    read_tensors,
)

FORMAT: Final = 1
FIELDS: Final = {"bytes": int, "sha256": str, "facts": dict}


def tensors_path(path: Path) -> Path:
    """Where the tensors of the manifest `path` are. No path is taken from inside a file."""
    return path.with_suffix(".safetensors")


def write(path: Path, tensors: Mapping[str, np.ndarray], facts: Document) -> None:
    """Write both files, each flushed and renamed, the manifest `path` last.

    tensors: float32, float64, int64 or uint8, none empty. facts: values that JSON gives back as they were.
    Raises ConfigError for other tensors and facts, and OSError, naming the file.
    """
    data = save({name: storable(name, array) for name, array in tensors.items()})
    manifest = {
        "format": FORMAT,
        "glassnet": __version__,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "facts": storable_facts(facts),
    }
    text = json.dumps(manifest | {"manifest_sha256": checksum(manifest)}, indent=1)
    write_atomically(tensors_path(path), data)
    write_atomically(path, text.encode())


def read(path: Path) -> tuple[Tensors, Document]:
    """(tensors, facts) that `write` was given; the tensors are read-only.

    Raises FileFormatError for files that are truncated, altered or of another kind, and OSError.
    """
    manifest = read_manifest(path)
    beside = tensors_path(path)
    with beside.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != manifest["bytes"]:
            raise FileFormatError(
                f"{beside} is truncated or altered: expected {manifest['bytes']} bytes, found {size}."
            )
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != manifest["sha256"]:
            raise FileFormatError(
                f"{beside} was altered: expected SHA-256 {manifest['sha256']}, found {found}."
            )
        file.seek(0)
        _, places = read_header(beside, file, DTYPES)
        return read_tensors(beside, file, places), manifest["facts"]


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest alone, held to its own checksum."""
    with path.open("rb") as file:
        text = file.read(HEADER_LIMIT + 1)
    if len(text) > HEADER_LIMIT:
        raise FileFormatError(f"{path} is no manifest: it has more than {HEADER_LIMIT} bytes.")
    try:
        manifest = dict(json.loads(text))
        expected, found = manifest.pop("manifest_sha256"), checksum(manifest)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} is truncated or altered: it cannot be read ({error}).") from error
    if found != expected:
        raise FileFormatError(f"{path} was altered: expected SHA-256 {expected}, found {found}.")
    missing = [field for field, kind in FIELDS.items() if type(manifest.get(field)) is not kind]
    check_format(path, manifest, FORMAT, missing)
    return manifest


def checksum(value: Any) -> str:
    """SHA-256 of a JSON value, however its text is spaced."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def storable(name: str, array: np.ndarray) -> np.ndarray:
    """The array as the file holds it: little-endian, in C order."""
    array = np.asarray(array)
    array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    if array.dtype.str not in DTYPES.values() or not array.size or array.ndim > AXES_LIMIT:
        raise ConfigError(
            f"A checkpoint holds float32, float64, int64 and uint8 arrays of 1 number or more in up to "
            f"{AXES_LIMIT} dimensions, got {name!r} of {array.dtype} {array.shape}."
        )
    return array


def storable_facts(facts: Document) -> Document:
    """The facts, where JSON gives them back as they are: no tuple, no NaN, no key that is a number."""
    try:
        same = json.loads(canonical(facts)) == facts
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The facts of a checkpoint must be plain JSON values: {error}.") from error
    if not same:
        raise ConfigError("The facts of a checkpoint must be lists, and dicts with texts as keys.")
    return facts
