"""How long each step of a plan takes, run by itself on one thread, and how near the peak it comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from glassnet.engine.compile import Compiled
from glassnet.engine.host import HostSection
from glassnet.engine.machine.executor import Executor
from glassnet.engine.machine.peak import measure_peak
from glassnet.engine.machine.program import Program, Section

SHORTEST = 2e-4
"""Seconds that a round lasts at least: a short step is repeated, so that starting it does not count."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One step on a full batch: seconds, multiply-adds, and its share of the most that a core can compute."""

    section: str
    layer: str
    operation: str
    kernel: str
    seconds: float
    macs: int
    share_of_peak: float

    @property
    def gflops(self) -> float:
        """Billions of float32 operations a second, two for each multiply-add."""
        return 2e-9 * self.macs / self.seconds


@dataclass(frozen=True)
class Profile:
    """A row a step, in order; `peak` is in operations a second, the best of some measurements in between."""

    rows: tuple[Row, ...]
    peak: float

    @property
    def seconds(self) -> float:
        """Of all steps together, on one thread."""
        return sum(row.seconds for row in self.rows)


def profile(compiled: Compiled, *, rounds: int = 7, clock: Clock = time.perf_counter) -> Profile:
    """The median of `rounds` for each step, after the plan has once run on a full batch.

    Alone, a step finds its buffers in the cache as the step before left them in a whole run only if they fit.
    It also updates the parameters again and again: they are of no use afterwards.
    """
    executor = Executor()
    peaks, timed = [measure_peak()], []
    for number, section in enumerate(compiled.sections):
        for place, step in enumerate(section.steps):
            alone = _alone(compiled, number, place, executor)
            repeats = max(1, int(SHORTEST / max(_time(alone, 1, clock), 1e-9)))
            seconds = float(np.median([_time(alone, repeats, clock) for _ in range(rounds)]))
            timed.append((f"{number + 1} {section.name}", step, seconds))
        peaks.append(measure_peak())
    peak = max(peaks)
    rows = []
    for name, step, seconds in timed:
        macs, operation = step.macs_of(compiled.capacity), step.operation
        assert operation is not None
        share = 2 * macs / seconds / peak
        rows.append(Row(name, operation.layer, operation.kind, step.kernel.name, seconds, macs, share))
    return Profile(tuple(rows), peak)


def _time(run: Callable[[int], None], repeats: int, clock: Clock) -> float:
    start = clock()
    run(repeats)
    return (clock() - start) / repeats


def _alone(compiled: Compiled, section: int, step: int, executor: Executor) -> Callable[[int], None]:
    """What runs one step that many times."""
    if section in compiled.hosts:
        return partial(_run_host, compiled.hosts[section], step, compiled.capacity)
    bound = compiled.program.sections[section]
    alone = Program([Section(bound.kind, [bound.steps[step]], bound.chunk, bound.leaves)], compiled.cpu)
    return lambda repeats: executor.run(alone, samples=compiled.capacity, repeats=repeats)


def _run_host(host: HostSection, step: int, samples: int, repeats: int) -> None:
    for _ in range(repeats):
        host.run(step, samples)
