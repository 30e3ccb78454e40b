"""Where a NaN or infinity first appears: the step again, on the reference backend, looking everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from glassnet.data import Split
from glassnet.losses import Loss
from glassnet.network import Sequential
from glassnet.ops.base import Grads, LayerLike
from glassnet.ops.reference import ReferenceOps
from glassnet.train.batch import Block

Array = np.ndarray


class Found(Exception):
    """The first place with a value that is not finite."""


class CheckingOps(ReferenceOps):
    """The reference backend, looking at what crosses each boundary between layers. Raises Found."""

    def call(self, layer: LayerLike, x: Array, train: bool) -> tuple[Array, Any]:
        y, saved = super().call(layer, x, train)
        check(y, f"in the forward pass of {layer.name}", layer)
        return y, saved

    def call_backward(
        self, layer: LayerLike, dy: Array, saved: Any, *, input_grad: bool = True
    ) -> tuple[Array, Grads]:
        dx, grads = super().call_backward(layer, dy, saved, input_grad=input_grad)
        for array in (dx, *grads.values()):
            check(array, f"in the backward pass of {layer.name}", layer)
        return dx, grads


def check(array: Array | None, place: str, layer: LayerLike | None = None) -> None:
    """Raise Found where the array is not finite; a layer whose own tensors are to blame is named so."""
    if array is None or np.isfinite(array).all():
        return
    tensors = getattr(layer, "tensors", {})
    broken = [name for name, tensor in tensors.items() if not np.isfinite(tensor.value).all()]
    raise Found(f"{place}, whose {' and '.join(broken)} held it before" if broken else place)


def first_place(net: Sequential, split: Split, loss: Loss, block: Block, number: int, *, seed: int) -> str:
    """ "in the forward pass of conv2d_2": where that step of a block first has a value that is not finite."""
    ops = CheckingOps(seed=seed, step=block.step + number)
    dtype = net.store.values.dtype
    try:
        for part in block.parts_of(number):
            ops.first_sample = part.first_sample
            x, target, share = (a.astype(dtype) for a in (part.inputs(split), part.target, part.share))
            scores, saved = ops.call(net, x, True)
            check(loss.forward(ops, scores, target, share), "in the loss")
            dscores = loss.backward(ops, scores, target, share)
            check(dscores, "in the gradient of the loss")
            ops.call_backward(net, dscores, saved, input_grad=False)
    except Found as found:
        return str(found)
    return "only where the parts of the batch are added up"
