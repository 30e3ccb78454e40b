"""How long each step of a plan takes, run by itself on one thread, and how near the peak it comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from glassnet.engine.compile import Compiled
from glassnet.engine.cpu import Cpu
from glassnet.engine.executor import Executor
from glassnet.engine.peak import measure_peak
from glassnet.engine.program import Program, Section

Clock = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One step: seconds for the whole batch, multiply-adds of the whole batch, share of the FMA peak."""

    section: str
    layer: str
    operation: str
    kernel: str
    seconds: float
    macs: int
    share_of_peak: float


def profile(
    compiled: Compiled, *, rounds: int = 7, cpu: Cpu | None = None, clock: Clock = time.perf_counter
) -> list[Row]:
    """A row a step, in order: the median of `rounds`. The step must have been run once on a full batch.

    Parameters are not touched: steps of the update are left out.
    """
    peak = measure_peak(cpu)
    executor = Executor()
    rows = []
    for planned, bound in zip(compiled.sections, compiled.program.sections, strict=True):
        if planned.name in ("clip", "update"):
            continue
        for step, call in zip(planned.steps, bound.steps, strict=True):
            alone = Program([Section(bound.kind, [call], bound.chunk, bound.leaves)], cpu)
            times = []
            for _ in range(rounds):
                start = clock()
                executor.run(alone, samples=compiled.capacity)
                times.append(clock() - start)
            seconds = float(np.median(times))
            macs = step.macs * (compiled.capacity if planned.by_sample else 1)
            operation = step.operation
            assert operation is not None
            share = 2 * macs / seconds / 1e9 / peak
            rows.append(
                Row(planned.name, operation.layer, operation.kind, step.kernel.name, seconds, macs, share)
            )
    return rows
