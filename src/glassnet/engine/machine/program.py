"""A program, what an executor runs: sections of kernel calls, and how each section is shared among workers.

    sample   the batch is cut in leaves of whole chunks; a worker takes a leaf at a time and goes through all
             steps with one chunk of samples before the next
    spread   step after step, each cut among all workers, with a barrier after each
    single   step after step, by one worker
    together step after step on all samples, for batches of fewer samples than workers: every worker makes the
             calls of `shared` steps, whose blocks give each its own part, and worker 0 the others

Leaves, and the ranges of all calls, depend on the number of samples alone, never on that of workers. A kernel
that sums over samples does so per leaf, in order, and whoever adds the leaves does so in a fixed order: the
result has the same bits on any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glassnet.engine.machine.atomics import (
    atomic_add,
    atomic_load,
    atomic_store,
    call_kernel,
    flush_denormals,
    give_way,
    pause,
    restore_denormals,
)
from glassnet.engine.machine.cpu import Cpu
from glassnet.engine.machine.kernel import Kernel, i64, inline, kernel

Words = NDArray[np.int64]

# The words that workers share: those that several write lie in a pair of cache lines each, a job in the rest.
STATE, ARRIVED, PHASE, NEXT_LEAF, JOB = 0, 16, 32, 48, 64
SAMPLES, REPEATS, FIRST, LAST, WORKERS, STARTED, BLOCK = range(JOB, JOB + 7)
WORDS = 80

# What the columns of the tables are.
KIND, BEGIN, END, CHUNK, LEAVES = range(5)
KERNEL, ARGUMENTS, ARGUMENTS_STEP, UNITS, UNITS_PER_SAMPLE, GRAIN, SHARED = range(7)
SAMPLE, SPREAD, SINGLE, TOGETHER = range(4)
_KINDS = {"sample": SAMPLE, "spread": SPREAD, "single": SINGLE, "together": TOGETHER}

# A wait pauses for some microseconds, then lets other threads have the core: two workers may share one.
PAUSES = 200


@dataclass(frozen=True)
class Step:
    """A call of `kernel` on `block`, its argument block, over units 0 to `units` + `units_per_sample` * n.

    A block of two dimensions is one argument block for each worker. A call takes `grain` units, whoever makes
    it, for the same loop over more or fewer may round differently. In a sample section a call takes a chunk
    of samples instead.
    """

    kernel: Kernel
    block: Words
    units: int = 0
    units_per_sample: int = 0
    grain: int = 1
    shared: bool = False


@dataclass(frozen=True)
class Section:
    """Steps that are shared among workers in one way; `chunk` and `leaves` (at most) are for samples."""

    kind: Literal["sample", "spread", "single", "together"]
    steps: Sequence[Step]
    chunk: int = 1
    leaves: int = 8


class Program:
    """Sections compiled to the tables that `play` reads; `words` are these as they stand in its block."""

    def __init__(self, sections: Sequence[Section], cpu: Cpu | None = None) -> None:
        self.sections = tuple(sections)
        steps = [step for section in sections for step in section.steps]
        ends = np.cumsum([len(section.steps) for section in sections], dtype=np.int64)
        self._tables = [
            _table(
                (_KINDS[section.kind], end - len(section.steps), end, section.chunk, section.leaves)
                for section, end in zip(sections, ends, strict=True)
            ),
            _table((*_place(s, cpu), s.units, s.units_per_sample, s.grain, s.shared) for s in steps),
        ]
        self.words = [word for table in self._tables for word in (table.ctypes.data, *table.shape)]


def _place(step: Step, cpu: Cpu | None) -> tuple[int, int, int]:
    """Address of the kernel and of its block, and the bytes from one worker's block to the next one's."""
    return (
        step.kernel.address(cpu),
        step.block.ctypes.data,
        step.block.strides[0] if step.block.ndim == 2 else 0,
    )


def _table(rows: Iterable[Sequence[int]]) -> Words:
    return np.array([*rows], np.int64)


@inline
def leaf_count(chunks: int, most: int) -> int:
    """Into how many leaves a number of chunks is cut."""
    return min(chunks, most)


@inline
def leaf_start(chunks: int, leaves: int, leaf: int) -> int:
    """The first chunk of a leaf; leaves are nearly equal, the larger ones first, which balances them best."""
    return leaf * (chunks // leaves) + min(leaf, chunks % leaves)


@inline
def wait(spins: int) -> int:
    """Wait a moment, the less eagerly the more often; returns spins + 1."""
    if spins < PAUSES:
        pause()
    else:
        give_way()
    return spins + 1


@inline
def _barrier(control: Words) -> None:
    """Wait until all workers are here; whoever comes last puts the leaves back."""
    if control[WORKERS] == 1:
        control[NEXT_LEAF] = 0
        return
    phase = atomic_load(control, PHASE)
    if atomic_add(control, ARRIVED, 1) == control[WORKERS] - 1:
        atomic_store(control, NEXT_LEAF, 0)
        atomic_store(control, ARRIVED, 0)
        atomic_store(control, PHASE, phase + 1)
    else:
        spins = 0
        while atomic_load(control, PHASE) == phase:
            spins = wait(spins)


@inline
def _call(steps: Words, i: int, lo: int, hi: int, leaf: int, first: int, worker: int) -> None:
    block = steps[i, ARGUMENTS] + worker * steps[i, ARGUMENTS_STEP]
    call_kernel(steps[i, KERNEL], block, lo, hi, leaf, first, worker)


@inline
def _run_samples(section: Words, steps: Words, control: Words, worker: int, backwards: int) -> None:
    samples, chunk = control[SAMPLES], section[CHUNK]
    chunks = (samples + chunk - 1) // chunk
    leaves = leaf_count(chunks, section[LEAVES])
    taken = atomic_add(control, NEXT_LEAF, 1)
    while taken < leaves:
        leaf = leaves - 1 - taken if backwards else taken
        start = leaf_start(chunks, leaves, leaf) * chunk
        stop = min(leaf_start(chunks, leaves, leaf + 1) * chunk, samples)
        lo = start
        while lo < stop:
            hi = min(lo + chunk, stop)
            for i in range(section[BEGIN], section[END]):
                _call(steps, i, lo, hi, leaf, 1 if lo == start else 0, worker)
            lo = hi
        taken = atomic_add(control, NEXT_LEAF, 1)


@inline
def _run_parts(section: Words, steps: Words, control: Words, worker: int) -> None:
    workers = control[WORKERS] if section[KIND] == SPREAD else 1
    for i in range(section[BEGIN], section[END]):
        extent, grain = steps[i, UNITS] + steps[i, UNITS_PER_SAMPLE] * control[SAMPLES], steps[i, GRAIN]
        calls = (extent + grain - 1) // grain if worker < workers else 0
        for call in range(calls * worker // workers, calls * (worker + 1) // workers):
            _call(steps, i, call * grain, min((call + 1) * grain, extent), 0, 1, worker)
        if section[KIND] == SPREAD and i < section[END] - 1:
            _barrier(control)


@inline
def _run_together(section: Words, steps: Words, control: Words, worker: int) -> None:
    for i in range(section[BEGIN], section[END]):
        if steps[i, SHARED] or worker == 0:
            _call(steps, i, 0, control[SAMPLES], 0, 1, worker)
        if i < section[END] - 1:
            _barrier(control)


@kernel
def play(sections: i64[2], steps: i64[2], control: i64[1], lo: i64, hi: i64, worker: i64) -> None:
    """One worker's part of sections lo to hi."""
    before = flush_denormals()
    for _ in range(control[REPEATS]):
        backwards = 0  # every other time, for the leaves taken last are in the cache
        for s in range(lo, hi):
            if sections[s, KIND] == SAMPLE:
                _run_samples(sections[s], steps, control, worker, backwards)
                backwards = 1 - backwards
            elif sections[s, KIND] == TOGETHER:
                _run_together(sections[s], steps, control, worker)
            else:
                _run_parts(sections[s], steps, control, worker)
            _barrier(control)
    restore_denormals(before)
