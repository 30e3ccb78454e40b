"""Normalisation layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from glassnet.errors import ConfigError, ShapeError
from glassnet.layers.base import Layer
from glassnet.ops.base import Array, Grads, Ops
from glassnet.shapes import Shape, batched, count


def _check_eps(layer: Layer) -> None:
    if not 0 <= layer.eps < math.inf:
        raise ConfigError(f"{layer.name} eps must be a finite number of at least 0, got {layer.eps}.")


class BatchNorm2d(Layer):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, per channel; (N, H, W, C) or (N, C), same shape out.

    In training, mean and biased variance of the batch; in evaluation, the running ones, which move by
    running + momentum * (new - running), with the unbiased variance. Ioffe, Szegedy 2015.
    """

    def __init__(self, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        self.momentum, self.eps = momentum, eps

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        if not 0 <= self.momentum <= 1:
            raise ConfigError(f"{self.name} momentum must be 0 to 1, got {self.momentum}.")
        _check_eps(self)
        channels = input_shape[-1]
        self.add_parameter("gamma", np.broadcast_to(1.0, channels), decays=False)
        self.add_parameter("beta", np.zeros(channels), decays=False)
        self.add_state("running_mean", np.zeros(channels))
        self.add_state("running_var", np.broadcast_to(1.0, channels))
        return input_shape

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        mean, var = self.running_mean, self.running_var
        if train:
            mean, var = ops.batch_norm_statistics(x)
            new_mean, new_var = ops.batch_norm_running(
                self.running_mean, self.running_var, mean, var, x, self.momentum
            )
            ops.set_state(self.running_mean, new_mean)
            ops.set_state(self.running_var, new_var)
        return ops.batch_norm(x, self.gamma, self.beta, mean, var, self.eps), (x, mean, var, train)

    def backward(self, ops: Ops, dy: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        x, mean, var, train = saved
        dgamma, dbeta = ops.batch_norm_parameter_grads(dy, x, mean, var, self.eps)
        grads = {"gamma": dgamma, "beta": dbeta}
        if not input_grad:
            return None, grads
        if not train:
            dgamma = dbeta = None  # running statistics are constants: nothing flows through them
        return ops.batch_norm_input_grad(dy, x, self.gamma, mean, var, dgamma, dbeta, self.eps), grads


class GroupNorm(Layer):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta over each sample's groups of channels (Wu, He 2018)."""

    def __init__(self, groups: int, *, eps: float = 1e-5) -> None:
        self.groups, self.eps = groups, eps

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        _check_eps(self)
        if input_shape[-1] % count(self.groups, f"{self.name} groups"):
            raise ShapeError(
                f"{self.name} has groups={self.groups}, which must divide its {input_shape[-1]} channels."
            )
        self.add_parameter("gamma", np.broadcast_to(1.0, input_shape[-1]), decays=False)
        self.add_parameter("beta", np.zeros(input_shape[-1]), decays=False)
        return input_shape

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        y, mean, rstd = ops.group_norm(x, self.gamma, self.beta, self.groups, self.eps)
        return y, (x, mean, rstd)

    def backward(self, ops: Ops, dy: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        x, mean, rstd = saved
        dgamma, dbeta = ops.group_norm_parameter_grads(dy, x, mean, rstd, self.groups)
        dx = ops.group_norm_input_grad(dy, x, self.gamma, mean, rstd, self.groups) if input_grad else None
        return dx, {"gamma": dgamma, "beta": dbeta}


class LayerNorm(Layer):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta over the last `axes` axes (Ba, Kiros, Hinton 2016).

    axes=1 normalises the channels of each pixel, axes=3 a whole image. gamma and beta have those axes.
    """

    def __init__(self, *, axes: int = 1, eps: float = 1e-5) -> None:
        self.axes, self.eps = axes, eps

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        _check_eps(self)
        if not 1 <= self.axes <= len(input_shape):
            raise ConfigError(
                f"{self.name} has axes={self.axes}, which must be 1 to {len(input_shape)} "
                f"for an input of {batched(input_shape)}."
            )
        self.add_parameter("gamma", np.broadcast_to(1.0, input_shape[-self.axes :]), decays=False)
        self.add_parameter("beta", np.zeros(input_shape[-self.axes :]), decays=False)
        return input_shape

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        y, mean, rstd = ops.layer_norm(x, self.gamma, self.beta, self.eps)
        return y, (x, mean, rstd)

    def backward(self, ops: Ops, dy: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        x, mean, rstd = saved
        dgamma, dbeta = ops.layer_norm_parameter_grads(dy, x, mean, rstd, self.gamma.shape)
        dx = ops.layer_norm_input_grad(dy, x, self.gamma, mean, rstd) if input_grad else None
        return dx, {"gamma": dgamma, "beta": dbeta}
