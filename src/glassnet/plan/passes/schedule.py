"""Place steps in sections: sample steps run depth first, the others once, each as early as it can."""

from __future__ import annotations

from itertools import chain, groupby

from glassnet.plan.plan import Section, Step
from glassnet.plan.symbols import Operation, Symbol

FIRST, LAST = ("load", "prepare"), ("guard", "judge", "clip", "update")
"""Sections around those of the network, in their order."""


def schedule(lowered: list[tuple[Operation, list[Step]]]) -> list[Section]:
    """Sections in order, from each operation with its steps in order (each after the one before it).

    Between those that come first and last, levels alternate: even ones hold sample steps, odd ones batch and
    host steps. A step stands on the first level of its kind that is not below what its operation reads.
    """
    level: dict[Symbol, int] = {}
    placed: dict[int, list[Step]] = {}
    fixed: dict[str, list[Step]] = {name: [] for name in (*FIRST, *LAST)}
    for operation, steps in lowered:
        after = max((level.get(symbol, -1) for symbol in (*operation.reads(), *operation.after)), default=-1)
        for step in steps:
            if step.placement in fixed:
                fixed[step.placement].append(step)
                continue
            if (after % 2 == 0) != (step.placement == "sample"):
                after += 1
            placed.setdefault(after, []).append(step)
        level.update(dict.fromkeys(operation.outputs, after))
    levels = [section for at in sorted(placed) for section in _sections(at, placed[at])]
    ends = {name: [Section(name, steps)] if steps else [] for name, steps in fixed.items()}
    return [*chain(*(ends[name] for name in FIRST)), *levels, *chain(*(ends[name] for name in LAST))]


def _sections(level: int, steps: list[Step]) -> list[Section]:
    """A level as one section, or as several where host calls divide it."""
    if level % 2 == 0:
        return [Section("sample", steps)]
    runs = groupby(steps, key=lambda step: step.placement)
    return [Section(placement, list(run)) for placement, run in runs]
