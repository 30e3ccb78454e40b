"""Data files by name and checksum: from the user's folder, else from the cache, else from a mirror."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from glassnet.errors import DataError

TIMEOUT_S = 30
"""Longest silence of a server before the next mirror is tried."""


def locate(
    name: str, files: Mapping[str, str], mirrors: Sequence[str], *, folder: Path | None, cache: Path
) -> dict[str, Path]:
    """The path of each of `files` (name -> SHA-256) of the set `name`, downloaded to the cache where need be.

    folder: the user's own, looked at first; files in it may also lie there unzipped.
    mirrors: addresses that end in "/", tried in turn; what a mirror sends must have the checksum.
    Raises DataError that says what is missing, where it was sought, and how to provide it.
    """
    found = {file: path for file in files if (path := _find(name, file, folder, cache))}
    missing = [file for file in files if file not in found]
    while missing:
        target = cache / name / missing[0]
        failures = _download_from_first(mirrors, target, files[target.name])
        if not failures:
            found[missing.pop(0)] = target
            continue
        sought = "GLASSNET_DATA is not set" if folder is None else f"not in {folder / name} (GLASSNET_DATA)"
        raise DataError(
            f"The data set {name!r} lacks {', '.join(missing)}: {sought}, not in the cache {cache / name}, "
            f"and no mirror sent {target.name} ({'; '.join(failures)}). Put the files into a folder named "
            f"{name} and set GLASSNET_DATA to the folder that holds it."
        )
    return found


def _find(name: str, file: str, folder: Path | None, cache: Path) -> Path | None:
    """The file in the user's folder, as it is or unzipped, or in the cache."""
    candidates = [cache / name / file]
    if folder is not None:
        candidates = [folder / name / file, folder / name / file.removesuffix(".gz"), *candidates]
    return next((path for path in candidates if path.is_file()), None)


def _download_from_first(mirrors: Sequence[str], target: Path, sha256: str) -> list[str]:
    """Download from the first mirror that sends the right bytes; otherwise why each one failed."""
    failures = []
    for mirror in mirrors:
        url = mirror + target.name
        try:
            _download(url, target, sha256)
        except (OSError, DataError) as error:  # requests' errors are OSErrors
            failures.append(f"{url}: {error}")
        else:
            return []
    return failures


def _download(url: str, target: Path, sha256: str) -> None:
    """One file, put in its place only when whole and checked."""
    import pooch

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as part_folder:
        part = Path(part_folder) / target.name
        pooch.HTTPDownloader(timeout=TIMEOUT_S)(url, str(part), None)
        checksum = pooch.file_hash(str(part))
        if checksum != sha256:
            raise DataError(f"expected SHA-256 {sha256}, got {checksum}")
        os.replace(part, target)
