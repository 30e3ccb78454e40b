"""The one timer: contestants take turns, A B C A B C ..., and are compared within each round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """Seconds a call of each contestant, one number a round."""

    rounds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Seconds a call."""
        return statistics.median(self.rounds[name])

    def ratios(self, slow: str, fast: str) -> list[float]:
        """How many times longer `slow` took than `fast`, round by round."""
        return [a / b for a, b in zip(self.rounds[slow], self.rounds[fast], strict=True)]


def take_turns(
    contestants: Mapping[str, Callable[[], object]], *, rounds: int = 7, seconds: float = 0.2
) -> Times:
    """Warm all up, then time each for about `seconds` a round."""
    calls = {name: _calls_in(run, seconds) for name, run in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            times[name].append((time.perf_counter() - start) / calls[name])
    return Times(times)


def _calls_in(run: Callable[[], object], seconds: float) -> int:
    """How many calls fill that time, after three to warm up."""
    for _ in range(3):
        run()
    start = time.perf_counter()
    run()
    once = time.perf_counter() - start
    return max(1, int(seconds / max(once, 1e-7)))


def spread(values: list[float]) -> str:
    """Median with the least and the greatest: `1.52 (1.40-1.61)`."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"
