"""Image augmentation: what may happen to a training image, and the drawing of what does.

Chance is Philox4x32-10 of (seed, step, place in the batch), as dropout's is, under a key of its own: what
happens to a sample depends on nothing else, whatever the backend, the threads or the cut of the batch. What a
drawn row does to pixels is defined in `ops.augment`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glassnet.errors import ConfigError, did_you_mean
from glassnet.ops import augment as columns
from glassnet.ops.augment import identity_rows
from glassnet.ops.philox import MASK, philox4x32

OWN_KEY = 1 << 31
"""Set in the upper word of the seed, which a seed from 0 to 2**63 - 1 leaves free: dropout never has it."""

Floats = NDArray[np.float64]
Range = Sequence[float]
ONES: Range = (1.0, 1.0)

DRAWN = (  # the number of each random word; four neighbours come from one call of Philox
    "horizontal_flip", "vertical_flip", "shift_y", "shift_x",
    "crop", "side", "top", "left",
    "rotation", "angle", "zoom", "shear",
    "brightness", "contrast", "saturation", "aspect",
    "cutout", "cutout_y", "cutout_x", "mix_kind",
    "mix", "mix_weight", "mix_y", "mix_x",
    "partner",
)  # fmt: skip

RANGES, PIXELS = ("crop", "aspect", "rotation", "zoom"), ("shift", "cutout")
LIMITS = {
    **dict.fromkeys(("horizontal_flip", "vertical_flip"), (0.0, 1.0)),
    **{f"{name}_probability": (0.0, 1.0) for name in ("crop", "rotation", "cutout", "mix")},
    **dict.fromkeys(("brightness", "contrast", "saturation"), (0.0, 1.0)),
    **dict.fromkeys(PIXELS, (0, 10_000)),
    **dict.fromkeys(("mixup", "cutmix"), (0.0, 100.0)),
    "crop": (0.05, 1.0),
    "aspect": (0.1, 10.0),
    "rotation": (0.0, 180.0),
    "zoom": (0.1, 10.0),
    "shear": (0.0, 60.0),
}
"""The least and the most that a setting may be."""


class Drawn(NamedTuple):
    """Of k steps of n samples: rows (k, n, COLUMNS) float32, partner (k, n) int64, places in the batch."""

    rows: NDArray[np.float32]
    partner: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What may happen to training images, all of it off unless set. A range is (least, most), drawn evenly.

    Of an image in its canvas: it is rotated and sheared, zoomed, moved; a window of the canvas is cropped and
    stretched to the output, then flipped; mixed with another of its batch, changed in colour, and cut out of.

    horizontal_flip, vertical_flip: probability.
    shift: largest move along each axis, in whole pixels of the stored image.
    crop: side of the window as a part of the canvas; an area is the square of it. aspect: its width to
        height, drawn evenly in the logarithm. crop_probability.
    rotation: degrees, to either side. rotation_probability. expand: the canvas grows until it holds the whole
        of a rotated image, as in the published photo classifier.
    zoom: 1.1 shows everything 1.1 times as large. shear: largest slant to either side, in degrees.
    fill: what is seen outside the image, its reflection ("reflect") or 0 ("black").
    brightness, contrast, saturation: a factor from 1 - b to 1 + b, of all values, of their distance from the
        mean of the training images, of each channel's distance from grey. Values are not clipped.
    cutout: side, in output pixels, of a square set to the mean (DeVries, Taylor 2017). cutout_probability.
    mixup, cutmix: alpha of Beta(alpha, alpha), the share kept (Zhang et al. 2018; Yun et al. 2019); with both
        each mixed sample is one or the other. The partner is shown in the same way. mix_probability.
    """

    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    shift: int = 0
    crop: Range = ONES
    crop_probability: float = 1.0
    aspect: Range = ONES
    rotation: Range = (0.0, 0.0)
    rotation_probability: float = 1.0
    expand: bool = False
    zoom: Range = ONES
    shear: float = 0.0
    fill: Literal["reflect", "black"] = "reflect"
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    cutout: int = 0
    cutout_probability: float = 1.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), low, high))
        if self.fill not in ("reflect", "black"):
            raise ConfigError(f"fill must be 'reflect' or 'black', got {self.fill!r}.")
        if type(self.expand) is not bool:
            raise ConfigError(f"expand must be true or false, got {self.expand!r}.")

    @property
    def off(self) -> bool:
        """Whether nothing can happen to an image."""
        return not (self.moves or self.colours or self.cutout * self.cutout_probability or self.mixes)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, and their labels with them."""
        return self.mix_probability > 0 and max(self.mixup, self.cutmix) > 0

    @property
    def moves(self) -> bool:
        """Whether pixels may change their place."""
        return bool(
            self.horizontal_flip or self.vertical_flip or self.shift or self._crops or self._rotates
            or self.zoom != ONES or self.shear
        )  # fmt: skip

    @property
    def colours(self) -> bool:
        """Whether values may change where they are."""
        return max(self.brightness, self.contrast, self.saturation) > 0

    @property
    def _crops(self) -> bool:
        return self.crop_probability > 0 and (self.crop != ONES or self.aspect != ONES)

    @property
    def _rotates(self) -> bool:
        return self.rotation_probability > 0 and max(self.rotation) > 0

    def draw(
        self,
        *,
        seed: int,
        step: int,
        steps: int = 1,
        samples: int,
        size: tuple[int, int],
        output: tuple[int, int] | None = None,
    ) -> Drawn:
        """What happens to the `samples` of each whole batch of `steps` steps from `step` on.

        size: (H, W) of the stored images; output: of the network input, the same if not given. A row depends
        on neither `steps` nor `samples`; a partner is one of the `samples`.
        """
        output = output or size
        chance = _Chance(seed, step, steps, samples)
        rows = identity_rows((steps, samples))
        place = np.broadcast_to(np.arange(samples), (steps, samples))
        partner = place
        rows[..., columns.BLACK] = self.fill == "black"
        if self.moves or size != output:
            self._draw_map(rows, chance, size, output)
        if self.colours:
            self._draw_colour(rows, chance)
        if self.cutout * self.cutout_probability:
            half = self.cutout // 2
            top = np.floor(chance("cutout_y") * output[0]) - half
            left = np.floor(chance("cutout_x") * output[1]) - half
            cut = chance("cutout") < self.cutout_probability
            _set_box(rows, columns.CUT_TOP, (top, left, top + self.cutout, left + self.cutout), output, cut)
        if self.mixes:
            mixed = self._draw_mix(rows, chance, output)
            other = (place + 1 + np.floor(chance("partner") * (samples - 1)).astype(np.int64)) % samples
            partner = np.where(mixed, other, place)
        return Drawn(rows, np.ascontiguousarray(partner, np.int64))

    def _draw_map(
        self, rows: NDArray[np.float32], chance: _Chance, size: tuple[int, int], output: tuple[int, int]
    ) -> None:
        """The six numbers of the map: output pixel -> window -> canvas -> source."""
        (height, width), none = size, np.zeros(rows.shape[:2])
        cos, sin, canvas_height, canvas_width = none + 1, none, none + height, none + width
        if self._rotates:
            angle = np.radians(_signed(chance("angle"), self.rotation))
            angle = np.where(chance("rotation") < self.rotation_probability, angle, 0)
            cos, sin = np.cos(angle), np.sin(angle)
            if self.expand:
                canvas_height = abs(cos) * height + abs(sin) * width
                canvas_width = abs(cos) * width + abs(sin) * height
        window_height, window_width, top, left = none + 1, none + 1, none, none
        if self._crops:
            cropped = chance("crop") < self.crop_probability
            side = _between(chance("side"), self.crop)
            stretch = np.exp(0.5 * _between(chance("aspect"), [math.log(a) for a in self.aspect]))
            window_height = np.where(cropped, np.minimum(side / stretch, 1), 1)
            window_width = np.where(cropped, np.minimum(side * stretch, 1), 1)
            top, left = chance("top") * (1 - window_height), chance("left") * (1 - window_width)
        # Canvas places from its centre: p = p_0 + p_i i and q = q_0 + q_j j.
        p_i = canvas_height * window_height / output[0] * _sign(chance, "vertical_flip", self.vertical_flip)
        q_j = canvas_width * window_width / output[1] * _sign(chance, "horizontal_flip", self.horizontal_flip)
        p_0 = canvas_height * (top + window_height / 2 - 0.5) + p_i * (0.5 - output[0] / 2)
        q_0 = canvas_width * (left + window_width / 2 - 0.5) + q_j * (0.5 - output[1] / 2)
        zoom = _between(chance("zoom"), self.zoom) if self.zoom != ONES else 1
        slant = np.tan(np.radians((2 * chance("shear") - 1) * self.shear)) if self.shear else 0
        # Source from canvas: y = y_p p + y_q q and x = x_p p + x_q q.
        y_p, y_q = (cos - sin * slant) / zoom, -sin / zoom
        x_p, x_q = (sin + cos * slant) / zoom, cos / zoom
        down, right = none, none
        if self.shift:
            down = np.floor(chance("shift_y") * (2 * self.shift + 1)) - self.shift
            right = np.floor(chance("shift_x") * (2 * self.shift + 1)) - self.shift
        rows[..., columns.Y_I], rows[..., columns.Y_J] = y_p * p_i, y_q * q_j
        rows[..., columns.X_I], rows[..., columns.X_J] = x_p * p_i, x_q * q_j
        rows[..., columns.Y_0] = y_p * p_0 + y_q * q_0 + (height - 1) / 2 - down
        rows[..., columns.X_0] = x_p * p_0 + x_q * q_0 + (width - 1) / 2 - right

    def _draw_colour(self, rows: NDArray[np.float32], chance: _Chance) -> None:
        """Brightness and contrast multiply values; contrast also what is added to them, minus the mean."""
        for name, targets in (
            ("brightness", (columns.GAIN,)),
            ("contrast", (columns.GAIN, columns.CONTRAST)),
            ("saturation", (columns.SATURATION,)),
        ):
            if largest := getattr(self, name):
                factor = (1 + (2 * chance(name) - 1) * largest).astype(np.float32)
                for column in targets:
                    rows[..., column] *= factor

    def _draw_mix(
        self, rows: NDArray[np.float32], chance: _Chance, output: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """Fill in boxes and shares; (k, n), which samples are mixed. Mixup's box is the whole image."""
        mixed = chance("mix") < self.mix_probability
        pasted = mixed & (chance("mix_kind") < 0.5 if self.mixup and self.cutmix else self.cutmix > 0)
        height, width = output
        if self.mixup:
            keep = beta_quantile(chance("mix_weight"), self.mixup)
            blended = mixed & ~pasted
            _set_box(rows, columns.MIX_TOP, (0, 0, height, width), output, blended)
            rows[..., columns.MIX_KEEP] = np.where(blended, keep, rows[..., columns.MIX_KEEP])
            rows[..., columns.OWN] = rows[..., columns.MIX_KEEP]
        if self.cutmix:
            side = np.sqrt(1 - beta_quantile(chance("mix_weight"), self.cutmix))
            half_height, half_width = np.floor(side * height / 2), np.floor(side * width / 2)
            y, x = np.floor(chance("mix_y") * height), np.floor(chance("mix_x") * width)
            box = (y - half_height, x - half_width, y + half_height, x + half_width)
            _set_box(rows, columns.MIX_TOP, box, output, pasted)
            top, left, bottom, right = np.moveaxis(rows[..., columns.MIX_TOP : columns.MIX_RIGHT + 1], -1, 0)
            area = (bottom - top) * (right - left) / (height * width)
            rows[..., columns.MIX_KEEP] = np.where(pasted, 0, rows[..., columns.MIX_KEEP])
            rows[..., columns.OWN] = np.where(pasted, 1 - area, rows[..., columns.OWN])
        return mixed


def mix_targets(
    targets: NDArray[np.float32], partner: NDArray[np.int64], own: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(..., n, K) targets -> own * target + (1 - own) * target of the partner; partner and own are (..., n).

    own: the column OWN of the rows.
    """
    share = own[..., None]
    return share * targets + (1 - share) * np.take_along_axis(targets, partner[..., None], axis=-2)


def beta_quantile(u: Floats, alpha: float) -> Floats:
    """Beta(alpha, alpha) numbers from even ones (0 <= u < 1): x with P(X <= x) = u.

    Read off a table of the distribution function over z = x**p, p = min(alpha, 1), in which it has no steep
    end at 0: dF / dz is x**(alpha - p) (1 - x)**(alpha - 1), but for a constant. The upper half mirrors it.
    """
    power = min(alpha, 1.0)
    z = np.linspace(0, 0.5**power, 1025)
    x = z ** (1 / power)
    density = x ** (alpha - power) * (1 - x) ** (alpha - 1)
    mass = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    lower = np.interp(np.minimum(u, 1 - u), mass / mass[-1] / 2, z) ** (1 / power)
    return np.where(u < 0.5, lower, 1 - lower)


class _Chance:
    """Even numbers (steps, samples) in [0, 1) by name; four at a time are drawn, when first asked for."""

    def __init__(self, seed: int, step: int, steps: int, samples: int) -> None:
        self._key = seed & MASK, (seed >> 32) & MASK | OWN_KEY
        self._step, self._shape = step, (steps, samples)
        self._blocks: dict[int, Floats] = {}

    def __call__(self, name: str) -> Floats:
        block, word = divmod(DRAWN.index(name), 4)
        if block not in self._blocks:
            steps, samples = self._shape
            counter = np.zeros((steps, samples, 4), np.uint64)
            counter[..., 0], counter[..., 1] = block, np.arange(samples)
            counter[..., 2] = (self._step + np.arange(steps)[:, None]) & MASK
            self._blocks[block] = philox4x32(counter, self._key) * np.float64(2.0**-32)
        return self._blocks[block][..., word]


def _between(u: Floats, ends: Sequence[float]) -> Floats:
    """[0, 1) -> [low, high)."""
    return ends[0] + u * (ends[1] - ends[0])


def _signed(u: Floats, ends: Sequence[float]) -> Floats:
    """[0, 1) -> low to high, negative for the lower half."""
    return np.where(u < 0.5, -_between(2 * u, ends), _between(2 * u - 1, ends))


def _sign(chance: _Chance, name: str, probability: float) -> Floats | int:
    """-1 where it is flipped, else 1."""
    return np.where(chance(name) < probability, -1, 1) if probability else 1


def _set_box(
    rows: NDArray[np.float32],
    first: int,
    box: Sequence[Any],
    output: tuple[int, int],
    where: NDArray[np.bool_],
) -> None:
    """Four columns from `first` on: top, left, bottom, right, held inside the output."""
    for column, (edge, limit) in enumerate(zip(box, (*output, *output), strict=True), first):
        rows[..., column] = np.where(where, np.clip(edge, 0, limit), rows[..., column])


def _checked(name: str, value: Any, low: float, high: float) -> Any:
    """A setting within its limits; a range as a tuple of two floats."""
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
    fits = all(_is_number(number) and low <= number <= high for number in numbers)
    if name in RANGES:
        if not (fits and len(numbers) == 2 and numbers[0] <= numbers[1]):
            needs = f"two numbers from {low:g} to {high:g}, the least first"
            raise ConfigError(f"{name} must be {needs}, got {value!r}.")
        return tuple(map(float, numbers))
    whole = name in PIXELS
    if not fits or isinstance(value, list | tuple) or (whole and type(value) is not int):
        needs = f"a {'whole ' * whole}number from {low:g} to {high:g}"
        raise ConfigError(f"{name} must be {needs}, got {value!r}.")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


DEFAULTS = {
    "digits": Augment(shift=2, rotation=(0.0, 10.0), zoom=(0.9, 1.1)),
    "clothes": Augment(horizontal_flip=0.5, shift=2, cutout=8),
    "objects": Augment(horizontal_flip=0.5, shift=4, cutout=8),
    "photos": Augment(
        horizontal_flip=0.5,
        crop=(0.7, 1.0),
        aspect=(0.75, 4 / 3),
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
    ),
}


SMALL_SIDE = 64
"""Up to here images show small objects, beyond they are photos."""


def kind_of(image_shape: tuple[int, int, int]) -> str:
    """The kind that images (H, W, C) are taken for: small grey ones are never flipped."""
    if max(image_shape[:2]) > SMALL_SIDE:
        return "photos"
    return "digits" if image_shape[2] == 1 else "objects"


def default_augment(kind: str) -> Augment:
    """A sensible start for "digits" (never flipped), "clothes" and "objects" (small images), or "photos"."""
    if kind not in DEFAULTS:
        raise ConfigError(f"Unknown kind of image {kind!r}.{did_you_mean(kind, DEFAULTS)}")
    return DEFAULTS[kind]
