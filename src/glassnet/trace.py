"""A trace: what went in and out of every layer, forward and backward, of one training pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glassnet.errors import ConfigError, did_you_mean
from glassnet.ops.base import Grads, LayerLike
from glassnet.ops.reference import ReferenceOps
from glassnet.summary import table

Array = np.ndarray


@dataclass
class LayerTrace:
    """One layer's pass: dx is the gradient of the loss with respect to its input, dy to its output."""

    input: Array
    output: Array
    output_grad: Array | None = None
    input_grad: Array | None = None
    grads: Grads = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Trace(Mapping[str, LayerTrace]):
    """Layers by dotted name, in forward order; `loss` is the whole batch's, `scores` the network's output.

    `str(trace)` is a table: the shapes of each output y and of the parameters' gradients, and the root mean
    square (rms) of y and of its gradient dy.
    """

    layers: dict[str, LayerTrace]
    loss: float
    scores: Array
    grads: Grads

    def __getitem__(self, name: str) -> LayerTrace:
        if name not in self.layers:
            raise ConfigError(f"The trace has no layer {name!r}.{did_you_mean(name, self.layers)}")
        return self.layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        lines = [
            (
                name,
                str(seen.output.shape),
                ", ".join(f"{key} {grad.shape}" for key, grad in seen.grads.items()),
                _size(seen.output),
                "" if seen.output_grad is None else _size(seen.output_grad),
            )
            for name, seen in self.layers.items()
        ]
        header = ("layer", "output", "gradients", "rms y", "rms dy")
        return "\n".join((*table(header, lines, left=3), f"loss {self.loss:.6g}"))

    __repr__ = __str__


class TracingOps(ReferenceOps):
    """The reference backend, remembering what passes every boundary between layers."""

    def __init__(self, *, seed: int = 0, step: int = 0) -> None:
        super().__init__(seed=seed, step=step)
        self._layers: dict[str, LayerTrace] = {}

    def call(self, layer: LayerLike, x: Array, train: bool) -> tuple[Array, Any]:
        y, saved = super().call(layer, x, train)
        self._layers[layer.name] = LayerTrace(x, y)
        return y, saved

    def call_backward(
        self, layer: LayerLike, dy: Array, saved: Any, *, input_grad: bool = True
    ) -> tuple[Array, Grads]:
        # The whole chain is traced, so every input gradient is computed, also that of the images.
        dx, grads = super().call_backward(layer, dy, saved, input_grad=True)
        seen = self._layers[layer.name]
        seen.output_grad, seen.input_grad, seen.grads = dy, dx, grads
        return dx, grads

    def finish(self, losses: Array, scores: Array, grads: Grads) -> Trace:
        """The trace of the pass just made, without the entry of the network itself."""
        layers = {name: seen for name, seen in self._layers.items() if name}
        return Trace(layers, float(losses.sum(dtype=np.float64)), scores, grads)


def _size(array: Array) -> str:
    """The root mean square."""
    return f"{np.sqrt(np.mean(np.square(array, dtype=np.float64))):.3g}"
