"""Host calls: layers that only NumPy can run, in Python between the compiled sections of a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from glassnet.ops.base import Array, Grads, LayerLike
from glassnet.plan.symbols import Symbol


class HostCall:
    """A layer in a pass of its own, on ops that compute at once (`make_ops`, as the reference's).

    What forward saves stays here until backward; announced state becomes real with `commit`. `random`: seed,
    step and first sample of the plan. `output`: the symbol of its output.
    """

    random: np.ndarray
    output: Symbol

    def __init__(self, layer: LayerLike, train: bool, make_ops: Callable[..., Any]) -> None:
        self.layer, self.train = layer, train
        self._make_ops, self._ops, self._saved = make_ops, make_ops(), None

    def try_forward(self, x: Symbol) -> Array:
        """Its output for two samples of zeros, which tells its shape; of one there may be no variance."""
        with np.errstate(all="ignore"):
            y, self._saved = self._ops.call(self.layer, np.zeros((2, *x.shape[1:]), x.dtype), self.train)
        return y

    def try_backward(self) -> tuple[Array, Grads]:
        """Its gradients for those samples."""
        with np.errstate(all="ignore"):
            dy = np.zeros((2, *self.output.shape[1:]), np.float32)
            return self._ops.call_backward(self.layer, dy, self._saved)

    def forward(self, x: Array, y: Array) -> None:
        """Write the output of a whole batch, or of a part, to `y`."""
        seed, step, first_sample = map(int, self.random)
        if first_sample == 0:
            self._ops = self._make_ops(seed=seed, step=step)
        self._ops.first_sample = first_sample
        y[...], self._saved = self._ops.call(self.layer, x, self.train)

    def backward(self, names: tuple[str, ...], dy: Array, *results: Array) -> None:
        """Write the gradients of `names` to the first `results`, that of the input to a last one."""
        input_grad = len(results) > len(names)
        dx, grads = self._ops.call_backward(self.layer, dy, self._saved, input_grad=input_grad)
        values = [*(grads[name] for name in names), *([dx] if input_grad else [])]
        for result, value in zip(results, values, strict=True):
            result[...] = value

    def commit(self, place: Callable[[np.ndarray], np.ndarray]) -> None:
        """Write announced state where `place` says."""
        self._ops.commit(place)


@dataclass(frozen=True)
class HostKernel:
    """What a step runs instead of a compiled kernel: run(*inputs, *outputs)."""

    name: str
    call: HostCall
    run: Callable[..., None]
