"""Image files -> pixels, by one function for training and for prediction, so that both see the same."""

from __future__ import annotations

import io
import os
import struct
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import jpeg_factory

from glassnet.errors import FileFormatError
from glassnet.preprocessing import Preprocessing

DECODE_VERSION: Final = 1
"""Goes up whenever the same file decodes to other pixels, so that cached ones are not used."""

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What is read, by content and not by name; of several frames the first."""

JPEG: Final = b"\xff\xd8\xff"
DRAFTED: Final = ("JPEG", "MPO")
"""Formats, by Pillow's names, that decode at a fraction of their size. MPO is a JPEG with more pictures."""

MAX_PIXELS: Final = 60_000_000
"""A file of which more would be decoded is refused before memory is taken: that is up to 15 bytes a pixel."""

MAX_DRAFTED: Final = 205_000_000
"""The most that a JPEG file may hold, for it is decoded at a fraction; many scans take 6 bytes a pixel."""

MAX_BYTES: Final = 1 << 29
"""The largest file that is read, 537 MB."""

TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the picture upright."""

ORIENTATION: Final = 0x0112
GAP: Final = 2.0
"""Large photos are first shrunk by whole factors, to no less than GAP times the wanted size."""


def read_image(path: str | os.PathLike[str], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The image file as (H, W, C) uint8; see `decode`.

    Raises OSError where the file cannot be opened, FileFormatError with its name where it is no image.
    """
    try:
        return decode(read_bytes(path), preprocessing)
    except FileFormatError as error:
        raise FileFormatError(f"{path} is not an image that can be read: {error}") from error


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file, at most MAX_BYTES of it."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise FileFormatError(f"it has {size:,} bytes, and {MAX_BYTES:,} is the most that is read.")
        return file.read()


def decode(content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The content of an image file -> (H, W, C) uint8 in the size and channels of the preprocessing.

    Turned upright as EXIF says, 16 bits cut to their high byte, transparent pixels laid over white, CMYK and
    palettes converted, then resized (bicubic, antialiased) as preprocessing.resize says.
    Raises FileFormatError with the reason alone, for the caller knows the name.
    """
    if not content:
        raise FileFormatError("it is empty.")
    try:
        image = open_image(io.BytesIO(content))
        if image.format not in DRAFTED:
            image.load()  # which turns a TIFF upright, and then its EXIF data no longer says so
        turn = orientation(image)
        size = preprocessing.size
        if size is not None and turn >= 5:  # the picture lies on its side: aim for the size on its side
            size = (size[1], size[0])
        if size is not None:
            image.draft(None, _draft_size(image.size, size, preprocessing.resize))  # of a JPEG, else nothing
        _check_pixels(image, MAX_PIXELS)
        image = to_mode(image, preprocessing.channels)
        if size is not None:
            image = _resized(image, size, preprocessing.resize)
        if turn in TURNS:
            image = image.transpose(TURNS[turn])
    except FileFormatError:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise FileFormatError(f"{str(error) or type(error).__name__}.") from error
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def open_image(file: BinaryIO) -> Image.Image:
    """The image with its header read but not its pixels, refused where those would be too many."""
    start = file.read(len(JPEG))
    file.seek(0)
    try:  # Image.open would warn of large JPEG files, or refuse them
        image = jpeg_factory(file) if start == JPEG else Image.open(file, formats=FORMATS)
    except (UnidentifiedImageError, SyntaxError, IndexError, TypeError, struct.error) as error:
        raise FileFormatError(f"its content is none of {', '.join(FORMATS)}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise FileFormatError(f"it says it holds more than {MAX_PIXELS:,} pixels.") from error
    _check_pixels(image, MAX_DRAFTED if start == JPEG else MAX_PIXELS)
    return image


def _check_pixels(image: Image.Image, most: int) -> None:
    if image.width * image.height > most:
        raise FileFormatError(f"it says it holds more than {most:,} pixels.")


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) to 8; 1 where there is none or it is damaged, for the pixels are not."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow's EXIF reader raises nearly anything on damaged data
        return 1
    return value if value in TURNS else 1


def to_mode(image: Image.Image, channels: str) -> Image.Image:
    """Any mode -> "L" or "RGB" of 8 bits."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = _bytes_of(np.asarray(image))
    elif image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured).convert("RGB")
    return image if image.mode == channels else image.convert(channels)


def _bytes_of(values: NDArray[Any]) -> Image.Image:
    """Grey pixels of 16 bits, or floats in unit scale, as bytes; convert("L") would clip both at 255."""
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise FileFormatError(f"its pixels are floats from {low:g} to {high:g}, not from 0 to 1.")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    if low < 0 or high > 65535:
        raise FileFormatError(f"its pixels are numbers from {low:g} to {high:g}, not of 8 or 16 bits.")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _shrinkage(width: int, height: int, size: tuple[int, int], resize: str) -> tuple[float, float]:
    """By what the width and the height are divided on the way to size (H, W): with "crop", by the same."""
    across, down = width / size[1], height / size[0]
    return (across, down) if resize == "stretch" else (min(across, down),) * 2


def _draft_size(whole: tuple[int, int], size: tuple[int, int], resize: str) -> tuple[int, int]:
    """The (width, height) that a JPEG file, decoded at 1/2, 1/4 or 1/8, may not fall below."""
    across, down = _shrinkage(*whole, size, resize)
    return int(GAP * whole[0] / across), int(GAP * whole[1] / down)


def _resized(image: Image.Image, size: tuple[int, int], resize: str) -> Image.Image:
    """The image, or the centre of it in the proportions of size (H, W), at this size."""
    across, down = _shrinkage(*image.size, size, resize)
    width, height = size[1] * across, size[0] * down
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box = (left, top, min(left + width, image.width), min(top + height, image.height))
    return image.resize((size[1], size[0]), Image.Resampling.BICUBIC, box, reducing_gap=GAP)
