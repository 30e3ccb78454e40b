"""How long each step of a plan takes, run by itself on one thread, and how near the peak it comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from glassnet.engine.compile import Compiled
from glassnet.engine.executor import Executor
from glassnet.engine.peak import measure_peak
from glassnet.engine.program import Program, Section

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
    timed = []
    peaks = [measure_peak()]
    for number, (planned, bound) in enumerate(
        zip(compiled.sections, compiled.program.sections, strict=True), 1
    ):
        for step, call in zip(planned.steps, bound.steps, strict=True):
            alone = Program([Section(bound.kind, [call], bound.chunk, bound.leaves)], compiled.cpu)

            def run(repeats: int, alone: Program = alone) -> float:
                start = clock()
                executor.run(alone, samples=compiled.capacity, repeats=repeats)
                return (clock() - start) / repeats

            repeats = max(1, int(SHORTEST / max(run(1), 1e-9)))
            timed.append((f"{number} {planned.name}", step, np.median([run(repeats) for _ in range(rounds)])))
        peaks.append(measure_peak())
    peak = max(peaks)
    rows = []
    for section, step, seconds in timed:
        macs, operation = step.macs_of(compiled.capacity), step.operation
        assert operation is not None
        share = 2 * macs / float(seconds) / peak
        kernel = step.kernel.name
        rows.append(Row(section, operation.layer, operation.kind, kernel, float(seconds), macs, share))
    return Profile(tuple(rows), peak)
