"""Save checkpoints in a process that is killed at a random moment, many times, and load what it left.

python tests/faults/kill_saving.py FOLDER --times 200
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from glassnet.runs.checkpoint import Checkpoints


def state(step):
    """The tensors of that step, some 100 kB."""
    generator = np.random.default_rng(step)
    return {"w": generator.random((160, 160), np.float32), "step": np.array([step])}


def save_for_ever(folder, done):
    """Save step after step from the newest on; tell of each that is saved."""
    checkpoints = Checkpoints(folder)
    step = checkpoints.latest()[1]["step"]
    while True:
        step += 1
        checkpoints.save(state(step), {"step": step})
        os.write(done, step.to_bytes(8, "little"))


def killed(folder, seconds):
    """The last step that a process told of (or None) before it was killed after so many seconds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            save_for_ever(folder, writing)
        finally:
            os._exit(1)  # only an error comes here
    os.close(writing)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        sys.exit("The saving process failed before it was killed.")
    with os.fdopen(reading, "rb") as file:
        told = file.read()
    return int.from_bytes(told[-8:], "little") if told else None


def unfinished(folder):
    """Parts of files, and tensors without a manifest: what kills inside a save leave, until the next save."""
    names = {path.name for path in folder.iterdir()}
    return {n for n in names if n.endswith(".part") or n.replace(".safetensors", ".json") not in names}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments, inside, last = random.Random(options.seed), 0, 5
    start = time.perf_counter()
    for step in range(1, last + 1):
        Checkpoints(options.folder).save(state(step), {"step": step})
    one_save = (time.perf_counter() - start) / last
    for _ in range(options.times):
        before = unfinished(options.folder)
        told = killed(options.folder, moments.uniform(0, 4 * one_save))
        inside += bool(unfinished(options.folder) - before)
        tensors, facts = Checkpoints(options.folder).latest()
        last = last if told is None else told
        if facts["step"] not in (last, last + 1):
            sys.exit(f"Step {last} was saved, but step {facts['step']} was loaded.")
        last = facts["step"]
        for name, array in state(last).items():
            if tensors[name].tobytes() != array.tobytes():
                sys.exit(f"Step {last} was loaded with another {name}.")
    print(f"{options.times} killed, {inside} of them inside a save, all loaded; step {last}.")


if __name__ == "__main__":
    main()
