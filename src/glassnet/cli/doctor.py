"""glassnet doctor."""

from __future__ import annotations

import os
import platform
from typing import Any

from glassnet import __version__
from glassnet.backends import BACKENDS, choose_backend
from glassnet.cli.output import JsonFlag, Output
from glassnet.data.catalog import user_cache
from glassnet.errors import MissingEngineError
from glassnet.recipes.result import installed
from glassnet.summary import table

PACKAGES = ("numpy", "numba", "llvmlite", "pillow", "safetensors", "threadpoolctl", "matplotlib")


def doctor(json: JsonFlag = False) -> None:
    """Show what runs where.

    Versions, what the processor can do, which backend runs, and where files are kept.

    Example: glassnet doctor
    """
    facts = {
        "glassnet": __version__,
        "python": platform.python_version(),
        **{name: installed(name) for name in PACKAGES},
        **processor(),
        **{f"backend {name}": runs(name) for name in BACKENDS},
        "data folder": os.environ.get("GLASSNET_DATA") or "not set (GLASSNET_DATA)",
        "download cache": str(user_cache()),
    }
    output = Output(json)
    output.say(*table(("what", "here"), list(facts.items()), left=2))
    output.result(**facts)


def processor() -> dict[str, Any]:
    """What code would be compiled for, and where it is kept."""
    try:
        from glassnet.engine.machine import cache, cpu
    except MissingEngineError:
        return {"processor": platform.machine()}
    host = cpu.host()
    return {
        "processor": f"{host.name}, {os.cpu_count()} logical cores",
        "vectors": f"{host.lanes} float32 wide, {host.registers} registers",
        "caches": f"L1 {host.l1 >> 10} KiB, L2 {host.l2 >> 10} KiB",
        "machine code": str(cache.folder()),
    }


def runs(name: str) -> str:
    """What a backend setting leads to, once all that it needs has been imported."""
    try:
        backend = choose_backend(name)
        if backend == "compiled":
            from glassnet.engine.machine.kernel import compiler

            compiler()
    except MissingEngineError as error:
        return str(error) if name == "compiled" else f"runs on reference. {error}"
    return f"runs on {backend}"
