"""The reference backend: every operation in plain NumPy, float32 or float64. It defines what is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from glassnet.ops.reference.conv import ConvOps
from glassnet.ops.reference.loss import LossOps
from glassnet.ops.reference.norm import NormOps
from glassnet.ops.reference.pointwise import PointwiseOps
from glassnet.ops.reference.pool import PoolOps

Array = np.ndarray


class ReferenceOps(ConvOps, PoolOps, PointwiseOps, NormOps, LossOps):
    """Computes at once, in the precision of its arrays.

    seed, step: what dropout draws from. first_sample: the number of the batch's first sample, where a
    batch is computed in parts. `commit()` makes announced state (running statistics) real.
    """

    def __init__(self, *, seed: int = 0, step: int = 0, first_sample: int = 0) -> None:
        self.seed, self.step, self.first_sample = seed, step, first_sample
        self._announced: dict[int, tuple[Array, Array]] = {}

    def set_state(self, state: Array, value: Array) -> None:
        self._announced[id(state)] = (state, value)

    def current(self, state: Array) -> Array:
        """The state as it will be after the commit: later parts of one batch build on earlier ones."""
        return self._announced.get(id(state), (state, state))[1]

    def commit(self, place: Callable[[Array], Array] = lambda state: state) -> None:
        """Write all announced state, each where `place` says."""
        for state, value in self._announced.values():
            place(state)[...] = value
        self._announced.clear()

    def update(
        self,
        rule: Callable[..., tuple[Any, ...]],
        parameter: Array,
        grad: Array,
        state: Sequence[Array],
        scalars: Sequence[Any],
    ) -> None:
        results = rule(parameter, grad, *state, scalars)
        for array, result in zip((parameter, *state), results, strict=True):
            array[...] = result
