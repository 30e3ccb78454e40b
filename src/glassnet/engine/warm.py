"""What the engine can compile without knowing a network: activations, and tiles of usual sizes."""

from __future__ import annotations

from collections.abc import Iterator

from glassnet.engine.kernels.activation import COMPILED, elementwise
from glassnet.engine.machine.cache import Code
from glassnet.engine.machine.cpu import Cpu
from glassnet.engine.machine.kernel import Kernel
from glassnet.engine.machine.tile import TileSpec, vector_shapes

CHANNELS = (8, 10, 16, 32, 48)
"""They take one, two and three whole vectors, and one that ten classes leave partly empty."""


def usual_codes(cpu: Cpu) -> list[Code]:
    """The kernels of the activation table, and tiles of `CHANNELS`."""
    return [*_activations(), *_tiles(cpu)]


def _activations() -> Iterator[Kernel]:
    for function, compiled in COMPILED.items():
        arrays = 2 if "dy" in compiled.__code__.co_varnames else 1
        if "slope" not in compiled.__code__.co_varnames:
            yield elementwise(function, arrays, ())


def _tiles(cpu: Cpu) -> Iterator[TileSpec]:
    """Of every number of rows that fits in registers; a convolution's width decides which are used."""
    for columns in dict.fromkeys(shape for channels in CHANNELS for shape in vector_shapes(channels, cpu)):
        for rows in range(1, columns.max_rows(cpu) + 1):
            sizes = rows, columns.vectors, columns.lanes, columns.last_lanes
            yield from (TileSpec(*sizes, start) for start in ("zero", "load", "bias"))
            yield TileSpec(*sizes, "bias", relu=True)
