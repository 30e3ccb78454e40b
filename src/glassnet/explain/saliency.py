"""How much each pixel moves a class's score: the gradient at the input, once or as a mean over noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from glassnet.errors import ConfigError
from glassnet.explain.passes import Array, Classes, class_numbers, class_trace
from glassnet.network import Sequential


def saliency(net: Sequential, images: Any, classes: Classes = None) -> Array:
    """(N, H, W): the largest |d score / d x| of a pixel's channels, x the network's (normalised) input.

    Simonyan, Vedaldi, Zisserman 2013, "Deep inside convolutional networks", section 3.1.
    """
    gradient = input_gradient(net, net.inputs(images), class_numbers(net, images, classes))
    return np.abs(gradient).max(axis=-1)


def smoothgrad(
    net: Sequential,
    images: Any,
    classes: Classes = None,
    *,
    generator: np.random.Generator,
    samples: int = 50,
    noise: float = 0.15,
) -> Array:
    """(N, H, W): saliency of the mean gradient at x + e, over `samples` draws of e ~ N(0, s^2).

    s is `noise` times the range max x - min x of each image. Smilkov et al. 2017, "SmoothGrad", section 3.
    """
    if samples < 1:
        raise ConfigError(f"SmoothGrad needs at least 1 sample, got samples={samples}.")
    x, numbers = net.inputs(images), class_numbers(net, images, classes)
    s = noise * np.ptp(x, axis=(1, 2, 3), keepdims=True)
    total = sum(
        input_gradient(net, x + s * generator.standard_normal(x.shape), numbers) for _ in range(samples)
    )
    return np.abs(total / samples).max(axis=-1)


def input_gradient(net: Sequential, x: Array, classes: Array) -> Array:
    """(N, H, W, C): d score[n, classes[n]] / d x."""
    gradient = class_trace(net, x, classes)[next(iter(net.layers))].input_grad
    assert gradient is not None
    return gradient
