"""Hold a run folder until standard input ends, or say why not.

python tests/faults/hold_lock.py FOLDER [--child] [--unprivileged]

--child: fork a process that prints its number and sleeps on. --unprivileged: in a folder that only others may
write to.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from glassnet.errors import RunFolderError
from glassnet.runs.lock import RunLock

NOBODY = 65534


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--unprivileged", action="store_true")
    options = parser.parse_args()
    os.chdir(options.folder)
    if options.unprivileged:
        Path().chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(NOBODY)
    try:
        with RunLock(Path()):
            child = os.fork() if options.child else None
            if child == 0:
                print(os.getpid(), flush=True)  # by the child, which then has dropped what it inherited
                os.close(1)
                signal.pause()
            if not options.child:
                print("held", flush=True)
            sys.stdin.read()
    except RunFolderError as error:
        print(error, flush=True)


if __name__ == "__main__":
    main()
