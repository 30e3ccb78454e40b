"""Heat maps and tiles as pictures: enlarged, coloured over the image, and on contact sheets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = np.ndarray
Picture = NDArray[np.uint8]

COLOURS = "inferno"
SHEET_GREY = 0.5


def upsample(maps: Array, size: tuple[int, ...]) -> Array:
    """(N, h, w) -> (N, H, W), bilinear: output pixel i looks at i' = (i + 1/2) h / H - 1/2, held to 0..h-1.

    Pixel centres are aligned, as in PyTorch's interpolate(mode="bilinear", align_corners=False).
    """
    rows, columns = (interpolation(n, m) for n, m in zip(maps.shape[1:], size, strict=True))
    return rows.astype(maps.dtype) @ maps @ columns.T.astype(maps.dtype)


def interpolation(n: int, m: int) -> Array:
    """(m, n): the weights with which m values are read between n, each row's sum 1."""
    places = (np.arange(m) + 0.5) * n / m - 0.5
    return np.stack([np.interp(places, np.arange(n), one) for one in np.eye(n)], axis=1)


def unit_rgb(image: Any) -> Array:
    """A raw image (H, W), (H, W, 1) or (H, W, 3), uint8 or float 0..1, as (H, W, 3) in 0..1."""
    array = np.atleast_3d(np.asarray(image))
    scaled = array / 255 if array.dtype == np.uint8 else np.clip(array, 0, 1)
    return np.broadcast_to(scaled, (*array.shape[:2], 3))


def as_bytes(picture: Array) -> Picture:
    """0..1 as 0..255."""
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def coloured(heat: Array) -> Array:
    """(H, W) -> (H, W, 3) in 0..1: 0 and below dark, the largest value bright."""
    from matplotlib import colormaps  # takes most of a second

    largest = heat.max()
    share = np.clip(heat / largest, 0, 1) if largest > 0 else np.zeros_like(heat)
    return colormaps[COLOURS](share)[..., :3]


def overlay(image: Any, heat: Array, *, strength: float = 0.6) -> Picture:
    """(H, W, 3): a raw image under its heat map, which has the share `strength`."""
    return as_bytes((1 - strength) * unit_rgb(image) + strength * coloured(heat))


def panel(image: Any, heat: Array, *, height: int = 224) -> Picture:
    """The image, its heat map and the overlay beside each other; a small image is enlarged in whole steps."""
    times = max(1, height // len(heat))
    parts = [as_bytes(unit_rgb(image)), as_bytes(coloured(heat)), overlay(image, heat)]
    return np.concatenate(parts, axis=1).repeat(times, axis=0).repeat(times, axis=1)


def contact_sheet(tiles: Array, *, columns: int | None = None, gap: int = 1, side: int = 64) -> Picture:
    """Tiles (T, h, w) or (T, h, w, 3), values 0..1, in rows on grey; small ones are enlarged to about `side`.

    columns: as many as make the sheet about square, unless given.
    """
    tiles = np.stack([unit_rgb(tile) for tile in tiles.astype(float)])
    times = max(1, side // max(tiles.shape[1:3]))
    tiles = tiles.repeat(times, axis=1).repeat(times, axis=2)
    count, height, width, _ = tiles.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), SHEET_GREY)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + gap) + gap, (i % columns) * (width + gap) + gap
        sheet[top : top + height, left : left + width] = tile
    return as_bytes(sheet)
