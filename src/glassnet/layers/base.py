"""What every layer is: settings, parameters, and a pure pair of forward and backward."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from glassnet.errors import ConfigError, ShapeError
from glassnet.ops.base import Array, Grads, Ops
from glassnet.shapes import Shape, checked_shape
from glassnet.store import Parameter


class Layer:
    """A pair of pure functions and the parameters they read.

    An author writes `__init__` (settings only), `build(input_shape, generator)` (makes parameters, returns
    the output shape; no batch axis), `forward` and `backward`. Nothing of a pass is kept on the layer:
    backward gets exactly what forward returned as `saved`. A tensor added in `build` is an attribute: reading
    it gives the array, assigning copies into it. What `__init__` was called with is kept for the model file,
    and stays as it is once the layer is built.
    """

    usage: str = ""  # appended to the error about wrong arguments
    name: str = ""
    trainable: bool = True
    lr_factor: float = 1.0
    input_shape: Shape | None = None
    output_shape: Shape | None = None
    settings: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        layer = super().__new__(cls)
        signature = settings_of(cls)
        try:
            object.__setattr__(layer, "settings", signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
            takes = signature.replace(parameters=bare, return_annotation=signature.empty)
            raise ConfigError(
                f"{cls.__name__}: {error}. It takes {cls.__name__}{takes}.{cls.usage}"
            ) from None
        return layer

    def __init__(self) -> None:
        """No settings, unless a subclass takes some."""

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        return (), self.settings  # copies are made with the same settings

    def build(self, input_shape: Shape, generator: np.random.Generator) -> Shape:
        """Make parameters for inputs of (N, *input_shape); return the output shape. Default: same shape."""
        return input_shape

    def forward(self, ops: Ops, x: Array, train: bool) -> tuple[Array, Any]:
        """(y, saved)."""
        raise NotImplementedError(f"{type(self).__name__} needs a forward(ops, x, train).")

    def backward(self, ops: Ops, dy: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array, Grads]:
        """(dx, {parameter name: gradient}); dx may be None where `input_grad` is False."""
        raise NotImplementedError(f"{type(self).__name__} needs a backward(ops, dy, saved, input_grad=True).")

    def macs(self) -> int:
        """Multiply-adds of one sample's forward pass."""
        return 0

    def children(self) -> dict[str, Layer]:
        """The layers inside, by name."""
        return {}

    # Parameters ----------------------------------------------------------------------------------------

    @property
    def tensors(self) -> dict[str, Parameter]:
        """The layer's own parameters and state by name, its children's not among them."""
        return self.__dict__.setdefault("_tensors", {})

    def add_parameter(self, name: str, value: np.ndarray, *, decays: bool = True) -> None:
        """A learned tensor, from now on `self.<name>`."""
        self._add(name, Parameter(np.asarray(value), decays=decays))

    def add_state(self, name: str, value: np.ndarray) -> None:
        """A tensor that `ops.set_state` changes, such as a running mean."""
        self._add(name, Parameter(np.asarray(value), kind="state", decays=False))

    def _add(self, name: str, tensor: Parameter) -> None:
        if name in vars(self) or hasattr(type(self), name):
            raise ConfigError(
                f"{type(self).__name__}.{name} is a setting or a method already, so it cannot be a parameter "
                "or state. Give one of them another name."
            )
        self.tensors[name] = tensor

    def __getattr__(self, name: str) -> Any:
        tensors = self.__dict__.get("_tensors", {})
        if name in tensors:
            return tensors[name].value
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

    def __setattr__(self, name: str, value: Any) -> None:
        tensors = self.__dict__.get("_tensors", {})
        if name not in tensors:
            if self.output_shape is not None and name in self.settings:
                raise ConfigError(f"{self.name}.{name} is a setting, fixed once built. Build a new network.")
            object.__setattr__(self, name, value)
            return
        target = tensors[name].value
        if np.shape(value) != target.shape:
            raise ShapeError(f"{self.name}.{name} must have shape {target.shape}, got {np.shape(value)}.")
        target[...] = value

    def walk(self) -> Iterator[Layer]:
        """This layer and all inside it, in forward order."""
        yield self
        for child in self.children().values():
            yield from child.walk()

    def freeze(self, frozen: bool = True) -> None:
        """Stop (or resume) learning in this layer and all inside it."""
        for layer in self.walk():
            layer.trainable = not frozen

    def scale_lr(self, factor: float) -> None:
        """Learn at `factor` times the learning rate in this layer and all inside it."""
        for layer in self.walk():
            layer.lr_factor = factor

    def build_named(self, name: str, input_shape: Shape, generator: np.random.Generator) -> Shape:
        """Give the layer its dotted name, forget earlier parameters, build, remember the shapes."""
        self.output_shape = None
        self.name, self.input_shape = name, tuple(input_shape)
        self.tensors.clear()
        shape = self.build(self.input_shape, generator)
        self.output_shape = checked_shape(shape, f"{type(self).__name__}.build must return")
        return self.output_shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.settings.items())})"


def settings_of(kind: type[Layer]) -> inspect.Signature:
    """The settings that a layer class takes: its __init__ without self."""
    signature = inspect.signature(kind.__init__)
    return signature.replace(parameters=list(signature.parameters.values())[1:])
