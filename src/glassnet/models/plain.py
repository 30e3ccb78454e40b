"""A plain convolutional network of any width and depth."""

from __future__ import annotations

from glassnet.layers import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
)


def plain(classes: int, *, width: int = 32, depth: int = 3, dropout: float = 0.2) -> list[Layer]:
    """`depth` times two normalised convolutions and a pooling, then the mean of each channel.

    The first two have `width` channels, and each pooling doubles them (Simonyan, Zisserman 2014, with batch
    normalisation). The mean instead of large linear layers leaves few parameters, and takes images of any
    size from 2**depth pixels on.
    """
    layers: list[Layer] = []
    for stage in range(depth):
        for _ in range(2):
            layers += [Conv2d(width << stage, 3, padding=1, bias=False), BatchNorm2d(), ReLU()]
        layers.append(MaxPool2d(2))
    return [*layers, GlobalAvgPool2d(), Dropout(dropout), Linear(classes)]
