"""Train small networks for as long as asked, and watch what the process holds.

    python tests/faults/soak.py --minutes 30

Fits follow one another: plans are made and dropped, run folders written, and sixteen threads predict with
each network. Every minute a line tells of the steps so far, resident memory, open files and threads. Exits
with 1 where the second half of the run held more than the first: over 4 MiB of memory, any file or thread.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import NamedTuple

import glassnet as gn
from glassnet.data import Dataset, load

MIB = 1 << 10  # KiB
ALLOWED = 4 * MIB
WARM_UP = 0.2
"""Of the time, what the first plans, pictures and threads may take."""


class Footprint(NamedTuple):
    """What this process holds: resident memory in KiB, open files, threads."""

    memory: int
    files: int
    threads: int


def footprint() -> Footprint:
    """Now, after what nobody holds is gone."""
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return Footprint(int(resident.split()[1]), len(os.listdir("/proc/self/fd")), threading.active_count())


def networks() -> list[list[gn.Layer]]:
    """Small ones, with state, dropout and branches."""
    return [
        [gn.Flatten(), gn.Linear(10)],
        [gn.Conv2d(2, 3), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten(), gn.Dropout(0.2), gn.Linear(10)],
        [gn.Conv2d(2, 3, bias=False), gn.BatchNorm2d(), gn.ReLU(), gn.Flatten(), gn.Linear(10)],
        [gn.Concat([[gn.Conv2d(2, 3)], [gn.MaxPool2d(3, stride=1)]]), gn.Flatten(), gn.Linear(10)],
    ]


def fit_once(number: int, data: Dataset, folder: Path) -> int:
    """Train one network, let sixteen threads predict with it, and tell how many steps it took."""
    nets = networks()
    net = gn.Sequential(nets[number % len(nets)], input_shape=data.image_shape, seed=number)
    optimizer = gn.SGD(lr=0.01, momentum=0.9) if number % 3 else gn.Adam(lr=0.001)
    run = gn.fit(net, data, epochs=100, batch_size=4, optimizer=optimizer, run_dir=folder)
    with ThreadPoolExecutor(16) as pool:
        first, *others = pool.map(lambda _: net.scores(data.test.images).tobytes(), range(64))
    if any(scores != first for scores in others):
        sys.exit("Sixteen threads got different predictions from one network.")
    return run.history[-1].step


def soak(minutes: float) -> list[tuple[float, Footprint]]:
    """(share of the time, footprint) after each fit; a line a minute."""
    data, start, seen = load("digits"), time.monotonic(), []
    steps, told = 0, 0.0
    print("minutes      fits       steps  memory MiB  files  threads", flush=True)
    for number in count():
        with tempfile.TemporaryDirectory() as folder:
            steps += fit_once(number, data, Path(folder) / "run")
        elapsed = (time.monotonic() - start) / 60
        seen.append((elapsed / minutes, footprint()))
        if elapsed >= told or elapsed >= minutes:
            now, told = seen[-1][1], elapsed + 1
            held = f"{now.memory / MIB:11.1f} {now.files:6} {now.threads:8}"
            print(f"{elapsed:7.1f} {number + 1:9} {steps:11,} {held}", flush=True)
        if elapsed >= minutes:
            return seen


def growth(seen: list[tuple[float, Footprint]]) -> Footprint:
    """The most that the last half held over the most of the time between warm-up and then."""
    middle = (1 + WARM_UP) / 2
    early = [held for share, held in seen if WARM_UP <= share < middle]
    late = [held for share, held in seen if share >= middle]
    if not early:
        sys.exit("The soak was too short to compare its halves. Give it more --minutes.")
    return Footprint(*(max(held[i] for held in late) - max(held[i] for held in early) for i in range(3)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    grown = growth(soak(parser.parse_args().minutes))
    print(f"growth: {grown.memory} KiB, {grown.files} files, {grown.threads} threads")
    if grown.memory > ALLOWED or grown.files > 0 or grown.threads > 0:
        sys.exit("Something grows.")


if __name__ == "__main__":
    main()
