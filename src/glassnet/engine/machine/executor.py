"""The worker threads: Python threads, each inside one native call that leaves the interpreter free.

Between runs a worker spins for a bounded time, ready within a fraction of a microsecond, and then returns to
Python to sleep on a condition: an idle process uses no processor. Runs and sleep meet in one word, the number
of runs started and the number of workers asleep: a run starts only while none is asleep. To start, take part
and end is one native call, so that an interrupt finds whole sections done or none.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from glassnet.engine.machine.atomics import atomic_add, atomic_load, atomic_replace, call_kernel
from glassnet.engine.machine.kernel import ENTRY, i64, interpreted, kernel
from glassnet.engine.machine.program import (
    BLOCK,
    FIRST,
    LAST,
    PAUSES,
    REPEATS,
    SAMPLES,
    STARTED,
    STATE,
    WORDS,
    WORKERS,
    Program,
    play,
    wait,
)
from glassnet.errors import EngineError

# STATE holds runs * _RUN + workers asleep.
_RUN = 1 << 16
_PATIENCE = PAUSES + 3000
"""Waits, about a millisecond, after which a worker without work goes to sleep."""


@kernel
def serve(control: i64[1], seen: i64[1], entry: i64, block: i64, worker: i64) -> None:
    """Take part in runs until none has come for a while. A worker enters and leaves counted as asleep."""
    atomic_add(control, STATE, -1)
    spins = 0
    while True:
        if atomic_load(control, STATE) // _RUN != seen[0]:
            seen[0] += 1
            call_kernel(entry, block, atomic_load(control, FIRST), atomic_load(control, LAST), 0, 0, worker)
            spins = 0
        elif spins < _PATIENCE:
            spins = wait(spins)
        else:
            if atomic_add(control, STATE, 1) // _RUN == seen[0]:
                break
            atomic_add(control, STATE, -1)


@kernel
def lead(control: i64[1], entry: i64, block: i64) -> None:
    """Start a run and take part as worker 0; gives up, with STARTED 0, where workers stay asleep."""
    spins = 0
    while spins < _PATIENCE:
        state = atomic_load(control, STATE)
        if state % _RUN == 0 and atomic_replace(control, STATE, state, state + _RUN):
            call_kernel(entry, block, atomic_load(control, FIRST), atomic_load(control, LAST), 0, 0, 0)
            control[STARTED] = 1
            break
        spins = wait(spins)


KERNELS = (play, serve, lead)
"""What running any program takes, besides its own kernels."""


class _Team:
    """Workers 1 to `threads` - 1, and the words they share with worker 0, the caller."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._control = _aligned_words(WORDS)
        self._words = self._control.data  # quicker to set from Python than an array
        self._program: Program | None = None
        self._address = self._control.ctypes.data
        self._block_at = self._address + 8 * BLOCK
        self._process = os.getpid()
        self._closing = False
        self._calls = 0
        self._called = threading.Condition()
        self._workers: list[threading.Thread] = []
        self._play = play.interpret if interpreted() else ENTRY(play.address())
        self._size = self._words[WORKERS] = 1 if interpreted() else threads
        if self._size > 1:
            self._control[STATE] = self._size - 1
            self._lead, self._serve = ENTRY(lead.address()), ENTRY(serve.address())
            self._block = lead.block(self._control, play.address(), self._block_at)
            self._lead_at = self._block.ctypes.data
            for worker in range(1, self._size):
                thread = threading.Thread(target=self._work, args=(worker,), daemon=True)
                thread.name = f"glassnet-{worker}"
                self._workers.append(thread)
                thread.start()

    def run(self, program: Program, first: int, last: int, samples: int, repeats: int) -> None:
        """Run sections of `program` on all workers."""
        words = self._words
        words[SAMPLES], words[REPEATS], words[STARTED] = samples, repeats, 0
        words[FIRST], words[LAST] = first, last
        if program is not self._program:
            self._program, block = program, [*program.words, self._address, WORDS]
            self._control[BLOCK : BLOCK + len(block)] = block
        if self._size == 1:
            self._play(self._block_at, first, last, 0, 0, 0)
            return
        while True:
            self._lead(self._lead_at, 0, 0, 0, 0, 0)
            if words[STARTED]:
                return
            self._call()

    def close(self) -> None:
        """Let the workers end. After a fork they are the parent's, and gone."""
        if self._process == os.getpid():
            self._closing = True
            self._call()
            for thread in self._workers:
                thread.join(timeout=1)

    def _call(self) -> None:
        with self._called:
            self._calls += 1
            self._called.notify_all()

    def _work(self, worker: int) -> None:
        seen = np.zeros(1, np.int64)
        block = serve.block(self._control, seen, play.address(), self._block_at)
        while not self._closing:
            calls = self._calls
            self._serve(block.ctypes.data, 0, 0, 0, 0, worker)
            with self._called:
                while self._calls == calls and not self._closing:
                    self._called.wait()


class Executor:
    """Runs programs on a team of threads, one run at a time; each network that trains has its own."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Begin anew, as in a child process, which has none of its parent's threads."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._team: _Team | None = None
        self._close: Callable[[], object] = lambda: None

    def run(
        self,
        program: Program,
        first: int = 0,
        last: int | None = None,
        *,
        samples: int = 0,
        threads: int = 1,
        repeats: int = 1,
    ) -> None:
        """Run sections first to last (exclusive) of `program` on a batch of `samples`, `repeats` times over.

        Returns, or is interrupted, after whole sections only. Another number of `threads` than the last time
        starts new ones; 1 runs in the caller. Plain Python (NUMBA_DISABLE_JIT) always runs in the caller.
        """
        last = len(program.sections) if last is None else last
        if not 0 <= first <= last <= len(program.sections) or samples < 0 or threads < 1:
            raise EngineError(
                f"A program of {len(program.sections)} sections cannot run sections {first} to {last} on "
                f"{samples} samples with {threads} threads."
            )
        if self._process != os.getpid():
            self._forget()
        if first == last or repeats < 1:
            return
        with self._lock:
            self._team_of(threads).run(program, first, last, samples, repeats)

    def _team_of(self, threads: int) -> _Team:
        if self._team is None or self._team.threads != threads:
            self._close()
            self._team = _Team(threads)
            self._close = weakref.finalize(self, self._team.close)
        return self._team


def _aligned_words(count: int) -> NDArray[np.int64]:
    """Zeros that start on a pair of cache lines."""
    words = np.zeros(count + 16, np.int64)
    start = -words.ctypes.data % 128 // 8
    return words[start : start + count]
