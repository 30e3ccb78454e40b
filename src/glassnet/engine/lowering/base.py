"""From logical operations to steps with kernels: one function a kind, found in `LOWER`.

A lowering gets the operation and the `Context`, and returns steps in order. It sees shapes and layouts, but
no addresses: batched operands are `Span`s or `Rows`, everything else is an array.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from glassnet.engine.kernels.conv import sum_leaves
from glassnet.engine.machine.cpu import Cpu
from glassnet.engine.machine.tile import TileSpec
from glassnet.plan.passes.layout import Image, Layout
from glassnet.plan.plan import Rows, Span, Step
from glassnet.plan.symbols import Operation, Symbol
from glassnet.store import aligned

LEAVES = 8
"""At most so many leaves is a batch cut in: enough for eight threads, few enough to add quickly."""

SLICE = 256
"""Numbers of one unit where leaves are added."""


NEVER = np.zeros(1, np.int64)


@dataclass
class Slots:
    """What varies between steps, in arrays whose addresses do not: see ARCHITECTURE 2.5.

    adding: 1 where gradients are added to those of the step so far. cursor: which of several steps this is.
    go: 0 where nothing may change any more.
    """

    samples: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    adding: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    cursor: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    go: np.ndarray = field(default_factory=lambda: np.ones(1, np.int64))
    random: np.ndarray = field(default_factory=lambda: np.zeros(3, np.int64))  # seed, step, first sample


@dataclass
class Context:
    """What lowerings need to know, and the arrays that a plan's own symbols were given."""

    cpu: Cpu
    layout: Layout
    capacity: int
    chunk: int
    slots: Slots
    pending: Callable[[np.ndarray], np.ndarray] = lambda state: state
    draft: dict[TileSpec, None] | None = None
    arrays: dict[Symbol, np.ndarray] = field(default_factory=dict)
    factors: dict[Operation, np.ndarray] = field(default_factory=dict)  # scale and shift of a batch_norm

    def image(self, symbol: Symbol) -> Image:
        return self.layout.image(symbol)

    def extent(self, *symbols: Symbol | None) -> tuple[int, int]:
        """(height, width) of images of one size, or of one long row where none has a halo."""
        images = [self.image(symbol) for symbol in symbols if symbol is not None]
        height, width = images[0].height, images[0].width
        together = all(image.size == height * width for image in images)
        return (1, height * width) if together else (height, width)

    def tile(self, spec: TileSpec) -> int:
        """The address of a tile. A draft compiles and loads nothing: it notes what is needed."""
        if self.draft is None or spec.is_loaded(self.cpu):
            return spec.address(self.cpu)
        self.draft[spec] = None
        return 0

    def array(self, symbol: Symbol) -> np.ndarray:
        """The memory of a symbol without a sample axis: what it is bound to, or its own."""
        if symbol.array is not None:
            return symbol.array
        if symbol not in self.arrays:
            size = int(np.prod(symbol.shape, dtype=int))
            self.arrays[symbol] = aligned(size, symbol.dtype).reshape(symbol.shape)
        return self.arrays[symbol]

    def flat(self, symbol: Symbol) -> np.ndarray:
        """The same, as one row of numbers."""
        return self.array(symbol).reshape(-1)

    def leaf_sums(self, size: int) -> np.ndarray:
        """Zeros (leaves, size): one accumulator for each leaf."""
        return aligned(LEAVES * size, np.float32).reshape(LEAVES, size)


Lowering = Callable[[Operation, Context], list[Step]]
LOWER: dict[str, Lowering] = {}


def lowers(*kinds: str) -> Callable[[Lowering], Lowering]:
    """Register a lowering."""

    def register(function: Lowering) -> Lowering:
        LOWER.update(dict.fromkeys(kinds, function))
        return function

    return register


def lower(operation: Operation, context: Context) -> list[Step]:
    """The steps of one operation, each knowing where it came from."""
    steps = LOWER[operation.kind](operation, context)
    for step in steps:
        step.operation = operation
    return steps


def sum_leaves_into(
    parts: np.ndarray, total: np.ndarray, context: Context, *, adding: np.ndarray | None = None
) -> Step:
    """The step that adds the leaves' accumulators along their tree; where `adding` is 1, to what is there."""
    adding = NEVER if adding is None else adding
    arguments = (parts, total, context.slots.samples, context.chunk, adding)
    return Step(sum_leaves, arguments, "batch", units=-(-total.size // SLICE))


def span(symbol: Symbol | None) -> Span:
    """A batched operand with a halo perhaps: array, offset of the first pixel, distance of image rows."""
    assert symbol is not None
    return Span(symbol)


def rows(symbol: Symbol | None) -> Rows:
    """A batched operand as the array (rows, values)."""
    assert symbol is not None
    return Rows(symbol)
