"""Which learning rate suits a network and its data: the one before which the loss falls, and does not grow.

Smith 2017, "Cyclical learning rates for training neural networks", section 3.3: real steps under a rate that
rises exponentially, on a copy of the network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from glassnet.data import Dataset
from glassnet.errors import ConfigError
from glassnet.network import Sequential
from glassnet.settings.config import TrainConfig
from glassnet.settings.settling import balanced
from glassnet.train.batch import Block
from glassnet.train.fitting import prepare
from glassnet.train.loop import Loop

LOWEST, HIGHEST = 1e-5, 10.0
STEPS = 100
SMOOTHING = 0.9
"""Of the moving average of losses: a batch's own loss says little."""
DIVERGED = 4.0
"""Times the lowest smoothed loss: beyond, higher rates have nothing to tell."""
SETTLED = 10
"""Steps before the smoothed loss is believed."""
MARGIN = 10.0
"""At the lowest loss the rate is too high already."""


@dataclass(frozen=True)
class RateSearch:
    """Rates of steps taken, the loss of each, and the moving average of those, corrected for its start."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss was lowest."""
        return self.rates[self._bottom]

    @property
    def steepest(self) -> float:
        """The rate up to there at which it fell fastest over the logarithm of the rate."""
        fall = np.gradient(self.smoothed)[SETTLED : self._bottom + 1]
        return self.rates[int(np.argmin(fall)) + SETTLED]

    @property
    def _bottom(self) -> int:
        return int(np.argmin(self.smoothed[SETTLED:])) + SETTLED

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the lowest loss, in two digits."""
        return float(f"{self.lowest / MARGIN:.1e}")


def find_lr(
    net: Sequential,
    data: Dataset,
    config: TrainConfig,
    *,
    steps: int = STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> RateSearch:
    """Take up to `steps` steps of the config's training on a copy of the network, and remember each loss.

    They end where the smoothed loss has grown to DIVERGED times its lowest, or is not finite.
    progress: called with the steps taken, and all.
    """
    if steps < 2 * SETTLED:
        raise ConfigError(f"A search for the learning rate needs {2 * SETTLED} steps or more, got {steps}.")
    settings = balanced(config, data).model_copy(update={"ema": 0.0, "progressive": []})
    loop = prepare(copy.deepcopy(net.built()), data, settings, None)
    loop.kinds = loop.kinds_of_rates()
    rates, losses, smoothed = np.geomspace(LOWEST, HIGHEST, steps).tolist(), [], []
    average = 0.0
    with loop.stepper.session():
        for number, (rate, block) in enumerate(zip(rates, single_steps(loop), strict=False), start=1):
            outcome = loop.stepper.take(block, [loop.change(block, 0, rate)])
            if not outcome.taken:
                break
            losses.append(float(outcome.losses[0]))
            average = SMOOTHING * average + (1 - SMOOTHING) * losses[-1]
            smoothed.append(average / (1 - SMOOTHING**number))
            if smoothed[-1] > DIVERGED * min(smoothed):
                break
            if progress is not None:
                progress(number, steps)
    if len(losses) < 2 * SETTLED:
        raise ConfigError(
            f"The loss grew beyond all bounds after {len(losses)} steps, at a learning rate of "
            f"{rates[len(losses)]:.1g}, so that none can be suggested. Look at the data and the network."
        )
    return RateSearch(tuple(rates[: len(losses)]), tuple(losses), tuple(smoothed))


def single_steps(loop: Loop) -> Iterator[Block]:
    """The steps of epoch after epoch, one at a time."""
    step, epoch = 0, 0
    while True:
        for index in loop.plan.blocks(epoch, 0, 1):
            yield loop.batches.block(step, index)
            step += 1
        epoch += 1
