"""Ctrl-C and a request to end (SIGTERM) during training: never in the middle of a step, nothing lost."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from glassnet.runs.folder import way_on

if TYPE_CHECKING:
    from glassnet.runs.records import Run


class Interrupted(KeyboardInterrupt):
    """Training was interrupted. The network is as its last whole step left it; `run` tells what there is.

    signal: what asked for it, SIGINT (Ctrl-C) or SIGTERM. go_on: how to, where not by resuming it.
    """

    def __init__(self, run: Run, number: int = signal.SIGINT, go_on: str = "") -> None:
        saved = ""
        if run.folder is not None:
            go_on = go_on or way_on(run.folder, run.config.data)
            saved = f" Its model is {run.folder / 'last.gnet'}. To go on: {go_on}"
        super().__init__(f"Training was interrupted in epoch {len(run.history) + 1}.{saved}")
        self.run, self.signal = run, number


class Requests:
    """While a run is in progress, the first Ctrl-C or SIGTERM is a request, which `check` raises.

    A second one acts at once. Only the main thread receives signals; a handler of the user's own for SIGTERM
    stays.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Requests:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if handler in (signal.default_int_handler, signal.SIG_DFL):
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def check(self) -> None:
        """Raise KeyboardInterrupt where one has come."""
        if self.received is not None:
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
