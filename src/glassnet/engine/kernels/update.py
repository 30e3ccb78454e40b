"""The end of a step: what guards it, clips it and changes the parameters. Units are runs of 1024 numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from glassnet.engine.machine.kernel import Kernel, f32, f64, i64, inline, kernel

RUN = 1024


@kernel
def squared_norm(g: f32[1], sums: f64[1], lo: i64, hi: i64) -> None:
    """sums[unit] = sum of g^2 over the unit, in float64: NaN or infinite where a gradient is."""
    for b in range(lo, hi):
        total = np.float64(0)
        for i in range(RUN * b, min(RUN * b + RUN, g.shape[0])):
            total += np.float64(g[i]) * np.float64(g[i])
        sums[b] = total


@kernel
def clip(g: f32[1], limits: f32[1], lo: i64, hi: i64) -> None:
    """g = g * limits[0], held between -limits[1] and limits[1]."""
    scale, limit = limits[0], limits[1]
    for i in range(RUN * lo, min(RUN * hi, g.shape[0])):
        v = g[i] * scale
        v = limit if v > limit else v
        g[i] = -limit if v < -limit else v


@kernel
def deliver(value: f32[1], grad: f32[1], adding: i64[1], lo: i64, hi: i64) -> None:
    """grad = value, or grad += value where `adding`."""
    for i in range(RUN * lo, min(RUN * hi, grad.shape[0])):
        grad[i] = grad[i] + value[i] if adding[0] else value[i]


@kernel
def commit(state: f32[1], pending: f32[1], lo: i64, hi: i64) -> None:
    """state = pending: announced running statistics become real."""
    for i in range(RUN * lo, min(RUN * hi, state.shape[0])):
        state[i] = pending[i]


@functools.cache
def update(rule: Callable[..., Any], states: int) -> Kernel:
    """The kernel that applies an optimiser's rule(w, g, *state, s) to every number."""
    inline(rule)

    def update_0(w: f32[1], g: f32[1], s: f32[1], lo: i64, hi: i64) -> None:
        for i in range(RUN * lo, min(RUN * hi, w.shape[0])):
            w[i] = rule(w[i], g[i], s)[0]

    def update_1(w: f32[1], g: f32[1], a: f32[1], s: f32[1], lo: i64, hi: i64) -> None:
        for i in range(RUN * lo, min(RUN * hi, w.shape[0])):
            w[i], a[i] = rule(w[i], g[i], a[i], s)

    def update_2(w: f32[1], g: f32[1], a: f32[1], b: f32[1], s: f32[1], lo: i64, hi: i64) -> None:
        for i in range(RUN * lo, min(RUN * hi, w.shape[0])):
            w[i], a[i], b[i] = rule(w[i], g[i], a[i], b[i], s)

    return kernel((update_0, update_1, update_2)[states])
