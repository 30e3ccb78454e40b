"""The end of a step: what guards it, clips it and changes the parameters. Units are runs of 1024 numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from glassnet.engine.machine.kernel import Kernel, f32, f64, i64, inline, kernel

RUN = 1024
LARGEST = np.float32(3e38)


@kernel
def squared_norm(g: f32[1], sums: f64[1], lo: i64, hi: i64) -> None:
    """sums[unit] = sum of g^2 over the unit: NaN or infinite where a gradient is.

    In float32, which takes a quarter of the time; again in float64 where that overflows.
    """
    for b in range(lo, hi):
        start, end = RUN * b, min(RUN * b + RUN, g.shape[0])
        quick = np.float32(0)
        for i in range(start, end):
            quick += g[i] * g[i]
        total = np.float64(quick)
        if not quick <= LARGEST:  # a NaN too
            total = np.float64(0)
            for i in range(start, end):
                total += np.float64(g[i]) * np.float64(g[i])
        sums[b] = total


@kernel
def clip(g: f32[1], limits: f32[1], lo: i64, hi: i64) -> None:
    """g = g * limits[0], held between -limits[1] and limits[1]; nothing where that changes nothing."""
    scale, limit = limits[0], limits[1]
    if scale == 1 and limit == np.inf:
        return
    for i in range(RUN * lo, min(RUN * hi, g.shape[0])):
        v = g[i] * scale
        v = limit if v > limit else v
        g[i] = -limit if v < -limit else v


@kernel
def load(table: i64[2], cursor: i64[1], now: i64[1], lo: i64, hi: i64) -> None:
    """now = table[cursor]: all that varies between steps is put where the other kernels read it."""
    row = cursor[0]
    for i in range(now.shape[0]):
        now[i] = table[row, i]


@kernel
def judge(
    losses: f32[1],
    sums: f64[1],
    scores: f32[2],
    labels: i64[1],
    samples: i64[1],
    bounds: f64[1],
    limits: f32[1],
    results: f64[2],
    cursor: i64[1],
    go: i64[1],
    lo: i64,
    hi: i64,
) -> None:
    """results[cursor] = (loss, gradient norm, correct predictions); whether to clip, and to go on.

    The row after the last one is the first: whoever takes more steps than there are rows, as a profile does,
    writes over results and nothing else. limits = (min(1, bounds[1] / (norm + 1e-6)), bounds[0]). Once
    anything is not finite, `go` stays 0.
    """
    loss, square, correct = np.float64(0), np.float64(0), 0
    for n in range(samples[0]):
        loss += np.float64(losses[n])
        best = 0
        for k in range(1, scores.shape[1]):
            if scores[n, k] > scores[n, best]:
                best = k
        correct += 1 if best == labels[n] else 0
    for i in range(sums.shape[0]):
        square += sums[i]
    norm = np.sqrt(square)
    results[cursor[0], 0], results[cursor[0], 1], results[cursor[0], 2] = loss, norm, correct
    scale = bounds[1] / (norm + 1e-6)
    limits[0] = scale if scale < 1 else 1
    limits[1] = bounds[0]
    if not (np.isfinite(loss) and np.isfinite(norm)):
        go[0] = 0
    cursor[0] = (cursor[0] + 1) % results.shape[0]


@kernel
def deliver(value: f32[1], grad: f32[1], adding: i64[1], lo: i64, hi: i64) -> None:
    """grad = value, or grad += value where `adding`."""
    for i in range(RUN * lo, min(RUN * hi, grad.shape[0])):
        grad[i] = grad[i] + value[i] if adding[0] else value[i]


@kernel
def commit(state: f32[1], pending: f32[1], go: i64[1], lo: i64, hi: i64) -> None:
    """state = pending, where the step may be taken: announced running statistics become real."""
    for i in range(RUN * lo, min(RUN * hi, state.shape[0]) * go[0]):
        state[i] = pending[i]


@functools.cache
def update(rule: Callable[..., Any], states: int) -> Kernel:
    """The kernel that applies an optimiser's rule(w, g, *state, s) to every number, unless `go` is 0."""
    inline(rule)

    def update_0(w: f32[1], g: f32[1], s: f32[1], go: i64[1], lo: i64, hi: i64) -> None:
        for i in range(RUN * lo, min(RUN * hi, w.shape[0]) * go[0]):
            w[i] = rule(w[i], g[i], s)[0]

    def update_1(w: f32[1], g: f32[1], a: f32[1], s: f32[1], go: i64[1], lo: i64, hi: i64) -> None:
        for i in range(RUN * lo, min(RUN * hi, w.shape[0]) * go[0]):
            w[i], a[i] = rule(w[i], g[i], a[i], s)

    def update_2(w: f32[1], g: f32[1], a: f32[1], b: f32[1], s: f32[1], go: i64[1], lo: i64, hi: i64) -> None:
        for i in range(RUN * lo, min(RUN * hi, w.shape[0]) * go[0]):
            w[i], a[i], b[i] = rule(w[i], g[i], a[i], b[i], s)

    return kernel((update_0, update_1, update_2)[states])
