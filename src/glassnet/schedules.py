"""Learning-rate schedules: a factor of the optimiser's rate for each step. Pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from glassnet.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Schedule:
    """factor(step, steps, steps_per_epoch, losses) multiplies the learning rate of step 0 ... steps - 1.

    warmup: epochs in which the factor first rises in a straight line from near 0 (Goyal et al. 2017).
    """

    warmup: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        self.need(0 <= self.warmup < math.inf, "warmup", "finite and at least 0")

    def need(self, holds: bool, name: str, what: str) -> None:
        """ConfigError where a setting is not what it must be."""
        if not holds:
            raise ConfigError(f"{type(self).__name__} {name} must be {what}, got {getattr(self, name)}.")

    def factor(self, step: int, steps: int, steps_per_epoch: int, losses: Sequence[float] = ()) -> float:
        """The factor of one step, warm-up included; `losses` are the watched ones, one an epoch so far."""
        ramp = round(self.warmup * steps_per_epoch)
        if step < ramp:
            return (step + 1) / (ramp + 1)
        return self.shape((step - ramp) / max(steps - ramp, 1), step / steps_per_epoch, losses)

    def shape(self, progress: float, epoch: float, losses: Sequence[float]) -> float:
        """The factor after warm-up; `progress` runs from 0 to 1, `epoch` is counted from the run's start."""
        return 1.0


@dataclass(frozen=True)
class Constant(Schedule):
    """Always 1."""


@dataclass(frozen=True)
class Step(Schedule):
    """Times `gamma` every `every` epochs."""

    every: int = 10
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.need(self.every >= 1, "every", "at least 1")
        self.need(0 < self.gamma < math.inf, "gamma", "finite and above 0")

    def shape(self, progress: float, epoch: float, losses: Sequence[float]) -> float:
        return self.gamma ** (int(epoch) // self.every)


@dataclass(frozen=True)
class Cosine(Schedule):
    """From 1 down to `floor` along half a cosine (Loshchilov, Hutter 2016, without restarts)."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.need(0 <= self.floor <= 1, "floor", "from 0 to 1")

    def shape(self, progress: float, epoch: float, losses: Sequence[float]) -> float:
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from 1/25 to 1 over the first `rise` of the run and down to 1/10000, along cosines (Smith 2018)."""

    rise: float = 0.3
    start: float = 0.04
    floor: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.need(0 < self.rise < 1, "rise", "above 0 and below 1")
        self.need(0 <= self.start <= 1, "start", "from 0 to 1")
        self.need(0 <= self.floor <= 1, "floor", "from 0 to 1")

    def shape(self, progress: float, epoch: float, losses: Sequence[float]) -> float:
        if progress < self.rise:
            return self.start + (1 - self.start) * 0.5 * (1 - math.cos(math.pi * progress / self.rise))
        return self.floor + (1 - self.floor) * 0.5 * (
            1 + math.cos(math.pi * (progress - self.rise) / (1 - self.rise))
        )


@dataclass(frozen=True)
class Plateau(Schedule):
    """Times `gamma` when the watched loss has not fallen by `threshold` (relative) for `patience` epochs."""

    gamma: float = 0.1
    patience: int = 5
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.need(0 < self.gamma <= 1, "gamma", "above 0 and at most 1")
        self.need(self.patience >= 0, "patience", "at least 0")
        self.need(0 <= self.threshold < 1, "threshold", "at least 0 and below 1")

    def shape(self, progress: float, epoch: float, losses: Sequence[float]) -> float:
        best, waited, factor = math.inf, 0, 1.0
        for loss in losses:
            better = loss < best * (1 - self.threshold)
            best, waited = (loss, 0) if better else (best, waited + 1)
            if waited > self.patience:
                waited, factor = 0, factor * self.gamma
        return factor


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": Step,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "plateau": Plateau,
}


def schedule_named(name: str, **settings: Any) -> Schedule:
    """The schedule of that name in a config."""
    if name not in SCHEDULES:
        raise ConfigError(f"Unknown schedule {name!r}.{did_you_mean(name, SCHEDULES)}")
    return SCHEDULES[name](**settings)
