"""The one place where a network's numbers live: parameters, gradients, running state, optimiser state.

Each kind is one 64-byte aligned block, laid out alike; a layer's attributes are views of it. Whoever holds
an address (a compiled plan) or a view (a layer) therefore always sees the current numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from glassnet.errors import ConfigError, FileFormatError, ShapeError
from glassnet.shapes import Shape

ALIGNMENT = 64  # bytes: one cache line, one AVX-512 register


def aligned(count: int, dtype: np.dtype | type) -> np.ndarray:
    """(count,) zeros whose first byte is 64-byte aligned."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(count * size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count * size].view(dtype)


def _aligned_copy(block: np.ndarray) -> np.ndarray:
    copy = aligned(len(block), block.dtype)
    copy[...] = block
    return copy


def moving_average(a: Any, w: Any, s: Any) -> tuple[Any, ...]:
    """a moves towards w by the gain s[0] (Polyak, Juditsky 1992; with a constant gain, exponential)."""
    return (a + s[0] * (w - a),)


@dataclass
class Parameter:
    """A tensor that a layer owns. `kind` is "parameter" (learned) or "state" (running statistics).

    `decays` says whether weight decay applies; biases and normalisation scales do not decay unless asked.
    """

    value: np.ndarray
    kind: str = "parameter"
    decays: bool = True


class Owner(Protocol):
    """What the store reads of a layer."""

    name: str
    trainable: bool
    lr_factor: float

    @property
    def tensors(self) -> dict[str, Parameter]: ...


@dataclass(frozen=True)
class Slot:
    """Where one tensor lies in its block, and the layer it belongs to."""

    layer: Owner
    tensor: Parameter
    offset: int
    shape: Shape

    def view(self, block: np.ndarray) -> np.ndarray:
        """This tensor's part of a block."""
        return block[self.offset : self.offset + self.tensor.value.size].reshape(self.shape)


class Store:
    """All tensors of `layers`, by dotted name ("conv2d_1.weight").

    values: learned parameters; grads: their gradients; state: running statistics. `optimizer[kind]` has the
    layout of `values`, one block for each kind of optimiser state. `average`: where training keeps one, the
    moving averages of values and of state.
    """

    def __init__(self, layers: Iterable[Owner], dtype: np.dtype | type = np.float32) -> None:
        self.parameters: dict[str, Slot] = {}
        self.running: dict[str, Slot] = {}
        self.optimizer: dict[str, np.ndarray] = {}
        self.average: tuple[np.ndarray, np.ndarray] | None = None
        ends = {"parameter": 0, "state": 0}
        step = ALIGNMENT // np.dtype(dtype).itemsize
        for layer in layers:
            for name, tensor in layer.tensors.items():
                slots = self.parameters if tensor.kind == "parameter" else self.running
                slots[f"{layer.name}.{name}" if layer.name else name] = Slot(
                    layer, tensor, ends[tensor.kind], tensor.value.shape
                )
                ends[tensor.kind] += -(-tensor.value.size // step) * step
        self.values = aligned(ends["parameter"], dtype)
        self.grads = aligned(ends["parameter"], dtype)
        self.state = aligned(ends["state"], dtype)
        self._adopt()

    def _adopt(self) -> None:
        """Copy the tensors into the blocks, and make them views of those."""
        for slots, block in ((self.parameters, self.values), (self.running, self.state)):
            for slot in slots.values():
                slot.view(block)[...] = slot.tensor.value
                slot.tensor.value = slot.view(block)

    def __setstate__(self, contents: dict[str, Any]) -> None:
        """Finish a deep copy: NumPy copied every view by itself, and aligned nothing."""
        self.__dict__.update(contents)
        self.values, self.grads, self.state = map(_aligned_copy, (self.values, self.grads, self.state))
        self.optimizer = {kind: _aligned_copy(block) for kind, block in self.optimizer.items()}
        if self.average is not None:
            self.average = (_aligned_copy(self.average[0]), _aligned_copy(self.average[1]))
        self._adopt()

    def value(self, name: str) -> np.ndarray:
        """The parameter of that dotted name."""
        return self.parameters[name].view(self.values)

    def grad(self, name: str) -> np.ndarray:
        """The gradient of that parameter, as the last step left it."""
        return self.parameters[name].view(self.grads)

    def learning(self) -> Iterator[tuple[str, Slot]]:
        """The parameters that are not frozen."""
        return ((name, slot) for name, slot in self.parameters.items() if slot.layer.trainable)

    def checked(self, grads: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """(name, gradient) of the parameters that learn, or the error of a backward that lacks one."""
        for name, slot in self.learning():
            if name not in grads:
                raise ConfigError(
                    f"backward gave no gradient for {name}. Return it under the parameter's name."
                )
            if grads[name].shape != slot.shape:
                raise ShapeError(
                    f"The gradient of {name} must have shape {slot.shape}, got {grads[name].shape}."
                )
            yield name, grads[name]

    def add_optimizer_state(self, kind: str) -> None:
        """A block of zeros for an optimiser ("momentum"), unless it is there already."""
        if kind not in self.optimizer:
            self.optimizer[kind] = aligned(len(self.values), self.values.dtype)

    def keep_average(self) -> None:
        """Start moving averages, at what values and state are now."""
        self.average = (_aligned_copy(self.values), _aligned_copy(self.state))

    def averaged(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(average, what it is of), where there are any."""
        pairs = [] if self.average is None else [*zip(self.average, (self.values, self.state), strict=True)]
        return [(average, block) for average, block in pairs if len(block)]

    def swap_average(self) -> None:
        """Values and state change places with their averages."""
        for average, block in self.averaged():
            average[:], block[:] = block.copy(), average.copy()

    def tensors(self) -> dict[str, np.ndarray]:
        """Parameters and running state by name: what a model file holds. Views, not copies."""
        return {name: slot.view(self.values) for name, slot in self.parameters.items()} | {
            name: slot.view(self.state) for name, slot in self.running.items()
        }

    def snapshot(self) -> dict[str, np.ndarray]:
        """A copy of `tensors()`."""
        return {name: array.copy() for name, array in self.tensors().items()}

    def restore(self, tensors: dict[str, np.ndarray], source: str = "The snapshot") -> None:
        """Copy tensors in; all names and shapes must be there, and no others. Nothing is copied otherwise."""
        mine = self.tensors()
        if missing := sorted(mine.keys() - tensors.keys()):
            raise FileFormatError(f"{source} lacks {', '.join(missing)}, which this network needs.")
        if extra := sorted(tensors.keys() - mine.keys()):
            raise FileFormatError(f"{source} holds {', '.join(extra)}, which this network does not have.")
        for name, array in mine.items():
            if tensors[name].shape != array.shape:
                raise FileFormatError(
                    f"{source} has {name} of shape {tensors[name].shape}, needed {array.shape}."
                )
        for name, array in mine.items():
            array[...] = tensors[name]
