"""Would more images help? The validation error of networks trained on fractions of the images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from glassnet.errors import FileFormatError
from glassnet.evaluation.intervals import wilson

Array = np.ndarray

FILE = "learning_curve.json"
FLAT = 0.1
"""A slope below this hardly pays: twice the images leave over 93 % of the errors."""
STEEP = 0.35
"""The steepest slope that Hestness et al. found: where it may hide, nobody knows whether images help."""


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
        if self.slope < FLAT and self.may_be_steep():
            return (
                f"{last.total:,} validation images cannot tell whether more images like these would help: "
                f"with {last.samples:,} the error is between {low:.2%} and {high:.2%}. Hold more of them out."
            )
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

    def may_be_steep(self) -> bool:
        """Whether the intervals of the first and the last error leave room for a STEEP slope."""
        first, last = self.points[0], self.points[-1]
        return first.interval[1] > last.interval[0] * (last.samples / first.samples) ** STEEP

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
