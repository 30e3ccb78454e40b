"""What a row of an augmentation table says, and the NumPy code that does it: the definition.

Every output pixel (i, j) of a sample is read at a point of its source image that an affine map names:

    y = Y_I i + Y_J j + Y_0,    x = X_I i + X_J j + X_0        (0 is the centre of the first pixel)

The map is rounded to 1 / ONE of a pixel and the point to 1 / STEPS, so that bilinear weights are multiples of
1 / STEPS**2: a value interpolated from bytes is exact in float32, and whole steps copy pixels. Then, in this
order: in the box MIX_* the partner's pixel at the same point is mixed in,
keep * own + (1 - keep) * partner; saturation moves each channel from the pixel's grey; scale and shift
make it network input, times gain and contrast; in the box CUT_* it is 0, the mean of the training images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Y_I, Y_J, Y_0, X_I, X_J, X_0 = range(6)
BLACK = 6
"""1: outside the source image all is 0. 0: it goes on as its reflection, the border pixel not repeated."""
GAIN, CONTRAST, SATURATION = 7, 8, 9
"""y = x * (scale * GAIN) + shift * CONTRAST, where x = grey + SATURATION * (x - grey) in colour images."""
CUT_TOP, CUT_LEFT, CUT_BOTTOM, CUT_RIGHT = 10, 11, 12, 13
MIX_TOP, MIX_LEFT, MIX_BOTTOM, MIX_RIGHT, MIX_KEEP = 14, 15, 16, 17, 18
OWN = 19
"""The share of its own label that a sample keeps."""
COLUMNS = 20

BITS, STEP_BITS = 16, 8
ONE, STEPS = 1 << BITS, 1 << STEP_BITS
HALF_STEP = ONE // STEPS // 2
RED, GREEN, BLUE = np.float32(0.299), np.float32(0.587), np.float32(0.114)
"""The weights of grey, as in Pillow's conversion to L (ITU-R BT.601)."""


def identity_rows(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Rows (*shape, COLUMNS) that change nothing."""
    rows = np.zeros((*shape, COLUMNS), np.float32)
    rows[..., [Y_I, X_J, GAIN, CONTRAST, SATURATION, MIX_KEEP, OWN]] = 1
    return rows


def augment_images(
    images: NDArray[np.uint8] | NDArray[np.float32],
    rows: NDArray[np.float32],
    partner_images: NDArray[np.uint8] | NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Raw images (n, H, W, C), rows (n, COLUMNS) -> network input (n, *size, C); size is (H, W) if not given.

    partner_images (n, H, W, C): what each image is mixed with. scale, shift: see Preprocessing.scale_shift.
    """
    size = size or images.shape[1:3]
    pairs = zip(images, rows, partner_images, strict=True)
    return np.stack([_augment(*pair, scale, shift, size) for pair in pairs])


def _augment(
    image: NDArray[np.uint8] | NDArray[np.float32],
    row: NDArray[np.float32],
    partner: NDArray[np.uint8] | NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    size: tuple[int, int],
) -> NDArray[np.float32]:
    """One image (H, W, C)."""
    x = _read(image, row, size)
    box = _box(row, MIX_TOP)
    keep = row[MIX_KEEP]
    x[box] = keep * x[box] + (1 - keep) * _read(partner, row, size)[box]
    if row[SATURATION] != 1 and x.shape[-1] == 3:
        grey = RED * x[..., :1] + GREEN * x[..., 1:2] + BLUE * x[..., 2:]
        x = grey + row[SATURATION] * (x - grey)
    y = x * (scale * row[GAIN]) + shift * row[CONTRAST]
    y[_box(row, CUT_TOP)] = 0
    return y


def _read(
    image: NDArray[np.uint8] | NDArray[np.float32], row: NDArray[np.float32], size: tuple[int, int]
) -> NDArray[np.float32]:
    """(*size, C): the image at the points that the map names, each between the four nearest pixels."""
    i, j = np.indices(size)
    fixed = np.floor(row[: X_0 + 1].astype(np.float64) * ONE + 0.5).astype(np.int64)
    points = (fixed[k] * i + fixed[k + 1] * j + fixed[k + 2] for k in (Y_I, X_I))
    y, x = ((point + HALF_STEP) >> (BITS - STEP_BITS) for point in points)
    below, right = ((p % STEPS).astype(np.float32)[..., None] / np.float32(STEPS) for p in (y, x))
    y, x = y >> STEP_BITS, x >> STEP_BITS

    def pixel(y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.float32]:
        (height, width), black = image.shape[:2], row[BLACK] != 0
        value = image[reflected(y, height), reflected(x, width)].astype(np.float32)
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        return np.where(inside[..., None] | ~black, value, np.float32(0))

    upper, left = 1 - below, 1 - right
    return (
        pixel(y, x) * (upper * left)
        + pixel(y, x + 1) * (upper * right)
        + pixel(y + 1, x) * (below * left)
        + pixel(y + 1, x + 1) * (below * right)
    )


def reflected(place: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Any place on an axis of `size` pixels, mirrored at its ends until it is inside: ... 2 1 0 1 2 ..."""
    period = max(2 * (size - 1), 1)
    place = np.abs(place) % period
    return np.minimum(place, period - place) if size > 1 else place


def _box(row: NDArray[np.float32], first: int) -> tuple[slice, slice]:
    """The rows and columns of output pixels from (top, left) to (bottom, right), exclusive."""
    top, left, bottom, right = (int(v) for v in row[first : first + 4])
    return slice(top, bottom), slice(left, right)
