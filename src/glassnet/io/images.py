"""Image files and array files as the raw images that a model's preprocessing takes."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from glassnet.errors import ConfigError, FileFormatError
from glassnet.preprocessing import Preprocessing


def read_images(path: str | os.PathLike[str], preprocessing: Preprocessing | None) -> np.ndarray:
    """Raw images (N, H, W, C): one of an image file, or all of a .npy or .npz file.

    An image file is turned as its EXIF data says, converted to the model's channels and resized to its size
    (bicubic). Arrays stay as they are; a .npz file has them as "images", or has one array only.
    """
    if Path(path).suffix in (".npy", ".npz"):
        return _read_array(path)
    if preprocessing is None:
        raise ConfigError(
            f"This model has no preprocessing, so {path} cannot be made its input. "
            "Predict on a NumPy file (.npy)."
        )
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            return _prepared(image, preprocessing)[None]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file is not there or cannot be opened, which such an error says with its name
        raise FileFormatError(f"{path} is not an image that Pillow can read ({error}).") from error


def _prepared(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """(H, W, C) uint8."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert("L") would clip at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    image = image.convert(preprocessing.channels)
    if preprocessing.size is not None:
        height, width = preprocessing.size
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """The images in a NumPy file."""
    try:
        with open(path, "rb") as file:
            content = np.load(file, allow_pickle=False)
            arrays = {"images": content} if isinstance(content, np.ndarray) else dict(content)
    except (EOFError, ValueError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path} is not a NumPy file of numbers ({error}).") from error
    if "images" not in arrays and len(arrays) != 1:
        raise FileFormatError(
            f"{path} must hold its images as 'images', or one array only, got {', '.join(arrays) or 'none'}."
        )
    return arrays["images"] if "images" in arrays else next(iter(arrays.values()))
