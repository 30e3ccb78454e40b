"""The Grad-CAM of the fifth published system as it was, to be shown beside the paper's."""

from __future__ import annotations

from typing import Any

import numpy as np

from glassnet.explain import feature_maps
from glassnet.explain.passes import Array
from glassnet.explain.pictures import upsample
from glassnet.network import Sequential


def published_cam(net: Sequential, images: Any, *, layer: str | None = None) -> Array:
    """(N, H, W) in 0..1: 1 - unit(max(0, sum over k of m_k A_k)), m_k the mean of A_k, unit(x) from 0 to 1.

    Faulty in three ways, all kept: a channel's weight is the mean of its feature map, not of its gradient;
    the backward pass starts from the raw logits instead of one class (and its result is used nowhere, so that
    the map is the same for every class); and the map is shown inverted, dark where it is large.
    `glassnet.explain.gradcam` is what the paper says.
    """
    maps = feature_maps(net, images, layer=layer)
    heat = np.maximum((maps * maps.mean(axis=(1, 2), keepdims=True)).sum(axis=-1), 0)
    heat -= heat.min(axis=(1, 2), keepdims=True)
    highest = heat.max(axis=(1, 2), keepdims=True)
    return upsample(1 - heat / np.where(highest > 0, highest, 1), np.shape(images)[1:3])
