"""A plan: steps with their kernels and operands, placed in sections, before it is bound to memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from glassnet.plan.symbols import Operation, Symbol

Placement = Literal["load", "prepare", "sample", "batch", "host", "guard", "judge", "clip", "update"]


@dataclass(frozen=True)
class Span:
    """A batched operand as a kernel takes it: an array (rows, values of a sample with its halo), where the
    first pixel is, and how far apart image rows are. Rows hold samples modulo their number.

    offset: values to enter behind the first pixel; row: another distance of image rows than the layout's.
    """

    symbol: Symbol
    offset: int = 0
    row: int | None = None


@dataclass(frozen=True)
class Rows:
    """A batched operand as the bare array (rows, *shape), which has no halo."""

    symbol: Symbol
    shape: tuple[int, ...] | None = None


@dataclass(eq=False)
class Step:
    """One call of a kernel. `placement` "sample": on a few samples at a time; else once, split in `units`.

    macs: multiply-adds of one sample (of the whole step, where it is no sample step). parts: the number of
    the argument, a table, whose rows workers may share out where there are fewer samples than workers.
    """

    kernel: Any
    arguments: Sequence[Any]
    placement: Placement = "sample"
    units: int = 1
    macs: int = 0
    parts: int | None = None
    operation: Operation | None = None

    def macs_of(self, samples: int) -> int:
        """Multiply-adds of the step on that many samples."""
        return self.macs * (samples if self.placement == "sample" else 1)

    def symbols(self) -> Iterator[Symbol]:
        """The batched symbols it touches."""
        return (a.symbol for a in self.arguments if isinstance(a, Span | Rows))


@dataclass(eq=False)
class Section:
    """Steps that run together: "sample" depth first over a few samples, the others one after another."""

    name: str
    steps: list[Step]

    @property
    def by_sample(self) -> bool:
        return self.name == "sample"
