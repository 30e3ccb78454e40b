"""Damaged files of every kind, a few hundred each. tests/faults/fuzz.py feeds as many as wanted."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults.edits import KINDS, Edit, edited
from faults.fuzz import Watch, outcome
from faults.readers import Reader, readers, same

ROOT = Path(__file__).parents[1]
NAMES = (
    *("idx", "csv", "npy", "npz", "cifar10-binary", "cifar10-archive", "cifar10-mosaic", "cifar10-jpegs"),
    *("image", "model", "config"),
)
EDITS = st.lists(
    st.builds(Edit, st.sampled_from(KINDS), st.floats(0, 1), st.integers(0, (1 << 32) - 1)),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def known(folder):
    return readers(folder)


@pytest.fixture(scope="module")
def watch():
    return Watch()


def test_every_reader_is_here(known):
    assert set(NAMES) == known.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_is_read(name, known, watch, folder):
    reader = known[name]
    for content, wrap in reader.seeds:
        (folder / reader.file).write_bytes(wrap(content))
        assert outcome(reader, folder / reader.file, watch, guarded=True) == "read"


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused(name, known, watch, folder):
    """No other error, no warning, no other file opened."""
    reader = known[name]
    path = folder / reader.file

    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data):
        (content, wrap), (other, _) = (data.draw(st.sampled_from(reader.seeds)) for _ in range(2))
        path.write_bytes(wrap(edited(content, data.draw(EDITS), other)))
        assert outcome(reader, path, watch, guarded=wrap is same) in ("read", "refused")

    check()


# What the command finds


def raises(path):
    raise KeyError("header")


def warns(path):
    warnings.warn("odd", stacklevel=1)


def opens_another(path):
    path.with_name("secret").read_bytes()


def starts_a_process(path):
    subprocess.run(["true"], check=True)


def hangs(path):
    while True:
        pass


def takes_memory(path):
    np.ones(1 << 30)


FAULTS = {
    raises: "KeyError: 'header'",
    warns: "UserWarning: odd",
    opens_another: "secret",
    starts_a_process: "subprocess.Popen",
    hangs: "TooLong",
    takes_memory: "MemoryError",
}


def run(read, *arguments):
    """The command with one reader, in a process of its own because it limits the memory of that."""
    program = (
        "import sys; sys.path.insert(0, 'tests'); import test_hostile_files as t; from faults import fuzz;"
        "from faults.readers import Reader, same;"
        f"fuzz.readers = lambda folder: {{'it': Reader('it', t.{read.__name__}, [(b'seed', same)])}};"
        "fuzz.warm_up = lambda *_: None;"
        f"sys.exit(fuzz.main({[*arguments]!r}))"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("read", FAULTS, ids=lambda read: read.__name__)
def test_a_faulty_reader_is_found_and_its_file_kept(read, tmp_path):
    keep = tmp_path / "kept"
    done = run(read, "--inputs", "1", "--seconds", "0.3", "--keep", str(keep))
    assert done.returncode == 1, done.stderr
    assert FAULTS[read] in done.stdout and "it: 1 inputs, 0 read, 0 refused, 1 failed" in done.stdout
    saved, report = sorted(keep.iterdir())
    assert saved.name == "it-0-0" and FAULTS[read] in report.read_text()


def test_a_file_altered_without_notice_is_found(folder, watch):
    reader = Reader("it", lambda path: path.read_text(), [(b"seed", same)], frozenset({"seed"}))
    for content, verdict in ((b"seed", "read"), (b"sead", "A damaged file was read as another one.")):
        (folder / "it").write_bytes(content)
        assert outcome(reader, folder / "it", watch, guarded=True) == verdict


def test_the_command_ends_well_where_nothing_fails(tmp_path):
    """A hundred files a reader, under a limit of memory and time."""
    command = [sys.executable, "tests/faults/fuzz.py", "--reader", *NAMES, "--inputs", "100", "--seed", "7"]
    done = subprocess.run([*command, "--keep", str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
        f"{name}: 100 inputs" for name in NAMES
    ]
    assert list(tmp_path.iterdir()) == []
