"""CIFAR-10 in its three forms: the same images, and files that are cut, swapped or no images."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

import glassnet.data.cifar10 as cifar10
from glassnet.data import catalog
from glassnet.data.catalog import load
from glassnet.errors import ConfigError, DataError, FileFormatError
from messages import message_of

OFFICIAL_SHA256 = (
    "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
)
"""Of data_batch_1.bin to data_batch_5.bin."""


def records_of(images, labels):
    """(N, 32, 32, 3), (N,) -> the bytes of an official batch."""
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
    return np.column_stack([labels.astype(np.uint8), pixels]).tobytes()


# The real set


def test_the_mosaics_hold_the_official_batches_to_the_byte(real_data):
    data = load("cifar10")
    assert repr(data) == "Dataset('cifar10', train=50000, test=1000, image_shape=(32, 32, 3), classes=10)"
    assert data.train.counts().tolist() == [5000] * 10
    for i, sha256 in enumerate(OFFICIAL_SHA256):
        batch = data.train[i * 10_000 : (i + 1) * 10_000]
        assert hashlib.sha256(records_of(batch.images, batch.labels)).hexdigest() == sha256
    assert np.abs(data.train.inputs(np.arange(0, 50_000, 10)).mean(axis=(0, 1, 2))).max() < 0.02


def test_the_lossy_test_images_are_close_to_the_lossless(real_data):
    images, labels = cifar10.read_jpegs(real_data / "cifar10" / cifar10.JPEG_TEST, 10_000)
    assert np.bincount(labels).tolist() == [1000] * 10
    exact, exact_labels = cifar10.read_mosaic(real_data / "cifar10" / "test_first1000.png", (20, 50))
    cats = images[labels == 3].astype(np.int16)
    first = exact[exact_labels == 3][0]
    assert min(np.abs(cat - first).mean() for cat in cats) < 10


# Small sets, of 4 images a batch in place of 10,000


@pytest.fixture
def batches(generator, monkeypatch):
    """{file name: (images, labels)}."""
    monkeypatch.delenv("GLASSNET_DATA", raising=False)
    monkeypatch.setattr(cifar10, "BATCH", 4)
    monkeypatch.setattr(cifar10, "GRID", (2, 2))
    monkeypatch.setattr(cifar10, "TEST_GRID", (1, 4))
    return {
        name: (generator.integers(0, 256, (4, 32, 32, 3), np.uint8), generator.permutation(10)[:4])
        for name in cifar10.BINARIES
    }


@pytest.fixture
def folder(tmp_path, batches):
    """The official binaries."""
    for name, batch in batches.items():
        (tmp_path / name).write_bytes(records_of(*batch))
    return tmp_path


def archive_of(path, batches, *, prefix="cifar-10-batches-bin/", **changes):
    with tarfile.open(path, "w:gz") as archive:
        members = {name: records_of(*batch) for name, batch in reversed(batches.items())}
        for name, content in {"readme.html": b"<p>", **members, **changes}.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def put_mosaics(folder, batches):
    names = [*cifar10.MOSAICS, cifar10.MOSAIC_TEST]
    for name, (images, labels), grid in zip(names, batches.values(), [(2, 2)] * 5 + [(1, 4)], strict=True):
        tiles = images.reshape(*grid, 32, 32, 3).swapaxes(1, 2).reshape(grid[0] * 32, grid[1] * 32, 3)
        Image.fromarray(tiles).save(folder / name, lossless=True)
        (folder / name).with_suffix(".labels.u8").write_bytes(labels.astype(np.uint8).tobytes())


def assert_holds(data, batches):
    *train, (test, test_labels) = batches.values()
    assert np.array_equal(data.train.images, np.concatenate([images for images, _ in train]))
    assert np.array_equal(data.train.labels, np.concatenate([labels for _, labels in train]))
    assert np.array_equal(data.test.images, test) and np.array_equal(data.test.labels, test_labels)
    assert data.classes == cifar10.CLASSES


def test_reads_the_official_binaries(folder, batches, monkeypatch):
    assert_holds(load(folder), batches)
    named = folder / "data" / "cifar10" / "cifar-10-batches-bin"
    named.mkdir(parents=True)
    for name in batches:
        (folder / name).rename(named / name)
    monkeypatch.setenv("GLASSNET_DATA", str(folder / "data"))
    assert_holds(load("cifar10", cache=folder), batches)


@pytest.mark.parametrize("prefix", ["cifar-10-batches-bin/", "", "../../", "/tmp/"])
def test_reads_the_archive_wherever_its_members_say_they_lie(tmp_path, batches, prefix):
    (tmp_path / "cifar10").mkdir()
    path = archive_of(tmp_path / "cifar10" / cifar10.ARCHIVE, batches, prefix=prefix)
    assert_holds(load(path), batches)
    assert_holds(load("cifar10", cache=tmp_path), batches)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [cifar10.ARCHIVE]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing."""


def test_the_archive_is_downloaded_and_held_to_its_checksum(tmp_path, batches, monkeypatch):
    sent = archive_of(tmp_path / cifar10.ARCHIVE, batches)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(catalog, "MIRRORS", (f"http://127.0.0.1:{server.server_port}/",))
        wrong = message_of(DataError, load, "cifar10", cache=tmp_path / "cache")
        monkeypatch.setattr(catalog, "ARCHIVE_SHA256", hashlib.sha256(sent.read_bytes()).hexdigest())
        assert_holds(load("cifar10", cache=tmp_path / "cache"), batches)
        server.shutdown()
        thread.join()
    assert f"expected SHA-256 {cifar10.ARCHIVE_SHA256}, got " in wrong
    assert_holds(load("cifar10", cache=tmp_path / "cache"), batches)


def test_reads_the_mosaics(tmp_path, batches):
    put_mosaics(tmp_path, batches)
    assert_holds(load(tmp_path), batches)


def test_binaries_must_have_their_size(folder):
    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"\0", b""):
        path.write_bytes(content)
        assert message_of(FileFormatError, load, folder) == (
            f"{path} must have 12292 bytes, 4 records of 3073, but has {len(content)}."
        )
    path.write_bytes(whole[:3073] + b"\x0a" + whole[3074:])
    assert message_of(FileFormatError, load, folder) == (
        f"{path} must have labels from 0 to 9, but has 10 in record 1."
    )


def test_missing_files_are_named(folder, tmp_path, batches):
    (folder / "data_batch_2.bin").unlink()
    (folder / "test_batch.bin").unlink()
    assert message_of(DataError, load, folder) == (
        f"The folder {folder} lacks data_batch_2.bin, test_batch.bin of CIFAR-10."
    )
    archive = archive_of(tmp_path / "a.tar.gz", {name: batches[name] for name in cifar10.BINARIES[:5]})
    assert message_of(FileFormatError, load, archive) == f"{archive} lacks test_batch.bin."
    mosaics = tmp_path / "mosaics"
    mosaics.mkdir()
    put_mosaics(mosaics, batches)
    (mosaics / "data_batch_4.labels.u8").write_bytes(b"\0\1\2\xff")
    assert message_of(FileFormatError, load, mosaics) == (
        f"{mosaics / 'data_batch_4.labels.u8'} must have labels from 0 to 9, but has 255 in record 3."
    )
    (mosaics / "data_batch_4.labels.u8").unlink()
    assert message_of(DataError, load, mosaics) == (
        f"The folder {mosaics} lacks data_batch_4.labels.u8 of CIFAR-10."
    )


@pytest.mark.parametrize("place", ["", cifar10.UNPACKED])
@pytest.mark.parametrize("names", [cifar10.BINARIES, cifar10.MOSAICS])
def test_one_batch_makes_it_cifar10(tmp_path, names, place):
    folder = tmp_path / (place if names is cifar10.BINARIES else "")
    folder.mkdir(exist_ok=True)
    (folder / names[2]).touch()
    assert message_of(DataError, load, tmp_path).startswith(
        f"The folder {folder} lacks {names[0]}, {names[1]}, "
    )


def test_archives_must_be_whole(tmp_path, batches):
    path = archive_of(tmp_path / "a.tar.gz", batches, **{"data_batch_1.bin": bytes(12_291)})
    assert message_of(FileFormatError, load, path) == (
        f"{path}: 'data_batch_1.bin' must have 12292 bytes, but has 12291."
    )
    path = archive_of(tmp_path / "b.tar.gz", batches, **{"readme.html": bytes((1 << 20) + 1)})
    assert message_of(FileFormatError, load, path) == (
        f"{path}: 'readme.html' must have at most 1048576 bytes, but has 1048577."
    )
    whole = archive_of(path, batches).read_bytes()
    for length in (0, 1, 20, len(whole) // 2):
        path.write_bytes(whole[:length])
        assert str(path) in message_of(FileFormatError, load, path)


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch"])
def test_the_python_version_is_named(tmp_path, name):
    path = archive_of(tmp_path / "a.tar.gz", {}, prefix="cifar-10-batches-py/", **{name: bytes(2 << 20)})
    assert message_of(FileFormatError, load, path) == (
        f"{path} is the Python version of CIFAR-10, but must be the binary one, cifar-10-binary.tar.gz."
    )


def test_a_header_must_have_its_checksum(tmp_path, batches):
    path = archive_of(tmp_path / "a.tar.gz", batches)
    tar = bytearray(gzip.decompress(path.read_bytes()))
    tar[0] ^= 1
    path.write_bytes(gzip.compress(tar))
    assert message_of(FileFormatError, load, path).startswith(
        f"{path} is a truncated or altered tar file: a header must have the checksum "
    )


def test_links_and_folders_in_an_archive_are_not_followed(tmp_path, batches):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in batches:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    assert "lacks data_batch_1.bin" in message_of(FileFormatError, load, path)


def test_mosaics_must_have_their_size(tmp_path, batches):
    put_mosaics(tmp_path, batches)
    path = tmp_path / "data_batch_1.webp"
    Image.new("RGB", (64, 32)).save(path, "WEBP", lossless=True)
    assert message_of(FileFormatError, load, tmp_path) == (
        f"{path} must be an RGB image of (64, 64), (width, height), but is ('RGB', (64, 32))."
    )
    path.write_bytes(path.read_bytes()[:-9])
    assert message_of(FileFormatError, load, tmp_path).startswith(f"{path} is a truncated or altered image: ")
    labels = tmp_path / "data_batch_1.labels.u8"
    labels.write_bytes(b"\0\1\2")
    assert message_of(FileFormatError, load, tmp_path) == (
        f"{labels} must have 4 bytes, a label for each tile, but has 3."
    )


def test_jpegs_must_all_be_there(tmp_path, batches):
    path = tmp_path / cifar10.JPEG_TEST
    put_mosaics(tmp_path, batches)
    with zipfile.ZipFile(path, "w") as archive:
        for i, kind in enumerate(("ship", "cat", "../cat")):
            file = io.BytesIO()
            Image.new("RGB", (32, 32), (80 * i, 0, 0)).save(file, "JPEG")
            archive.writestr(f"test/{kind}/000{i}.jpg", file.getvalue())
    images, labels = cifar10.read_jpegs(path, 2)
    assert labels.tolist() == [3, 8] and images[0, 0, 0, 0] > 70
    assert message_of(FileFormatError, load, tmp_path, lossy_test=True) == (
        f"{path} must hold 4 images test/<class>/NNNN.jpg, but has 2."
    )


def test_a_jpeg_cannot_be_larger_than_the_archive_that_holds_it(tmp_path):
    """Before any memory is taken for it: the list of members says 2 GiB of packed bytes."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test/cat/0000.jpg", bytes(100))
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    content[entry + 20 : entry + 24] = (1 << 31).to_bytes(4, "little")
    path.write_bytes(content)
    assert message_of(FileFormatError, cifar10.read_jpegs, path, 1) == (
        f"{path}: 'test/cat/0000.jpg' promises {1 << 31} packed bytes, more than the {len(content)} "
        "of the file."
    )


def test_the_lossy_test_set_is_for_mosaics(folder):
    assert message_of(ConfigError, load, folder, lossy_test=True) == (
        f"lossy_test is for the mosaics of CIFAR-10 only; {folder} holds the official test set."
    )
