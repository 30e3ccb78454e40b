"""Where in the image the evidence for a class lies, as the maps of one layer see it."""

from __future__ import annotations

from typing import Any

import numpy as np

from glassnet.explain.passes import Array, Classes, class_numbers, class_trace, map_layer
from glassnet.explain.pictures import upsample
from glassnet.network import Sequential


def gradcam(net: Sequential, images: Any, classes: Classes = None, *, layer: str | None = None) -> Array:
    """(N, H, W): L = max(0, sum over k of a_k A_k), a_k the mean over i, j of d score / d A_k[i,j].

    A is the output (h, w, K) of `layer` (the last with maps unless named); L is enlarged to the image
    bilinearly. Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2.
    """
    maps, gradient = maps_and_gradient(net, images, classes, layer)
    weights = gradient.mean(axis=(1, 2), keepdims=True)
    return weighted(maps, weights, images)


def gradcam_plus_plus(
    net: Sequential, images: Any, classes: Classes = None, *, layer: str | None = None
) -> Array:
    """(N, H, W): as Grad-CAM with a_k = sum over i, j of r[i,j] max(0, g[i,j]), g = d score / d A_k, and
    r[i,j] = g[i,j]^2 / (2 g[i,j]^2 + g[i,j]^3 sum A_k), 0 where g is 0.

    The paper explains exp(score), which multiplies every weight of an image by exp(score): left out here,
    for it changes no map's shape and overflows. Chattopadhay et al. 2018, "Grad-CAM++", equations 5, 19.
    """
    maps, g = maps_and_gradient(net, images, classes, layer)
    denominator = 2 * g**2 + g**3 * maps.sum(axis=(1, 2), keepdims=True)
    ratio = np.divide(g**2, denominator, out=np.zeros_like(g), where=denominator != 0)
    weights = (ratio * np.maximum(g, 0)).sum(axis=(1, 2), keepdims=True)
    return weighted(maps, weights, images)


def maps_and_gradient(
    net: Sequential, images: Any, classes: Classes, layer: str | None
) -> tuple[Array, Array]:
    """(A, d score / d A), each (N, h, w, K), at one layer."""
    seen = class_trace(net, net.inputs(images), class_numbers(net, images, classes))[map_layer(net, layer)]
    assert seen.output_grad is not None
    return seen.output, seen.output_grad


def weighted(maps: Array, weights: Array, images: Any) -> Array:
    """Maps (N, h, w, K), weights (N, 1, 1, K) -> (N, H, W): their sum, 0 where below, in the images' size."""
    heat = np.maximum((maps * weights).sum(axis=-1), 0)
    return upsample(heat, np.shape(images)[1:3])
