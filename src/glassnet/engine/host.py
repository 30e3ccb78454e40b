"""Host sections bound to memory: what runs in Python between native calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from glassnet.plan.passes.layout import Layout
from glassnet.plan.passes.memory import Memory
from glassnet.plan.plan import Section, Span, Step
from glassnet.plan.symbols import Symbol


@dataclass(frozen=True)
class View:
    """An array that a host call is given: the whole buffer, and what is inside its halo."""

    whole: np.ndarray
    inside: np.ndarray
    batched: bool

    def of(self, samples: int) -> View:
        """The same for the first samples."""
        return (
            replace(self, whole=self.whole[:samples], inside=self.inside[:samples]) if self.batched else self
        )


class HostSection:
    """The host calls of one section, on views (capacity, *shape) of the shared arena."""

    def __init__(
        self, section: Section, layout: Layout, memory: Memory, arena: np.ndarray, capacity: int
    ) -> None:
        self._layout, self._memory, self._arena, self._capacity = layout, memory, arena, capacity
        self._steps = [(step.kernel, *self._bound(step)) for step in section.steps]

    def __call__(self, samples: int) -> None:
        """Run all on a batch."""
        for number in range(len(self._steps)):
            self.run(number, samples)

    def run(self, number: int, samples: int) -> None:
        """Run one. Inputs are copies, which a layer may keep: their buffers are soon reused."""
        kernel, inputs, outputs = self._steps[number]
        results = [view.of(samples) for view in outputs]
        for view in results:
            view.whole[...] = 0
        kernel.run(*(view.of(samples).inside.copy() for view in inputs), *(view.inside for view in results))

    def commit(self, place: Callable[[np.ndarray], np.ndarray]) -> None:
        """Write the state that layers announced where `place` says."""
        for kernel, *_ in self._steps:
            kernel.call.commit(place)

    def _bound(self, step: Step) -> tuple[list[View], list[View]]:
        """The inputs and the outputs."""
        assert step.operation is not None
        views = [self._view(a.symbol) if isinstance(a, Span) else View(a, a, False) for a in step.arguments]
        inputs = len(step.operation.reads())
        return views[:inputs], views[inputs:]

    def _view(self, symbol: Symbol) -> View:
        place = self._memory.places[self._layout.home(symbol)]
        memory = self._arena[place.offset : place.offset + self._capacity * place.sample_bytes]
        top, bottom, left, right = self._layout.halo(symbol)
        if len(symbol.shape) != 4:
            whole = memory.view(symbol.dtype).reshape(self._capacity, *symbol.shape[1:])
            return View(whole, whole, True)
        _, h, w, c = symbol.shape
        whole = memory.view(symbol.dtype).reshape(self._capacity, top + h + bottom, left + w + right, c)
        return View(whole, whole[:, top : top + h, left : left + w], True)
