"""Batch, group and layer normalisation.

Ioffe, Szegedy 2015 (batch); Wu, He 2018 (group); Ba, Kiros, Hinton 2016 (layer).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glassnet.errors import ShapeError
from glassnet.ops.base import Ops
from glassnet.shapes import Shape

Array = np.ndarray


def _statistics(x: Array, axes: tuple[int, ...], *, keepdims: bool = False) -> tuple[Array, Array]:
    """(mean, variance) over `axes`, added up in float64: a channel of a batch may have 100,000 values."""
    mean = x.mean(axis=axes, dtype=np.float64, keepdims=True)
    var = x.var(axis=axes, dtype=np.float64, keepdims=keepdims, mean=mean)
    return (mean if keepdims else mean.reshape(var.shape)).astype(x.dtype), var.astype(x.dtype)


def _normalise(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """(mean, 1 / sqrt(variance + eps)) over `axes`, which are kept."""
    mean, var = _statistics(x, axes, keepdims=True)
    return mean, 1 / np.sqrt(var + x.dtype.type(eps))


def _normalised_input_grad(g: Array, xhat: Array, rstd: Array, axes: tuple[int, ...]) -> Array:
    """rstd * (g - mean(g) - xhat * mean(g * xhat)): the gradient through a normalisation over `axes`."""
    return rstd * (g - g.mean(axis=axes, keepdims=True) - xhat * (g * xhat).mean(axis=axes, keepdims=True))


def _by_group(x: Array, groups: int) -> Array:
    """(N, ..., C) -> (N, P, groups, C/groups), P positions."""
    return x.reshape(len(x), -1, groups, x.shape[-1] // groups)


class NormOps(Ops):
    """The three normalisations; each forward returns what its backward needs."""

    if TYPE_CHECKING:

        def current(self, state: Array) -> Array: ...

    def batch_norm_statistics(self, x: Array) -> tuple[Array, Array]:
        return _statistics(x, tuple(range(x.ndim - 1)))

    def batch_norm_running(
        self, running_mean: Array, running_var: Array, mean: Array, var: Array, x: Array, momentum: float
    ) -> tuple[Array, Array]:
        m = x.size // x.shape[-1]
        if m < 2:
            raise ShapeError(
                f"Batch normalisation needs at least 2 values a channel in training, got {m} from {x.shape}. "
                "Use a larger batch, or GroupNorm."
            )
        old_mean, old_var = self.current(running_mean), self.current(running_var)
        unbiased = var * (m / (m - 1))
        return old_mean + momentum * (mean - old_mean), old_var + momentum * (unbiased - old_var)

    def batch_norm(self, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float) -> Array:
        return (x - mean) * (gamma / np.sqrt(var + x.dtype.type(eps))) + beta

    def batch_norm_parameter_grads(
        self, dy: Array, x: Array, mean: Array, var: Array, eps: float
    ) -> tuple[Array, Array]:
        axes = tuple(range(x.ndim - 1))
        xhat = (x - mean) / np.sqrt(var + x.dtype.type(eps))
        return (dy * xhat).sum(axis=axes), dy.sum(axis=axes)

    def batch_norm_input_grad(
        self,
        dy: Array,
        x: Array,
        gamma: Array,
        mean: Array,
        var: Array,
        dgamma: Array | None,
        dbeta: Array | None,
        eps: float,
    ) -> Array:
        rstd = 1 / np.sqrt(var + x.dtype.type(eps))
        if dgamma is None or dbeta is None:
            return gamma * rstd * dy
        m = x.size // x.shape[-1]
        return gamma * rstd * (dy - dbeta / m - (x - mean) * rstd * (dgamma / m))

    def group_norm(
        self, x: Array, gamma: Array, beta: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        grouped = _by_group(x, groups)
        mean, rstd = _normalise(grouped, (1, 3), eps)
        y = ((grouped - mean) * rstd).reshape(x.shape) * gamma + beta
        return y, mean.reshape(len(x), groups), rstd.reshape(len(x), groups)

    def group_norm_parameter_grads(
        self, dy: Array, x: Array, mean: Array, rstd: Array, groups: int
    ) -> tuple[Array, Array]:
        xhat = (_by_group(x, groups) - mean[:, None, :, None]) * rstd[:, None, :, None]
        axes = tuple(range(x.ndim - 1))
        return (dy * xhat.reshape(x.shape)).sum(axis=axes), dy.sum(axis=axes)

    def group_norm_input_grad(
        self, dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array, groups: int
    ) -> Array:
        scale = rstd[:, None, :, None]
        xhat = (_by_group(x, groups) - mean[:, None, :, None]) * scale
        return _normalised_input_grad(_by_group(dy * gamma, groups), xhat, scale, (1, 3)).reshape(x.shape)

    def layer_norm(self, x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array]:
        mean, rstd = _normalise(x, tuple(range(x.ndim - gamma.ndim, x.ndim)), eps)
        return (x - mean) * rstd * gamma + beta, mean, rstd

    def layer_norm_parameter_grads(
        self, dy: Array, x: Array, mean: Array, rstd: Array, shape: Shape
    ) -> tuple[Array, Array]:
        axes = tuple(range(x.ndim - len(shape)))
        return (dy * (x - mean) * rstd).sum(axis=axes), dy.sum(axis=axes)

    def layer_norm_input_grad(self, dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array) -> Array:
        axes = tuple(range(x.ndim - gamma.ndim, x.ndim))
        return _normalised_input_grad(dy * gamma, (x - mean) * rstd, rstd, axes)
