"""NumPy's files: arrays in both namings, and the ways in which a file can promise what it has not."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from glassnet.data.npz import load_npz, read_npy, read_npz
from glassnet.errors import DataError, FileFormatError
from messages import message_of


@pytest.fixture
def images(generator):
    return generator.integers(0, 256, (6, 4, 5), np.uint8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_both_namings(tmp_path, images, save):
    labels = np.arange(6) % 3
    save(tmp_path / "plain.npz", images=images, labels=labels, other=np.zeros(3))
    data = load_npz(tmp_path / "plain.npz")
    assert np.array_equal(data.train.images[..., 0], images) and data.test is None and data.name == "plain"
    save(
        tmp_path / "keras.npz", x_train=images, y_train=labels[:, None], x_test=images[:2], y_test=labels[:2]
    )
    data = load_npz(tmp_path / "keras.npz", classes=["a", "b", "c"], normalise=False)
    assert data.train.labels.tolist() == labels.tolist() and len(data.test) == 2 and data.val is None
    assert data.classes == ("a", "b", "c") and data.preprocessing.mean == (0.0,)
    save(tmp_path / "both.npz", images=images, labels=labels, x_test=images[:2], y_test=labels[:2])
    data = load_npz(tmp_path / "both.npz")
    assert (len(data.train), len(data.test)) == (6, 2) and data.val is None


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0, dtype=">f4").reshape(2, 3, 4),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(["cat", "dög"]),
        np.array(5.0),
        np.zeros((0, 3)),
        np.array([True, False]),
    ],
    ids=str,
)
def test_arrays_are_as_numpy_reads_them(tmp_path, array):
    for version in ((1, 0), (2, 0), (3, 0)):
        with (tmp_path / "a.npy").open("wb") as file:
            np.lib.format.write_array(file, array, version)
        found = read_npy(tmp_path / "a.npy")
        assert found.dtype == array.dtype and np.array_equal(found, array)


def npz_of(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy_of(array=None, *, header=None, values=b""):
    """The bytes of a .npy file of this array, or with this text as its header."""
    if header is not None:
        return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + values
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def described(dtype="'<f8'", shape="(2,)"):
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"


def test_missing_arrays_are_named(tmp_path, images):
    path = tmp_path / "a.npz"
    wanted = f"{path} must hold x_train and y_train, or images and labels, got"
    known = "Known: images, labels, x_test, x_train, x_val, y_test, y_train, y_val."
    for arrays, found in (
        ({}, "no arrays."),
        ({"X_train": images, "y_train": images}, "X_train, y_train. Did you mean 'x_train'?"),
        ({"x_train": images, "x_test": images}, "x_train, x_test."),
    ):
        np.savez(path, **arrays)
        assert message_of(FileFormatError, load_npz, path) == f"{wanted} {found}"
    np.savez(path, images, images)
    assert message_of(FileFormatError, load_npz, path) == f"{wanted} arr_0, arr_1. {known}"
    np.savez(path, x_train=images, y_train=np.arange(6), x_test=images)
    assert message_of(FileFormatError, load_npz, path) == (
        f"{path} must hold x_test and y_test, but has only one of them."
    )
    np.savez(path, images=images.astype(int), labels=np.arange(6))
    assert "must be uint8 (0 to 255) or float (0 to 1), got int64" in message_of(DataError, load_npz, path)


PROBLEMS = {
    "other": (b"PNG", " is no NumPy array: it must begin with b'\\x93NUMPY', found b'PNG'."),
    "short": (npy_of(np.arange(2.0))[:-1], " must have 144 bytes for float64 (2,), but has 143."),
    "long": (npy_of(np.arange(2.0)) + b"\0", " must have 144 bytes for float64 (2,), but has 145."),
    "huge": (
        npy_of(header=described(shape="(1000000, 1000000)")),
        " is float64 (1000000, 1000000), but at most 1000000000 bytes are read. Raise max_bytes.",
    ),
    "empty": (
        npy_of(header=described(shape="(0, 1000000000, 1000000000)")),
        " is float64 (0, 1000000000, 1000000000), but at most 1000000000 bytes are read. Raise max_bytes.",
    ),
    "no width": (
        npy_of(header=described("'<U0'")),
        " must have a header of at most 4096 bytes that describes an array of numbers or texts, found "
        f"{described(chr(39) + '<U0' + chr(39))!r}.",
    ),
    "kind": (
        npy_of(header=described("'<f3'")),
        " has values of an unknown type: data type '<f3' not understood.",
    ),
    "axes": (npy_of(header=described(shape=f"({'1, ' * 9})")), " must have at most 8 dimensions, but has 9."),
}
PROBLEMS["objects"] = (
    npy_of(header=described("'|O'")),
    " holds Python objects, but must hold numbers or texts. "
    "Save labels.astype(str), or images of one size as one array.",
)
for name, dtype in {"fields": "[('a', '<f8')]", "code": "__import__('os')"}.items():
    PROBLEMS[name] = (
        npy_of(header=described(dtype)),
        " must have a header of at most 4096 bytes that describes an array of numbers or texts, found "
        f"{described(dtype)!r}.",
    )


@pytest.mark.parametrize(("content", "message"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_wrong_array_is_refused(tmp_path, content, message):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    assert message_of(FileFormatError, read_npy, path) == f"{path}{message}"
    packed = npz_of(tmp_path / "a.npz", {"images.npy": content})
    assert message_of(FileFormatError, read_npz, packed) == f"{packed}: images{message}"


def test_headers_that_go_on_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    for header in (
        described() + " " * 5000,
        described(shape="(-2,)"),
        described(shape="(2, , 2)"),
        "{" * 200,
    ):
        path.write_bytes(npy_of(header=header, values=bytes(16)))
        assert "must have a header of at most 4096 bytes" in message_of(FileFormatError, read_npy, path)


def test_a_bomb_takes_no_memory(tmp_path):
    """A member of 64 MB of zeros that says so, over the limit; and one that hides what it unpacks to."""
    bomb = npz_of(
        tmp_path / "bomb.npz", {"images.npy": npy_of(np.zeros(8 << 20))}, compression=zipfile.ZIP_DEFLATED
    )
    content = bytearray(bomb.read_bytes())
    place = content.rfind(b"PK\x01\x02")
    struct.pack_into("<L", content, place + 24, 1 << 31)
    liar = tmp_path / "liar.npz"
    liar.write_bytes(content)
    tracemalloc.start()
    assert message_of(FileFormatError, read_npz, bomb, max_bytes=1 << 20) == (
        f"{bomb}: images is float64 ({8 << 20},), but at most {1 << 20} bytes are read. Raise max_bytes."
    )
    assert "promises 2147483648 bytes, more than" in message_of(FileFormatError, read_npz, liar)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 21


def test_the_limit_is_for_all_arrays_together(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(100), b=np.zeros(100))
    assert read_npz(tmp_path / "a.npz", max_bytes=1600)["b"].nbytes == 800
    assert "b is float64 (100,), but at most 799 bytes are read" in message_of(
        FileFormatError, read_npz, tmp_path / "a.npz", max_bytes=1599
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_refused(tmp_path, method):
    path = npz_of(tmp_path / "a.npz", {"images.npy": npy_of(np.zeros(9))}, compression=method)
    assert message_of(FileFormatError, read_npz, path) == (
        f"{path}: 'images.npy' must be stored or deflated, and not encrypted."
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_are_none_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=np.arange(40))
    whole = path.read_bytes()
    for length in (0, 10, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert message_of(FileFormatError, read_npz, path) == (
            f"{path} is truncated or no zip file: it must end as a zip file without a comment does."
        )
    path.write_bytes(whole[:200] + b"?" + whole[201:])
    assert message_of(FileFormatError, read_npz, path) == (
        f"{path} is a truncated or altered zip file: Bad CRC-32 for file 'images.npy'."
    )
    path.write_bytes(whole[:-10] + struct.pack("<L", 5 << 20) + whole[-6:])
    assert message_of(FileFormatError, read_npz, path) == (
        f"{path} has a list of members of {5 << 20} bytes, but at most {4 << 20} are read."
    )
    with zipfile.ZipFile(path, "w") as archive:
        for _ in range(2):
            archive.writestr("images.npy", b"")
    assert message_of(FileFormatError, read_npz, path) == f"{path} has 2 members, but only 1 names."
