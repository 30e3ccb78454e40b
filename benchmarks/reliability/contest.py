"""What is the same for every framework: the images, how training is cut short, and how a result is named."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import glassnet as gn

EPOCHS, BATCH, LR, MOMENTUM, DROPOUT, SEED = 3, 32, 0.05, 0.9, 0.25, 1
EVERY = 10
"""Steps between two checkpoints."""


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images (N, 8, 8, 1) from 0 to 1, labels, some test images) of the digits that come with glassnet."""
    data = gn.data.load("digits")
    train, test = data.train, data.test
    return (
        (train.images / 255).astype(np.float32),
        train.labels.astype(np.int64),
        (test.images[:50] / 255).astype(np.float32),
    )


def digest(arrays: Iterable[Any]) -> str:
    """sha256 of the bytes of all arrays, shortened."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]


@dataclass
class Steps:
    """Hears the number of each update of the weights, and ends the process as told.

    kill: the step after which it is killed. tear: the step after which no file may grow beyond `share` of the
    size of `newest()`, so that the system kills it in the middle of writing the next checkpoint.
    """

    kill: int = 0
    tear: int = 0
    share: float = 0.0
    newest: Callable[[], Path] = Path
    heard: list[int] = field(default_factory=list)

    def __call__(self, step: int) -> None:
        self.heard.append(step)
        if step == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == self.tear:
            limit = int(self.share * self.newest().stat().st_size)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


class Framework(Protocol):
    """One framework, used as its documentation says.

    Where `folder` holds checkpoints of an earlier training, `train` goes on from them.
    """

    suffix: str
    """Of a model file."""

    def version(self) -> str: ...

    def train(self, folder: Path, steps: Steps) -> str:
        """Train; the digest of the final weights."""

    def newest(self, folder: Path) -> list[Path]:
        """The files of the newest checkpoint, the largest first."""

    def restore(self, folder: Path) -> str:
        """Take the newest checkpoint as `train` does; the digest of its weights and momenta."""

    def save(self, path: Path) -> None:
        """Write a model file."""

    def load(self, path: Path) -> str:
        """Read it by the default call; the digest of its weights and predictions."""

    def hostile(self, folder: Path, trap: Trap) -> dict[str, Path]:
        """Files that spring the trap where loading them runs what they hold, by what they try."""


class Trap:
    """An object that, when it is unpickled, makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)
