"""Compute cheap activations again in the backward pass, where they would be kept for the whole batch.

Batch normalisation's input is kept anyway, for its own gradients, and its output is one multiply-add of it
away; a convolution of a grey image is a few of an image that is small. What the whole batch must keep is then
about half as much, and reading that back is what a small network would spend its time on.
"""

from __future__ import annotations

import math

from glassnet.plan.passes.fuse import LOSSES
from glassnet.plan.symbols import Operation, Symbol

CHEAP = 16
"""Multiply-adds a value, up to which a convolution is computed again."""


def recompute(operations: list[Operation]) -> list[Operation]:
    """Give what comes after the loss its own copies of cheap operations, each before its first reader."""
    start = next((i for i, operation in enumerate(operations) if operation.kind in LOSSES), len(operations))
    forward, backward = operations[:start], operations[start:]
    for source in filter(_is_cheap, forward):
        y = source.outputs[0]
        readers = [i for i, operation in enumerate(backward) if y in operation.inputs]
        if not readers or any(backward[i].kind.startswith("batch_norm") for i in readers):
            continue  # normalisation reads its input in two sections: it would be kept all the same
        again = Symbol(y.shape, f"{y.name} again")
        for i in readers:
            backward[i].inputs = [again if symbol is y else symbol for symbol in backward[i].inputs]
        first = backward[readers[0]]
        copy = _again(source, again)
        copy.after = [symbol for symbol in first.reads() if symbol is not again]
        backward.insert(readers[0], copy)
    return forward + backward


def _is_cheap(operation: Operation) -> bool:
    if operation.kind == "conv2d":
        return math.prod(operation.reads()[1].shape[:3]) <= CHEAP
    return operation.kind == "batch_norm"


def _again(source: Operation, output: Symbol) -> Operation:
    """The same operation with another output; batch normalisation keeps the scale and shift of the first."""
    if source.kind == "batch_norm":
        return Operation("batch_norm_again", source.inputs[:1], [output], source.layer, {"of": source})
    return Operation(source.kind, source.inputs, [output], source.layer, source.settings)
