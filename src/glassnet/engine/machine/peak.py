"""The most that one core can compute: what shares of the peak are shares of."""

from __future__ import annotations

import time
from dataclasses import dataclass

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from glassnet.engine.machine import cache
from glassnet.engine.machine.cpu import Cpu, host
from glassnet.engine.machine.kernel import ENTRY

_CHAINS = 12
"""Independent sums: more than latency times multiply-adds per cycle, fewer than registers."""


def measure_peak(cpu: Cpu | None = None, seconds: float = 2e-3) -> float:
    """Float32 operations per second that one core reaches now, two for each multiply-add.

    The best of some ten short runs: where other processes want the core, few of them are interrupted.
    """
    cpu = cpu or host()
    run = ENTRY(cache.address(_Peak(cpu.lanes), cpu))
    numbers = np.ones(cpu.lanes, np.float32)
    steps, spent, best = 1000, 0.0, 0.0
    while spent < seconds:
        before = time.perf_counter()
        run(numbers.ctypes.data, 0, steps, 0, 0, 0)
        elapsed = time.perf_counter() - before
        spent, best = spent + elapsed, max(best, steps / elapsed)
        if elapsed < seconds / 10:
            steps *= 2
    return 2 * cpu.lanes * _CHAINS * best


@dataclass(frozen=True)
class _Peak:
    """A loop of independent multiply-adds, entered like a kernel: hi - lo steps on the vector at `block`."""

    lanes: int
    name = "peak"

    def fingerprint(self) -> bytes:
        return repr(self).encode()

    def module(self, cpu: Cpu, symbol: str) -> llvm.ModuleRef:
        module, word = ir.Module(symbol), ir.IntType(64)
        module.triple = cpu.triple
        vector = ir.VectorType(ir.FloatType(), self.lanes)
        fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{self.lanes}f32")
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * 6), symbol)
        before, body, after = (function.append_basic_block() for _ in range(3))
        builder = ir.IRBuilder(before)
        block, low, high = function.args[:3]
        pointer = builder.inttoptr(block, vector.as_pointer())
        factor = builder.load(pointer, align=4)
        builder.branch(body)
        builder.position_at_end(body)
        step, sums = builder.phi(word), [builder.phi(vector) for _ in range(_CHAINS)]
        summed = [builder.call(fma, [factor, factor, value]) for value in sums]
        following = builder.add(step, word(1))
        for phi, first, next_ in zip(
            [step, *sums], [low, *[factor] * _CHAINS], [following, *summed], strict=True
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(next_, body)
        builder.cbranch(builder.icmp_signed("<", following, high), body, after)
        builder.position_at_end(after)
        for value in summed:
            store = builder.store(value, pointer, align=4)
            store.volatile = True
        builder.ret_void()
        return llvm.parse_assembly(str(module))
