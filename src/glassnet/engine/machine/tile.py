"""Register tiles: one generator of the loop that convolutions and linear layers are made of.

    C[i, v] = start + sum over r < R, s < S, k < K of
              A[i*a_row + r*a_r + s*a_s + k*a_k] * B[r*b_r + s*b_s + k*b_k + v]

for a handful of rows i (pixels, samples or input channels) and one or more vectors of output channels v. The
sums stay in registers throughout. Strides are in elements. Forward, input gradient, weight gradient and
linear layers differ only in what they pass.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from glassnet.engine.machine.cpu import Cpu, host
from glassnet.engine.machine.kernel import PYTHON_AT, intrinsic, publish
from glassnet.engine.machine.tile_ir import FLOATS, SIGNATURE, tile_module
from glassnet.errors import EngineError

SUMS = 8
"""Multiply-adds that a core has on their way at once: two a cycle, each of four cycles."""

# Of a vector of half the width on a processor that splits the widest, measured on Zen 4 (ideally one half).
_TIME_OF_HALF = 0.55
_TIME_ACROSS = 1.2


@dataclass(frozen=True)
class TileSpec:
    """A tile of `rows` rows by `vectors` vectors of `lanes` channels, `last_lanes` in the last vector.

    Row i of A and of C is at (i // inner) * outer stride + (i % inner) * row stride; `inner` 0: all rows.
    Sums start at zero, at what C holds ("load") or at a bias; `relu` ends with max(sum, 0) and keeps NaN.
    Each sum is that of `parts`, of which K is a multiple and which take turns: few sums wait for each other.
    """

    rows: int
    vectors: int
    lanes: int
    last_lanes: int
    start: Literal["zero", "load", "bias"] = "zero"
    relu: bool = False
    inner: int = 0
    parts: int = 1

    @property
    def channels(self) -> int:
        """Output channels of the tile."""
        return (self.vectors - 1) * self.lanes + self.last_lanes

    @property
    def name(self) -> str:
        """For messages and files: tile_14x32 computes 14 rows of 32 channels."""
        inner = f"_{self.inner}" if self.inner else ""
        parts = f"_by_{self.parts}" if self.parts > 1 else ""
        return f"tile_{self.rows}x{self.channels}{inner}{parts}_{self.start}{'_relu' if self.relu else ''}"

    def fingerprint(self) -> bytes:
        return repr(self).encode()

    def module(self, cpu: Cpu, symbol: str) -> llvm.ModuleRef:
        """LLVM IR of the tile; the code generator's passes alone make the best of it."""
        module = tile_module(self, symbol)
        module.triple = cpu.triple
        return llvm.parse_assembly(str(module))

    def address(self, cpu: Cpu | None = None) -> int:
        """Where the tile starts, for `call_tile`."""
        key = self, cpu or host()
        if key not in _ADDRESSES:
            _ADDRESSES[key] = _load(*key)
        return _ADDRESSES[key]

    def is_loaded(self, cpu: Cpu) -> bool:
        """Whether its address is known in this process."""
        return (self, cpu) in _ADDRESSES


_ADDRESSES: dict[tuple[TileSpec, Cpu], int] = {}


def _load(spec: TileSpec, cpu: Cpu) -> int:
    needed = spec.rows * spec.vectors * spec.parts + spec.vectors + 1
    if needed > cpu.registers:
        raise EngineError(f"{spec} needs {needed} vector registers; {cpu.name} has {cpu.registers}.")
    return publish(spec, functools.partial(twin, spec), cpu)


@dataclass(frozen=True)
class Columns:
    """A run of output channels that one tile computes: `vectors` of `lanes`, `last_lanes` in the last."""

    vectors: int
    lanes: int
    last_lanes: int

    @property
    def channels(self) -> int:
        return (self.vectors - 1) * self.lanes + self.last_lanes

    def max_rows(self, cpu: Cpu) -> int:
        """Rows of a tile that fit in registers, next to a vector of weights each and one broadcast value."""
        return (cpu.registers - 1) // self.vectors - 1


def vector_shapes(channels: int, cpu: Cpu, *, few: bool = False) -> list[Columns]:
    """Cut output channels into columns for tiles, of the vector length that takes the least time.

    With vectors of 16 that run in two halves, 8 channels take one vector of 8, 10 one of 16 of which 6 lanes
    idle, 100 seven of 16 in tiles of 3, 2 and 2. Where there are so `few` samples that weights are used once,
    10 take two vectors of 8: wider ones would lie across two cache lines, more often than not.
    """

    _, lanes = min(_times(channels, cpu, few))
    vectors = -(-channels // lanes)
    last = channels - (vectors - 1) * lanes
    groups = [vectors] if vectors == 1 else [2 + vectors % 2] + [2] * (vectors // 2 - 1)
    return [Columns(n, lanes, lanes) for n in groups[:-1]] + [Columns(groups[-1], lanes, last)]


def _times(channels: int, cpu: Cpu, few: bool) -> list[tuple[float, int]]:
    """(time, lanes) of each length of vectors."""
    result = []
    for lanes in (n for n in (4, 8, 16) if n <= cpu.lanes):
        half = 2 * lanes <= cpu.lanes and cpu.split
        across = _TIME_ACROSS if few and channels < lanes else 1.0
        result.append((-(-channels // lanes) * (_TIME_OF_HALF if half else 1.0) * across, lanes))
    return result


def vector_time(channels: int, cpu: Cpu) -> float:
    """How long a tile takes over so many output channels, in vectors of the whole width."""
    return min(_times(channels, cpu, few=False))[0]


def plan_parts(sums: int, terms: int) -> int:
    """Into how many parts to cut each of a tile's `sums` of `terms`, where they are too few to be quick."""
    return next(n for n in range(max(1, SUMS // sums), 0, -1) if terms % n == 0)


def plan_rows(rows: int, max_rows: int) -> list[int]:
    """Cut rows into the fewest tiles, nearly equal, so of at most two sizes: 29 by 12 is 10, 10, 9."""
    tiles = -(-rows // max_rows)
    return [(rows + i) // tiles for i in reversed(range(tiles))]


def _lower_call(builder: ir.IRBuilder, tile: Any, sizes: Any, *operands: Any) -> None:
    """Compiled form of `call_tile`: a call through the tile's address."""
    a, a_at, a_rows, a_steps, b, b_at, b_steps, c, c_at, c_rows, bias, bias_at = operands
    arrays = ((a, a_at), (b, b_at), (c, c_at), (bias, bias_at))
    pointers = [builder.gep(builder.bitcast(array, FLOATS), [offset]) for array, offset in arrays]
    function = builder.inttoptr(tile, SIGNATURE.as_pointer())
    builder.call(function, [*pointers, *sizes, *a_rows, *a_steps, *b_steps, *c_rows])


Pair = tuple[int, int]
Triple = tuple[int, int, int]


@intrinsic(_lower_call)
def call_tile(
    tile: int,
    sizes: Triple,
    a: NDArray[np.float32],
    a_at: int,
    a_rows: Pair,
    a_steps: Triple,
    b: NDArray[np.float32],
    b_at: int,
    b_steps: Triple,
    c: NDArray[np.float32],
    c_at: int,
    c_rows: Pair,
    bias: NDArray[np.float32],
    bias_at: int,
) -> None:
    """Run the tile at address `tile` from a kernel.

    `sizes` are (R, S, K), all at least 1. The operands are C-contiguous arrays of any shape, entered at an
    offset in elements, with strides in elements: `a_rows` and `c_rows` are (row, outer), the steps (r, s, k).
    A tile that does not start at a bias ignores it.
    """
    PYTHON_AT[tile](sizes, a, a_at, a_rows, a_steps, b, b_at, b_steps, c, c_at, c_rows, bias, bias_at)


def twin(
    spec: TileSpec,
    sizes: Triple,
    a: NDArray[np.float32],
    a_at: int,
    a_rows: Pair,
    a_steps: Triple,
    b: NDArray[np.float32],
    b_at: int,
    b_steps: Triple,
    c: NDArray[np.float32],
    c_at: int,
    c_rows: Pair,
    bias: NDArray[np.float32],
    bias_at: int,
) -> None:
    """What the tile of `spec` computes, in NumPy."""
    i, channel = np.arange(spec.rows), np.arange(spec.channels)
    inner = spec.inner or spec.rows
    steps = np.indices(sizes).reshape(3, -1)
    row = np.stack([i % inner, i // inner])
    rows = (a_at + np.array(a_rows) @ row)[:, None] + np.array(a_steps) @ steps
    weights = (b_at + np.array(b_steps) @ steps)[:, None] + channel
    outputs = (c_at + np.array(c_rows) @ row)[:, None] + channel
    sums = a.reshape(-1)[rows] @ b.reshape(-1)[weights]
    if spec.start == "load":
        sums += c.reshape(-1)[outputs]
    elif spec.start == "bias":
        sums += bias.reshape(-1)[bias_at + channel]
    c.reshape(-1)[outputs] = np.where(sums < 0, np.float32(0), sums) if spec.relu else sums
