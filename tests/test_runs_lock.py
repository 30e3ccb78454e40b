"""One process in a run folder: the second is refused, and a dead one holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from glassnet.errors import RunFolderError
from glassnet.runs.lock import RunLock
from messages import message_of

SCRIPT = Path(__file__).parent / "faults" / "hold_lock.py"


@contextmanager
def other(folder, *options):
    """A process that tries to take the folder, after its first line."""
    one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # a process with threads is not to be forked
    program = [sys.executable, "-W", "error", SCRIPT, folder, *options]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=one_thread
    ) as process:
        yield process


def refusal(folder, holder):
    return f"The run folder {folder} is in use by {holder}. Wait until it is done, or stop it."


def refused(folder):
    return message_of(RunFolderError, RunLock(folder).__enter__)


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path):
    with other(tmp_path) as process:
        assert process.stdout.readline() == "held\n"
        assert refused(tmp_path) == refusal(tmp_path, f"process {process.pid}")
        process.stdin.close()
        process.wait()
        with RunLock(tmp_path):
            pass


def test_of_processes_that_come_at_once_one_gets_it(tmp_path):
    with other(tmp_path) as a, other(tmp_path) as b, other(tmp_path) as c:
        told = sorted(process.stdout.readline() for process in (a, b, c))
        assert told[2] == "held\n"
        assert all(line.startswith("The run folder . is in use by ") for line in told[:2])


def test_a_killed_process_holds_nothing(tmp_path):
    with other(tmp_path) as process:
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / ".lock").read_text() == str(process.pid)
        with RunLock(tmp_path):
            assert refused(tmp_path) == refusal(tmp_path, f"process {os.getpid()}")


def test_a_killed_process_holds_nothing_through_a_child_that_lives_on(tmp_path):
    with other(tmp_path, "--child") as process:
        child = int(process.stdout.readline())
        assert refused(tmp_path) == refusal(tmp_path, f"process {process.pid}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(child, 0)
        with RunLock(tmp_path):
            pass
        os.kill(child, signal.SIGKILL)


def test_a_child_that_ends_does_not_end_the_lock_of_its_parent(tmp_path):
    with other(tmp_path, "--child") as process:
        os.kill(int(process.stdout.readline()), signal.SIGTERM)
        assert refused(tmp_path) == refusal(tmp_path, f"process {process.pid}")


def test_the_folder_is_free_after_the_block_however_it_ends(tmp_path):
    with pytest.raises(ZeroDivisionError), RunLock(tmp_path):
        raise ZeroDivisionError
    lock = RunLock(tmp_path)
    for _ in range(2):
        with lock:
            assert "is in use by" in refused(tmp_path)
    with RunLock(tmp_path):  # while `lock` is still there
        pass
    assert (tmp_path / ".lock").read_text() == ""


def test_a_holder_that_is_not_known(tmp_path):
    with RunLock(tmp_path):
        for content in (b"", b"\xff", b"no number"):
            (tmp_path / ".lock").write_bytes(content)
            assert refused(tmp_path) == refusal(tmp_path, "another process")


def test_a_folder_that_is_not_there(tmp_path):
    path = tmp_path / "gone"
    assert refused(path) == f"There is no run folder {path}. Check its name."


def test_a_folder_that_cannot_be_written(tmp_path):
    with other(tmp_path, "--unprivileged") as process:
        assert process.stdout.readline() == (
            "The run folder . cannot be locked: Permission denied. "
            "Give this user the right to write there, or choose another place.\n"
        )
    tmp_path.chmod(0o755)
