"""A plan as rows: what each step runs, reads and writes, and where its buffers lie in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glassnet.plan.passes.layout import Halo, Layout
from glassnet.plan.passes.memory import Memory
from glassnet.plan.plan import Section, Step
from glassnet.plan.symbols import Symbol
from glassnet.shapes import Shape


@dataclass(frozen=True)
class Buffer:
    """A batched array. local: each worker has one for the samples in flight; else one for the batch.

    shape: of one sample; offset and bytes: in the arena, all rows with their halo (top, bottom, left, right).
    """

    number: int
    name: str
    shape: Shape
    dtype: str
    halo: Halo
    local: bool
    offset: int
    bytes: int


@dataclass(frozen=True)
class Row:
    """One step. reads, writes: numbers of buffers; what has no sample axis, such as parameters, is left out.

    macs: multiply-adds of a full batch. bytes: of all arrays that it is given, for a full batch.
    """

    section: str
    layer: str
    operation: str
    kernel: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    macs: int
    bytes: int


def show(
    sections: list[Section], layout: Layout, memory: Memory, *, capacity: int, chunk: int
) -> tuple[list[Row], list[Buffer]]:
    """The steps in order, and the buffers in the order of their first use. Sections are numbered from 1."""
    buffers: dict[Symbol, Buffer] = {}
    rows = []
    for number, section in enumerate(sections, 1):
        for step in section.steps:
            for symbol in map(layout.home, step.symbols()):
                if symbol not in buffers:
                    buffers[symbol] = _buffer(len(buffers) + 1, symbol, layout, memory, capacity, chunk)
            rows.append(_row(f"{number} {section.name}", step, layout, memory, buffers, capacity))
    return rows, list(buffers.values())


def _buffer(number: int, symbol: Symbol, layout: Layout, memory: Memory, capacity: int, chunk: int) -> Buffer:
    place = memory.places[symbol]
    size = place.sample_bytes * (chunk if place.local else capacity)
    dtype, halo = np.dtype(symbol.dtype).name, layout.halo(symbol)
    return Buffer(number, symbol.name, symbol.shape[1:], dtype, halo, place.local, place.offset, size)


def _row(
    section: str, step: Step, layout: Layout, memory: Memory, buffers: dict[Symbol, Buffer], capacity: int
) -> Row:
    operation = step.operation
    assert operation is not None
    written = {layout.home(symbol) for symbol in operation.outputs if symbol.batched}
    used = list(dict.fromkeys(map(layout.home, step.symbols())))
    arrays = sum(argument.nbytes for argument in step.arguments if isinstance(argument, np.ndarray))
    return Row(
        section,
        operation.layer,
        operation.kind,
        step.kernel.name,
        tuple(buffers[symbol].number for symbol in used if symbol not in written),
        tuple(buffers[symbol].number for symbol in used if symbol in written),
        step.macs_of(capacity),
        arrays + capacity * sum(memory.places[symbol].sample_bytes for symbol in used),
    )
