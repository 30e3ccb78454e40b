"""decode: every kind of image file as a network is fed it, and damaged ones refused with a reason."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from glassnet.data import decode as decoding
from glassnet.data.decode import MAX_PIXELS, decode, read_image
from glassnet.errors import FileFormatError
from glassnet.io import read_images
from glassnet.preprocessing import Preprocessing
from messages import message_of

RAMP = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)
COLOUR = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=-1)


def wanted(size=None, channels="RGB", resize="crop"):
    return Preprocessing(size, (0.0,) * len(channels), (1.0,) * len(channels), channels, resize)


def encoded(image, kind="PNG", **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(height, width):
    """A smooth picture, which JPEG and resizing hardly change."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return (np.stack([x, y, (x + y) / 2], axis=-1) * 255).astype(np.uint8)


# Kinds of file


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {"lossless": True})],
)
def test_lossless_files_keep_every_bit(kind, options):
    assert np.array_equal(decode(encoded(COLOUR, kind, **options), wanted()), COLOUR)


def test_a_jpeg_is_close():
    picture = photo(40, 60)
    assert np.abs(decode(encoded(picture, "JPEG", quality=95), wanted()).astype(int) - picture).max() < 12


def test_the_first_frame_of_an_animation_is_used():
    frames = [Image.fromarray(np.full((2, 3), value, np.uint8)) for value in (10, 200)]
    for kind in ("GIF", "TIFF"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.array_equal(decode(content, wanted(channels="L")), np.full((2, 3, 1), 10)), kind


def test_two_colours_are_black_and_white():
    bits = np.array([[True, False], [False, True]])
    assert decode(encoded(bits), wanted(channels="L"))[..., 0].tolist() == [[255, 0], [0, 255]]


def test_a_palette_gives_its_colours():
    image = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 1, 2, 3])
    assert decode(encoded(image), wanted()).tolist() == [
        [[255, 0, 0], [0, 255, 0]],
        [[0, 255, 0], [1, 2, 3]],
    ]


def test_cmyk_becomes_colour():
    ink = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]]], np.uint8), "CMYK")
    assert decode(encoded(ink, "TIFF"), wanted()).tolist() == [[[255, 255, 255], [255, 0, 0], [0, 0, 0]]]
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixels = decode(encoded(red, "JPEG", quality=95), wanted()).reshape(-1, 3)
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() < 6


def test_grey_and_colour_are_converted():
    assert np.array_equal(decode(encoded(RAMP), wanted()), np.stack([RAMP] * 3, axis=-1))
    grey = decode(encoded(COLOUR), wanted(channels="L"))[..., 0]
    assert np.abs(grey - COLOUR @ [0.299, 0.587, 0.114]).max() <= 0.5 + 1e-2


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_grey_bits_keep_their_high_byte(kind):
    deep = RAMP.astype(np.uint16) * 256 + 255
    assert np.array_equal(decode(encoded(deep, kind), wanted(channels="L"))[..., 0], RAMP)


def png(width, height, depth, colour, rows):
    """A PNG file from raw rows; Pillow writes no colour of 16 bits."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_sixteen_coloured_bits_keep_their_high_byte():
    rows = b"".join(b"\0" + (row.astype(np.uint16) * 256 + 255).astype(">u2").tobytes() for row in COLOUR)
    assert np.array_equal(decode(png(3, 2, 16, 2, rows), wanted()), COLOUR)


def test_floats_are_in_unit_scale_or_refused():
    values = np.array([[0, 0.5, 1]], np.float32)
    assert decode(encoded(values, "TIFF"), wanted(channels="L"))[..., 0].tolist() == [[0, 128, 255]]
    assert message_of(FileFormatError, decode, encoded(values * 80, "TIFF"), wanted()) == (
        "its pixels are floats from 0 to 80, not from 0 to 1."
    )
    assert message_of(FileFormatError, decode, encoded(values * np.nan, "TIFF"), wanted()) == (
        "its pixels are floats from nan to nan, not from 0 to 1."
    )


def test_whole_numbers_of_more_than_16_bits_are_refused():
    content = encoded(np.array([[0, 70_000]], np.int32), "TIFF")
    assert message_of(FileFormatError, decode, content, wanted()) == (
        "its pixels are numbers from 0 to 70000, not of 8 or 16 bits."
    )


# Transparency


def test_transparent_pixels_lie_over_white():
    clear = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], np.uint8)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        pixels = decode(encoded(clear, kind, **options), wanted())
        assert pixels.tolist() == [[[255, 255, 255], [10, 20, 30], [204, 204, 204]]], kind


def test_grey_with_transparency_lies_over_white():
    image = Image.merge("LA", [Image.fromarray(np.array([[0, 100]], np.uint8))] * 2)
    assert decode(encoded(image), wanted(channels="L"))[..., 0].tolist() == [[255, 194]]


def test_a_transparent_colour_is_white():
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([9, 9, 9, 0, 0, 255])
    assert decode(encoded(image, transparency=0), wanted()).tolist() == [[[255] * 3, [0, 0, 255]]]
    assert decode(encoded(image, "GIF", transparency=0), wanted()).tolist() == [[[255] * 3, [0, 0, 255]]]
    assert decode(encoded(RAMP, transparency=50), wanted(channels="L"))[0, :, 0].tolist() == [0, 255, 100]


# Orientation


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("size", [None, (2, 3)])
def test_every_orientation_is_turned_upright(turn, size):
    """The stored pixels of orientation `turn` that show RAMP, from the EXIF standard's table."""
    stored = {
        1: RAMP,
        2: RAMP[:, ::-1],
        3: RAMP[::-1, ::-1],
        4: RAMP[::-1],
        5: RAMP.T,
        6: RAMP.T[::-1],
        7: RAMP.T[::-1, ::-1],
        8: RAMP.T[:, ::-1],
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(np.ascontiguousarray(stored), kind, exif=exif, **options)
        assert np.array_equal(decode(content, wanted(size, "L"))[..., 0], RAMP), kind


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_means_nothing_is_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode(encoded(RAMP, exif=exif), wanted(channels="L"))[..., 0], RAMP)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's own
def test_damaged_exif_costs_no_picture():
    content = encoded(photo(20, 20), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x01")
    assert decode(content, wanted()).shape == (20, 20, 3)


# Size


def test_crop_keeps_proportions_and_takes_the_centre():
    stripes = np.repeat(np.array([0, 100, 200], np.uint8), 40)[None].repeat(40, axis=0)  # 40 x 120
    middle = decode(encoded(stripes), wanted((10, 10), "L", "crop"))
    assert np.abs(middle[:, 1:-1].astype(int) - 100).max() <= 1  # bicubic reads across the edges
    stretched = decode(encoded(stripes), wanted((10, 12), "L", "stretch"))[0, :, 0]
    assert np.abs(stretched[[1, 5, 10]].astype(int) - [0, 100, 200]).max() <= 1


@pytest.mark.parametrize("resize", ["crop", "stretch"])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (64, 32)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (97, 31), (64, 32)])
def test_any_size_comes_to_any_size(shape, size, resize):
    assert decode(encoded(photo(*shape)), wanted(size, "RGB", resize)).shape == (*size, 3)


@pytest.mark.parametrize("resize", ["crop", "stretch"])
def test_an_image_of_the_size_is_not_touched(resize):
    assert np.array_equal(decode(encoded(COLOUR), wanted((2, 3), "RGB", resize)), COLOUR)


@pytest.mark.parametrize("resize", ["crop", "stretch"])
@pytest.mark.parametrize("shape", [(1200, 1600), (1600, 1200), (1203, 402)])
def test_a_large_jpeg_decoded_small_shows_the_same(resize, shape):
    picture = photo(*shape)
    whole = decode(encoded(picture), wanted((64, 80), "RGB", resize))
    draft = decode(encoded(picture, "JPEG", quality=95), wanted((64, 80), "RGB", resize))
    assert np.abs(whole.astype(int) - draft).max() < 8


@pytest.mark.parametrize(
    ("shape", "resize", "decoded"),
    [
        ((2000, 3000), "crop", (375, 250)),
        ((2000, 600), "stretch", (300, 1000)),
        ((600, 2000), "stretch", (1000, 300)),
        ((300, 300), "crop", (300, 300)),
    ],
)
def test_a_jpeg_is_decoded_small_but_never_below_twice_the_size(monkeypatch, shape, resize, decoded):
    content, sizes = encoded(photo(*shape), "JPEG"), []
    load = JpegImagePlugin.JpegImageFile.load
    monkeypatch.setattr(
        JpegImagePlugin.JpegImageFile, "load", lambda image: sizes.append(image.size) or load(image)
    )
    decode(content, wanted((100, 100), "RGB", resize))
    assert sizes[0] == decoded


# What is refused


def test_an_empty_file_and_text_are_named():
    assert message_of(FileFormatError, decode, b"", wanted()) == "it is empty."
    assert message_of(FileFormatError, decode, b"a cat on a mat", wanted()) == (
        "its content is none of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM."
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_every_truncation_is_refused_and_nothing_else_is_raised(kind, generator):
    content = encoded(generator.integers(0, 256, (24, 24, 3), np.uint8), kind)
    for length in range(0, len(content) * 9 // 10, 7):
        with pytest.raises(FileFormatError):
            decode(content[:length], wanted((8, 8)))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, on damaged tags
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_damaged_bytes_give_pixels_or_a_reason(kind, generator):
    content = encoded(photo(24, 24), kind)
    for _ in range(150):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 3):
            damaged[place] = generator.integers(0, 256)
        try:
            assert decode(bytes(damaged), wanted((8, 8))).shape == (8, 8, 3)
        except FileFormatError as error:
            assert str(error).endswith(".")


def test_a_bomb_is_refused_before_memory_is_taken():
    rows = zlib.compress(b"\0" * (30_000 // 8 + 1) * 30_000)
    content = png(30_000, 30_000, 1, 0, b"").replace(zlib.compress(b""), rows)
    tracemalloc.start()
    message = message_of(FileFormatError, decode, content, wanted((8, 8)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message == f"it says it holds more than {MAX_PIXELS:,} pixels."
    assert peak < 5e6


def test_a_jpeg_may_hold_more_than_is_decoded(monkeypatch):
    """As photos of 108 and 200 million pixels from phones, here 160,000 where 10,000 are the most."""
    monkeypatch.setattr(decoding, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    picture = photo(400, 400)
    small = decode(encoded(picture, "JPEG", quality=95), wanted((32, 32)))
    assert np.abs(small.astype(int) - photo(32, 32)).max() < 12
    refusal = "it says it holds more than 10,000 pixels."
    for kind, size in (("JPEG", None), ("JPEG", (60, 60)), ("PNG", (32, 32))):
        assert message_of(FileFormatError, decode, encoded(picture, kind), wanted(size)) == refusal
    monkeypatch.setattr(decoding, "MAX_DRAFTED", 100_000)
    assert message_of(FileFormatError, decode, encoded(picture, "JPEG"), wanted((32, 32))) == (
        "it says it holds more than 100,000 pixels."
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "text.jpg"
    path.write_text("no picture")
    assert message_of(FileFormatError, read_image, path, wanted()) == (
        f"{path} is not an image that can be read: "
        "its content is none of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM."
    )
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "gone.jpg", wanted())


def test_a_file_too_large_to_read_is_refused(tmp_path):
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no space
    assert message_of(FileFormatError, read_image, path, wanted()) == (
        f"{path} is not an image that can be read: "
        "it has 1,099,511,627,776 bytes, and 536,870,912 is the most that is read."
    )


# Prediction


def test_prediction_reads_the_same_bits(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(photo(600, 900), "JPEG", exif=exif))
    for resize in ("crop", "stretch"):
        preprocessing = wanted((48, 40), "RGB", resize)
        assert np.array_equal(read_images(path, preprocessing)[0], decode(path.read_bytes(), preprocessing))
