"""Drop what no one uses."""

from __future__ import annotations

from collections.abc import Iterable

from glassnet.plan.symbols import Operation, Symbol


def drop_dead(operations: list[Operation], needed: Iterable[Symbol]) -> list[Operation]:
    """The operations whose results are needed, directly or by others, or that have an effect alone."""
    wanted = set(needed)
    kept = []
    for operation in reversed(operations):
        if not operation.outputs or wanted.intersection(operation.outputs):
            wanted.update(operation.reads())
            kept.append(operation)
    return kept[::-1]
