"""Every reader of files, with small whole files of its kind and the ways to damage them from the inside.

A seed is what is damaged; a wrapping makes a file of it. So a damaged number inside a gzip file, under a
right checksum, is as likely as damage to the gzip file itself, which its checksum gives away.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glassnet.data import cifar10
from glassnet.data.csv_images import read_csv
from glassnet.data.idx import read_idx
from glassnet.data.npz import load_npz, read_npy
from glassnet.io import read_images
from glassnet.io.model import load_model
from glassnet.io.tensors import canonical, digest, pack, read
from glassnet.preprocessing import Preprocessing
from glassnet.settings.config import TrainConfig
from model_files import Shift, experienced

Wrapping = Callable[[bytes], bytes]
DEFLATED = zipfile.ZIP_DEFLATED


@dataclass(frozen=True)
class Reader:
    """read: takes the path of a file called `file`. seeds: (what to damage, how it becomes a file)."""

    file: str
    read: Callable[[Path], Any]
    seeds: list[tuple[bytes, Wrapping]]
    original: frozenset[str] = frozenset()
    """Where a checksum guards all: what a damaged file may still be read as."""


def readers(folder: Path) -> dict[str, Reader]:
    """All readers; the folder is for what lies beside their files."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, 32, 32, 3), np.uint8)
    (folder / "mosaic.labels.u8").write_bytes(bytes([1, 2]))
    return {
        "idx": Reader("idx", lambda path: read_idx(path, (None, None, None)), idx_seeds()),
        "csv": Reader("a.csv", read_csv, csv_seeds()),
        "npy": Reader("a.npy", read_npy, [(content, same) for content in npy_files()]),
        "npz": Reader("a.npz", load_npz, npz_seeds()),
        "cifar10-binary": Reader(
            "a.bin", partial(cifar10.read_batch, count=2), [(records(images[:2]), same)]
        ),
        "cifar10-archive": Reader(
            "a.tar.gz", lambda path: dict(cifar10.read_archive(path, 1)), archive_seeds(images[:1])
        ),
        "cifar10-mosaic": Reader(
            "mosaic.png", partial(cifar10.read_mosaic, grid=(1, 2)), mosaic_seeds(images)
        ),
        "cifar10-jpegs": Reader("a.zip", partial(cifar10.read_jpegs, count=2), jpeg_seeds(images)),
        "image": Reader("a.png", read_both, image_seeds(generator)),
        "model": model_reader(folder, generator),
        "config": Reader("a.toml", TrainConfig.from_toml, [(content, same) for content in configs()]),
    }


def same(content: bytes) -> bytes:
    return content


gzipped: Wrapping = partial(gzip.compress, compresslevel=1, mtime=0)


def compressed(content: bytes) -> tuple[bytes, Wrapping]:
    """A gzip file that is damaged itself."""
    return gzipped(content), same


def idx_seeds() -> list[tuple[bytes, Wrapping]]:
    plain = struct.pack(">4B3I", 0, 0, 8, 3, 2, 3, 4) + bytes(range(24))
    return [(plain, same), (plain, gzipped), compressed(plain)]


def csv_seeds() -> list[tuple[bytes, Wrapping]]:
    texts = (
        "3,0,1,2,255\n0,4,5,6,7\n",
        "1x1,1x2,label,2x1,2x2\r\n0,1,7,2,3\r\n9,8,7,6,5\r\n",
        'cat,0,0.5,1,1e-3\n"a, b",0.1,0.2,0.3,1.0\n',
    )
    seeds = [(text.encode(), wrap) for text in texts for wrap in (same, gzipped)]
    return [*seeds, compressed(texts[0].encode())]


def npy_files() -> list[bytes]:
    files = []
    for array in (
        np.zeros((3, 2, 2), np.uint8),
        np.ones((3, 2, 2, 1), "<f4"),
        np.array(["cat", "dog", "cat"]),
    ):
        for version in ((1, 0), (2, 0)):
            file = io.BytesIO()
            np.lib.format.write_array(file, array, version)
            files.append(file.getvalue())
    return files


def npz_seeds() -> list[tuple[bytes, Wrapping]]:
    images, labels = npy_files()[0], io.BytesIO()
    np.save(labels, np.array([0, 1, 1]))

    def with_images(content: bytes, compression: int) -> bytes:
        return zipped({"images.npy": content, "labels.npy": labels.getvalue()}, compression)

    ways = [partial(with_images, compression=compression) for compression in (zipfile.ZIP_STORED, DEFLATED)]
    keras = {
        "x_train.npy": images,
        "y_train.npy": labels.getvalue(),
        "x_test.npy": images,
        "y_test.npy": labels.getvalue(),
    }
    whole = [*(way(images) for way in ways), zipped(keras, DEFLATED)]
    return [(images, way) for way in ways] + [(content, same) for content in whole]


def zipped(members: dict[str, bytes], compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def records(images: np.ndarray) -> bytes:
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
    return np.column_stack([np.arange(len(images), dtype=np.uint8), pixels]).tobytes()


def archive_seeds(images: np.ndarray) -> list[tuple[bytes, Wrapping]]:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("readme.html", *cifar10.BINARIES):
            content = b"<p>" if name == "readme.html" else records(images)
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    tar = file.getvalue()
    return [(tar, same), (tar, resummed), (tar, lambda tar: gzipped(resummed(tar))), compressed(tar)]


def resummed(tar: bytes) -> bytes:
    """The tar file with right checksums where its headers should be."""
    content = bytearray(tar)
    for start in (0, *range(1024, len(content) - 511, 512)):
        header = content[start : start + 512]
        if header[257:262] == b"ustar" and len(header) == 512:
            header[148:156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    return bytes(content)


def image_of(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def mosaic_seeds(images: np.ndarray) -> list[tuple[bytes, Wrapping]]:
    pixels = np.concatenate(images[:2], axis=1)
    png = image_of(pixels, "PNG")
    return [(png, same), (png, rechecked), (image_of(pixels, "WEBP", lossless=True), same)]


def jpeg_seeds(images: np.ndarray) -> list[tuple[bytes, Wrapping]]:
    one, other = (image_of(image, "JPEG") for image in images[:2])

    def with_image(content: bytes) -> bytes:
        return zipped({"test/cat/0000.jpg": content, "test/dog/0000.jpg": other}, zipfile.ZIP_STORED)

    return [(one, with_image), (with_image(one), same)]


def image_seeds(generator: np.random.Generator) -> list[tuple[bytes, Wrapping]]:
    pixels = generator.integers(0, 256, (9, 8, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    png = [
        image_of(pixels, "PNG", exif=exif),
        image_of(pixels[..., 0], "PNG"),
        image_of(pixels[..., 0].astype(np.uint16) * 257, "PNG"),
    ]
    others = [image_of(pixels, kind) for kind in ("WEBP", "BMP", "GIF", "TIFF", "PPM")]
    jpegs = [image_of(pixels, "JPEG", exif=exif), image_of(pixels, "JPEG", progressive=True)]
    return [(content, way) for content in png for way in (same, rechecked)] + [
        (content, same) for content in (*others, *jpegs)
    ]


def rechecked(png: bytes) -> bytes:
    """The PNG file with right checksums, as far as its chunks can be followed."""
    content, at = bytearray(png), 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if end + 4 > len(content):
            break
        content[end : end + 4] = zlib.crc32(content[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(content)


def read_both(path: Path) -> None:
    """As a grey and as a coloured input."""
    for channels, count in (("L", 1), ("RGB", 3)):
        read_images(path, Preprocessing((6, 5), (0.5,) * count, (1.0,) * count, channels))


def model_reader(folder: Path, generator: np.random.Generator) -> Reader:
    """Model files damaged anywhere; in their header; and in their document, under a right checksum."""
    path = folder / "seed.gnet"
    experienced(generator).save(path)
    whole, (tensors, document) = path.read_bytes(), read(path)
    length = int.from_bytes(whole[:8], "little")
    header, data = whole[8 : 8 + length], whole[8 + length :]

    def with_header(text: bytes) -> bytes:
        return len(text).to_bytes(8, "little") + text + data

    def with_document(text: bytes) -> bytes:
        try:
            return pack(tensors, json.loads(text))
        except (RecursionError, ValueError):
            entry = json.dumps({"glassnet": text.decode("latin-1")})
            return with_header(json.dumps({"__metadata__": entry}).encode())

    def load(file: Path) -> str:
        net = load_model(file, layers=[Shift])
        return digest(net.store.tensors(), {})

    text = canonical(document).encode()
    return Reader(
        "a.gnet",
        load,
        [(whole, same), (header, with_header), (text, with_document)],
        frozenset({digest(tensors, {})}),
    )


def configs() -> list[bytes]:
    full = TrainConfig(data="digits", model="small").to_toml()
    short = 'data = "digits"\nepochs = 3\nlayers = [{type = "Conv2d", settings = {filters = 8}}]\n'
    return [full.encode(), (short + '[optimizer]\nname = "adam"\nlr = 1e-3\n').encode()]
