"""Output-size arithmetic and shape checks, shared by layers and backends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

from glassnet.errors import ShapeError

Shape = tuple[int, ...]
Pair = tuple[int, int]
Padding = int | Sequence[int] | Literal["valid", "same"]


@dataclass(frozen=True)
class Geometry:
    """How a window moves over an (H, W) image: kernel, stride, dilation, four-sided padding, groups.

    Output row i reads input rows i*stride + u*dilation - top for u in [0, K), so
    H' = (H + top + bottom - dilation*(K - 1) - 1) // stride + 1, and the same for W'.
    """

    input: Pair
    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, bottom, left, right
    groups: int = 1

    @property
    def extent(self) -> Pair:
        """Rows and columns that one window spans: dilation*(K - 1) + 1."""
        return (self.dilation[0] * (self.kernel[0] - 1) + 1, self.dilation[1] * (self.kernel[1] - 1) + 1)

    @property
    def padded(self) -> Pair:
        """(H, W) with the padding around it."""
        top, bottom, left, right = self.padding
        return (self.input[0] + top + bottom, self.input[1] + left + right)

    @property
    def output(self) -> Pair:
        """(H', W')."""
        return (
            (self.padded[0] - self.extent[0]) // self.stride[0] + 1,
            (self.padded[1] - self.extent[1]) // self.stride[1] + 1,
        )


def pair(value: int | Sequence[int], what: str, *, at_least: int = 1) -> Pair:
    """An int or a pair of ints as a pair, each at least `at_least`."""
    values = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(values) != 2 or not all(isinstance(v, int) and v >= at_least for v in values):
        raise ShapeError(f"{what} must be an int or a pair of ints of at least {at_least}, got {value!r}.")
    return values[0], values[1]


def count(value: Any, what: str) -> int:
    """A whole number of at least 1."""
    if not isinstance(value, Integral) or value < 1:
        raise ShapeError(f"{what} must be a whole number of at least 1, got {value!r}.")
    return int(value)


def checked_shape(value: Any, what: str) -> Shape:
    """A shape without its batch: whole numbers of at least 1."""
    sides: tuple[Any, ...] = tuple(value) if isinstance(value, tuple | list) else (None,)
    if not all(isinstance(side, Integral) and int(side) >= 1 for side in sides):
        raise ShapeError(f"{what} a shape such as (H, W, C), whole numbers from 1 on, got {value!r}.")
    return tuple(map(int, sides))


def geometry(
    what: str,
    input_size: Pair,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Geometry:
    """The checked Geometry of a convolution or pooling layer called `what`.

    `padding` is an int, a (vertical, horizontal) pair, (top, bottom, left, right), "valid" (none) or
    "same": output ceil(input / stride), the odd row or column on the bottom and right.
    """
    kernel = pair(kernel_size, f"{what} kernel_size")
    steps = pair(stride, f"{what} stride")
    spread = pair(dilation, f"{what} dilation")
    unpadded = Geometry(input_size, kernel, steps, spread, groups=groups)
    result = Geometry(input_size, kernel, steps, spread, _sides(what, padding, unpadded), groups)
    if min(result.output) < 1:
        raise ShapeError(
            f"{what} has a window of {result.extent[0]}x{result.extent[1]}, which does not fit its padded "
            f"input of {result.padded[0]}x{result.padded[1]}. Use a smaller kernel, more padding or fewer "
            "strided layers."
        )
    return result


def _sides(what: str, padding: Padding, unpadded: Geometry) -> tuple[int, int, int, int]:
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        before, after = zip(*map(_same, unpadded.input, unpadded.extent, unpadded.stride), strict=True)
        return (before[0], after[0], before[1], after[1])
    values: tuple[Any, ...] = tuple(padding) if isinstance(padding, Sequence) else (padding,)
    if len(values) not in (1, 2, 4) or not all(isinstance(v, int) and v >= 0 for v in values):
        raise ShapeError(
            f'{what} padding must be "same", "valid", an int, a pair or (top, bottom, left, right), '
            f"none negative, got {padding!r}."
        )
    if len(values) == 4:
        return (values[0], values[1], values[2], values[3])
    return (values[0], values[0], values[-1], values[-1])


def _same(size: int, extent: int, stride: int) -> Pair:
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def check_image_shape(what: str, shape: Shape) -> tuple[int, int, int]:
    """`shape` without the batch as (H, W, C), or a ShapeError that says what to do."""
    if len(shape) != 3:
        hints = {1: " Put it before Flatten.", 2: " Grey images need a channel axis: (H, W, 1)."}
        raise ShapeError(
            f"{what} needs an input of shape (N, H, W, C), got {batched(shape)}.{hints.get(len(shape), '')}"
        )
    return shape[0], shape[1], shape[2]


def batched(shape: Shape) -> str:
    """`(N, 28, 28, 1)`: how a shape without its batch is printed."""
    return f"(N, {', '.join(map(str, shape))})" if shape else "(N,)"
