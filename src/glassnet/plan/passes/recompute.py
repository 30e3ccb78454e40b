"""Compute batch normalisation's output again in the backward pass, instead of keeping it for the whole batch.

Its input is kept anyway, for its own gradients, and the output is one multiply-add of it away. The
activations that the whole batch must keep are then about half as many, and reading them back is what a small
network spends its time on.
"""

from __future__ import annotations

from glassnet.plan.passes.fuse import LOSSES
from glassnet.plan.symbols import Operation, Symbol


def recompute(operations: list[Operation]) -> list[Operation]:
    """Give what comes after the loss its own "batch_norm_again", right before the first that reads it."""
    start = next((i for i, operation in enumerate(operations) if operation.kind in LOSSES), len(operations))
    forward, backward = operations[:start], operations[start:]
    for source in forward:
        if source.kind != "batch_norm":
            continue
        y = source.outputs[0]
        readers = [i for i, operation in enumerate(backward) if y in operation.inputs]
        if not readers:
            continue
        again = Symbol(y.shape, f"{y.name} again")
        for i in readers:
            backward[i].inputs = [again if symbol is y else symbol for symbol in backward[i].inputs]
        first = backward[readers[0]]
        waits = [symbol for symbol in first.reads() if symbol is not again]
        copy = Operation("batch_norm_again", source.inputs[:1], [again], source.layer, {"of": source})
        copy.after = waits
        backward.insert(readers[0], copy)
    return forward + backward
