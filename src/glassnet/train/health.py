"""A run's health: losses that explode, gradients that explode or vanish, and dead ReLUs, by layer and step.

Losses and gradient norms are held against a limit. After steps 16, 32, 64, ... and each epoch, the gradients
that the last step left in the store are looked at. Only where half of a layer's channels have none is a pass
on the reference backend needed, to tell whether they are dead. The time that looking takes is measured, and
nothing is looked at while it is above BUDGET of the run's time. Nothing here changes the run.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter

import numpy as np

from glassnet.data import Split
from glassnet.network import Sequential
from glassnet.runs.records import EpochRecord, StepRecord
from glassnet.train.callbacks import Callback, Training
from glassnet.train.symptoms import HALF, Gap, dead_relus, gap, guessing_loss, layer_gradients

log = logging.getLogger(__name__)

BUDGET = 0.005
"""Of a run's time, what looking at it may take."""
FIRST_LOOK = 16
STRIDE = 16
"""Of a block, the last step and every sixteenth before it are compared: what has exploded stays so."""
STEP_LOSS, EPOCH_LOSS = 30, 3
"""Times the loss of guessing: an explosion. One sample may well have ten times as much."""
STEP_LENGTH = 10
"""Times the length of all weights: too long for a step. The first of a small linear model may take one."""
LEAST = 10
"""By what a rate that is too high is divided at least. A tenth of the weights' length is a long step."""
SEARCH = "To search for a rate: glassnet train --lr auto, or glassnet.train.find_lr."

loss_of, norm_of = attrgetter("loss"), attrgetter("gradient_norm")


@dataclass(frozen=True)
class HealthReport:
    """What is wrong with a run.

    kind: "exploding loss", "exploding gradient", "vanishing gradient" or "dead ReLU". step: when it was seen.
    """

    step: int
    layer: str
    kind: str
    fact: str
    advice: str

    def __str__(self) -> str:
        return f"{self.fact} (step {self.step}). {self.advice}"


class Health(Callback):
    """Logs a warning for each thing that goes wrong, once a layer, and keeps it in `reports`.

    split: the training images, some of which tell a dead ReLU from an idle one.
    """

    def __init__(self, split: Split) -> None:
        self.split = split
        self.reports: list[HealthReport] = []
        self._kept: dict[str, np.ndarray] = {}

    def tensors(self) -> dict[str, np.ndarray]:
        said = json.dumps([asdict(report) for report in self.reports])
        limits = np.array([self._most_loss, self._most_norm])
        return {"reports": np.frombuffer(said.encode(), np.uint8), "limits": limits}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        self._kept = tensors

    def on_train_begin(self, training: Training) -> None:
        self.reports.clear()
        self._training = training
        self.spent, self._start = 0.0, time.perf_counter()
        self._next = FIRST_LOOK
        self._doubt: str | None = None  # the layer that a second look must blame too
        self._guess = guessing_loss(training.config.loss, self.split)
        self._most_loss = STEP_LOSS * self._guess
        clipped = training.config.clip_norm or training.config.clip_value
        self._most_norm = math.inf if clipped else 0.0
        if self._kept:  # what was said before the run was interrupted is not said again
            said = json.loads(self._kept["reports"].tobytes())
            self.reports += [HealthReport(**report) for report in said]
            self._most_loss, self._most_norm = map(float, self._kept["limits"])
            self._kept = {}
        self._measure(training)

    def on_steps(self, training: Training, records: list[StepRecord]) -> None:
        some = records[::-STRIDE]
        if max(map(norm_of, some)) > self._most_norm:
            self._gradient_exploded(training, first_above(self._most_norm, norm_of, records))
        if max(map(loss_of, some)) > self._most_loss:
            self._loss_exploded(training, "loss", first_above(self._most_loss, loss_of, records))
        if records[-1].step >= self._next:
            self._next = 2 * records[-1].step
            self._look(training, records[-1].step)

    def on_epoch_end(self, training: Training, record: EpochRecord) -> None:
        if record.loss > EPOCH_LOSS * self._guess and math.isfinite(self._most_loss):
            self._loss_exploded(training, f"mean loss of epoch {record.epoch}", record)
        self._look(training, record.step)

    def _measure(self, training: Training) -> None:
        """Set the norm above which a step of gradient descent explodes."""
        self._length = max(1.0, float(np.linalg.norm(training.net.store.values)))
        if self._most_norm < math.inf:
            self._most_norm = STEP_LENGTH * self._length / training.config.optimizer.lr

    # Every step ----------------------------------------------------------------------------------------

    def _loss_exploded(self, training: Training, what: str, record: StepRecord | EpochRecord) -> None:
        layer, times = largest_layer(training.net), record.loss / self._guess
        fact = f"The {what} is {record.loss:.3g}, {times:.3g} times that of guessing{blame(layer)}"
        untrained = "No update was made before: try smaller first weights."
        advice = untrained if record.step == 1 else self._calmer(record.lr, times)
        self._report(record.step, layer, "exploding loss", fact, advice)
        self._most_loss = math.inf

    def _gradient_exploded(self, training: Training, record: StepRecord) -> None:
        layer, way = largest_layer(training.net), record.lr * record.gradient_norm / self._length
        fact = (
            f"The gradient's norm is {record.gradient_norm:.3g}: times the learning rate {record.lr:g}, "
            f"{way:.3g} times the length of all weights{blame(layer)}"
        )
        self._report(record.step, layer, "exploding gradient", fact, self._calmer(record.lr, LEAST * way))
        self._most_norm = math.inf

    def _calmer(self, lr: float, times: float) -> str:
        """What to try where a figure is so many times what it should be. The first one tells most."""
        if self._training.calm_rate is None:
            self._training.calm_rate = two_figures(lr / max(times, LEAST))
        return f"Try a learning rate of {self._training.calm_rate:g}, or clip_norm=1.0. {SEARCH}"

    # Now and then --------------------------------------------------------------------------------------

    def _look(self, training: Training, step: int) -> None:
        """Look at the gradients of the last step, if there is time."""
        start = time.perf_counter()
        if self.spent > BUDGET * (start - self._start) and self._doubt is None:
            return
        gradients = layer_gradients(training.net.store)
        suspicious = any(gradient.idle >= HALF for gradient in gradients.values())
        if not (suspicious and self._found_dead(training.net, step)):
            self._compare(gap(gradients), step)
        self._measure(training)
        self.spent += time.perf_counter() - start

    def _found_dead(self, net: Sequential, step: int) -> bool:
        """Report the ReLUs that are dead."""
        found, images = dead_relus(net, self.split)
        for relu, (dead, channels) in found.items():
            fact = (
                f"{relu}{after(net, relu)} is dead: {dead} of {channels} channels gave 0 for all of {images} "
                "images"
            )
            advice = "Try a lower learning rate, other first weights, BatchNorm2d before it, or LeakyReLU."
            self._report(step, relu, "dead ReLU", fact, advice)
        return bool(found)

    def _compare(self, found: Gap | None, step: int) -> None:
        """Report a gap between the gradients of two layers, if the last look saw it too."""
        if found is not None and self._doubt == found.layer:
            self._report(step, found.layer, *described(found))
            self._doubt = None
        else:
            self._doubt = None if found is None else found.layer

    def _report(self, step: int, layer: str, kind: str, fact: str, advice: str) -> None:
        if any((report.layer, report.kind) == (layer, kind) for report in self.reports):
            return
        self.reports.append(HealthReport(step, layer, kind, fact, advice))
        self._training.warnings.append(str(self.reports[-1]))
        log.warning("%s", self.reports[-1])


def described(found: Gap) -> tuple[str, str, str]:
    """(kind, fact, advice) of a gap."""
    if found.ratio == 0:
        return (
            "vanishing gradient",
            f"The gradient of {found.layer} is exactly 0, that of {found.other} is not",
            "Look at the weights between them: where all are 0, nothing passes.",
        )
    fact = f"The gradient of {found.layer} is {found.ratio:.2g} times that of {found.other}"
    if found.vanishes:
        advice = "Try ReLU in place of Sigmoid or Tanh, BatchNorm2d, or Residual around every few layers."
        return "vanishing gradient", fact, advice
    advice = "Try smaller first weights, BatchNorm2d, or Residual around every few layers."
    return "exploding gradient", fact, advice


def first_above(
    limit: float, figure: Callable[[StepRecord], float], records: Sequence[StepRecord]
) -> StepRecord:
    """The first record whose figure is above a limit."""
    return next(record for record in records if figure(record) > limit)


def two_figures(rate: float) -> float:
    """439.089 -> 440: no more of it is known."""
    return float(f"{rate:.1e}")


def blame(layer: str) -> str:
    """That the gradient of that layer is the largest; nothing where none is known."""
    return f"; {layer} has the largest gradient" if layer else ""


def largest_layer(net: Sequential) -> str:
    """The layer whose gradient has the largest norm; none where one is not finite."""
    squares: dict[str, float] = {}
    for name, slot in net.store.learning():
        square = float(np.square(net.store.grad(name), dtype=np.float64).sum())
        squares[slot.layer.name] = squares.get(slot.layer.name, 0.0) + square
    if not np.isfinite([*squares.values()]).all():
        return ""
    return max(squares, key=lambda layer: squares[layer])


def after(net: Sequential, relu: str) -> str:
    """ " after conv2d_2": the last layer with parameters before a ReLU."""
    name = ""
    for layer in net.walk():
        if layer.name == relu:
            break
        name = layer.name if layer.tensors else name
    return f" after {name}" if name else ""
