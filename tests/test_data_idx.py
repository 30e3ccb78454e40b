"""The idx reader: what it reads, and every way a file can be wrong."""

from __future__ import annotations

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from glassnet.data.idx import read_idx
from glassnet.errors import FileFormatError
from messages import message_of

VALUES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def idx_bytes(values=VALUES, *, sizes=None, kind=0x08, zeros=b"\0\0"):
    sizes = values.shape if sizes is None else sizes
    return zeros + bytes([kind, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + values.tobytes()


def file_of(tmp_path, content):
    path = tmp_path / "images"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(2, 3, 4), (None, 3, 4), (None, None, None)])
def test_reads_plain_and_gzipped(tmp_path, pack, shape):
    values = read_idx(file_of(tmp_path, pack(idx_bytes())), shape)
    np.testing.assert_array_equal(values, VALUES)
    assert values.dtype == np.uint8 and values.flags.writeable


PROBLEMS = {
    "another kind": (
        idx_bytes(zeros=b"PK"),
        "is no idx file: two zero bytes, a type and a rank must come first, not '504b0803'.",
    ),
    "empty": (b"", "is no idx file: two zero bytes, a type and a rank must come first, not ''."),
    "three bytes": (
        b"\0\0\x08",
        "is no idx file: two zero bytes, a type and a rank must come first, not '000008'.",
    ),
    "type": (idx_bytes(kind=0x0D), "must hold unsigned bytes (type 0x08), but its type is 0x0d."),
    "rank": (idx_bytes(VALUES[0]), "must have 3 dimensions, but has 2."),
    "header": (idx_bytes()[:9], "ends within its header."),
    "sizes": (idx_bytes(sizes=(2, 4, 3)), "must have sizes any x 3 x 4, but has 2 x 4 x 3."),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(("content", "message"), PROBLEMS.values(), ids=PROBLEMS)
def test_wrong_headers_are_refused(tmp_path, pack, content, message):
    assert problem(file_of(tmp_path, pack(content))) == message


def test_size_of_a_plain_file_must_be_exact(tmp_path):
    for content, size in ((idx_bytes() + b"\0", 41), (idx_bytes()[:-1], 39)):
        assert problem(file_of(tmp_path, content)) == (
            f"must have 40 bytes for its sizes (2, 3, 4), but has {size}."
        )


def test_gzipped_values_must_be_all_there_and_no_more(tmp_path):
    assert problem(file_of(tmp_path, gzip.compress(idx_bytes()[:-1]))) == (
        "must hold 24 values for sizes (2, 3, 4), but ends after 23."
    )
    assert problem(file_of(tmp_path, gzip.compress(idx_bytes() + b"\0"))) == (
        "goes on after the 24 values that its sizes (2, 3, 4) promise."
    )


def test_truncated_gzip_is_refused_wherever_it_is_cut(tmp_path):
    packed = gzip.compress(idx_bytes())
    for length in range(2, len(packed)):
        message = problem(file_of(tmp_path, packed[:length]))
        assert message == (
            "is a truncated or altered gzip file: "
            "Compressed file ended before the end-of-stream marker was reached."
        )


def test_altered_gzip_is_refused(tmp_path):
    packed = bytearray(gzip.compress(idx_bytes()))
    packed[-5] ^= 1
    assert problem(file_of(tmp_path, bytes(packed))).startswith(
        "is a truncated or altered gzip file: CRC check failed"
    )


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_promise_that_the_file_cannot_hold_takes_no_memory(tmp_path, pack):
    path = file_of(tmp_path, pack(idx_bytes(sizes=(100_000, 3, 4))))
    size = path.stat().st_size
    tracemalloc.start()
    message = problem(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000
    assert message == (
        f"must have 1200016 bytes for its sizes (100000, 3, 4), but has {size}."
        if pack is bytes
        else f"promises 1200000 values, more than {size} packed bytes can hold."
    )


def test_no_values_in_huge_sizes_are_refused(tmp_path):
    path = file_of(tmp_path, idx_bytes(sizes=(0, (1 << 32) - 1, (1 << 32) - 1))[:16])
    assert message_of(FileFormatError, read_idx, path, (None, None, None)) == (
        f"{path} has sizes (0, 4294967295, 4294967295), but at most 1000000000 values are read."
    )


def test_unpacking_takes_the_memory_of_the_values_only(tmp_path):
    path = file_of(tmp_path, gzip.compress(idx_bytes(np.zeros((1 << 22, 3, 4), np.uint8)), 1))
    tracemalloc.start()
    size = read_idx(path, (None, 3, 4)).nbytes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size < peak < 1.2 * size


def test_more_than_the_limit_is_not_read(tmp_path):
    path = file_of(tmp_path, gzip.compress(idx_bytes()))
    assert read_idx(path, (2, 3, 4), max_bytes=24).size == 24
    assert message_of(FileFormatError, read_idx, path, (2, 3, 4), max_bytes=23) == (
        f"{path} has sizes (2, 3, 4), but at most 23 values are read."
    )


def problem(path):
    """What is wrong with the file, without its path."""
    message, start = message_of(FileFormatError, read_idx, path, (None, 3, 4)), f"{path} "
    assert message.startswith(start)
    return message.removeprefix(start)
