"""Checkpoints of a run: whatever happens while one is written, the one before can still be loaded."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from glassnet.errors import CheckpointError, FileFormatError
from glassnet.io import manifest
from glassnet.io.files import flush_folder
from glassnet.io.tensors import Document, Tensors

NAME: Final = re.compile(r"\.?(\d{8,18})\.(safetensors|json)(\.\d+\.part)?")
"""Files of ours, and what a process that was killed left of one."""

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints in one folder, numbered in the order in which one process at a time saves them.

    The newest is the one with the highest number: no clock has a say in it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._whole: int | None = None  # the newest one that was read back

    def save(self, tensors: Mapping[str, np.ndarray], facts: Document) -> None:
        """Write the next checkpoint, read it back, and only then remove all but it and the one before.

        tensors: float32, float64, int64 or uint8, none empty. facts: what JSON gives back as it was.
        Raises CheckpointError where it cannot be written; the earlier ones are then as they were.
        """
        number = max((number for number, _ in self._files()), default=0) + 1
        before = max(self._finished(), default=0) if self._whole is None else self._whole
        path = self._manifest(number)
        try:
            self._make_folder()
            manifest.write(path, tensors, facts)
            manifest.read(path)
        except (OSError, FileFormatError) as error:
            remove(path, manifest.tensors_path(path))
            raise CheckpointError(
                f"A checkpoint cannot be written: {described(error, self.folder)} Earlier ones are as they "
                "were. Make room or mend the place, then resume the run."
            ) from error
        self._whole = number
        remove(*(old for found, old in sorted(self._files()) if found not in (before, number)))

    def latest(self) -> tuple[Tensors, Document]:
        """(tensors, facts) of the newest checkpoint that is whole; the tensors are read-only.

        A log warning names each one that is not. Raises CheckpointError where none is.
        """
        found = self._finished()
        for number in sorted(found, reverse=True):
            path = self._manifest(number)
            try:
                content = manifest.read(path)
            except (OSError, FileFormatError) as error:
                log.warning("A checkpoint is passed over, for the one before it: %s", described(error, path))
                continue
            self._whole = number
            return content
        what = f"none of the {len(found)} checkpoints there is whole" if found else "there is no checkpoint"
        raise CheckpointError(
            f"Nothing can be resumed from {self.folder}: {what}. Train again: the run's settings are in "
            f"{self.folder.parent / 'config.toml'}."
        )

    def _manifest(self, number: int) -> Path:
        return self.folder / f"{number:08d}.json"

    def _files(self) -> list[tuple[int, Path]]:
        """(number, path) of every file of ours, whole or not; none where there is no folder yet."""
        try:
            paths = list(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(
                f"The checkpoints in {self.folder} cannot be listed: {error.strerror}. Mend the place first."
            ) from error
        return [(int(match[1]), path) for path in paths if (match := NAME.fullmatch(path.name))]

    def _finished(self) -> set[int]:
        """The numbers of the checkpoints that have a manifest."""
        return {number for number, path in self._files() if path == self._manifest(number)}

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir()
            flush_folder(self.folder.parent)


def remove(*paths: Path) -> None:
    """Remove these files as far as the place lets us. A manifest comes before its tensors."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def described(error: Exception, place: Path) -> str:
    """The file (else the place) and the cause in one sentence."""
    if isinstance(error, OSError):
        return f"{error.filename or place}: {error.strerror}."
    return str(error)
