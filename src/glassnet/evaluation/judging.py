"""A network judged on images that it did not see: figures with intervals, calibration, worst errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glassnet.data import Dataset, Split
from glassnet.data.labels import hard
from glassnet.evaluation.calibration import Calibration, binned, calibration, temperature
from glassnet.evaluation.intervals import bootstrap, wilson
from glassnet.evaluation.metrics import (
    Evaluation,
    confusion_matrix,
    evaluation,
    in_classes_of,
    ratio,
    sample_losses,
)
from glassnet.network import Sequential, probabilities

Array = np.ndarray
Interval = tuple[float, float]

SPLITS = {"test": "test", "val": "validation"}
"""What a network is judged on, the first that there is, and its name for people."""
WORST = 24


@dataclass(frozen=True)
class ClassIntervals:
    """95 % intervals of one class: Wilson's for precision and recall, a bootstrap's for F1."""

    precision: Interval
    recall: Interval
    f1: Interval


@dataclass(frozen=True)
class Mistake:
    """A sample whose class was missed. probability: of the class predicted; own: of its true class."""

    index: int
    file: str | None
    true: str
    predicted: str
    probability: float
    own: float
    loss: float


@dataclass(frozen=True, eq=False)
class Sureness:
    """Calibration on the judged split, with the bootstrap's interval of its error, and after the scores are
    divided by the temperature that suits the validation split; None without one.
    """

    plain: Calibration
    interval: Interval
    temperature: float | None = None
    scaled: Calibration | None = None


@dataclass(frozen=True, eq=False)
class Judgement:
    """All figures of one split. sureness: None where the scores are no probabilities of classes."""

    split: str
    evaluation: Evaluation
    accuracy: Interval
    classes: tuple[ClassIntervals, ...]
    sureness: Sureness | None
    mistakes: tuple[Mistake, ...]


def judge(
    net: Sequential, data: Dataset, generator: np.random.Generator, *, worst: int = WORST
) -> Judgement | None:
    """The Judgement on the test split, else the validation split; None without either.

    generator: draws the bootstrap's samples. worst: mistakes to keep, those with the largest loss first.
    """
    name, split = judged_split(data)
    if split is None:
        return None
    split = in_classes_of(net, split)
    val = None if data.val is None else in_classes_of(net, data.val)
    scores, labels = net.scores(split.images), hard(split.labels)
    found = evaluation(scores, split, net.loss)
    right = int(np.trace(found.confusion))
    return Judgement(
        split=name,
        evaluation=found,
        accuracy=pair(*wilson(right, len(split))),
        classes=class_intervals(labels, scores.argmax(axis=-1), split.classes, generator),
        sureness=sureness(net, scores, labels, name, val, generator),
        mistakes=mistakes(net, scores, split, worst),
    )


def judged_split(data: Dataset) -> tuple[str, Split | None]:
    """The name of the first of SPLITS that there is, and the split; None for the last where there is none."""
    return ("test", data.test) if data.test is not None else ("val", data.val)


def class_intervals(
    labels: Array, predicted: Array, names: tuple[str, ...], generator: np.random.Generator
) -> tuple[ClassIntervals, ...]:
    """The intervals of each class's figures."""

    def f1(index: Array) -> Array:
        drawn = confusion_matrix(labels[index], predicted[index], len(names))
        return ratio(2 * np.diag(drawn), drawn.sum(axis=0) + drawn.sum(axis=1))

    confusion = confusion_matrix(labels, predicted, len(names))
    found = np.diag(confusion)
    bounds = (
        wilson(found, confusion.sum(axis=0)),
        wilson(found, confusion.sum(axis=1)),
        bootstrap(f1, len(labels), generator),
    )
    return tuple(ClassIntervals(*(pair(low[k], high[k]) for low, high in bounds)) for k in range(len(names)))


def sureness(
    net: Sequential,
    scores: Array,
    labels: Array,
    name: str,
    val: Split | None,
    generator: np.random.Generator,
) -> Sureness | None:
    """The calibration of scores on the split `name`, and after temperature scaling fitted on `val`."""
    if net.loss.output not in ("softmax", "probabilities"):
        return None
    logits = as_logits(net, scores)
    sure = probabilities(logits, "softmax")
    surest, right = sure.max(axis=-1), sure.argmax(axis=-1) == labels
    interval = bootstrap(lambda index: binned(surest[index], right[index]).error, len(labels), generator)
    plain = calibration(sure, labels)
    if val is None:
        return Sureness(plain, pair(*interval))
    fitted = logits if name == "val" else as_logits(net, net.scores(val.images))
    heat = temperature(fitted, hard(val.labels))
    scaled = calibration(probabilities(logits / heat, "softmax"), labels)
    return Sureness(plain, pair(*interval), heat, scaled)


def as_logits(net: Sequential, scores: Array) -> Array:
    """Scores in float64 whose softmax is the network's probabilities; of probabilities, their logarithms."""
    wide = scores.astype(np.float64)
    return np.log(np.maximum(wide, 1e-30)) if net.loss.output == "probabilities" else wide


def mistakes(net: Sequential, scores: Array, split: Split, most: int) -> tuple[Mistake, ...]:
    """The misclassified samples with the largest loss, largest first."""
    labels, predicted = hard(split.labels), scores.argmax(axis=-1)
    losses = sample_losses(scores, split, net.loss)
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.argsort(-losses[wrong], kind="stable")][:most]
    sure = probabilities(scores[order], net.loss.output)
    files: Sequence[str | None] = split.files or [None] * len(split)
    return tuple(
        Mistake(
            index=int(i),
            file=files[i],
            true=split.classes[labels[i]],
            predicted=split.classes[predicted[i]],
            probability=float(p[predicted[i]]),
            own=float(p[labels[i]]),
            loss=float(losses[i] * len(split)),
        )
        for i, p in zip(order, sure, strict=True)
    )


def pair(low: Array | float, high: Array | float) -> Interval:
    """Two plain numbers."""
    return float(low), float(high)
