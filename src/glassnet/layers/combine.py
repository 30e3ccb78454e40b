"""Layers made of layers: around a shortcut, and side by side. Nested at will."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glassnet.errors import ConfigError, ShapeError
from glassnet.layers.base import Layer
from glassnet.layers.chain import Chain, Layers, dotted, prefixed
from glassnet.ops.base import Array, Grads, Ops
from glassnet.shapes import Shape, batched


class Residual(Layer):
    """y = main(x) + shortcut(x); without a shortcut, y = main(x) + x (He et al. 2015)."""

    def __init__(self, main: Layers | Layer, shortcut: Layers | Layer | None = None) -> None:
        self.main = as_layer(main)
        self.shortcut = None if shortcut is None else as_layer(shortcut)

    def children(self) -> dict[str, Layer]:
        return {"main": self.main} | ({} if self.shortcut is None else {"shortcut": self.shortcut})

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        main = self.main.build_named(dotted(self, "main"), input_shape, generator)
        beside, source = input_shape, "its input"
        if self.shortcut is not None:
            beside = self.shortcut.build_named(dotted(self, "shortcut"), input_shape, generator)
            source = "its shortcut"
        if main != beside:
            raise ShapeError(
                f"{self.name} adds {batched(main)} from main to {batched(beside)} from {source}; "
                "they must be equal. Give it a shortcut such as Conv2d(filters, 1, stride=...) that makes "
                "that shape."
            )
        return main

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        y, saved = ops.call(self.main, x, train)
        beside, beside_saved = (x, None) if self.shortcut is None else ops.call(self.shortcut, x, train)
        return ops.add(y, beside), (saved, beside_saved)

    def backward(self, ops: Ops, dy: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        dx, grads = ops.call_backward(self.main, dy, saved[0], input_grad=input_grad)
        grads = prefixed("main", grads)
        beside = dy
        if self.shortcut is not None:
            beside, own = ops.call_backward(self.shortcut, dy, saved[1], input_grad=input_grad)
            grads |= prefixed("shortcut", own)
        return (ops.add(dx, beside) if input_grad else None), grads


class Concat(Layer):
    """Branches side by side on the same input, joined along the channels (Szegedy et al. 2014)."""

    def __init__(self, branches: Sequence[Layers | Layer]) -> None:
        if not branches:
            raise ConfigError("Concat needs at least one branch, got none.")
        self.branches = {f"branch_{i}": as_layer(branch) for i, branch in enumerate(branches, 1)}

    def children(self) -> dict[str, Layer]:
        return self.branches

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        outputs = [
            branch.build_named(dotted(self, name), input_shape, generator)
            for name, branch in self.branches.items()
        ]
        if len({shape[:-1] for shape in outputs}) != 1:
            raise ShapeError(
                f"{self.name} joins branches along the channels; all else must be equal, "
                f"got {', '.join(map(batched, outputs))}."
            )
        self.sizes = [shape[-1] for shape in outputs]
        return (*outputs[0][:-1], sum(self.sizes))

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        outputs, saved = zip(*(ops.call(branch, x, train) for branch in self.branches.values()), strict=True)
        return ops.concat(outputs), saved

    def backward(self, ops: Ops, dy: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        grads: Grads = {}
        total = None
        parts = ops.split(dy, self.sizes)
        for (name, branch), part, kept in zip(self.branches.items(), parts, saved, strict=True):
            dx, own = ops.call_backward(branch, part, kept, input_grad=input_grad)
            grads |= prefixed(name, own)
            total = dx if total is None or not input_grad else ops.add(total, dx)
        return total, grads


def as_layer(layers: Layers | Layer) -> Layer:
    """A layer as it is; a list or dict of layers as a Chain."""
    return layers if isinstance(layers, Layer) else Chain(layers)
