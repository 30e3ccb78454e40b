"""Would more images help? The validation error of a run's network trained on fractions of its images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from glassnet.data import Dataset
from glassnet.data.dataset import stratified
from glassnet.data.labels import hard
from glassnet.errors import ConfigError, DataError, FileFormatError
from glassnet.train.callbacks import Callback
from glassnet.train.config import TrainConfig
from glassnet.train.fitting import held_out, run
from glassnet.train.intervals import wilson
from glassnet.train.models import build_model

Array = np.ndarray

FILE = "learning_curve.json"
FLAT = 0.1
"""A slope below this hardly pays: twice the images leave over 93 % of the errors."""


@dataclass(frozen=True)
class Point:
    """samples: training images. wrong: of `total` validation images."""

    samples: int
    wrong: int
    total: int

    @property
    def error(self) -> float:
        """Share of validation images misclassified; half a one more each way, so that it is never 0."""
        return (self.wrong + 0.5) / (self.total + 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the error."""
        low, high = wilson(self.wrong, self.total)
        return float(low), float(high)


@dataclass(frozen=True)
class LearningCurve:
    """Points from the fewest images to the most, and error = a * samples^-slope fitted through them.

    Errors fall as such a power over wide ranges of data (Hestness et al. 2017, "Deep learning scaling is
    predictable, empirically").
    """

    points: tuple[Point, ...]

    @property
    def slope(self) -> float:
        """Least squares on logarithms; above 0 where more images help."""
        return -float(self._line()[0])

    def predicted(self, samples: Array | float) -> Array:
        """The fitted error at that many training images."""
        return np.exp(np.polyval(self._line(), np.log(samples)))

    def _line(self) -> Array:
        x = np.log([point.samples for point in self.points])
        return np.polyfit(x, np.log([point.error for point in self.points]), 1)

    def verdict(self) -> str:
        """Whether more images would help, in a sentence or two."""
        last = self.points[-1]
        then = float(last.error * 2.0**-self.slope)
        low, high = last.interval
        if self.slope < FLAT:
            return (
                f"More images like these would hardly help: with {last.samples:,} the error is "
                f"{last.error:.2%}, and it barely fell on the way there."
            )
        doubt = (
            f" That is within the doubt about the error itself ({low:.2%} to {high:.2%})."
            if then > low
            else ""
        )
        return (
            f"Twice the images would bring the error from {last.error:.2%} to about {then:.2%}, if it goes "
            f"on as from {self.points[0].samples:,} to {last.samples:,} images.{doubt}"
        )

    def save(self, folder: Path) -> None:
        """learning_curve.json in a run folder."""
        (folder / FILE).write_text(json.dumps([asdict(point) for point in self.points]), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> LearningCurve | None:
        """The curve of a run folder; None where none was made."""
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return cls(tuple(Point(**point) for point in json.loads(path.read_text(encoding="utf-8"))))
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"{path} is no learning curve: {error}.") from error


def learning_curve(
    config: TrainConfig,
    data: Dataset,
    fractions: Iterable[float] = (0.25, 0.5, 1.0),
    *,
    callbacks: Iterable[Callback] = (),
) -> LearningCurve:
    """Train the config's network anew on each fraction of the training images, for as many steps each time.

    Every class keeps its share; the validation split is the run's own, whole. One fraction costs as much as
    the run itself, so three cost three times as much.
    """
    wanted, callbacks = sorted(set(fractions)), list(callbacks)
    if len(wanted) < 2 or not all(0 < fraction <= 1 for fraction in wanted):
        raise ConfigError(f"A learning curve needs two fractions or more, above 0 up to 1, got {wanted}.")
    data, _ = held_out(data, None, config)
    if data.val is None:
        raise DataError("A learning curve needs validation images. Set val_fraction, such as 0.1.")
    return LearningCurve(tuple(point_at(config, data, fraction, callbacks) for fraction in wanted))


def point_at(config: TrainConfig, data: Dataset, fraction: float, callbacks: list[Callback]) -> Point:
    """One training on a fraction of the training images."""
    labels = hard(data.train.labels)
    kept = stratified(labels, fraction, config.seed) if fraction < 1 else np.ones(len(labels), bool)
    part = replace(data, train=data.train[kept], test=None)
    batch = min(config.batch_size, len(part.train))
    steps = config.epochs * math.ceil(len(labels) / config.batch_size)
    epochs = max(1, round(steps / math.ceil(len(part.train) / batch)))
    settings = config.model_copy(update={"epochs": epochs, "batch_size": batch})
    found = run(build_model(settings, part), part, settings, callbacks=callbacks).val
    assert found is not None
    return Point(len(part.train), found.samples - int(np.trace(found.confusion)), found.samples)
