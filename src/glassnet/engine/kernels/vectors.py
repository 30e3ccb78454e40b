"""Runs of neighbouring channels as vectors in LLVM IR, for intrinsics; the last one is masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llvmlite import ir

from glassnet.engine.machine.tile_ir import splat, store_lanes

F32, I1, I16, I32, I64 = ir.FloatType(), ir.IntType(1), ir.IntType(16), ir.IntType(32), ir.IntType(64)


class Vectors:
    """`channels` neighbours as vectors of `lanes`, the last perhaps partly empty; iterates over starts."""

    def __init__(self, builder: ir.IRBuilder, channels: int, widest: int, lanes: int = 0) -> None:
        self.builder, self.channels = builder, channels
        self.lanes = lanes or next((n for n in (4, 8, 16) if channels <= n <= widest), widest)

    def __iter__(self) -> Iterator[int]:
        return iter(range(0, self.channels, self.lanes))

    def constant(self, element: ir.Type, value: float) -> ir.Constant:
        """The same number in every lane."""
        return ir.Constant(ir.VectorType(element, self.lanes), [value] * self.lanes)

    def load(self, element: ir.Type, base: ir.Value, at: ir.Value, start: int, step: int = 0) -> ir.Value:
        """The vector of channels `start` on, `at` + `step` elements behind `base`."""
        kind, pointer = self._pointer(element, base, at, start + step)
        if (mask := self._mask(start)) is None:
            return self.builder.load(pointer, align=2)
        name = f"llvm.masked.load.v{self.lanes}{element.intrinsic_name}.p0"
        function = self.declare(name, kind, [pointer.type, I32, mask.type, kind])
        return self.builder.call(function, [pointer, I32(2), mask, self.constant(element, 0)])

    def store(
        self, element: ir.Type, value: ir.Value, base: ir.Value, at: ir.Value, start: int, step: int = 0
    ) -> None:
        """Put a vector where `load` would take it from."""
        place = self.builder.add(at, I64(start + step))
        pointer = self.builder.gep(self.builder.bitcast(base, element.as_pointer()), [place])
        store_lanes(self.builder, value, pointer, min(self.lanes, self.channels - start), 2)

    def spread(self, element: ir.Type, base: ir.Value, at: ir.Value, start: int) -> ir.Value:
        """In all lanes what is `at` elements behind `base`, whatever the channels."""
        pointer = self.builder.gep(self.builder.bitcast(base, element.as_pointer()), [at])
        return splat(self.builder, self.builder.load(pointer), self.lanes)

    def add_all(self, value: ir.Value, base: ir.Value, at: ir.Value) -> None:
        """base[at] += the sum of all lanes, halves first."""
        lanes = self.lanes
        while lanes > 1:
            lanes //= 2
            halves = ([*range(lanes)], [*range(lanes, 2 * lanes)])
            kinds = [ir.Constant(ir.VectorType(I32, lanes), half) for half in halves]
            value = self.builder.fadd(*(self.builder.shuffle_vector(value, value, kind) for kind in kinds))
        pointer = self.builder.gep(self.builder.bitcast(base, F32.as_pointer()), [at])
        total = self.builder.extract_element(value, I32(0))
        self.builder.store(self.builder.fadd(self.builder.load(pointer), total), pointer)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a * b + c."""
        kind = ir.VectorType(F32, self.lanes)
        return self.builder.call(self.declare(f"llvm.fma.v{self.lanes}f32", kind, [kind] * 3), [a, b, c])

    def declare(self, name: str, returned: ir.Type, arguments: list[ir.Type]) -> ir.Function:
        """An LLVM intrinsic by name."""
        module = self.builder.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(returned, arguments), name)

    def _pointer(
        self, element: ir.Type, base: ir.Value, at: ir.Value, start: int
    ) -> tuple[ir.Type, ir.Value]:
        kind = ir.VectorType(element, self.lanes)
        typed = self.builder.bitcast(base, element.as_pointer())
        place = self.builder.gep(typed, [self.builder.add(at, I64(start))])
        return kind, self.builder.bitcast(place, kind.as_pointer())

    def _mask(self, start: int) -> ir.Constant | None:
        active = min(self.lanes, self.channels - start)
        if active == self.lanes:
            return None
        return ir.Constant(ir.VectorType(I1, self.lanes), [i < active for i in range(self.lanes)])


def word_at(builder: ir.IRBuilder, words: ir.Value, index: int) -> ir.Value:
    """Number `index` of an array of int64."""
    return builder.load(builder.gep(builder.bitcast(words, I64.as_pointer()), [I64(index)]))


def repeat(
    builder: ir.IRBuilder,
    count: ir.Value,
    start: list[ir.Value],
    turn: Callable[[ir.Value, list[ir.Value]], list[ir.Value]],
) -> list[ir.Value]:
    """What `start` becomes when turn(i, values) gives the next values, for i below `count`; in registers."""
    before, body, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.cbranch(builder.icmp_signed(">", count, I64(0)), body, after)
    builder.position_at_end(body)
    i = builder.phi(I64)
    values = [builder.phi(value.type) for value in start]
    new = turn(i, [*values])
    following = builder.add(i, I64(1))
    for phi, first, later in zip([i, *values], [I64(0), *start], [following, *new], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    last = builder.block
    builder.position_at_end(after)
    ends = [builder.phi(value.type) for value in start]
    for end, first, later in zip(ends, start, new, strict=True):
        end.add_incoming(first, before)
        end.add_incoming(later, last)
    return ends
