"""What kernels need to share work: atomic words, waiting, calls through addresses, flushed denormals."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from glassnet.engine.machine.kernel import PYTHON_AT, intrinsic

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_ORDER = "seq_cst"

# Control register bits that make denormals zero: FZ and DAZ in x86's MXCSR, FZ in ARM's FPCR.
_X86_FLUSH, _ARM_FLUSH = 0x8040, 1 << 24


def _word(builder: ir.IRBuilder, words: ir.Value, index: ir.Value) -> ir.Value:
    return builder.gep(builder.bitcast(words, _I64.as_pointer()), [index])


@intrinsic(lambda builder, words, index: builder.load_atomic(_word(builder, words, index), _ORDER, 8))
def atomic_load(words: NDArray[np.int64], index: int) -> int:
    """words[index], seeing everything done before the store that put it there."""
    return int(words[index])


@intrinsic(
    lambda builder, words, index, value: builder.store_atomic(value, _word(builder, words, index), _ORDER, 8)
)
def atomic_store(words: NDArray[np.int64], index: int, value: int) -> None:
    """words[index] = value, after everything done before."""
    words[index] = value


@intrinsic(
    lambda builder, words, index, value: builder.atomic_rmw(
        "add", _word(builder, words, index), value, _ORDER
    )
)
def atomic_add(words: NDArray[np.int64], index: int, value: int) -> int:
    """Add to words[index]; returns what it was."""
    before = int(words[index])
    words[index] = before + value
    return before


def _lower_replace(builder: ir.IRBuilder, words: Any, index: Any, expected: Any, value: Any) -> ir.Value:
    pair = builder.cmpxchg(_word(builder, words, index), expected, value, _ORDER, _ORDER)
    return builder.zext(builder.extract_value(pair, 1), _I64)


@intrinsic(_lower_replace)
def atomic_replace(words: NDArray[np.int64], index: int, expected: int, value: int) -> int:
    """Put `value` in words[index] if it is `expected`; returns 1 if so, else 0."""
    if words[index] != expected:
        return 0
    words[index] = value
    return 1


def _is_x86(builder: ir.IRBuilder) -> bool:
    return str(builder.module.triple).startswith("x86")


def _function(builder: ir.IRBuilder, name: str, returned: ir.Type, *arguments: ir.Type) -> ir.Function:
    kind = ir.FunctionType(returned, arguments)
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def _lower_pause(builder: ir.IRBuilder) -> None:
    if _is_x86(builder):
        builder.call(_function(builder, "llvm.x86.sse2.pause", ir.VoidType()), [])
    else:
        builder.call(_function(builder, "llvm.aarch64.hint", ir.VoidType(), _I32), [_I32(1)])


@intrinsic(_lower_pause)
def pause() -> None:
    """Tell the processor that this thread only waits."""


def _lower_give_way(builder: ir.IRBuilder) -> None:
    if sys.platform == "win32":
        _lower_pause(builder)
    else:
        builder.call(_function(builder, "sched_yield", _I32), [])


@intrinsic(_lower_give_way)
def give_way() -> None:
    """Let another thread that is ready to run have this core."""


def _lower_call_kernel(builder: ir.IRBuilder, address: ir.Value, *arguments: ir.Value) -> None:
    kind = ir.FunctionType(ir.VoidType(), [_I64] * len(arguments))
    builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)


@intrinsic(_lower_call_kernel)
def call_kernel(address: int, block: int, lo: int, hi: int, leaf: int, first: int, worker: int) -> None:
    """Run the kernel at `address` on the argument block at `block`."""
    PYTHON_AT[address](block, lo, hi, leaf, first, worker)


def _lower_flush_denormals(builder: ir.IRBuilder) -> ir.Value:
    if _is_x86(builder):
        pointer = ir.IntType(8).as_pointer()
        register = builder.alloca(_I32)
        address = builder.bitcast(register, pointer)
        builder.call(_function(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), pointer), [address])
        before = builder.load(register)
        builder.store(builder.or_(before, _I32(_X86_FLUSH)), register)
        builder.call(_function(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), pointer), [address])
        return builder.zext(before, _I64)
    before = builder.call(_function(builder, "llvm.aarch64.get.fpcr", _I64), [])
    set_register = _function(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), _I64)
    builder.call(set_register, [builder.or_(before, _I64(_ARM_FLUSH))])
    return before


@intrinsic(_lower_flush_denormals)
def flush_denormals() -> int:
    """Take denormals for zero in this thread from now on; returns what `restore_denormals` needs."""
    return 0


def _lower_restore_denormals(builder: ir.IRBuilder, before: ir.Value) -> None:
    if _is_x86(builder):
        pointer = ir.IntType(8).as_pointer()
        register = builder.alloca(_I32)
        builder.store(builder.trunc(before, _I32), register)
        address = builder.bitcast(register, pointer)
        builder.call(_function(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), pointer), [address])
    else:
        builder.call(_function(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), _I64), [before])


@intrinsic(_lower_restore_denormals)
def restore_denormals(before: int) -> None:
    """Undo `flush_denormals`."""
