"""What can be seen of a sick network: gradients that fade or grow through its layers, and dead ReLUs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from glassnet.data import Split
from glassnet.layers import ReLU
from glassnet.losses import Loss, targets_for
from glassnet.network import Sequential
from glassnet.ops.base import LayerLike
from glassnet.ops.reference import ReferenceOps
from glassnet.store import Store

Array = np.ndarray

IMAGES = 256
"""Images that must leave a channel at 0 before it is called dead."""
ACTIVATION_BYTES = 1 << 26
HALF = 0.5
"""Of a layer's channels, how many may be idle: some always are."""
RATIO = 1e-5
"""Between the gradients of two layers. Networks that learn have 0.05 and more, 20 sigmoids 1e-11."""


@dataclass(frozen=True)
class LayerGradient:
    """rms: root of the mean square of all its numbers. idle: share of output channels where all are 0."""

    rms: float
    idle: float


@dataclass(frozen=True)
class Gap:
    """Two layers whose gradients differ by more than RATIO: the one that is to blame, and the other."""

    layer: str
    other: str
    ratio: float

    @property
    def vanishes(self) -> bool:
        """Whether the layer's gradient is the smaller one."""
        return self.ratio < 1


def layer_gradients(store: Store) -> dict[str, LayerGradient]:
    """What the last step left in the store, by layer in forward order; without frozen layers."""
    arrays: dict[str, list[Array]] = {}
    for name, slot in store.learning():
        arrays.setdefault(slot.layer.name, []).append(store.grad(name))
    return {layer: LayerGradient(rms(own), min(map(idle, own))) for layer, own in arrays.items()}


def rms(arrays: list[Array]) -> float:
    """The root of the mean square, in float64: squares of float32 gradients may be too small for float32."""
    squares = sum(float(np.square(array, dtype=np.float64).sum()) for array in arrays)
    return math.sqrt(squares / sum(array.size for array in arrays))


def idle(gradient: Array) -> float:
    """Of a gradient (..., O), the share of output channels where it is exactly 0; a number is one channel."""
    channels = gradient.shape[-1] if gradient.ndim else 1
    return 1 - float(gradient.reshape(-1, channels).any(axis=0).mean())


def gap(gradients: Mapping[str, LayerGradient]) -> Gap | None:
    """The largest gap between two layers, where there is one and any gradient at all.

    Gradients flow from the last layer to the first: the smaller one is to blame where it comes first, for it
    vanished on its way; the larger one where that comes first, for it grew. One that is 0 is always to blame.
    """
    layers = list(gradients)
    small = min(layers, key=lambda layer: gradients[layer].rms)
    large = max(layers, key=lambda layer: gradients[layer].rms)
    if not gradients[small].rms < RATIO * gradients[large].rms:  # nor where one is NaN
        return None
    ratio = gradients[small].rms / gradients[large].rms
    if ratio == 0 or layers.index(small) < layers.index(large):
        return Gap(small, large, ratio)
    return Gap(large, small, 1 / ratio)


class WatchingOps(ReferenceOps):
    """The reference backend, remembering which channels of each ReLU were ever above 0."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[str, Array] = {}

    def call(self, layer: LayerLike, x: Array, train: bool) -> tuple[Array, Any]:
        y, saved = super().call(layer, x, train)
        if isinstance(layer, ReLU):
            active = y.reshape(-1, y.shape[-1]).any(axis=0)
            self.alive[layer.name] = self.alive.get(layer.name, False) | active
        return y, saved

    def dead(self) -> dict[str, tuple[int, int]]:
        """(channels without any activation, all channels) of each ReLU where they are HALF or more."""
        counts = {name: (int((~alive).sum()), len(alive)) for name, alive in self.alive.items()}
        return {name: count for name, count in counts.items() if count[0] >= HALF * count[1]}


def dead_relus(net: Sequential, split: Split) -> tuple[dict[str, tuple[int, int]], int]:
    """({ReLU: (dead channels, channels)}, images) of a training pass over images from the whole split.

    Nothing of the network changes. The pass ends as soon as no ReLU is under suspicion.
    """
    ops, dtype = WatchingOps(), net.store.values.dtype
    sample_bytes = sum(dtype.itemsize * math.prod(layer.output_shape or ()) for layer in net.walk())
    at_once = max(2, min(32, ACTIVATION_BYTES // sample_bytes))  # batch normalisation needs two
    index = spread(len(split))
    with np.errstate(all="ignore"):
        for start in range(0, len(index) - 1, at_once):
            ops.call(net, split.inputs(index[start : start + at_once]).astype(dtype, copy=False), True)
            if not ops.dead():
                break
    return ops.dead(), len(index)


def spread(samples: int) -> Array:
    """Numbers of up to IMAGES samples, evenly spread."""
    return np.linspace(0, samples - 1, min(IMAGES, samples)).astype(np.int64)


def guessing_loss(loss: Loss, split: Split) -> float:
    """The mean loss of scores that are the same for every class."""
    some, outputs = split[spread(len(split))], len(split.classes)
    target, share = loss.targets(targets_for(loss, some.targets, outputs), outputs)
    scores = np.full((len(some), outputs), 1 / outputs if loss.output == "probabilities" else 0.0)
    return float(loss.forward(ReferenceOps(), scores, target, share).sum())
