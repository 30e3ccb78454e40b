"""How raw images become network input: every model file carries this, so that it is never fed wrongly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassnet.errors import ConfigError, DataError, ShapeError, did_you_mean

CHANNELS: Final = {"L": 1, "RGB": 3}
"""Channel orders by Pillow's names: grey, and red-green-blue."""

RESIZES: Final = ("stretch", "crop")
"""How a photo comes to `size`: both sides for themselves, or in proportion and then the centre of it."""

TTA: Final = ("none", "flip")
"""What scores are averaged over: an image alone, or also its mirror image."""

FLOAT_LIMIT: Final = 10.0
"""Floats beyond it are no images from 0 to 1, nor standardised ones: those have negative values, too."""


@dataclass(frozen=True)
class Preprocessing:
    """Raw images (N, H, W, C) or grey (N, H, W) -> float32 network input (N, H, W, C).

    y = (x - mean) / std per channel, where x is an image in unit scale: uint8 is divided by 255, float
    is taken to be in unit scale already.

    size: the (H, W) that every image must have; None where any size will do.
    mean, std: one number a channel, in unit scale.
    channels: "L" (grey, C = 1) or "RGB" (C = 3).
    resize: how an image file of another size comes to `size`, one of RESIZES; arrays must have it already.
    tta: what predictions are averaged over, one of TTA.
    """

    size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: str
    resize: str = "stretch"
    tta: str = "none"

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            raise ConfigError(f"channels must be 'L' or 'RGB', got {self.channels!r}.")
        if self.resize not in RESIZES:
            raise ConfigError(f"resize must be 'stretch' or 'crop', got {self.resize!r}.")
        if self.tta not in TTA:
            raise ConfigError(f"tta must be 'none' or 'flip', got {self.tta!r}.")
        for name in ("mean", "std"):
            object.__setattr__(self, name, self._per_channel(name))
        if min(self.std) <= 0:
            raise ConfigError(f"std must be above 0 in every channel, got {self.std}.")
        if self.size is not None:
            object.__setattr__(self, "size", _checked_size(self.size))

    @classmethod
    def identity(cls, channels: str) -> Preprocessing:
        """Unit scale and nothing else: mean 0, std 1, any size."""
        count = CHANNELS.get(channels, 1)
        return cls(None, (0.0,) * count, (1.0,) * count, channels)

    def apply(self, images: ArrayLike) -> NDArray[np.float32]:
        """Raw images (N, H, W, C) or (N, H, W), uint8 or float -> float32 (N, H, W, C), (x - mean) / std.

        Raises ShapeError for a wrong number of dimensions, of channels or a wrong size, and DataError for
        another type than uint8 and float, for NaN or infinity, and for floats that seem to hold 0 to 255.
        """
        checked = image_array(images, std=self.std)
        if checked.shape[3] != len(self.mean):
            raise ShapeError(
                f"The images must be {self.channels!r}, of shape (N, H, W, {len(self.mean)}), "
                f"got {checked.shape}."
            )
        if self.size is not None and checked.shape[1:3] != self.size:
            raise ShapeError(
                f"The images must be {self.size[0]} high and {self.size[1]} wide, got "
                f"{checked.shape[1]} high and {checked.shape[2]} wide. Resize them first."
            )
        scale, shift = self.scale_shift(checked.dtype)
        return checked * scale + shift

    def scale_shift(self, dtype: np.dtype[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Two float32 arrays (C,) with (x - mean) / std = image * scale + shift, for images of this dtype.

        One multiplication and one addition a value: a compiled feed that does the same gets the same bits.
        """
        mean, std = np.array(self.mean), np.array(self.std)
        unit = 255.0 if dtype == np.uint8 else 1.0
        return (1 / (unit * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values that JSON and TOML can hold (size is left out where None)."""
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        return {key: value for key, value in plain.items() if value is not None}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Preprocessing:
        """The inverse of to_dict. Refuses unknown and missing keys with ConfigError.

        Settings from before there were `resize` and `tta` mean "stretch" and "none".
        """
        known = [field.name for field in fields(cls)]
        for key in settings:
            if key not in known:
                raise ConfigError(f"Preprocessing has no setting {key!r}." + did_you_mean(str(key), known))
        missing = [key for key in known if key not in settings and key not in ("size", "resize", "tta")]
        if missing:
            raise ConfigError(f"Preprocessing lacks {' and '.join(missing)}.")
        return cls(**{"size": None, **settings})

    def _per_channel(self, name: str) -> tuple[float, ...]:
        """The setting as C finite floats, or an error that says what it is instead."""
        value, count = getattr(self, name), CHANNELS[self.channels]
        numbers = isinstance(value, (tuple, list)) and all(_is_number(v) for v in value)
        if not numbers or len(value) != count:
            raise ConfigError(
                f"{name} must be one finite number a channel, {count} for {self.channels!r}, got {value!r}."
            )
        return tuple(float(v) for v in value)


def image_array(images: ArrayLike, what: str = "images", *, std: tuple[float, ...] = (1.0,)) -> NDArray[Any]:
    """Checked images (N, H, W, C), uint8 or float32; grey ones (N, H, W) get their channel axis.

    No copy unless they are float16 or float64. `what` names the images in errors.
    Floats without a negative value must not go beyond FLOAT_LIMIT, or that many `std` where the images that a
    network was trained on have a larger one.
    """
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4:
        raise ShapeError(
            f"The {what} must have shape (N, H, W) or (N, H, W, C), got {array.shape}.{_ndim_advice(array)}"
        )
    if 0 in array.shape:
        raise DataError(f"The {what} are empty: their shape is {array.shape}.")
    if array.shape[3] not in CHANNELS.values():
        advice = " Images are channels-last here: images.transpose(0, 2, 3, 1)."
        raise ShapeError(
            f"The {what} must have 1 or 3 channels in their last dimension, got {array.shape}."
            + advice * (array.shape[1] in CHANNELS.values())
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise DataError(
            f"The {what} must be uint8 (0 to 255) or float (0 to 1), got {array.dtype}. "
            f"Convert them, for instance with images.astype(np.uint8) if they hold 0 to 255."
        )
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite and is named below
        array = array.astype(np.float32, copy=False)
    _check_finite(array, what)
    high = float(array.max())
    if high > FLOAT_LIMIT * max(1.0, *std) and array.min() >= 0:
        raise DataError(
            f"The {what} are floats up to {high:g}, but floats must be from 0 to 1. "
            f"Divide them, for instance with images / 255 if they hold 0 to 255."
        )
    return array


def _check_finite(array: NDArray[np.float32], what: str) -> None:
    """Refuse NaN and infinity, with their number and the place of the first."""
    bad = ~np.isfinite(array)
    count = int(np.count_nonzero(bad))
    if count:
        place = tuple(int(i) for i in np.unravel_index(bad.argmax(), bad.shape))
        raise DataError(
            f"The {what} hold {count} NaN or infinite value{'s' * (count > 1)}, the first at index {place}."
        )


def _ndim_advice(array: NDArray[Any]) -> str:
    """How to reshape flat square rows or a single grey image, where that is what it seems to be."""
    if array.ndim != 2:
        return ""
    side = math.isqrt(array.shape[1])
    if side > 1 and side * side == array.shape[1]:
        return f" Flat rows become images with images.reshape(-1, {side}, {side})."
    return " A single grey image becomes a batch of one with image[None]."


def _checked_size(size: Any) -> tuple[int, int]:
    """(H, W) as two whole numbers from 1 on."""
    pair = tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(pair) != 2 or not all(type(side) is int and side >= 1 for side in pair):
        raise ConfigError(f"size must be None or (height, width), two whole numbers from 1 on, got {size!r}.")
    return pair


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
