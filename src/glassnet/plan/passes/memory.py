"""Plan lifetimes in two arenas: what lives within a sample section is kept for the samples in flight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glassnet.plan.passes.layout import Layout
from glassnet.plan.plan import Section
from glassnet.plan.symbols import Symbol

ALIGNMENT = 64


@dataclass(frozen=True)
class Place:
    """A symbol's memory: `local` to each worker, with rows for a chunk, or shared, for the batch."""

    local: bool
    offset: int
    sample_bytes: int


@dataclass(frozen=True)
class Memory:
    """Places of symbols, and the bytes of one worker's arena and of the shared one."""

    places: dict[Symbol, Place]
    local_bytes: int
    shared_bytes: int


@dataclass
class _Life:
    symbol: Symbol
    start: int
    end: int
    bytes: int


def sample_bytes(symbol: Symbol, layout: Layout) -> int:
    """Bytes of one sample, its halo included."""
    return layout.image(symbol).size * np.dtype(symbol.dtype).itemsize


def plan_memory(
    sections: list[Section], layout: Layout, *, capacity: int, chunk: int, reuse: bool = True
) -> Memory:
    """Offsets of batched symbols; those whose lives do not meet share memory, unless `reuse` is False."""
    seen: dict[Symbol, list[tuple[int, int]]] = {}
    time = 0
    for number, section in enumerate(sections):
        for step in section.steps:
            time += 1
            for symbol in step.symbols():
                seen.setdefault(layout.home(symbol), []).append((number, time))
        time += 1
    lives: dict[bool, list[_Life]] = {True: [], False: []}
    for symbol, uses in seen.items():
        local = len({number for number, _ in uses}) == 1 and sections[uses[0][0]].by_sample
        size = sample_bytes(symbol, layout)
        rows = chunk if local else capacity
        start, end = (min(t for _, t in uses), max(t for _, t in uses))
        if not local:  # all samples pass a sample section before the next section begins
            start, end = uses[0][0], uses[-1][0]
        lives[local].append(_Life(symbol, start, end, -(-size * rows // ALIGNMENT) * ALIGNMENT))
    places: dict[Symbol, Place] = {}
    totals = {}
    for local, group in lives.items():
        offsets, totals[local] = _pack(group, reuse)
        for life, offset in zip(group, offsets, strict=True):
            places[life.symbol] = Place(local, offset, sample_bytes(life.symbol, layout))
    return Memory(places, totals[True], totals[False])


def _pack(lives: list[_Life], reuse: bool) -> tuple[list[int], int]:
    """First fit, largest first (Pisarchyk, Lee 2020): offsets in the given order, and the total."""
    offsets = [0] * len(lives)
    done: list[int] = []
    for i in sorted(range(len(lives)), key=lambda i: -lives[i].bytes):
        busy = sorted(
            (offsets[j], offsets[j] + lives[j].bytes)
            for j in done
            if not reuse or (lives[j].start <= lives[i].end and lives[i].start <= lives[j].end)
        )
        at = 0
        for low, high in busy:
            if low - at >= lives[i].bytes:
                break
            at = max(at, high)
        offsets[i] = at
        done.append(i)
    return offsets, max((offsets[i] + lives[i].bytes for i in done), default=0)
