"""The operations that layers, losses and optimisers are written with: one signature each, for every backend.

Arrays are channels-last: images (N, H, W, C), convolution weights (kh, kw, C/groups, O), linear weights
(in, out). `dx` is always the gradient of the loss with respect to `x`. A backend subclasses `Ops`; an Ops
object is also the context of one pass: it knows the seed and the step, and every call of a layer goes
through it, which is what gives names, traces and the place of an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from glassnet.errors import ConfigError, ShapeError, did_you_mean
from glassnet.shapes import Geometry, Shape, batched

Array = Any  # a NumPy array, or a symbol of one while a plan is recorded
Grads = dict[str, Array]


class LayerLike(Protocol):
    """What a pass needs of a layer."""

    name: str
    input_shape: Shape | None
    output_shape: Shape | None

    @property
    def tensors(self) -> Mapping[str, Any]: ...

    def walk(self) -> Iterator[LayerLike]: ...

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]: ...

    def backward(
        self, ops: Ops, dy: Array, saved: Any, *, input_grad: bool = True
    ) -> tuple[Array, Grads]: ...


class Ops(ABC):
    """One backend, and the context of one pass over it."""

    # The boundary between layers -----------------------------------------------------------------------

    def call(self, layer: LayerLike, x: Array, train: bool) -> tuple[Array, Any]:
        """(y, saved) of `layer.forward`; containers call their children only through this."""
        try:
            result = layer.forward(self, x, train)
            if not isinstance(result, tuple) or len(result) != 2:
                raise ConfigError(
                    f"{type(layer).__name__}.forward must return (y, saved), got {_told(result)}."
                )
            _check_promise(layer, x, result[0])
            return result
        except Exception as error:
            tell_place(error, f"in the forward pass of {layer.name or 'the network'}")
            raise

    def call_backward(
        self, layer: LayerLike, dy: Array, saved: Any, *, input_grad: bool = True
    ) -> tuple[Array, Grads]:
        """(dx, grads) of `layer.backward`; dx is None where `input_grad` is False."""
        try:
            result = layer.backward(self, dy, saved, input_grad=input_grad)
            if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
                raise ConfigError(
                    f"{type(layer).__name__}.backward must return (dx, {{parameter: gradient}}), "
                    f"got {_told(result)}."
                )
            if input_grad:
                _check_input_grad(layer, dy, result[0])
            return result
        except Exception as error:
            tell_place(error, f"in the backward pass of {layer.name or 'the network'}")
            raise

    if not TYPE_CHECKING:  # mypy knows itself which operations there are

        def __getattr__(self, name: str) -> NoReturn:
            hint = "" if name.startswith("_") else did_you_mean(name, Ops.__abstractmethods__)
            raise AttributeError(f"ops has no {name}.{hint}")

    @abstractmethod
    def set_state(self, state: Array, value: Array) -> None:
        """Announce that `state` (a running statistic of a layer) becomes `value` when the step commits."""

    # Convolution and linear ----------------------------------------------------------------------------

    @abstractmethod
    def conv2d(self, x: Array, w: Array, b: Array | None, geometry: Geometry) -> Array:
        """y[n,i,j,o] = b[o] + sum over u,v,c of x[n, i*s + u*d - p, j*s + v*d - p, c] * w[u,v,c,o]."""

    @abstractmethod
    def conv2d_input_grad(self, dy: Array, w: Array, geometry: Geometry) -> Array:
        """dx[n,h,w,c] = sum of dy[n,i,j,o] * w[u,v,c,o] over all (i,u), (j,v) that read x[n,h,w,c]."""

    @abstractmethod
    def conv2d_weight_grad(self, dy: Array, x: Array, geometry: Geometry) -> Array:
        """dw[u,v,c,o] = sum over n,i,j of x[n, i*s + u*d - p, j*s + v*d - p, c] * dy[n,i,j,o]."""

    @abstractmethod
    def add_bias(self, x: Array, b: Array) -> Array:
        """y[..., o] = x[..., o] + b[o]."""

    @abstractmethod
    def bias_grad(self, dy: Array) -> Array:
        """db[o] = sum of dy[..., o] over all other axes."""

    @abstractmethod
    def linear(self, x: Array, w: Array, b: Array | None) -> Array:
        """y[n,o] = b[o] + sum over i of x[n,i] * w[i,o]."""

    @abstractmethod
    def linear_input_grad(self, dy: Array, w: Array) -> Array:
        """dx[n,i] = sum over o of dy[n,o] * w[i,o]."""

    @abstractmethod
    def linear_weight_grad(self, dy: Array, x: Array) -> Array:
        """dw[i,o] = sum over n of x[n,i] * dy[n,o]."""

    # Pooling -------------------------------------------------------------------------------------------

    @abstractmethod
    def max_pool2d(self, x: Array, geometry: Geometry) -> tuple[Array, Array]:
        """(y, index): the largest value of each window and its position u*kw + v.

        Padding never wins; of equal values the first does; a NaN wins over everything.
        """

    @abstractmethod
    def max_pool2d_grad(self, dy: Array, index: Array, geometry: Geometry) -> Array:
        """dx: each dy goes to the one input that `index` names, and is summed where windows overlap."""

    @abstractmethod
    def avg_pool2d(self, x: Array, geometry: Geometry, count_padding: bool) -> Array:
        """The mean of each window, over kh*kw or (`count_padding` False) over the inputs inside the image."""

    @abstractmethod
    def avg_pool2d_grad(self, dy: Array, geometry: Geometry, count_padding: bool) -> Array:
        """dx: dy / count, given to every input of the window."""

    @abstractmethod
    def global_avg_pool2d(self, x: Array) -> Array:
        """(N, H, W, C) -> (N, C): y[n,c] = mean of x[n,:,:,c]."""

    @abstractmethod
    def global_avg_pool2d_grad(self, dy: Array, size: tuple[int, int]) -> Array:
        """(N, C) -> (N, H, W, C): dx[n,h,w,c] = dy[n,c] / (H*W)."""

    # Shape ---------------------------------------------------------------------------------------------

    @abstractmethod
    def reshape(self, x: Array, shape: Shape) -> Array:
        """(N, ...) -> (N, *shape), the same values in the same order."""

    @abstractmethod
    def concat(self, arrays: Sequence[Array]) -> Array:
        """Along the channels."""

    @abstractmethod
    def split(self, x: Array, sizes: Sequence[int]) -> list[Array]:
        """The inverse of `concat`."""

    @abstractmethod
    def add(self, a: Array, b: Array) -> Array:
        """a + b, of one shape."""

    # Element by element --------------------------------------------------------------------------------

    @abstractmethod
    def elementwise(self, function: Callable[..., Any], *arrays: Array) -> Array:
        """function(a, b, ...) of each element; `arrays` have one shape, or are numbers.

        `function` is written with NumPy functions, so that it reads the same on arrays and on scalars.
        """

    @abstractmethod
    def softmax(self, x: Array) -> Array:
        """y = exp(x - max x) / sum exp(x - max x), over the last axis."""

    @abstractmethod
    def softmax_grad(self, dy: Array, y: Array) -> Array:
        """dx = y * (dy - sum(dy * y)): the Jacobian diag(y) - y y^T applied to dy."""

    @abstractmethod
    def dropout(self, x: Array, rate: float, key: int, *, channels: bool = False) -> Array:
        """x * mask / (1 - rate); whole channels share one draw where `channels`. Its own backward, on dy.

        The mask is Philox4x32-10 of (seed, key, step, sample): see `ops.philox`.
        """

    # Normalisation -------------------------------------------------------------------------------------

    @abstractmethod
    def batch_norm_statistics(self, x: Array) -> tuple[Array, Array]:
        """(mean, biased variance) of each channel over N, H, W (or over N)."""

    @abstractmethod
    def batch_norm_running(
        self, running_mean: Array, running_var: Array, mean: Array, var: Array, x: Array, momentum: float
    ) -> tuple[Array, Array]:
        """running + momentum * (new - running), with the variance made unbiased: var * m / (m - 1)."""

    @abstractmethod
    def batch_norm(self, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float) -> Array:
        """y = gamma * (x - mean) / sqrt(var + eps) + beta, per channel."""

    @abstractmethod
    def batch_norm_parameter_grads(
        self, dy: Array, x: Array, mean: Array, var: Array, eps: float
    ) -> tuple[Array, Array]:
        """(dgamma, dbeta) = (sum dy * xhat, sum dy), xhat = (x - mean) / sqrt(var + eps)."""

    @abstractmethod
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
        """dx = gamma / sqrt(var + eps) * (dy - dbeta / m - xhat * dgamma / m), m values a channel.

        Without dgamma and dbeta the statistics are constants: dx = gamma / sqrt(var + eps) * dy.
        """

    @abstractmethod
    def group_norm(
        self, x: Array, gamma: Array, beta: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """(y, mean, rstd): each sample's channels in `groups`, over H, W too; mean, rstd (N, groups)."""

    @abstractmethod
    def group_norm_parameter_grads(
        self, dy: Array, x: Array, mean: Array, rstd: Array, groups: int
    ) -> tuple[Array, Array]:
        """(dgamma, dbeta) = (sum dy * xhat, sum dy) of each channel."""

    @abstractmethod
    def group_norm_input_grad(
        self, dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array, groups: int
    ) -> Array:
        """dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * gamma, means over the group."""

    @abstractmethod
    def layer_norm(self, x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array]:
        """(y, mean, rstd): normalised over the trailing axes that gamma has; mean, rstd over the others."""

    @abstractmethod
    def layer_norm_parameter_grads(
        self, dy: Array, x: Array, mean: Array, rstd: Array, shape: Shape
    ) -> tuple[Array, Array]:
        """(dgamma, dbeta) of `shape`."""

    @abstractmethod
    def layer_norm_input_grad(self, dy: Array, x: Array, gamma: Array, mean: Array, rstd: Array) -> Array:
        """dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * gamma."""

    # Losses: `weight` (N,) holds each sample's share; the loss is the sum of what is returned ----------

    @abstractmethod
    def cross_entropy(self, logits: Array, target: Array, weight: Array) -> Array:
        """(N,): weight[n] * -sum over k of target[n,k] * log softmax(logits)[n,k]."""

    @abstractmethod
    def cross_entropy_grad(self, logits: Array, target: Array, weight: Array) -> Array:
        """(N, K): weight[n] * (softmax(logits)[n,k] * sum(target[n]) - target[n,k])."""

    @abstractmethod
    def probability_cross_entropy(self, probabilities: Array, target: Array, weight: Array) -> Array:
        """(N,): weight[n] * -sum over k of target[n,k] * log p[n,k], p held at 1e-30 or more."""

    @abstractmethod
    def probability_cross_entropy_grad(self, probabilities: Array, target: Array, weight: Array) -> Array:
        """(N, K): -weight[n] * target[n,k] / p[n,k]."""

    @abstractmethod
    def binary_cross_entropy(self, logits: Array, target: Array, weight: Array) -> Array:
        """(N,): weight[n] * mean over k of max(z,0) - z*t + log(1 + exp(-|z|))."""

    @abstractmethod
    def binary_cross_entropy_grad(self, logits: Array, target: Array, weight: Array) -> Array:
        """(N, K): weight[n] * (sigmoid(z) - t) / K."""

    @abstractmethod
    def mean_squared_error(self, scores: Array, target: Array, weight: Array) -> Array:
        """(N,): weight[n] * mean over k of (score - target)^2."""

    @abstractmethod
    def mean_squared_error_grad(self, scores: Array, target: Array, weight: Array) -> Array:
        """(N, K): weight[n] * 2 * (score - target) / K."""

    # Update --------------------------------------------------------------------------------------------

    @abstractmethod
    def update(
        self,
        rule: Callable[..., tuple[Any, ...]],
        parameter: Array,
        grad: Array,
        state: Sequence[Array],
        scalars: Sequence[Any],
    ) -> None:
        """(parameter, *state) = rule(parameter, grad, *state, scalars), in place."""


def _check_promise(layer: LayerLike, x: Array, y: Array) -> None:
    """What `build` returned decides what comes after the layer, so `forward` must hold to it."""
    promised, shape = layer.output_shape, np.shape(y)
    if promised is None or shape == (x.shape[0], *promised):
        return
    given = batched(shape[1:]) if shape[:1] == x.shape[:1] else shape
    raise ShapeError(
        f"{layer.name or 'The network'} gives {given}, but its build promised {batched(promised)}. "
        "Return the output shape from build."
    )


def _check_input_grad(layer: LayerLike, dy: Array, dx: Array) -> None:
    """The gradient of an input has its shape."""
    if layer.input_shape is None or np.shape(dx) == (dy.shape[0], *layer.input_shape):
        return
    raise ShapeError(
        f"{layer.name or 'The network'}.backward must return dx of shape {batched(layer.input_shape)}, "
        f"got {'none' if dx is None else np.shape(dx)}."
    )


def _told(result: Any) -> str:
    """What a layer returned, in words."""
    if isinstance(result, tuple):
        return f"({', '.join(map(_told, result))})"
    if result is None:
        return "None"
    return "an array" if hasattr(result, "shape") else type(result).__name__


def tell_place(error: Exception, place: str) -> None:
    """Note in an error's traceback where it was raised: the innermost layer, which hears of it first."""
    if not hasattr(error, "__notes__"):
        error.add_note(f"It was raised {place}.")
