"""What can be recorded: operands that fit without NumPy's broadcasting, and arrays that outlast a pass."""

from __future__ import annotations

import math

import numpy as np

from glassnet.ops.base import LayerLike
from glassnet.plan.symbols import Operation

WHOLE: dict[str, tuple[int, ...]] = {
    "conv2d": (1, 2),
    "conv2d_input_grad": (1,),
    "add_bias": (1,),
    "linear": (1, 2),
    "linear_input_grad": (1,),
    "batch_norm_running": (0, 1, 2, 3),
    "batch_norm": (1, 2, 3, 4),
    "batch_norm_parameter_grads": (2, 3),
    "batch_norm_input_grad": (2, 3, 4, 5, 6),
    "group_norm": (1, 2),
    "group_norm_input_grad": (2,),
    "layer_norm": (1, 2),
    "layer_norm_input_grad": (2,),
}
"""The inputs that have no sample axis, by their place; all others have one."""


def fits(operation: Operation) -> bool:
    """Whether the inputs have a sample axis where they must, and shapes that a kernel takes as they are."""
    kind, inputs, outputs = operation.kind, operation.inputs, operation.outputs
    whole = [s for place, s in enumerate(inputs) if s is not None and place in WHOLE.get(kind, ())]
    samples = [s for place, s in enumerate(inputs) if s is not None and place not in WHOLE.get(kind, ())]
    if any(s.batched for s in whole) or not all(s.batched for s in samples):
        return False
    if kind == "batch_norm_running":
        return len({s.shape for s in whole}) == 1
    x = samples[0]
    geometry = operation.settings.get("geometry")
    if geometry is not None:
        backward = kind.endswith("_grad")
        if x.ndim != 4 or x.shape[1:3] != (geometry.output if backward else geometry.input):
            return False
    if kind in ("conv2d", "conv2d_input_grad", "linear", "linear_input_grad"):
        return _takes_weights(operation)
    if kind in ("add", "elementwise", "softmax_grad"):
        return all(s.shape == x.shape for s in samples)
    if kind == "concat":
        return all(s.shape[:-1] == x.shape[:-1] for s in samples)
    if kind == "split":
        return sum(y.shape[-1] for y in outputs) == x.shape[-1]
    if kind == "reshape":
        return math.prod(outputs[0].shape[1:]) == math.prod(x.shape[1:])
    several = kind.startswith("layer_norm")
    return all(s.shape == x.shape[-s.ndim :] and (s.ndim == 1 or several) for s in whole)


def _takes_weights(operation: Operation) -> bool:
    """Of a convolution or a linear layer: whether weights (*kernel, C/groups, O) and a bias (O,) fit."""
    x, w, *bias = operation.reads()
    geometry = operation.settings.get("geometry")
    kernel, groups = ((), 1) if geometry is None else (geometry.kernel, geometry.groups)
    if x.ndim != w.ndim or w.shape[:-2] != kernel:
        return False
    channels = w.shape[-1] if operation.kind.endswith("_grad") else w.shape[-2] * groups
    return x.shape[-1] == channels and all(b.shape == w.shape[-1:] for b in bias)


def lasting(layer: LayerLike) -> dict[int, object]:
    """The memory, by its id, of the tensors and the float32 constants that a layer and all inside it keep."""
    arrays = [tensor.value for part in layer.walk() for tensor in part.tensors.values()]
    kept = [value for part in layer.walk() for value in vars(part).values()]
    arrays += [value for value in kept if isinstance(value, np.ndarray) and value.dtype == np.float32]
    return {id(memory(array)): memory(array) for array in arrays}


def memory(array: np.ndarray) -> object:
    """What owns the numbers of an array: one thing for all its views."""
    return array if array.base is None else array.base
