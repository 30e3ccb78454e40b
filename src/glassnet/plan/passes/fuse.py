"""Join operations that one kernel does as well as two; each rule keeps the numbers the same."""

from __future__ import annotations

from collections import Counter

from glassnet.ops.activations import relu, relu_gradient
from glassnet.plan.symbols import Operation, Symbol

ENDS_IN_RELU = {"conv2d", "linear", "batch_norm", "add"}
LOSSES = {"cross_entropy", "probability_cross_entropy", "binary_cross_entropy", "mean_squared_error"}


def fuse(operations: list[Operation]) -> list[Operation]:
    """All rules, in the order in which they help each other."""
    for rule in (
        relu_into_producer,
        relu_gradient_before_unpooling,
        relu_gradient_in_place,
        loss_with_gradient,
    ):
        operations = rule(operations)
    return operations


def _uses(operations: list[Operation]) -> Counter[Symbol]:
    return Counter(symbol for operation in operations for symbol in operation.reads())


def _producers(operations: list[Operation]) -> dict[Symbol | None, Operation]:
    return {symbol: operation for operation in operations for symbol in operation.outputs}


def _is(operation: Operation, function: object) -> bool:
    return operation.kind == "elementwise" and operation.settings["function"] is function


def relu_into_producer(operations: list[Operation]) -> list[Operation]:
    """conv2d, linear, batch_norm or add, then ReLU, nothing else reading between: one operation."""
    uses, producers = _uses(operations), _producers(operations)
    kept = []
    for operation in operations:
        source = producers.get(operation.inputs[0]) if _is(operation, relu) else None
        if source is None or source.kind not in ENDS_IN_RELU or uses[source.outputs[0]] > 1:
            kept.append(operation)
            continue
        source.settings["activation"] = "relu"
        source.outputs = operation.outputs
    return kept


def relu_gradient_before_unpooling(operations: list[Operation]) -> list[Operation]:
    """max_pool2d_grad then ReLU's gradient: the other way round, on the smaller array.

    The pool's input at the maximum is the pool's output, so both say the same about its sign; the full
    activation is then needed no more.
    """
    uses, producers = _uses(operations), _producers(operations)
    pooled = {op.outputs[1]: op for op in operations if op.kind == "max_pool2d"}
    for operation in operations:
        unpool = producers.get(operation.inputs[0]) if _is(operation, relu_gradient) else None
        if unpool is None or unpool.kind != "max_pool2d_grad" or uses[unpool.outputs[0]] > 1:
            continue
        pool = pooled[unpool.reads()[1]]
        if pool.inputs[0] is not operation.inputs[1]:
            continue
        dy, index = unpool.inputs
        geometry = unpool.settings
        masked = Symbol(pool.outputs[0].shape, f"{operation.layer} masked")
        operation_output = operation.outputs
        unpool.kind, unpool.settings = "elementwise", operation.settings
        unpool.inputs, unpool.outputs = [dy, pool.outputs[0]], [masked]
        operation.kind, operation.settings = "max_pool2d_grad", geometry
        operation.inputs, operation.outputs = [masked, index], operation_output
    return operations


def relu_gradient_in_place(operations: list[Operation]) -> list[Operation]:
    """ReLU's gradient of what nothing else reads works in its memory: kind "relu_mask"."""
    uses, producers = _uses(operations), _producers(operations)
    for operation in operations:
        if _is(operation, relu_gradient) and _read_once(operation.reads()[0], uses, producers):
            operation.kind = "relu_mask"
    return operations


def _read_once(symbol: Symbol, uses: Counter[Symbol], producers: dict[Symbol | None, Operation]) -> bool:
    """Whether an operation made this symbol and one reads it, and so for whatever it is a reshape of."""
    while symbol in producers and uses[symbol] == 1:
        if producers[symbol].kind != "reshape":
            return True
        symbol = producers[symbol].reads()[0]
    return False


def loss_with_gradient(operations: list[Operation]) -> list[Operation]:
    """A loss and its gradient, which share the softmax: one operation with both results."""
    gradients = {(op.kind, *op.inputs): op for op in operations if op.kind.removesuffix("_grad") in LOSSES}
    kept = []
    for operation in operations:
        if operation.kind in LOSSES:
            partner = gradients.get((f"{operation.kind}_grad", *operation.inputs))
            if partner is not None:
                operation.outputs = operation.outputs + partner.outputs
        elif operation.kind.removesuffix("_grad") in LOSSES:
            continue
        kept.append(operation)
    return kept
