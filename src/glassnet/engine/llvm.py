"""LLVM: from IR to machine code for a processor, and from there to an address in this process."""

from __future__ import annotations

import ctypes
import functools
import sys

import llvmlite.binding as llvm

from glassnet.engine.cpu import Cpu, host
from glassnet.errors import EngineError


@functools.cache
def target_machine(cpu: Cpu) -> llvm.TargetMachine:
    """LLVM's code generator for `cpu`, which need not be this machine."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    reloc = "static" if cpu.triple.startswith("x86") else "default"
    return llvm.Target.from_triple(cpu.triple).create_target_machine(
        cpu=cpu.name, features=cpu.features, opt=3, reloc=reloc, codemodel="jitdefault", jit=True
    )


def optimise(module: llvm.ModuleRef, cpu: Cpu) -> None:
    """Run LLVM's -O3 pipeline, vectorisers included, over `module` for `cpu`."""
    options = llvm.create_pipeline_tuning_options(3)
    options.loop_vectorization = options.slp_vectorization = True
    passes = llvm.create_pass_builder(target_machine(cpu), options)
    passes.getModulePassManager().run(module, passes)


def export_only(module: llvm.ModuleRef, symbol: str, entry: str) -> None:
    """Rename the function `entry` to `symbol`; make all else private, so that LLVM can inline or drop it.

    Private names are numbered anew: Numba's hold counters, and the same kernel is to give the same bytes.
    """
    module.get_function(entry).name = symbol
    items = [item for group in (module.functions, module.global_variables) for item in group]
    for number, item in enumerate(items):
        if not item.is_declaration and item.name != symbol:
            item.name, item.linkage = f"{symbol}_{number}", "internal"


def missing_symbols(module: llvm.ModuleRef) -> list[str]:
    """What `module` calls or reads that no C library provides."""
    declared = [item for items in (module.functions, module.global_variables) for item in items]
    names = [item.name for item in declared if item.is_declaration and not item.name.startswith("llvm.")]
    return [name for name in names if not hasattr(_c_library(), name)]


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
