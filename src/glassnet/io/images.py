"""Image files and array files as the raw images that a model's preprocessing takes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from glassnet.data.decode import read_image
from glassnet.data.npz import read_npy, read_npz
from glassnet.errors import ConfigError, FileFormatError
from glassnet.preprocessing import Preprocessing


def read_images(path: str | os.PathLike[str], preprocessing: Preprocessing | None) -> np.ndarray:
    """Raw images (N, H, W, C): one of an image file, or all of a .npy or .npz file.

    An image file is decoded and resized as those of the training folder were. Arrays stay as they are; a .npz
    file has them as "images", or has one array only.
    """
    if Path(path).suffix in (".npy", ".npz"):
        return _read_array(path)
    if preprocessing is None:
        raise ConfigError(
            f"This model has no preprocessing, so {path} cannot be made its input. "
            "Predict on a NumPy file (.npy)."
        )
    return read_image(path, preprocessing)[None]


def _read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """The images in a NumPy file."""
    if Path(path).suffix == ".npy":
        return read_npy(path)
    arrays = read_npz(path)
    if "images" not in arrays and len(arrays) != 1:
        raise FileFormatError(
            f"{path} must hold its images as 'images', or one array only, got {', '.join(arrays) or 'none'}."
        )
    return arrays["images"] if "images" in arrays else next(iter(arrays.values()))
