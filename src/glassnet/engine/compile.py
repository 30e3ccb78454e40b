"""From recorded operations to a program: run the passes, lower, place in memory, bind addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from glassnet.engine.host import HostSection
from glassnet.engine.kernels.activation import COMPILED
from glassnet.engine.lowering import LEAVES, LOWER, Context, Slots, is_large, lower
from glassnet.engine.machine import cache, program
from glassnet.engine.machine.arena import arena
from glassnet.engine.machine.cpu import Cpu, host
from glassnet.engine.machine.executor import KERNELS, Executor
from glassnet.engine.machine.kernel import interpreted
from glassnet.engine.machine.tile import TileSpec
from glassnet.errors import EngineError, MissingEngineError, OutOfMemoryError
from glassnet.plan.passes.dead import drop_dead
from glassnet.plan.passes.fuse import fuse
from glassnet.plan.passes.layout import Layout
from glassnet.plan.passes.memory import Memory, plan_memory
from glassnet.plan.passes.recompute import recompute
from glassnet.plan.passes.schedule import schedule
from glassnet.plan.plan import Rows, Section, Span, Step
from glassnet.plan.symbols import Operation, RecordingError, Symbol

CACHE_SHARE = 0.6
"""Of a core's second-level cache, what the samples in flight may take; weights need the rest."""
MOST_IN_FLIGHT = 16


@dataclass
class Compiled:
    """A program with its sections as planned, for printing, and its memory."""

    sections: list[Section]
    program: program.Program
    cpu: Cpu
    layout: Layout
    memory: Memory
    capacity: int
    chunk: int
    workers: int
    arenas: tuple[np.ndarray, np.ndarray]
    macs: int
    hosts: dict[int, HostSection]

    def run(
        self,
        executor: Executor,
        first: int,
        last: int,
        *,
        samples: int,
        threads: int = 1,
        repeats: int = 1,
    ) -> None:
        """Sections first to last (exclusive), those between two host calls in one native call.

        Without host calls in between, all of it `repeats` times in one call.
        """
        for number in range(first, last):
            if number in self.hosts:
                executor.run(self.program, first, number, samples=samples, threads=threads)
                self.hosts[number](samples)
                first = number + 1
        executor.run(self.program, first, last, samples=samples, threads=threads, repeats=repeats)

    def threads_for(self, samples: int) -> int:
        """All workers, or one where there is little work to share. One sample is shared by all or by none."""
        together = any(section.kind == "together" for section in self.program.sections)
        if together or self.macs * samples // self.capacity > WORTH_A_THREAD:
            return self.workers
        return 1

    def block_of(self, operation: Operation) -> np.ndarray:
        """The argument blocks, a row a worker, of an operation's one step."""
        return next(
            call.block
            for planned, bound in zip(self.sections, self.program.sections, strict=True)
            if bound.steps
            for step, call in zip(planned.steps, bound.steps, strict=True)
            if step.operation is operation
        )

    def first(self, name: str) -> int:
        """The number of the first section of that name; the number of sections where there is none."""
        names = [section.name for section in self.sections]
        return names.index(name) if name in names else len(names)


WORTH_A_THREAD = 2_000_000
"""Multiply-adds, some 20 microseconds of one core, below which another thread can only hurt."""


def stops_samples(operation: Operation) -> bool:
    """Whether all samples must have come so far before any goes on, so that the whole batch is kept."""
    if operation.kind == "linear":
        return is_large(operation.reads()[1].shape)
    return operation.kind == "batch_norm_statistics"


def compile_operations(
    operations: list[Operation],
    needed: Iterable[Symbol],
    *,
    capacity: int,
    slots: Slots,
    workers: int,
    cpu: Cpu | None = None,
    pending: Callable[[np.ndarray], np.ndarray] = lambda state: state,
    reuse: bool = True,
) -> Compiled:
    """Passes, lowering and binding; `needed` are the symbols that the caller reads.

    The number of samples in flight follows from the memory that one takes, never from the number of workers.
    """
    cpu = cpu or host()
    operations = fuse(drop_dead(operations, needed))
    if any(map(stops_samples, operations)):
        operations = recompute(operations)
    if unknown := sorted({op.kind for op in operations} - LOWER.keys()):
        raise EngineError(
            f"The compiled engine has no kernel for {', '.join(unknown)}. Use backend='reference'."
        )
    layout = Layout(operations)

    def lowered(chunk: int, draft: dict[TileSpec, None] | None) -> tuple[list[Section], Memory]:
        context = Context(cpu, layout, capacity, chunk, slots, pending, draft)
        sections = schedule([(operation, lower(operation, context)) for operation in operations])
        return sections, plan_memory(sections, layout, capacity=capacity, chunk=chunk, reuse=reuse)

    chunk = min(MOST_IN_FLIGHT, -(-capacity // LEAVES))
    if chunk > 1:
        fit = int(CACHE_SHARE * cpu.l2 / max(lowered(1, {})[1].local_bytes, 1))
        chunk = max(1, min(fit, chunk))
    tiles: dict[TileSpec, None] = {}
    sections, memory = lowered(chunk, tiles)
    if not interpreted():
        _compile_functions(sections, cpu)
        kernels = [step.kernel for s in sections if s.name != "host" for step in s.steps]
        codes = [code for code in (*kernels, *tiles, *KERNELS) if not code.is_loaded(cpu)]
        cache.compile_all(codes, cpu)
    if tiles:  # some addresses are not known before they are compiled
        sections, memory = lowered(chunk, None)
    arenas = _arenas(memory, capacity, workers)
    hosts = {
        number: HostSection(section, layout, memory, arenas[1], capacity)
        for number, section in enumerate(sections)
        if section.name == "host"
    }
    macs = sum(step.macs_of(capacity) for section in sections for step in section.steps)
    together = capacity == 1 and workers > 1 and macs > WORTH_A_THREAD
    bound = [
        _bind(section, layout, memory, arenas, capacity, chunk, workers, together) for section in sections
    ]
    bound_program = program.Program(bound, cpu)
    return Compiled(
        sections, bound_program, cpu, layout, memory, capacity, chunk, workers, arenas, macs, hosts
    )


def _compile_functions(sections: list[Section], cpu: Cpu) -> None:
    """Compile what layers of one's own gave to `elementwise`: it may do what no kernel can."""
    for step in (step for section in sections for step in section.steps):
        operation = step.operation
        if operation is None or operation.kind != "elementwise" or operation.settings["function"] in COMPILED:
            continue
        try:
            cache.compile_all([step.kernel], cpu)
        except MissingEngineError:
            raise
        except EngineError as error:
            raise RecordingError(
                f"{operation.layer} calls elementwise with {operation.settings['function'].__name__}, which "
                "Numba cannot compile. Write it for single numbers, or call it without elementwise, so that "
                "the layer runs in NumPy."
            ) from error


def _arenas(memory: Memory, capacity: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """The memory of the samples that each worker has in flight, and that of the whole batch."""
    local, shared = workers * memory.local_bytes, memory.shared_bytes
    try:
        return arena(local), arena(shared)
    except (MemoryError, OSError):
        raise OutOfMemoryError(
            f"The activations of {capacity} samples need {local + shared} bytes, more than there are. Use a "
            "smaller batch, or cut it in more parts with accumulate."
        ) from None


def _bind(
    section: Section,
    layout: Layout,
    memory: Memory,
    arenas: tuple[np.ndarray, np.ndarray],
    capacity: int,
    chunk: int,
    workers: int,
    together: bool,
) -> program.Section:
    """The section with an argument block a worker for each step.

    Where workers go through one sample `together`, they share the memory of the first and the rows of tables.
    """
    together = together and section.by_sample

    def bound(step: Step) -> program.Step:
        blocks = []
        for worker in range(workers):
            arguments: list[object] = []
            for number, argument in enumerate(step.arguments):
                if isinstance(argument, Span | Rows):
                    owner = 0 if together else worker
                    arguments += _operand(argument, layout, memory, arenas, capacity, chunk, owner)
                elif together and number == step.parts:
                    arguments.append(_part(argument, worker, workers))
                else:
                    arguments.append(argument)
            blocks.append(step.kernel.block(*arguments))
        units, shared = (0 if section.by_sample else step.units), step.parts is not None
        return program.Step(step.kernel, np.array(blocks), units=units, shared=shared)

    if section.name == "host":
        return program.Section("spread", [])
    steps = [bound(step) for step in section.steps]
    if together:
        return program.Section("together", steps)
    if not section.by_sample:
        return program.Section("spread", steps)
    # Where nothing is summed a leaf is a chunk: the last ones to be taken keep no thread waiting for long.
    summed = any("leaf" in step.kernel.parameters for step in section.steps)
    return program.Section("sample", steps, chunk=chunk, leaves=LEAVES if summed else capacity)


def _part(table: np.ndarray, worker: int, workers: int) -> np.ndarray:
    """One worker's rows of a table."""
    return table[len(table) * worker // workers : len(table) * (worker + 1) // workers]


def _operand(
    argument: Span | Rows,
    layout: Layout,
    memory: Memory,
    arenas: tuple[np.ndarray, np.ndarray],
    capacity: int,
    chunk: int,
    worker: int,
) -> list[object]:
    symbol = argument.symbol
    place, image = memory.places[layout.home(symbol)], layout.image(symbol)
    arena = arenas[0] if place.local else arenas[1]
    address = arena.ctypes.data + place.offset + (worker * memory.local_bytes if place.local else 0)
    rows = chunk if place.local else capacity
    if isinstance(argument, Rows):
        return [(address, (rows, *(argument.shape or (image.size,))))]
    row = image.row if argument.row is None else argument.row
    return [(address, (rows, image.size)), image.at + argument.offset, row]
