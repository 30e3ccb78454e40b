"""What explanations read: one class's score, and its gradient at every layer, in evaluation mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glassnet.errors import ConfigError
from glassnet.layers import AvgPool2d, Dropout, MaxPool2d, Softmax
from glassnet.layers.chain import Chain
from glassnet.network import Sequential
from glassnet.shapes import batched
from glassnet.trace import Trace, TracingOps

Array = np.ndarray
Classes = int | str | Sequence[int] | Sequence[str] | Array | None
"""Which class an explanation is of: one for all images, one an image, or (None) the predicted ones."""


def class_trace(net: Sequential, x: Array, classes: Array) -> Trace:
    """Every activation, and its gradient of score[n, classes[n]], of inputs (N, H, W, C).

    The score is that before a last Softmax. Batch normalisation uses its running statistics and dropout is
    off, so that each image's gradient is its own.
    """
    ops, head = TracingOps(), without_softmax(net)
    scores, saved = ops.call(head, x.astype(net.store.values.dtype), False)
    dscores = np.zeros_like(scores)
    dscores[np.arange(len(x)), classes] = 1
    _, grads = ops.call_backward(head, dscores, saved)
    return ops.finish(scores[np.arange(len(x)), classes], scores, grads)


def without_softmax(net: Sequential) -> Chain:
    """The network up to its scores: as it is, or without a Softmax at its end."""
    *_, last = net.built().layers
    if not isinstance(net.layers[last], Softmax):
        return net
    return Chain({name: layer for name, layer in net.layers.items() if name != last})


def class_numbers(net: Sequential, images: Any, classes: Classes) -> Array:
    """(N,): the classes to explain as numbers, checked; the predicted ones where none are given."""
    if classes is None:
        return net.scores(images).argmax(axis=-1)
    numbers = net.labels(np.atleast_1d(np.asarray(classes)))
    if numbers.dtype.kind not in "iu" or numbers.shape not in ((1,), (len(images),)):
        raise ConfigError(
            f"classes must be one name or number, or one for each of the {len(images)} images, "
            f"got {classes!r}."
        )
    if (numbers < 0).any() or (numbers >= net.outputs).any():
        raise ConfigError(
            f"A class to explain is a name or a number from 0 to {net.outputs - 1}, got {classes!r}."
        )
    return np.broadcast_to(numbers, len(images))


def map_layer(net: Sequential, layer: str | None) -> str:
    """The name of a layer whose output is maps (H, W, C), checked; the last useful one where none is given.

    That is the last of the network's own layers with maps of more than one pixel, pooling and dropout left
    out: "the last convolutional layer", after its normalisation and activation.
    """
    if layer is not None:
        shape = net[layer].output_shape or ()
        if len(shape) != 3:
            raise ConfigError(f"{layer} gives {batched(shape)}, but maps (N, H, W, C) are needed.")
        return layer
    for name, candidate in reversed(net.built().layers.items()):
        shape = candidate.output_shape or ()
        large = len(shape) == 3 and shape[0] * shape[1] > 1
        if large and not isinstance(candidate, AvgPool2d | Dropout | MaxPool2d):
            return name
    raise ConfigError(
        "No layer of this network gives maps (N, H, W, C). Use a method that needs none, such as saliency."
    )
