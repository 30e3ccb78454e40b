"""One pixel of 2x2 max pooling, forward and backward, as vectors of channels in LLVM IR, with NumPy twins.

A loop over few channels is not worth a vector to LLVM: it unrolls it into single numbers, seven times slower.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir

from glassnet.engine.kernel import intrinsic

_F32, _I16, _I32, _I1 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(1)


class _Vectors:
    """Loads and stores of `channels` neighbours, as vectors of which the last may be partly empty."""

    def __init__(self, builder: ir.IRBuilder, channels: int, widest: int) -> None:
        self.builder, self.channels = builder, channels
        self.lanes = next((n for n in (4, 8, 16) if channels <= n <= widest), widest)

    def __iter__(self) -> Iterator[int]:
        return iter(range(0, self.channels, self.lanes))

    def constant(self, element: ir.Type, value: float) -> ir.Constant:
        return ir.Constant(ir.VectorType(element, self.lanes), [value] * self.lanes)

    def load(self, element: ir.Type, base: ir.Value, at: ir.Value, start: int, step: int = 0) -> ir.Value:
        kind, pointer = self._pointer(element, base, at, start + step)
        if (mask := self._mask(start)) is None:
            return self.builder.load(pointer, align=2)
        name = f"llvm.masked.load.v{self.lanes}{element.intrinsic_name}.p0"
        function = self._declare(name, kind, [pointer.type, _I32, mask.type, kind])
        return self.builder.call(function, [pointer, _I32(2), mask, self.constant(element, 0)])

    def store(
        self, element: ir.Type, value: ir.Value, base: ir.Value, at: ir.Value, start: int, step: int = 0
    ) -> None:
        kind, pointer = self._pointer(element, base, at, start + step)
        if (mask := self._mask(start)) is None:
            self.builder.store(value, pointer, align=2)
            return
        name = f"llvm.masked.store.v{self.lanes}{element.intrinsic_name}.p0"
        function = self._declare(name, ir.VoidType(), [kind, pointer.type, _I32, mask.type])
        self.builder.call(function, [value, pointer, _I32(2), mask])

    def _pointer(self, element: ir.Type, base: ir.Value, at: ir.Value, start: int) -> tuple[ir.Type, ir.Value]:
        kind = ir.VectorType(element, self.lanes)
        typed = self.builder.bitcast(base, element.as_pointer())
        place = self.builder.gep(typed, [self.builder.add(at, ir.IntType(64)(start))])
        return kind, self.builder.bitcast(place, kind.as_pointer())

    def _mask(self, start: int) -> ir.Constant | None:
        active = min(self.lanes, self.channels - start)
        if active == self.lanes:
            return None
        return ir.Constant(ir.VectorType(_I1, self.lanes), [i < active for i in range(self.lanes)])

    def _declare(self, name: str, returned: ir.Type, arguments: list[ir.Type]) -> ir.Function:
        module = self.builder.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(returned, arguments), name)


@functools.cache
def pool_pixel(channels: int, widest: int) -> Callable[..., None]:
    """The helper (x, a, b, y, to, index, mark): y[to + c] = the largest of two pixels at a and two at b.

    index[mark + c] is its place, 0 to 3; the first of equals, and the first NaN, wins.
    """

    def lower(builder: ir.IRBuilder, x: Any, a: Any, b: Any, y: Any, to: Any, index: Any, mark: Any) -> None:
        vectors = _Vectors(builder, channels, widest)
        for start in vectors:
            best = vectors.load(_F32, x, a, start)
            place: ir.Value = vectors.constant(_I16, 0)
            for number, (at, step) in enumerate(((a, channels), (b, 0), (b, channels)), 1):
                value = vectors.load(_F32, x, at, start, step)
                greater = builder.fcmp_ordered(">", value, best)
                new_nan = builder.and_(
                    builder.fcmp_unordered("uno", value, value), builder.fcmp_ordered("ord", best, best)
                )
                wins = builder.or_(greater, new_nan)
                best = builder.select(wins, value, best)
                place = builder.select(wins, vectors.constant(_I16, number), place)
            vectors.store(_F32, best, y, to, start)
            vectors.store(_I16, place, index, mark, start)

    @intrinsic(lower)
    def pixel(x, a, b, y, to, index, mark) -> None:
        flat = x.reshape(-1)
        starts = (a, a + channels, b, b + channels)
        values = np.stack([flat[start : start + channels] for start in starts])
        place = values.argmax(axis=0)
        y.reshape(-1)[to : to + channels] = values[place, np.arange(channels)]
        index.reshape(-1)[mark : mark + channels] = place

    return pixel


@functools.cache
def unpool_pixel(channels: int, widest: int) -> Callable[..., None]:
    """The helper (dy, at, index, mark, dx, a, b): dy[at + c] to the place that index names, 0 to the others."""

    def lower(builder: ir.IRBuilder, dy: Any, at: Any, index: Any, mark: Any, dx: Any, a: Any, b: Any) -> None:
        vectors = _Vectors(builder, channels, widest)
        for start in vectors:
            gradient = vectors.load(_F32, dy, at, start)
            place = vectors.load(_I16, index, mark, start)
            for number, (to, step) in enumerate(((a, 0), (a, channels), (b, 0), (b, channels))):
                here = builder.icmp_signed("==", place, vectors.constant(_I16, number))
                value = builder.select(here, gradient, vectors.constant(_F32, 0.0))
                vectors.store(_F32, value, dx, to, start, step)

    @intrinsic(lower)
    def pixel(dy, at, index, mark, dx, a, b) -> None:
        gradient = dy.reshape(-1)[at : at + channels]
        place = index.reshape(-1)[mark : mark + channels]
        flat = dx.reshape(-1)
        for number, to in enumerate((a, a + channels, b, b + channels)):
            flat[to : to + channels] = np.where(place == number, gradient, 0)

    return pixel
