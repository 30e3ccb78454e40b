"""Ops that compute nothing and write down what they were asked: the recorded form of a pass."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FunctionType
from typing import Any, NoReturn

import numpy as np

from glassnet.ops.base import Grads, LayerLike, Ops
from glassnet.plan.checks import fits, lasting, memory
from glassnet.plan.host import HostCall, HostKernel
from glassnet.plan.symbols import Capacity, Operation, RecordingError, Symbol
from glassnet.shapes import Geometry, Shape

log = logging.getLogger(__name__)


class RecordingOps(Ops):
    """Records for batches of up to `capacity` samples. Arrays of the store become symbols bound to them.

    A layer that cannot be recorded becomes a host call on what `host_ops` makes, or an error without it.
    """

    def __init__(self, capacity: int, host_ops: Callable[..., Ops] | None = None) -> None:
        self.capacity, self._host_ops = Capacity(capacity), host_ops
        self.operations: list[Operation] = []
        self._scope, self._train = "", True
        self._lasting: dict[int, object] | None = None
        self._bound: dict[tuple[int, Shape], Symbol] = {}

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse(
            f"asks ops for {name}, which only the reference backend has. Use operations that every backend "
            "has, or backend='reference'."
        )

    def _refuse(self, why: str) -> NoReturn:
        raise RecordingError(f"{self._scope or 'The network'} {why}")

    # What a plan is built from ---------------------------------------------------------------------------

    def batch(self, name: str, shape: Shape, dtype: Any = np.float32) -> Symbol:
        """A symbol with a sample axis: (capacity, *shape)."""
        return Symbol((self.capacity, *shape), name, dtype=dtype)

    def bound(self, array: np.ndarray, name: str = "") -> Symbol:
        """The symbol of an array that exists, the same for the same memory."""
        key = array.ctypes.data, array.shape
        if key not in self._bound:
            self._bound[key] = Symbol(
                array.shape, name or f"{self._scope} tensor", batched=False, dtype=array.dtype, array=array
            )
        return self._bound[key]

    def _add(
        self, kind: str, inputs: Sequence[Any], shapes: Sequence[Shape], **settings: Any
    ) -> list[Symbol]:
        """Write an operation down, if a kernel can do what NumPy would."""
        symbols = [self._kept(i) if isinstance(i, np.ndarray) else i for i in inputs]
        dtypes = settings.pop("dtypes", [np.float32] * len(shapes))
        batched = settings.pop("batched", True)
        outputs = [
            Symbol(tuple(shape), f"{self._scope} {kind}", batched=batched, dtype=dtype)
            for shape, dtype in zip(shapes, dtypes, strict=True)
        ]
        operation = Operation(kind, symbols, outputs, self._scope, settings)
        if self._lasting is not None and kind != "set_state" and not fits(operation):
            self._refuse(f"calls {kind} on {operation.reads()}, which fit only where NumPy broadcasts.")
        self.operations.append(operation)
        return outputs

    def _kept(self, array: np.ndarray) -> Symbol:
        """The symbol of an array that a layer hands over, which must be in the same place at every step."""
        lasts = self._lasting is None or id(memory(array)) in self._lasting
        if not lasts or not array.flags.c_contiguous:
            self._refuse("computes an array outside `ops`, which a plan would never compute again.")
        return self.bound(array)

    def _one(self, kind: str, inputs: Sequence[Any], shape: Shape, **settings: Any) -> Symbol:
        return self._add(kind, inputs, [shape], **settings)[0]

    # The boundary between layers -------------------------------------------------------------------------

    def call(self, layer: LayerLike, x: Symbol, train: bool) -> tuple[Symbol, Any]:
        start = len(self.operations)
        with self._inside(layer, train):
            try:
                y, saved = super().call(layer, x, train)
                self._rehearse(layer, y, saved, train)
                return y, saved
            except RecordingError as error:
                if self._host_ops is None:
                    raise
                log.info("%s runs in NumPy: %s", layer.name or "The network", error)
                del self.operations[start:]
                return self._host_forward(HostCall(layer, train, self._host_ops), x)

    def call_backward(
        self, layer: LayerLike, dy: Symbol, saved: Any, *, input_grad: bool = True
    ) -> tuple[Symbol | None, Grads]:
        with self._inside(layer, self._train):
            if isinstance(saved, HostCall):
                return self._host_backward(saved, dy, input_grad)
            return super().call_backward(layer, dy, saved, input_grad=input_grad)

    @contextmanager
    def _inside(self, layer: LayerLike, train: bool) -> Iterator[None]:
        """Record under the layer's name; the outermost layer's arrays are those that last."""
        outer = self._scope, self._train, self._lasting
        self._scope, self._train = layer.name, train
        self._lasting = lasting(layer) if self._lasting is None else self._lasting
        try:
            yield
        finally:
            self._scope, self._train, self._lasting = outer

    def _rehearse(self, layer: LayerLike, y: Any, saved: Any, train: bool) -> None:
        """Find out whether backward can be recorded too: a layer is compiled as a whole or not at all."""
        results = [y]
        if train and isinstance(y, Symbol):
            start = len(self.operations)
            _, grads = self.call_backward(layer, Symbol(y.shape, f"{self._scope} dy"), saved)
            del self.operations[start:]
            results += grads.values()
        if not all(isinstance(result, Symbol) for result in results):
            self._refuse("gives an array that a recording cannot follow.")

    def _host_forward(self, call: HostCall, x: Symbol) -> tuple[Symbol, HostCall]:
        kernel = HostKernel(f"{type(call.layer).__name__}.forward", call, call.forward)
        call.output = self._one("host", [x], (x.shape[0], *call.try_forward(x).shape[1:]), kernel=kernel)
        return call.output, call

    def _host_backward(self, call: HostCall, dy: Symbol, input_grad: bool) -> tuple[Symbol | None, Grads]:
        dx, grads = call.try_backward()
        kernel = HostKernel(
            f"{type(call.layer).__name__}.backward", call, partial(call.backward, tuple(grads))
        )
        outputs = {name: Symbol(grad.shape, f"{self._scope} {name}", False) for name, grad in grads.items()}
        into = Symbol((dy.shape[0], *dx.shape[1:]), f"{self._scope} dx") if input_grad else None
        results = [*outputs.values(), *([into] if into is not None else [])]
        if results:
            operation = Operation("host", [dy], results, self._scope, {"kernel": kernel})
            operation.after = [call.output]
            self.operations.append(operation)
        return into, outputs

    def set_state(self, state: np.ndarray, value: Symbol) -> None:
        own = [op for op in self.operations if op.layer == self._scope and op.kind == "batch_norm_running"]
        pairs = [pair for op in own for pair in zip(op.inputs, op.outputs, strict=False)]
        if (self._kept(state), value) not in pairs:
            self._refuse("sets state to other than what batch_norm_running makes of it.")
        self._add("set_state", [value, state], [], batched=False)

    # Convolution and linear ------------------------------------------------------------------------------

    def conv2d(self, x: Symbol, w: Any, b: Any, geometry: Geometry) -> Symbol:
        shape = (x.shape[0], *geometry.output, w.shape[-1])
        return self._one("conv2d", [x, w, b], shape, geometry=geometry, activation=None)

    def conv2d_input_grad(self, dy: Symbol, w: Any, geometry: Geometry) -> Symbol:
        shape = (dy.shape[0], *geometry.input, w.shape[2] * geometry.groups)
        return self._one("conv2d_input_grad", [dy, w], shape, geometry=geometry)

    def conv2d_weight_grad(self, dy: Symbol, x: Symbol, geometry: Geometry) -> Symbol:
        shape = (*geometry.kernel, x.shape[-1] // geometry.groups, dy.shape[-1])
        return self._one("conv2d_weight_grad", [dy, x], shape, geometry=geometry, batched=False)

    def add_bias(self, x: Symbol, b: Any) -> Symbol:
        return self._one("add_bias", [x, b], x.shape)

    def bias_grad(self, dy: Symbol) -> Symbol:
        return self._one("bias_grad", [dy], dy.shape[-1:], batched=False)

    def linear(self, x: Symbol, w: Any, b: Any) -> Symbol:
        return self._one("linear", [x, w, b], (x.shape[0], w.shape[1]), activation=None)

    def linear_input_grad(self, dy: Symbol, w: Any) -> Symbol:
        return self._one("linear_input_grad", [dy, w], (dy.shape[0], w.shape[0]))

    def linear_weight_grad(self, dy: Symbol, x: Symbol) -> Symbol:
        return self._one("linear_weight_grad", [dy, x], (x.shape[1], dy.shape[1]), batched=False)

    # Pooling ---------------------------------------------------------------------------------------------

    def max_pool2d(self, x: Symbol, geometry: Geometry) -> tuple[Symbol, Symbol]:
        height, width = geometry.kernel
        if height * width > 1 << 16:
            self._refuse(
                f"has a window of {height}x{width}; recorded ones hold at most {1 << 16} values, for their "
                "positions are 16 bits wide."
            )
        shape = (x.shape[0], *geometry.output, x.shape[-1])
        y, index = self._add(
            "max_pool2d", [x], [shape, shape], geometry=geometry, dtypes=[np.float32, np.uint16]
        )
        return y, index

    def max_pool2d_grad(self, dy: Symbol, index: Symbol, geometry: Geometry) -> Symbol:
        return self._one("max_pool2d_grad", [dy, index], self._image(dy, geometry), geometry=geometry)

    def avg_pool2d(self, x: Symbol, geometry: Geometry, count_padding: bool) -> Symbol:
        shape = (x.shape[0], *geometry.output, x.shape[-1])
        return self._one("avg_pool2d", [x], shape, geometry=geometry, count_padding=count_padding)

    def avg_pool2d_grad(self, dy: Symbol, geometry: Geometry, count_padding: bool) -> Symbol:
        shape = self._image(dy, geometry)
        return self._one("avg_pool2d_grad", [dy], shape, geometry=geometry, count_padding=count_padding)

    def global_avg_pool2d(self, x: Symbol) -> Symbol:
        return self._one("global_avg_pool2d", [x], (x.shape[0], x.shape[-1]))

    def global_avg_pool2d_grad(self, dy: Symbol, size: tuple[int, int]) -> Symbol:
        return self._one("global_avg_pool2d_grad", [dy], (dy.shape[0], *size, dy.shape[-1]))

    @staticmethod
    def _image(dy: Symbol, geometry: Geometry) -> Shape:
        return (dy.shape[0], *geometry.input, dy.shape[-1])

    # Shape -----------------------------------------------------------------------------------------------

    def reshape(self, x: Symbol, shape: Shape) -> Symbol:
        return self._one("reshape", [x], (x.shape[0], *shape))

    def concat(self, arrays: Sequence[Symbol]) -> Symbol:
        channels = sum(a.shape[-1] for a in arrays)
        return self._one("concat", arrays, (*arrays[0].shape[:-1], channels))

    def split(self, x: Symbol, sizes: Sequence[int]) -> list[Symbol]:
        return self._add("split", [x], [(*x.shape[:-1], size) for size in sizes])

    def add(self, a: Symbol, b: Symbol) -> Symbol:
        return self._one("add", [a, b], a.shape)

    # Element by element ----------------------------------------------------------------------------------

    def elementwise(self, function: Callable[..., Any], *arrays: Any) -> Symbol:
        symbols = [a for a in arrays if isinstance(a, Symbol)]
        numbers = arrays[len(symbols) :]
        if (
            not isinstance(function, FunctionType)
            or any(isinstance(a, Symbol | np.ndarray | np.float32) for a in numbers)
            or not 1 <= len(symbols) <= 2
        ):
            self._refuse(
                "calls elementwise with what cannot be compiled: it takes a Python function, then one or two "
                "arrays of the pass, then numbers, which a parameter is not, for it changes."
            )
        scalars = tuple(map(float, numbers))
        return self._one("elementwise", symbols, symbols[0].shape, function=function, scalars=scalars)

    def softmax(self, x: Symbol) -> Symbol:
        return self._one("softmax", [x], x.shape)

    def softmax_grad(self, dy: Symbol, y: Symbol) -> Symbol:
        return self._one("softmax_grad", [dy, y], dy.shape)

    def dropout(self, x: Symbol, rate: float, key: int, *, channels: bool = False) -> Symbol:
        return self._one("dropout", [x], x.shape, rate=rate, key=key, channels=channels)

    # Normalisation ---------------------------------------------------------------------------------------

    def batch_norm_statistics(self, x: Symbol) -> tuple[Symbol, Symbol]:
        mean, var = self._add("batch_norm_statistics", [x], [x.shape[-1:]] * 2, batched=False)
        return mean, var

    def batch_norm_running(
        self, running_mean: Any, running_var: Any, mean: Symbol, var: Symbol, x: Symbol, momentum: float
    ) -> tuple[Symbol, Symbol]:
        if not self._train:
            self._refuse("changes state outside training.")
        inputs = [running_mean, running_var, mean, var]
        values = math.prod(x.shape[1:-1])
        new_mean, new_var = self._add(
            "batch_norm_running", inputs, [mean.shape] * 2, batched=False, momentum=momentum, values=values
        )
        return new_mean, new_var

    def batch_norm(self, x: Symbol, gamma: Any, beta: Any, mean: Any, var: Any, eps: float) -> Symbol:
        return self._one("batch_norm", [x, gamma, beta, mean, var], x.shape, eps=eps)

    def batch_norm_parameter_grads(
        self, dy: Symbol, x: Symbol, mean: Any, var: Any, eps: float
    ) -> tuple[Symbol, Symbol]:
        shapes = [x.shape[-1:]] * 2
        dgamma, dbeta = self._add(
            "batch_norm_parameter_grads", [dy, x, mean, var], shapes, batched=False, eps=eps
        )
        return dgamma, dbeta

    def batch_norm_input_grad(
        self,
        dy: Symbol,
        x: Symbol,
        gamma: Any,
        mean: Any,
        var: Any,
        dgamma: Symbol | None,
        dbeta: Symbol | None,
        eps: float,
    ) -> Symbol:
        inputs = [dy, x, gamma, mean, var, dgamma, dbeta]
        return self._one("batch_norm_input_grad", inputs, dy.shape, eps=eps)

    def group_norm(
        self, x: Symbol, gamma: Any, beta: Any, groups: int, eps: float
    ) -> tuple[Symbol, Symbol, Symbol]:
        shapes = [x.shape, (x.shape[0], groups), (x.shape[0], groups)]
        y, mean, rstd = self._add("group_norm", [x, gamma, beta], shapes, groups=groups, eps=eps)
        return y, mean, rstd

    def group_norm_parameter_grads(
        self, dy: Symbol, x: Symbol, mean: Symbol, rstd: Symbol, groups: int
    ) -> tuple[Symbol, Symbol]:
        shapes = [x.shape[-1:]] * 2
        dgamma, dbeta = self._add(
            "group_norm_parameter_grads", [dy, x, mean, rstd], shapes, batched=False, groups=groups
        )
        return dgamma, dbeta

    def group_norm_input_grad(
        self, dy: Symbol, x: Symbol, gamma: Any, mean: Symbol, rstd: Symbol, groups: int
    ) -> Symbol:
        return self._one("group_norm_input_grad", [dy, x, gamma, mean, rstd], dy.shape, groups=groups)

    def layer_norm(self, x: Symbol, gamma: Any, beta: Any, eps: float) -> tuple[Symbol, Symbol, Symbol]:
        outer = x.shape[: x.ndim - gamma.ndim] + (1,) * gamma.ndim
        y, mean, rstd = self._add("layer_norm", [x, gamma, beta], [x.shape, outer, outer], eps=eps)
        return y, mean, rstd

    def layer_norm_parameter_grads(
        self, dy: Symbol, x: Symbol, mean: Symbol, rstd: Symbol, shape: Shape
    ) -> tuple[Symbol, Symbol]:
        dgamma, dbeta = self._add(
            "layer_norm_parameter_grads", [dy, x, mean, rstd], [shape, shape], batched=False
        )
        return dgamma, dbeta

    def layer_norm_input_grad(self, dy: Symbol, x: Symbol, gamma: Any, mean: Symbol, rstd: Symbol) -> Symbol:
        return self._one("layer_norm_input_grad", [dy, x, gamma, mean, rstd], dy.shape)

    # Losses ----------------------------------------------------------------------------------------------

    def _loss(self, kind: str, scores: Symbol, target: Symbol, weight: Symbol) -> Symbol:
        return self._one(kind, [scores, target, weight], scores.shape[:1])

    def _loss_grad(self, kind: str, scores: Symbol, target: Symbol, weight: Symbol) -> Symbol:
        return self._one(kind, [scores, target, weight], scores.shape)

    def cross_entropy(self, logits: Symbol, target: Symbol, weight: Symbol) -> Symbol:
        return self._loss("cross_entropy", logits, target, weight)

    def cross_entropy_grad(self, logits: Symbol, target: Symbol, weight: Symbol) -> Symbol:
        return self._loss_grad("cross_entropy_grad", logits, target, weight)

    def probability_cross_entropy(self, probabilities: Symbol, target: Symbol, weight: Symbol) -> Symbol:
        return self._loss("probability_cross_entropy", probabilities, target, weight)

    def probability_cross_entropy_grad(self, probabilities: Symbol, target: Symbol, weight: Symbol) -> Symbol:
        return self._loss_grad("probability_cross_entropy_grad", probabilities, target, weight)

    def binary_cross_entropy(self, logits: Symbol, target: Symbol, weight: Symbol) -> Symbol:
        return self._loss("binary_cross_entropy", logits, target, weight)

    def binary_cross_entropy_grad(self, logits: Symbol, target: Symbol, weight: Symbol) -> Symbol:
        return self._loss_grad("binary_cross_entropy_grad", logits, target, weight)

    def mean_squared_error(self, scores: Symbol, target: Symbol, weight: Symbol) -> Symbol:
        return self._loss("mean_squared_error", scores, target, weight)

    def mean_squared_error_grad(self, scores: Symbol, target: Symbol, weight: Symbol) -> Symbol:
        return self._loss_grad("mean_squared_error_grad", scores, target, weight)

    # Update ----------------------------------------------------------------------------------------------

    def update(
        self,
        rule: Callable[..., tuple[Any, ...]],
        parameter: np.ndarray,
        grad: np.ndarray,
        state: Sequence[np.ndarray],
        scalars: Any,
    ) -> None:
        self._add("update", [parameter, grad, *state], [], rule=rule, scalars=scalars)


def host_layers(net: LayerLike, input_shape: Shape, host_ops: Callable[..., Ops]) -> set[str]:
    """The names of layers that only NumPy can run."""
    ops = RecordingOps(1, host_ops)
    ops.call(net, ops.batch("input", input_shape), True)
    return {operation.layer for operation in ops.operations if operation.kind == "host"}
