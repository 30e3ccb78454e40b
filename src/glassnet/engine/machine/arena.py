"""Memory for a plan's buffers, in large pages where the system has them.

A core's second-level cache is indexed by physical addresses: with pages of 4 KiB it is luck whether buffers
that would fit in it do, and the same plan ran a third slower in one process than in the next.
"""

from __future__ import annotations

import contextlib
import mmap

import numpy as np

from glassnet.store import aligned

PAGE = 2 << 20


def arena(count: int) -> np.ndarray:
    """(count,) zero bytes, the first 64-byte aligned; small ones come from the usual pages."""
    if count < PAGE // 4 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return aligned(count, np.uint8)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # private, for a forked process must have its own
    region = mmap.mmap(-1, -(-count // PAGE) * PAGE + PAGE, flags=flags)
    with contextlib.suppress(OSError):  # a kernel without them
        region.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(region, np.uint8)
    start = -memory.ctypes.data % PAGE
    return memory[start : start + count]
