"""LLVM: from IR to machine code for a processor, and from there to an address in this process."""

from __future__ import annotations

import ctypes
import functools
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import llvmlite.binding as llvm

from glassnet.engine.machine.cpu import Cpu, host
from glassnet.errors import EngineError


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back for the block: LLVM calls back into Python, where an exception would be lost.

    Only the main thread receives it, so others need nothing.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    received: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if received:
        signal.raise_signal(signal.SIGINT)


@functools.cache
def target_machine(cpu: Cpu) -> llvm.TargetMachine:
    """LLVM's code generator for `cpu`, which need not be this machine."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    reloc = "static" if cpu.triple.startswith("x86") else "default"
    return llvm.Target.from_triple(cpu.triple).create_target_machine(
        cpu=cpu.name, features=cpu.features, opt=3, reloc=reloc, codemodel="jitdefault", jit=True
    )


def optimise(module: llvm.ModuleRef, cpu: Cpu, entry: str, symbol: str) -> None:
    """Run LLVM's -O3 pipeline for `cpu`, vectorisers included, and rename the function `entry` to `symbol`.

    All else becomes private, so that it can be inlined or dropped. What remains is named anew: names that
    Numba gives hold counters, and the same kernel is to give the same bytes.
    """
    for item in _defined(module):
        if item.name != entry:
            item.linkage = "internal"
    options = llvm.create_pipeline_tuning_options(3)
    options.loop_vectorization = options.slp_vectorization = True
    passes = llvm.create_pass_builder(target_machine(cpu), options)
    passes.getModulePassManager().run(module, passes)
    for number, item in enumerate(_defined(module)):
        item.name = symbol if item.name == entry else f"{symbol}_{number}"


def _items(module: llvm.ModuleRef) -> list[llvm.ValueRef]:
    return [item for items in (module.functions, module.global_variables) for item in items]


def _defined(module: llvm.ModuleRef) -> list[llvm.ValueRef]:
    return [item for item in _items(module) if not item.is_declaration]


def missing_symbols(module: llvm.ModuleRef) -> list[str]:
    """What `module` calls or reads that no C library provides."""
    names = [item.name for item in _items(module) if item.is_declaration]
    return [name for name in names if not name.startswith("llvm.") and not hasattr(_c_library(), name)]


class Loader:
    """Puts object files into this process, for good: their addresses are used until it ends."""

    def __init__(self) -> None:
        machine = target_machine(host())
        llvm.load_library_permanently(_c_library_name())
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)

    def load(self, code: bytes, symbol: str) -> int:
        """The address of `symbol`, defined by the object file `code`."""
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        address = self._engine.get_function_address(symbol)
        if not address:
            raise EngineError(f"The machine code of {symbol} could not be loaded.")
        return int(address)


def _c_library_name() -> str:
    """The library that defines expf, memset and sched_yield; opening it finds what it depends on too."""
    names = {"linux": "libm.so.6", "darwin": "libSystem.dylib", "win32": "ucrtbase.dll"}
    return names.get(sys.platform, "libm.so")


@functools.cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(_c_library_name())
