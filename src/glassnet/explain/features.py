"""What layers see and what they look for: activations and weights, as tiles for a contact sheet."""

from __future__ import annotations

from typing import Any

import numpy as np

from glassnet.errors import ConfigError
from glassnet.explain.passes import Array, map_layer
from glassnet.layers import Conv2d
from glassnet.network import Sequential
from glassnet.trace import TracingOps


def feature_maps(net: Sequential, images: Any, *, layer: str | None = None) -> Array:
    """(N, h, w, C): the output of one layer in evaluation mode, the last with maps unless named."""
    name, ops = map_layer(net, layer), TracingOps()
    scores, _ = ops.call(net, net.inputs(images).astype(net.store.values.dtype), False)
    return ops.finish(scores, scores, {})[name].output


def feature_tiles(maps: Array) -> Array:
    """One image's maps (h, w, C) -> (C, h, w) tiles, each from its smallest value (0) to its largest (1)."""
    tiles = np.moveaxis(maps, -1, 0)
    low, span = tiles.min(axis=(1, 2), keepdims=True), np.ptp(tiles, axis=(1, 2), keepdims=True)
    return np.divide(tiles - low, span, out=np.zeros(tiles.shape), where=span > 0)


def filters(net: Sequential, *, layer: str | None = None) -> Array:
    """(K, K, C, O): the weights of a convolution, the network's first unless named."""
    convolutions = [found for found in net.walk() if isinstance(found, Conv2d)]
    chosen = net[layer] if layer is not None else next(iter(convolutions), None)
    if not isinstance(chosen, Conv2d):
        what = "The network" if layer is None else layer
        known = ", ".join(found.name for found in convolutions) or "none"
        raise ConfigError(f"{what} has no filters to show. Convolutions of this network: {known}.")
    return chosen.weight


def filter_tiles(weight: Array) -> Array:
    """(K, K, C, O) -> tiles in 0..1, weight 0 at 1/2, the largest |weight| of a filter at 0 or 1.

    Filters on three channels are O colour tiles (O, K, K, 3); others O rows of C grey ones, (O*C, K, K).
    """
    scaled = np.moveaxis(weight, -1, 0)
    largest = np.abs(scaled).max(axis=(1, 2, 3), keepdims=True)
    tiles = 0.5 + 0.5 * scaled / np.where(largest > 0, largest, 1)
    if weight.shape[2] == 3:
        return tiles
    return np.moveaxis(tiles, -1, 1).reshape(-1, *weight.shape[:2])
