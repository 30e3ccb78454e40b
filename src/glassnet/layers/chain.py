"""Layers one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glassnet.errors import ConfigError
from glassnet.layers.base import Layer
from glassnet.ops.base import Array, Grads, Ops
from glassnet.shapes import Shape

Layers = Sequence[Layer] | Mapping[str, Layer]


class Chain(Layer):
    """Layers one after another. A list is named by kind (conv2d_1, relu_1, conv2d_2), a dict as it says."""

    def __init__(self, layers: Layers) -> None:
        self.layers = named(layers)
        inside = list(self.walk())
        if len({id(layer) for layer in inside}) != len(inside):
            raise ConfigError("A layer stands twice in one network. Each place needs a layer of its own.")

    def children(self) -> dict[str, Layer]:
        return self.layers

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        for name, layer in self.layers.items():
            input_shape = layer.build_named(dotted(self, name), input_shape, generator)
        return input_shape

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        saved = []
        for layer in self.layers.values():
            x, kept = ops.call(layer, x, train)
            saved.append(kept)
        return x, saved

    def backward(self, ops: Ops, dy: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        grads: Grads = {}
        items = list(self.layers.items())
        first = 0 if input_grad else first_learning(self)
        for i in reversed(range(first, len(items))):
            name, layer = items[i]
            dy, own = ops.call_backward(layer, dy, saved[i], input_grad=input_grad or i > first)
            grads |= prefixed(name, own)
        return (dy if input_grad else None), grads


def named(layers: Layers) -> dict[str, Layer]:
    """Names for a list of layers: the kind in lower case and its running number."""
    if isinstance(layers, Mapping):
        result = dict(layers)
    else:
        counts: Counter[str] = Counter()
        result = {}
        for layer in layers:
            kind = type(layer).__name__.lower()
            counts[kind] += 1
            result[f"{kind}_{counts[kind]}"] = layer
    if not result:
        raise ConfigError("A chain of layers needs at least one layer, got none.")
    for name, layer in result.items():
        if not isinstance(layer, Layer):
            raise ConfigError(f"{name} must be a layer such as Conv2d(8, 3), got {layer!r}.")
        if "." in name:
            raise ConfigError(f"A layer's name must not hold a dot, got {name!r}: dots join nested names.")
    return result


def dotted(parent: Layer, name: str) -> str:
    """The full name of a child."""
    return f"{parent.name}.{name}" if parent.name else name


def prefixed(name: str, grads: Grads) -> Grads:
    """Gradients under the name that the parent knows them by."""
    return {f"{name}.{key}": grad for key, grad in grads.items()}


def first_learning(chain: Chain) -> int:
    """Where backward may stop: the first layer that has something to learn."""
    for i, layer in enumerate(chain.layers.values()):
        if any(
            p.kind == "parameter" and part.trainable for part in layer.walk() for p in part.tensors.values()
        ):
            return i
    return len(chain.layers)
