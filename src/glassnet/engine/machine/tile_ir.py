"""LLVM IR of a register tile: three nested loops that keep every sum in a vector register."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

if TYPE_CHECKING:
    from glassnet.engine.machine.tile import TileSpec

F32, I1, I32, I64 = ir.FloatType(), ir.IntType(1), ir.IntType(32), ir.IntType(64)
FLOATS = F32.as_pointer()
WIDEST_IN_PARTS = 8
"""Lanes of a vector up to which some of them are stored in parts; wider ones have the masks of AVX-512."""

# The arguments of every tile, in order.
POINTERS = ("a", "b", "c", "bias")
NUMBERS = ("R", "S", "K", "a_row", "a_outer", "a_r", "a_s", "a_k", "b_r", "b_s", "b_k", "c_row", "c_outer")
SIGNATURE = ir.FunctionType(ir.VoidType(), [FLOATS] * len(POINTERS) + [I64] * len(NUMBERS))

# x86 adds 1, 2, 4 or 8 times a register to an address for nothing: with the odd multiples of the row stride
# in registers, rows 0 to 8 are reached from one pointer.
_ROWS_A_POINTER = 9


def tile_module(spec: TileSpec, symbol: str) -> ir.Module:
    """A module that defines the tile of `spec` as the function `symbol`."""
    module = ir.Module(symbol)
    _Builder(spec, ir.Function(module, SIGNATURE, symbol)).build()
    return module


def store_lanes(builder: ir.IRBuilder, value: ir.Value, to: ir.Value, count: int, align: int) -> None:
    """Put the first `count` lanes of a vector behind the pointer `to` at one of them, and nothing else.

    Half of a vector, a quarter and so on: outside AVX-512 masked stores are slow.
    """
    lanes, done = value.type.count, 0
    if lanes > WIDEST_IN_PARTS and count < lanes:
        _store_masked(builder, value, to, count, align)
        return
    while done < count:
        part = next(n for n in (lanes, 8, 4, 2, 1) if n <= count - done)
        where = ir.Constant(ir.VectorType(I32, part), [*range(done, done + part)])
        lane = value if part == lanes else builder.shuffle_vector(value, value, where)
        place = builder.gep(to, [I64(done)])
        builder.store(lane, builder.bitcast(place, lane.type.as_pointer()), align=align)
        done += part


def splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """The same number in every lane."""
    nothing = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(nothing, value, I32(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def _store_masked(builder: ir.IRBuilder, value: ir.Value, to: ir.Value, count: int, align: int) -> None:
    kind, lanes, pointer = value.type, value.type.count, value.type.as_pointer()
    mask = ir.Constant(ir.VectorType(I1, lanes), [i < count for i in range(lanes)])
    name = f"llvm.masked.store.v{lanes}{kind.element.intrinsic_name}.p0"
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(ir.VoidType(), [kind, pointer, I32, mask.type]), name
    )
    builder.call(function, [value, builder.bitcast(to, pointer), I32(align), mask])


class _Builder:
    """Emits one tile: three nested loops that carry the pointers into A and B and all sums in registers."""

    def __init__(self, spec: TileSpec, function: ir.Function) -> None:
        self.spec = spec
        self.vector = ir.VectorType(F32, spec.lanes)
        self.builder = ir.IRBuilder(function.append_basic_block())
        self.at = dict(zip(POINTERS + NUMBERS, function.args, strict=True))
        self.fma = self._declare(f"llvm.fmuladd.v{spec.lanes}f32", self.vector, [self.vector] * 3)
        # Row i is `multiple` row strides after one of the pointers that the loops carry.
        inner = spec.inner or spec.rows
        self.places = [divmod(i, inner) for i in range(spec.rows)]
        self.multiples = [i % _ROWS_A_POINTER for _, i in self.places]

    def build(self) -> None:
        builder, spec = self.builder, self.spec
        outputs = [self._row("c", *place) for place in self.places]
        sums = [self._start(row, v) for row in outputs for v in range(spec.vectors)]
        heads = [
            self._row("a", *place) for place, m in zip(self.places, self.multiples, strict=True) if m == 0
        ]
        self.odd = {n: builder.mul(self.at["a_row"], I64(n)) for n in (1, 3, 5, 7)}
        zero = ir.Constant(self.vector, [0.0] * spec.lanes)
        others = [zero] * (len(sums) * (spec.parts - 1))
        ended = self._loop("rsk", heads, self.at["b"], sums + others)
        for i, value in enumerate(self._added(ended)):
            if spec.relu:
                value = builder.select(builder.fcmp_ordered("<", value, zero), zero, value)
            row, v = divmod(i, spec.vectors)
            self._store(value, outputs[row], v)
        builder.ret_void()

    def _loop(self, levels: str, heads: list[ir.Value], b: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """The loop over levels[0] around those over the rest; returns the sums after it. Counts are >= 1."""
        if not levels:
            return self._steps(heads, b, sums)
        builder, level = self.builder, levels[0]
        turns = I64(self.spec.parts if level == "k" else 1)
        before, body, after = builder.block, builder.append_basic_block(level), builder.append_basic_block()
        builder.branch(body)
        builder.position_at_end(body)
        entering = [self.at[level.upper()], b, *heads, *sums]
        phis = [builder.phi(value.type) for value in entering]
        left, b_here, heads_here = phis[0], phis[1], phis[2 : 2 + len(heads)]
        summed = self._loop(levels[1:], heads_here, b_here, phis[2 + len(heads) :])
        fewer = builder.sub(left, turns)
        a_step, b_step = (builder.mul(self.at[f"{operand}_{level}"], turns) for operand in "ab")
        moved = [self._opaque(builder.gep(head, [a_step])) for head in heads_here]
        leaving = [fewer, builder.gep(b_here, [b_step]), *moved, *summed]
        for phi, first, following in zip(phis, entering, leaving, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed(">", fewer, I64(0)), body, after)
        builder.position_at_end(after)
        return summed

    def _steps(self, heads: list[ir.Value], b: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """As many k as sums have parts, each added to its own."""
        builder, result, each = self.builder, [], self.spec.rows * self.spec.vectors
        for part in range(self.spec.parts):
            a_step, b_step = (builder.mul(self.at[f"{operand}_k"], I64(part)) for operand in "ab")
            moved = [builder.gep(head, [a_step]) for head in heads] if part else heads
            result += self._step(
                moved, builder.gep(b, [b_step]) if part else b, sums[part * each : (part + 1) * each]
            )
        return result

    def _added(self, sums: list[ir.Value]) -> list[ir.Value]:
        """The parts of each sum added up, neighbours first."""
        each = self.spec.rows * self.spec.vectors
        parts = [sums[i : i + each] for i in range(0, len(sums), each)]
        while len(parts) > 1:
            pairs = [
                [self.builder.fadd(p, q) for p, q in zip(one, other, strict=True)]
                for one, other in zip(parts[::2], parts[1::2], strict=False)
            ]
            parts = pairs + parts[2 * len(pairs) :]
        return parts[0]

    def _step(self, heads: list[ir.Value], b: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """One k: every row's number of A times the vectors of B, added to the sums."""
        builder, vectors = self.builder, self.spec.vectors
        weights = [self._load(b, v) for v in range(vectors)]
        result, remaining = [], iter(heads)
        for i, multiple in enumerate(self.multiples):
            if multiple == 0:
                head = address = next(remaining)
            else:
                odd = next(n for n in (7, 5, 3, 1) if multiple % n == 0)
                address = builder.gep(head, [builder.mul(self.odd[odd], I64(multiple // odd))])
            value = splat(builder, builder.load(address, align=4), self.spec.lanes)
            result += [
                builder.call(self.fma, [value, weights[v], sums[i * vectors + v]]) for v in range(vectors)
            ]
        return result

    def _row(self, operand: str, outer: int, row: int) -> ir.Value:
        """Where a row of A or C starts."""
        pointer = self.at[operand]
        for name, n in ((f"{operand}_outer", outer), (f"{operand}_row", row)):
            if n:
                pointer = self.builder.gep(pointer, [self.builder.mul(self.at[name], I64(n))])
        return pointer

    def _opaque(self, pointer: ir.Value) -> ir.Value:
        """The same pointer, of which LLVM knows nothing.

        Otherwise it reaches each row from the one before, and that chain of additions halves the speed of
        narrow tiles.
        """
        kind = ir.FunctionType(pointer.type, [pointer.type])
        return self.builder.asm(kind, "", "=r,0", [pointer], side_effect=False)

    def _start(self, row: ir.Value, v: int) -> ir.Value:
        if self.spec.start == "zero":
            return ir.Constant(self.vector, [0.0] * self.spec.lanes)
        return self._load(self.at["bias"] if self.spec.start == "bias" else row, v)

    def _vector(self, start: ir.Value, v: int) -> ir.Value:
        """Pointer to the v-th vector from `start`."""
        return self.builder.bitcast(
            self.builder.gep(start, [I64(v * self.spec.lanes)]), self.vector.as_pointer()
        )

    def _mask(self, v: int) -> ir.Constant | None:
        """Which lanes of vector v exist; None for all."""
        spec = self.spec
        active = spec.last_lanes if v == spec.vectors - 1 else spec.lanes
        if active == spec.lanes:
            return None
        return ir.Constant(ir.VectorType(I1, spec.lanes), [i < active for i in range(spec.lanes)])

    def _load(self, start: ir.Value, v: int) -> ir.Value:
        pointer = self._vector(start, v)
        if (mask := self._mask(v)) is None:
            return self.builder.load(pointer, align=4)
        kinds = [pointer.type, I32, mask.type, self.vector]
        load = self._declare(f"llvm.masked.load.v{self.spec.lanes}f32.p0", self.vector, kinds)
        zero = ir.Constant(self.vector, [0.0] * self.spec.lanes)
        return self.builder.call(load, [pointer, I32(4), mask, zero])

    def _store(self, value: ir.Value, start: ir.Value, v: int) -> None:
        spec = self.spec
        pointer = self.builder.gep(start, [I64(v * spec.lanes)])
        store_lanes(self.builder, value, pointer, spec.last_lanes if v == spec.vectors - 1 else spec.lanes, 4)

    def _declare(self, name: str, returned: ir.Type, arguments: list[ir.Type]) -> ir.Function:
        """An LLVM intrinsic by name: llvmlite's declare_intrinsic does not know vector types."""
        module = self.builder.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(returned, arguments), name)
