"""Damage to a file, and what comes of it: each load in a process of its own, which may crash or hang."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

SECONDS = 60
SHARES = (0.0, 0.25, 0.5, 0.75)


def cuts(content: bytes) -> list[bytes]:
    """The start of it: nothing, a quarter, half, three quarters, and all but the last byte."""
    return [*(content[: int(share * len(content))] for share in SHARES), content[:-1]]


def flips(content: bytes, count: int) -> Iterator[bytes]:
    """With one bit changed, anywhere."""
    source = random.Random(len(content))
    for _ in range(count):
        place = source.randrange(len(content))
        yield content[:place] + bytes([content[place] ^ 1 << source.randrange(8)]) + content[place + 1 :]


def outcomes(load: Callable[[], str], path: Path, contents: Iterable[bytes]) -> Counter[str]:
    """What `load` makes of each damaged content of the file at `path`, which is whole before and after."""
    found: Counter[str] = Counter()
    original = path.read_bytes()
    known = {load(): "read as it was"}
    path.write_bytes(b"")
    with suppress(Exception):
        known[load()] = "noticed, the one before read"
    for content in contents:
        path.write_bytes(content)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            os.write(write, verdict(load, known).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as file:
            told = file.read()
        os.waitpid(child, 0)
        found[told or "CRASHED"] += 1
    path.write_bytes(original)
    return found


def verdict(load: Callable[[], str], known: Mapping[str, str]) -> str:
    """What the file was read as, or that it was refused."""
    try:
        return known.get(load(), "READ AS ANOTHER")
    except Exception:
        return "refused"
