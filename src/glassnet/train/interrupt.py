"""Ctrl-C during training: never in the middle of an update, never without a saved model."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glassnet.train.records import Run


class Interrupted(KeyboardInterrupt):
    """Training was interrupted. The network is as its last whole step left it; `run` tells what there is."""

    def __init__(self, run: Run) -> None:
        saved = "" if run.folder is None else f" Its model is {run.folder / 'last.gnet'}."
        super().__init__(f"Training was interrupted in epoch {len(run.history) + 1}.{saved}")
        self.run = run


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done. Only the main thread receives it, so others need nothing."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    received: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if received:
        signal.raise_signal(signal.SIGINT)
