"""Symbols and logical operations: what a recorded pass is made of, before any kernel, address or layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from glassnet.errors import EngineError
from glassnet.shapes import Shape


class RecordingError(EngineError):
    """A layer that cannot be recorded, for it asks for numbers that a symbol does not have yet."""


class Capacity(int):
    """The samples that a plan has room for. A step may have fewer, so no layer may compute with it."""

    def _refuse(self, *others: Any) -> NoReturn:
        raise RecordingError("The number of samples is another each step: a plan knows only the largest.")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __float__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse


@dataclass(eq=False)
class Symbol:
    """An array that a plan will hold. `batched` ones have a sample axis first, of the plan's `Capacity`.

    `array`: the memory it is bound to, where it is a parameter, a gradient, a running statistic or a slot.
    """

    shape: Shape
    name: str
    batched: bool = True
    dtype: Any = np.float32
    array: np.ndarray | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def _refuse(self, asked: str) -> NoReturn:
        raise RecordingError(
            f"{self.name} is recorded, not computed: it has no {asked}. `ops` has what can be compiled."
        )

    def __bool__(self) -> bool:
        self._refuse("truth value")

    def __float__(self) -> float:
        self._refuse("value as a number")

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        self._refuse("array")

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse(name)

    def __len__(self) -> int:
        self._refuse("number of samples")

    def __eq__(self, other: object) -> bool:
        if other is None or isinstance(other, Symbol):
            return self is other
        self._refuse("numbers to compare")

    __hash__ = object.__hash__

    def _operator(self, *others: Any) -> NoReturn:
        self._refuse("arithmetic of its own")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _operator
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = (
        _operator
    )
    __neg__ = __pos__ = __abs__ = __invert__ = __and__ = __or__ = __xor__ = _operator
    __lt__ = __le__ = __gt__ = __ge__ = __getitem__ = __setitem__ = __iter__ = __contains__ = _operator

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("numbers for a NumPy function")

    def __repr__(self) -> str:
        return f"{self.name}{self.shape}"


@dataclass(eq=False)
class Operation:
    """One logical operation: `kind` is the method of Ops it came from; `layer` the dotted name of its layer.

    after: symbols that must be there before it runs, though it does not read them.
    """

    kind: str
    inputs: Sequence[Symbol | None]
    outputs: list[Symbol]
    layer: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    after: list[Symbol] = field(default_factory=list)

    def reads(self) -> list[Symbol]:
        """The inputs that are there."""
        return [symbol for symbol in self.inputs if symbol is not None]

    def __repr__(self) -> str:
        return f"{self.layer}: {self.kind}({self.reads()}) -> {self.outputs}"
