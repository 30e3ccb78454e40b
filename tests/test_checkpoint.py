"""Checkpoints: the same bits back, and whatever happens to the newest, the one before is still there."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from glassnet.errors import CheckpointError, ConfigError, FileFormatError
from glassnet.io import manifest
from glassnet.io.tensors import HEADER_LIMIT
from glassnet.runs.checkpoint import Checkpoints
from messages import message_of

FAULTS = Path(__file__).parent / "faults"


def tensors(step):
    """One of each kind of tensor, with numbers that only the right bits give back."""
    generator = np.random.default_rng(step)
    return {
        "w": generator.normal(size=(3, 5)).astype(np.float32),
        "odd": np.array([-0.0, np.nan, np.inf, 5e-324, step]),
        "sum": np.array(step / 3),
        "index": generator.integers(-(2**63), 2**63 - 1, 7),
        "rows": generator.integers(0, 256, (4, 6), np.uint8)[:, ::2],
        "big_endian": np.array([step, 2.5], ">f4"),
    }


def facts(step):
    return {"step": step, "loss": 0.1 + step / 7, "history": [{"epoch": 1, "val": None}], "note": "größer"}


@pytest.fixture
def folder(tmp_path):
    """The checkpoints of a run after steps 1, 2 and 3: numbers 2 and 3."""
    folder = tmp_path / "run" / "checkpoints"
    folder.parent.mkdir()
    for step in (1, 2, 3):
        Checkpoints(folder).save(tensors(step), facts(step))
    return folder


def loaded(folder):
    """The step of the checkpoint that is used, after its bits were compared."""
    found, about = Checkpoints(folder).latest()
    step = about["step"]
    assert about == facts(step)
    assert found.keys() == tensors(step).keys()
    for name, array in tensors(step).items():
        assert found[name].shape == array.shape and found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes(), name
    return step


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def both(*numbers):
    return [f"{number:08d}.{kind}" for number in numbers for kind in ("json", "safetensors")]


def test_the_newest_comes_back_with_the_same_bits_and_the_two_last_are_kept(folder):
    assert loaded(folder) == 3
    assert names(folder) == both(2, 3)
    np.testing.assert_array_equal(load_file(folder / "00000003.safetensors")["w"], tensors(3)["w"])
    about = json.loads((folder / "00000003.json").read_text())
    assert about["facts"] == facts(3) and about["format"] == 1


def test_no_clock_decides_which_is_newest(folder):
    """Modification times as a clock that was set back between two saves leaves them."""
    for name in both(3):
        os.utime(folder / name, (0, 0))
    for name in both(2):
        os.utime(folder / name, (4e9, 4e9))
    assert loaded(folder) == 3
    Checkpoints(folder).save(tensors(4), facts(4))
    assert loaded(folder) == 4
    assert names(folder) == both(3, 4)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(3, np.float16), np.zeros(0), np.array(["a"]), np.array([None]), np.zeros((1,) * 9)],
    ids=lambda wrong: f"{wrong.dtype}-{wrong.ndim}",
)
def test_other_arrays_are_refused(folder, wrong):
    assert message_of(ConfigError, Checkpoints(folder).save, {"w": wrong}, {}) == (
        "A checkpoint holds float32, float64, int64 and uint8 arrays of 1 number or more in up to "
        f"8 dimensions, got 'w' of {wrong.dtype} {wrong.shape}."
    )
    assert loaded(folder) == 3 and names(folder) == both(2, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"loss": float("nan")}, "must be plain JSON values: Out of range float values"),
        ({"path": Path()}, "must be plain JSON values: Object of type"),
        ({"size": (1, 2)}, "must be lists, and dicts with texts as keys."),
        ({1: "a"}, "must be lists, and dicts with texts as keys."),
    ],
)
def test_facts_that_would_come_back_otherwise_are_refused(folder, wrong, message):
    found = message_of(ConfigError, Checkpoints(folder).save, tensors(4), wrong)
    assert found.startswith(f"The facts of a checkpoint {message}")
    assert loaded(folder) == 3


# Damage.


def lengths(size):
    """Where a file may be cut: at its ends, around what is there, and anywhere."""
    generator = np.random.default_rng(size)
    return {*range(20), *range(size - 20, size), *generator.integers(0, size, 40).tolist()}


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_a_truncated_checkpoint_is_named_and_the_one_before_is_used(folder, kind, caplog):
    path = folder / f"00000003.{kind}"
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    ends = lengths(len(whole)) | ({header - 1, header, header + 1} if kind == "safetensors" else set())
    for length in ends:
        path.write_bytes(whole[:length])
        caplog.clear()
        assert loaded(folder) == 2, length
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.message.startswith(
            f"A checkpoint is passed over, for the one before it: {path} is truncated or altered: "
        )
    path.write_bytes(whole + b"\0")
    assert loaded(folder) == 2
    path.unlink()
    assert loaded(folder) == 2


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_no_flipped_bit_changes_what_is_loaded(folder, kind, generator):
    """All bits of the first bytes, and one bit of each other byte; a manifest's blanks say nothing."""
    path = folder / f"00000003.{kind}"
    data = bytearray(path.read_bytes())
    places = [(i, 1 << bit) for i in range(12) for bit in range(8)]
    places += [(i, 1 << int(generator.integers(8))) for i in range(12, len(data))]
    used = []
    for i, mask in places:
        data[i] ^= mask
        path.write_bytes(data)
        data[i] ^= mask
        used.append(loaded(folder))
    assert set(used) <= {2, 3}
    assert used.count(3) == 0 if kind == "safetensors" else used.count(3) < 0.05 * len(used)


def test_where_none_is_whole_the_run_cannot_be_resumed(folder, tmp_path):
    for path in folder.glob("*.json"):
        path.write_bytes(path.read_bytes()[:-1])
    advice = f"Train again: the run's settings are in {tmp_path / 'run' / 'config.toml'}."
    assert message_of(CheckpointError, Checkpoints(folder).latest) == (
        f"Nothing can be resumed from {folder}: none of the 2 checkpoints there is whole. {advice}"
    )
    for empty in (folder, tmp_path / "run" / "gone"):
        shutil.rmtree(folder, ignore_errors=True)
        message = message_of(CheckpointError, Checkpoints(empty).latest)
        assert message == f"Nothing can be resumed from {empty}: there is no checkpoint. {advice}"


def test_a_damaged_checkpoint_does_not_take_the_place_of_a_whole_one(folder):
    (folder / "00000003.safetensors").write_bytes(b"")
    checkpoints = Checkpoints(folder)
    assert checkpoints.latest()[1]["step"] == 2
    checkpoints.save(tensors(4), facts(4))
    assert names(folder) == both(2, 4)


def test_what_a_killed_process_left_goes_with_the_next_save(folder):
    (folder / "00000004.safetensors").write_bytes(b"no manifest")
    (folder / ".00000005.json.77.part").write_bytes(b"{")
    (folder / "notes.txt").write_text("not ours")
    assert loaded(folder) == 3
    Checkpoints(folder).save(tensors(4), facts(4))
    assert loaded(folder) == 4
    assert names(folder) == [*both(3, 6), "notes.txt"]


# Files that fit their checksums, but are not what they say.


def hostile(folder, data=None, **changes):
    """Why the newest is passed over, once its tensors are `data` and its manifest has these changes."""
    path = folder / "00000003.json"
    about = json.loads(path.read_text())
    del about["manifest_sha256"]
    if data is not None:
        manifest.tensors_path(path).write_bytes(data)
        about |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    about |= changes
    path.write_text(json.dumps(about | {"manifest_sha256": manifest.checksum(about)}))
    return message_of(FileFormatError, manifest.read, path).removeprefix(f"{folder}/00000003")


def header(length=None, **entry):
    """A file with one tensor of two float32, or what these changes make of its description."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | entry
    text = json.dumps({"w": entry}).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + bytes(8)


START = f"it must begin with a header's length of at most {HEADER_LIMIT}"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header(1 << 62), f"{START} in 8 bytes, found 4611686018427387904 in 8."),
        (header(dtype="BOOL"), "its header cannot be read (dtype must be F32 or F64 or I64 or U8, got BOOL)"),
        (header(dtype=["F32"]), "its header cannot be read (unhashable type"),
        (header(shape=[1 << 62, 4]), "its header cannot be read (a tensor [4611686018427387904, 4] cannot "),
        (header(dtype="F64"), "its header cannot be read (a tensor [2] cannot take bytes 0 to 8)"),
        (b"", f"{START} in 8 bytes, found 0 in 0."),
    ],
    ids=["length", "dtype", "list", "shape", "size", "nothing"],
)
def test_a_header_is_believed_only_within_bounds(folder, data, reason):
    message = hostile(folder, data)
    assert message.startswith(f".safetensors is no glassnet model: {reason}")
    assert loaded(folder) == 2


def test_manifests_are_believed_only_within_bounds(folder):
    assert hostile(folder, format=2, glassnet="9.0") == (
        ".json has format 2, written by glassnet 9.0; this glassnet reads format 1. "
        "A newer one reads newer files: pip install --upgrade glassnet."
    )
    assert hostile(folder, format=1, facts=[]) == ".json is incomplete: it lacks facts."
    assert hostile(folder, facts={}, bytes="12") == ".json is incomplete: it lacks bytes."
    path = folder / "00000003.json"
    for text in (b"[" * 100_000, b"5", b"{}", b"\xff", b'{"manifest_sha256": 1e999}', b"9" * 5000):
        path.write_bytes(text)
        assert "altered: " in message_of(FileFormatError, manifest.read, path)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert message_of(FileFormatError, manifest.read, path) == (
        f"{path} is no manifest: it has more than {HEADER_LIMIT} bytes."
    )
    assert loaded(folder) == 2


# Places where it cannot be written, and processes that end.


def test_a_disk_that_gives_back_something_else_is_noticed_before_the_old_ones_go(folder, monkeypatch):
    write = manifest.write_atomically

    def lying(path, data):
        write(path, data[:-1] + bytes([data[-1] ^ 1]) if path.suffix == ".safetensors" else data)

    monkeypatch.setattr(manifest, "write_atomically", lying)
    message = message_of(CheckpointError, Checkpoints(folder).save, tensors(4), facts(4))
    assert re.fullmatch(
        re.escape(f"A checkpoint cannot be written: {folder / '00000004.safetensors'} was altered: expected ")
        + r"SHA-256 \w{64}, found \w{64}\. Earlier ones are as they were\. "
        r"Make room or mend the place, then resume the run\.",
        message,
    )
    assert loaded(folder) == 3 and names(folder) == both(2, 3)


def test_a_run_folder_that_is_gone(folder):
    shutil.rmtree(folder.parent)
    assert message_of(CheckpointError, Checkpoints(folder).save, tensors(4), facts(4)) == (
        f"A checkpoint cannot be written: {folder}: No such file or directory. "
        "Earlier ones are as they were. Make room or mend the place, then resume the run."
    )


def test_a_file_where_the_folder_should_be(tmp_path):
    place = tmp_path / "checkpoints"
    place.write_text("")
    for call in (Checkpoints(place).latest, lambda: Checkpoints(place).save(tensors(1), facts(1))):
        assert "Not a directory" in message_of(CheckpointError, call)


def test_a_folder_of_checkpoints_that_is_gone_is_made_again(folder):
    shutil.rmtree(folder)
    Checkpoints(folder).save(tensors(4), facts(4))
    assert loaded(folder) == 4


def run_fault(script, *arguments, before=()):
    """What tests/faults/<script> prints."""
    program = [*before, sys.executable, "-W", "error", FAULTS / script, *map(str, arguments)]
    one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # a process with threads is not to be forked
    result = subprocess.run(program, capture_output=True, text=True, env=one_thread)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def can_mount():
    """Whether this user may mount a small disk, in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).returncode == 0


NAMESPACE = ("unshare", "-rm")
REFUSALS = {"size-limit": "File too large", "read-only-folder": "Permission denied"}
MOUNTED = {"full-disk": "No space left on device", "read-only-disk": "Read-only file system"}


@pytest.mark.parametrize("fault", [*REFUSALS, *(MOUNTED if can_mount() else ())])
def test_a_place_that_refuses_to_be_written(tmp_path, fault):
    before = NAMESPACE if fault in MOUNTED else ()
    assert run_fault("refuse_writing.py", tmp_path, fault, before=before) == (
        f"A checkpoint cannot be written: checkpoints/00000003.safetensors: {(REFUSALS | MOUNTED)[fault]}. "
        "Earlier ones are as they were. Make room or mend the place, then resume the run.\n"
    )


def test_a_process_killed_at_any_moment_leaves_one_that_loads(tmp_path):
    message = run_fault("kill_saving.py", tmp_path / "checkpoints", "--times", 60)
    found = re.fullmatch(r"60 killed, (\d+) of them inside a save, all loaded; step (\d+)\.\n", message)
    assert found is not None, message
    assert int(found[1]) > 5 and int(found[2]) > 10
