"""What code is generated for: vector width, registers, caches. Asked of LLVM and the system."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from pathlib import Path

import llvmlite.binding as llvm

from glassnet.errors import EngineError

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Cpu:
    """A processor, in the words of LLVM, with `registers` usable vector registers of `lanes` float32.

    `split`: the widest vectors are executed in two halves (Zen 4), so that vectors of half the width
    compute as much per cycle. `l1` and `l2` are the sizes of a core's data caches in bytes.
    """

    name: str
    features: str
    triple: str
    lanes: int
    registers: int
    split: bool = False
    l1: int = 32 << 10
    l2: int = 512 << 10

    def limited(self, lanes: int) -> Cpu:
        """The same processor without its vectors wider than `lanes` float32: 8 leaves AVX2 of AVX-512."""
        if lanes >= self.lanes:
            return self
        without = "avx512" if lanes == 8 else "avx"
        features = ",".join(
            f"-{f[1:]}" if f[1:].startswith((without, "evex")) else f for f in self.features.split(",")
        )
        return replace(self, features=features, lanes=lanes, registers=16, split=False)


@functools.cache
def host() -> Cpu:
    """The processor this process runs on."""
    features = llvm.get_host_cpu_features()
    name, triple = llvm.get_host_cpu_name(), llvm.get_process_triple()
    if features.get("avx512f") and features.get("avx512vl"):
        lanes, registers = 16, 32
    elif features.get("avx2") and features.get("fma"):
        lanes, registers = 8, 16
    else:
        lanes, registers = 4, 16 if triple.startswith("x86") else _NEON_REGISTERS
    caches = {1: 32 << 10, 2: 512 << 10} | _data_caches()
    return Cpu(name, features.flatten(), triple, lanes, registers, name == "znver4", caches[1], caches[2])


def processor(name: str) -> Cpu:
    """ "host", or "x86-64-v3", any x86 with AVX2: the same code, and so the same bits, on all of them."""
    if name == "host":
        return host()
    triple = llvm.get_process_triple()
    if host().lanes < 8 or not triple.startswith("x86_64"):
        raise EngineError(f"processor={name!r} needs an x86 processor with AVX2. Use processor='host'.")
    return Cpu(name, "", triple, lanes=8, registers=16)


# Of 32: without operands in memory, generated code needs three for numbers on their way.
_NEON_REGISTERS = 29
AARCH64 = Cpu("neoverse-n1", "+neon", "aarch64-unknown-linux-gnu", lanes=4, registers=_NEON_REGISTERS)


def _data_caches() -> dict[int, int]:
    """Bytes of the data cache of each level that Linux reports; empty elsewhere."""
    sizes = {}
    for index in sorted(_CACHES.glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction" and (kilobytes := re.fullmatch(r"(\d+)K", size)):
            sizes[int(level)] = int(kilobytes[1]) << 10
    return sizes
