"""How far a figure from so many samples can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np

Array = np.ndarray

LEVEL = 0.95
RESAMPLINGS = 1000


def wilson(successes: Any, trials: Any, *, level: float = LEVEL) -> tuple[Array, Array]:
    """(low, high) of a share from counts, each a number or an array; 0 and 1 where there were no trials.

    (p + z^2/2n -+ z sqrt(p (1-p) / n + z^2 / 4n^2)) / (1 + z^2/n), p = successes / n (Wilson 1927).
    """
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    k, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    spread = np.sqrt(z2 * (k * (n - k) / np.maximum(n, 1) + z2 / 4))
    middle = k + z2 / 2
    return np.maximum(middle - spread, 0) / (n + z2), np.minimum((middle + spread) / (n + z2), 1)


def bootstrap(
    statistic: Callable[[Array], Any],
    samples: int,
    generator: np.random.Generator,
    *,
    level: float = LEVEL,
    resamplings: int = RESAMPLINGS,
) -> tuple[Array, Array]:
    """(low, high) of statistic(index), a number or an array, over `samples` sample numbers.

    Percentiles of its values on sample numbers drawn with replacement (Efron 1979).
    """
    draws = [statistic(generator.integers(samples, size=samples)) for _ in range(resamplings)]
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2), axis=0)
    return low, high
