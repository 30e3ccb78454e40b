"""A residual network of any width and depth."""

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
    Residual,
)


def resnet(
    classes: int,
    *,
    width: int = 32,
    depth: int = 1,
    stages: int = 4,
    halvings: int = 2,
    dropout: float = 0.2,
) -> list[Layer]:
    """`stages` of `depth` residual blocks (He et al. 2015), then the mean of each channel.

    The first stage has `width` channels; each later one twice as many, on a quarter of the pixels.
    halvings: how often the stem before them halves each side, by a stride and then by pooling: 0 for images
    of about 32 pixels, 1 for 64, 2 for 128.
    """
    layers: list[Layer] = [
        *(Conv2d(width, 3, stride=2 if halvings else 1, padding=1, bias=False), BatchNorm2d(), ReLU()),
        *(MaxPool2d(2) for _ in range(halvings - 1)),
    ]
    for stage in range(stages):
        for number in range(depth):
            begins = stage > 0 and number == 0
            layers += [block(width << stage, 2 if begins else 1, projected=begins), ReLU()]
    return [*layers, GlobalAvgPool2d(), Dropout(dropout), Linear(classes)]


def block(filters: int, stride: int, *, projected: bool) -> Residual:
    """Two normalised convolutions around a shortcut, which is projected where the shape changes."""
    main = [
        *(Conv2d(filters, 3, stride=stride, padding=1, bias=False), BatchNorm2d(), ReLU()),
        *(Conv2d(filters, 3, padding=1, bias=False), BatchNorm2d()),
    ]
    shortcut = [Conv2d(filters, 1, stride=stride, bias=False), BatchNorm2d()]
    return Residual(main, shortcut if projected else None)
