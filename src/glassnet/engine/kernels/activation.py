"""Element-wise functions: those of the activation table in vector code, any other as its author wrote it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from glassnet.engine.kernels.image import clear_halo
from glassnet.engine.kernels.scalar import ONE, ZERO, normal_cdf, normal_density, sigmoid, tanh
from glassnet.engine.machine.kernel import Kernel, described, f32, i64, inline, is_helper, kernel, read_names
from glassnet.errors import EngineError
from glassnet.ops import activations as table
from glassnet.plan.symbols import RecordingError


@inline
def relu(x):
    """max(x, 0); a NaN stays."""
    return ZERO if x < ZERO else x


@inline
def relu_gradient(dy, y):
    """dy where y > 0."""
    return dy if y > ZERO else ZERO


@inline
def leaky_relu(x, slope):
    """x where x > 0, else slope * x."""
    return x if x > ZERO else slope * x


@inline
def leaky_relu_gradient(dy, x, slope):
    """dy where x > 0, else slope * dy."""
    return dy if x > ZERO else slope * dy


@inline
def sigmoid_gradient(dy, y):
    """dy * y * (1 - y)."""
    return dy * y * (ONE - y)


@inline
def tanh_gradient(dy, y):
    """dy * (1 - y^2)."""
    return dy * (ONE - y * y)


@inline
def silu(x):
    """x * sigmoid(x)."""
    return x * sigmoid(x)


@inline
def silu_gradient(dy, x):
    """dy * (s + x*s*(1 - s)), s = sigmoid(x)."""
    s = sigmoid(x)
    return dy * (s + x * s * (ONE - s))


@inline
def gelu(x):
    """x * Phi(x)."""
    return x * normal_cdf(x)


@inline
def gelu_gradient(dy, x):
    """dy * (Phi(x) + x * phi(x))."""
    return dy * (normal_cdf(x) + x * normal_density(x))


COMPILED: dict[Callable[..., Any], Callable[..., Any]] = {
    table.relu: relu,
    table.relu_gradient: relu_gradient,
    table.leaky_relu: leaky_relu,
    table.leaky_relu_gradient: leaky_relu_gradient,
    table.sigmoid: sigmoid,
    table.sigmoid_gradient: sigmoid_gradient,
    table.tanh: tanh,
    table.tanh_gradient: tanh_gradient,
    table.silu: silu,
    table.silu_gradient: silu_gradient,
    table.gelu: gelu,
    table.gelu_gradient: gelu_gradient,
}


def elementwise(function: Callable[..., Any], arrays: int, scalars: tuple[float, ...]) -> Kernel:
    """The kernel of function(*arrays, *scalars) for one or two arrays, as it is now: it may read globals."""
    if function in COMPILED:
        return _elementwise(COMPILED[function], arrays, scalars)
    call = _with_helpers(function)
    try:
        facts = repr(described(call))
    except EngineError:  # what it may not read is told when it is compiled
        facts = ""
    return _elementwise(call, arrays, scalars, facts)


@functools.cache
def _elementwise(
    call: Callable[..., Any], arrays: int, scalars: tuple[float, ...], facts: str = ""
) -> Kernel:
    """`facts`, by which the cache tells what a function of one's own is now from what it was."""
    settings = tuple(np.float32(s) for s in scalars)
    if arrays > 2:
        raise RecordingError(
            f"{call.__name__} takes {arrays} arrays; the engine compiles functions of one or two."
        )
    return _unary(call, settings) if arrays == 1 else _binary(call, settings)


def _with_helpers(function: Callable[..., Any]) -> FunctionType:
    """A function marked as what kernels may call, and so are the plain Python functions that it calls."""
    assert isinstance(function, FunctionType)
    inline(function)
    for _, value in read_names(function):
        if isinstance(value, FunctionType) and not is_helper(value):
            _with_helpers(value)
    return function


def _unary(call: Callable[..., Any], settings: tuple[np.float32, ...]) -> Kernel:
    def elementwise_1(
        x: f32[2],
        x_at: i64,
        x_row: i64,
        y: f32[2],
        y_at: i64,
        y_row: i64,
        height: i64,
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        for n in range(lo, hi):
            r, q = n % x.shape[0], n % y.shape[0]
            clear_halo(y, q, y_at, y_row, height, width)
            for h in range(height):
                for i in range(width):
                    y[q, y_at + h * y_row + i] = call(x[r, x_at + h * x_row + i], *settings)

    return kernel(elementwise_1)


def _binary(call: Callable[..., Any], settings: tuple[np.float32, ...]) -> Kernel:
    def elementwise_2(
        a: f32[2],
        a_at: i64,
        a_row: i64,
        b: f32[2],
        b_at: i64,
        b_row: i64,
        y: f32[2],
        y_at: i64,
        y_row: i64,
        height: i64,
        width: i64,
        lo: i64,
        hi: i64,
    ) -> None:
        for n in range(lo, hi):
            r, s, q = n % a.shape[0], n % b.shape[0], n % y.shape[0]
            clear_halo(y, q, y_at, y_row, height, width)
            for h in range(height):
                for i in range(width):
                    left, right = a[r, a_at + h * a_row + i], b[s, b_at + h * b_row + i]
                    y[q, y_at + h * y_row + i] = call(left, right, *settings)

    return kernel(elementwise_2)
