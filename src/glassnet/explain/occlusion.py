"""What a network misses where a part of the image is hidden."""

from __future__ import annotations

from typing import Any

import numpy as np

from glassnet.errors import ConfigError
from glassnet.explain.passes import Array, Classes, class_numbers
from glassnet.network import Sequential, probabilities

HIDDEN_AT_ONCE = 64


def occlusion(
    net: Sequential,
    images: Any,
    classes: Classes = None,
    *,
    patch: int | None = None,
    stride: int | None = None,
) -> Array:
    """(N, H, W): by how much the class's probability falls where a square is hidden, as a mean over the
    squares that cover a pixel; below 0 where hiding helps.

    Squares of `patch` pixels (a seventh of the shorter side) in steps of `stride` (half a patch), the last
    ones at the border, are filled with input 0, which is the training images' mean colour. Zeiler, Fergus
    2014, "Visualizing and understanding convolutional networks", section 4.2.
    """
    x, numbers = net.inputs(images), class_numbers(net, images, classes)
    height, width = x.shape[1:3]
    patch = max(1, min(height, width) // 7) if patch is None else patch
    stride = max(1, patch // 2) if stride is None else stride
    if not (1 <= patch <= min(height, width) and stride >= 1):
        raise ConfigError(
            f"Occlusion needs 1 <= patch <= {min(height, width)} (the image's shorter side) and stride >= 1, "
            f"got patch={patch}, stride={stride}."
        )
    squares = [
        (slice(top, top + patch), slice(left, left + patch))
        for top in starts(height, patch, stride)
        for left in starts(width, patch, stride)
    ]
    return np.stack([fall(net, image, k, squares) for image, k in zip(x, numbers, strict=True)])


def starts(size: int, patch: int, stride: int) -> list[int]:
    """Where squares begin: every `stride` pixels, and one that ends at the border."""
    last = size - patch
    return sorted({*range(0, last + 1, stride), last})


def fall(net: Sequential, image: Array, number: int, squares: list[tuple[slice, slice]]) -> Array:
    """(H, W): the mean fall of one class's probability over the squares that cover each pixel."""
    whole = class_probability(net, image[None], number)[0]
    total, count = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
    for first in range(0, len(squares), HIDDEN_AT_ONCE):
        some = squares[first : first + HIDDEN_AT_ONCE]
        hidden = np.repeat(image[None], len(some), axis=0)
        for copy, square in zip(hidden, some, strict=True):
            copy[square] = 0
        for square, left in zip(some, class_probability(net, hidden, number), strict=True):
            total[square] += whole - left
            count[square] += 1
    # A stride above the patch leaves pixels that no square covers: nothing is known of them.
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def class_probability(net: Sequential, x: Array, number: int) -> Array:
    """(n,): that class's probability for network inputs, on the network's backend."""
    run = net.predictor()
    step = getattr(run, "capacity", len(x))
    scores = np.concatenate([run(x[i : i + step]) for i in range(0, len(x), step)])
    return probabilities(scores, net.loss.output)[:, number]
