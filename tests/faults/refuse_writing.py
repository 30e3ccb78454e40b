"""Save a checkpoint where the system refuses it, see the earlier one load, mend the place, and save again.

python tests/faults/refuse_writing.py FOLDER size-limit

Faults: size-limit, read-only-folder; inside `unshare -rm` also full-disk, read-only-disk, on a small tmpfs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from glassnet.errors import CheckpointError
from glassnet.runs.checkpoint import Checkpoints

NOBODY = 65534


def state(step):
    return {"w": np.random.default_rng(step).random((100, 100), np.float32)}


@contextmanager
def size_limit(run: Path) -> Iterator[None]:
    """No file may grow beyond 20 kB: half of the tensors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only_folder(run: Path) -> Iterator[None]:
    """A user who may read and not write; permissions do not stop root."""
    user, folder = os.geteuid(), run / "checkpoints"
    run.chmod(0o755)
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(user)
    folder.chmod(0o755)


@contextmanager
def full_disk(run: Path) -> Iterator[None]:
    """A disk with 20 kB left."""
    filler = run / "filler"
    free = os.statvfs(run).f_bavail * os.statvfs(run).f_frsize
    filler.write_bytes(bytes(free - 20_000))
    yield
    filler.unlink()


@contextmanager
def read_only_disk(run: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", run.absolute()], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", run.absolute()], check=True)


FAULTS = {
    "size-limit": size_limit,
    "read-only-folder": read_only_folder,
    "full-disk": full_disk,
    "read-only-disk": read_only_disk,
}


def loads(checkpoints, step):
    """Whether the newest is that step, bit by bit."""
    tensors, facts = checkpoints.latest()
    return facts == {"step": step} and tensors["w"].tobytes() == state(step)["w"].tobytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("fault", choices=FAULTS)
    options = parser.parse_args()
    if options.fault.endswith("disk"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", options.folder], check=True)
    os.chdir(options.folder)  # so that another user need not pass through the folders above
    checkpoints = Checkpoints("checkpoints")
    for step in (1, 2):
        checkpoints.save(state(step), {"step": step})
    with FAULTS[options.fault](Path()):
        before = sorted(os.listdir("checkpoints"))
        try:
            checkpoints.save(state(3), {"step": 3})
        except CheckpointError as error:
            print(error)
        else:
            sys.exit(f"The {options.fault} did not stop the checkpoint.")
        if sorted(os.listdir("checkpoints")) != before or not loads(Checkpoints("checkpoints"), 2):
            sys.exit("The checkpoints were changed.")
    checkpoints.save(state(3), {"step": 3})
    if not loads(Checkpoints("checkpoints"), 3):
        sys.exit("The next checkpoint does not load.")


if __name__ == "__main__":
    main()
