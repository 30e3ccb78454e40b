"""Lay out buffers: zero halos where a padded convolution will read, and which symbols share memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from glassnet.plan.symbols import Operation, Symbol
from glassnet.shapes import Geometry

Halo = tuple[int, int, int, int]  # top, bottom, left, right
NONE: Halo = (0, 0, 0, 0)


@dataclass(frozen=True)
class Image:
    """Where a sample's pixels lie in its row of a buffer. Vectors are images of one row.

    at: the first pixel; row: from one image row to the next; size: values of a sample with its halo; height
    and width count rows and values in a row.
    """

    at: int
    row: int
    size: int
    height: int
    width: int
    channels: int


@dataclass(frozen=True)
class Phase:
    """One residue of an axis of a strided input gradient: inputs first + stride*t read outputs tap + t.

    taps: (kernel position, output position for t = 0), outputs ascending.
    """

    first: int
    count: int
    taps: tuple[tuple[int, int], ...]


def phases(geometry: Geometry, axis: int) -> list[Phase]:
    """An axis of the input gradient as `stride` dense convolutions of dy, without inserted zeros."""
    size, kernel = geometry.input[axis], geometry.kernel[axis]
    stride, dilation, pad = geometry.stride[axis], geometry.dilation[axis], geometry.padding[2 * axis]
    result = []
    for residue in range(stride):
        first = (residue - pad) % stride
        taps = [
            (u, (first + pad - u * dilation) // stride)
            for u in reversed(range(kernel))
            if (u * dilation - residue) % stride == 0
        ]
        result.append(Phase(first, len(range(first, size, stride)), tuple(taps)))
    return [phase for phase in result if phase.count]


def input_grad_halo(geometry: Geometry) -> Halo:
    """How far outside dy its input gradient reads."""
    sides = []
    for axis in (0, 1):
        reads = [(tap, tap + p.count - 1) for p in phases(geometry, axis) for _, tap in p.taps]
        last = geometry.output[axis] - 1
        sides += [
            max((-low for low, _ in reads), default=0),
            max((high - last for _, high in reads), default=0),
        ]
    return tuple(max(side, 0) for side in sides)  # type: ignore[return-value]


class Layout:
    """The halo of every batched symbol, and for symbols that live in the memory of another, which."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._halos: dict[Symbol, Halo] = {}
        self._home: dict[Symbol, Symbol] = {}
        operations = list(operations)
        for operation in operations:
            if operation.kind == "relu_mask":
                self._share(operation.outputs[0], operation.inputs[0])
        for operation in operations:
            geometry: Any = operation.settings.get("geometry")
            if operation.kind == "conv2d":
                self._need(operation.inputs[0], geometry.padding)
            elif operation.kind == "conv2d_weight_grad":
                self._need(operation.inputs[1], geometry.padding)
            elif operation.kind == "conv2d_input_grad":
                self._need(operation.inputs[0], input_grad_halo(geometry))
        for operation in operations:
            if operation.kind == "reshape" and self.same_memory(operation):
                self._share(operation.outputs[0], operation.inputs[0])

    def home(self, symbol: Symbol) -> Symbol:
        """The symbol whose memory this one lives in; itself if none."""
        while symbol in self._home:
            symbol = self._home[symbol]
        return symbol

    def same_memory(self, reshape: Operation) -> bool:
        """Whether a reshape changes nothing but the reading: neither side has a halo."""
        ends = (*reshape.reads(), *reshape.outputs)
        return all(self.halo(end) == NONE for end in ends)

    def halo(self, symbol: Symbol) -> Halo:
        """The zeros around each image of a symbol."""
        return self._halos.get(self.home(symbol), NONE)

    def image(self, symbol: Symbol) -> Image:
        """How a sample of this symbol lies in memory."""
        if len(symbol.shape) != 4:
            size = math.prod(symbol.shape[1:])
            return Image(0, size, size, 1, size, symbol.shape[-1] if len(symbol.shape) > 1 else 1)
        _, h, w, c = symbol.shape
        top, bottom, left, right = self.halo(symbol)
        row = (w + left + right) * c
        return Image(top * row + left * c, row, (h + top + bottom) * row, h, w * c, c)

    def _need(self, symbol: Symbol | None, halo: Halo) -> None:
        assert symbol is not None
        home = self.home(symbol)
        now = self._halos.get(home, NONE)
        self._halos[home] = tuple(map(max, now, halo))  # type: ignore[assignment]

    def _share(self, symbol: Symbol | None, other: Symbol | None) -> None:
        assert symbol is not None and other is not None
        self._home[symbol] = self.home(other)
