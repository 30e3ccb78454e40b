"""Trainings on fractions of the images, for the learning curve."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from glassnet.data import Dataset
from glassnet.data.dataset import stratified
from glassnet.data.labels import hard
from glassnet.errors import ConfigError, DataError
from glassnet.evaluation.learning_curve import LearningCurve, Point
from glassnet.models import build_model
from glassnet.settings.config import TrainConfig
from glassnet.train.callbacks import Callback
from glassnet.train.fitting import held_out, run

COUNTED = ("every", "patience")
"""Settings of schedules that are whole numbers of epochs."""


def learning_curve(
    config: TrainConfig,
    data: Dataset,
    fractions: Iterable[float] = (0.25, 0.5, 1.0),
    *,
    callbacks: Iterable[Callback] = (),
    folder: Path | None = None,
) -> LearningCurve:
    """Train the config's network anew on each fraction of the training images, for as many steps each time.

    Every class keeps its share; the validation split is the run's own, whole. One fraction costs as much as
    the run itself, so three cost three times as much. folder: of the run; the curve is saved there as soon as
    it has two points, and again after each more.
    """
    wanted, callbacks = sorted(set(fractions)), list(callbacks)
    if len(wanted) < 2 or not all(0 < fraction <= 1 for fraction in wanted):
        raise ConfigError(f"A learning curve needs two fractions or more, above 0 up to 1, got {wanted}.")
    data, _ = held_out(data, None, config)
    if data.val is None:
        raise DataError("A learning curve needs validation images. Set val_fraction, such as 0.1.")
    points: list[Point] = []
    for fraction in wanted:
        points.append(point_at(config, data, fraction, callbacks))
        if folder is not None and len(points) > 1:
            LearningCurve(tuple(points)).save(folder)
    return LearningCurve(tuple(points))


def stretched(config: TrainConfig, epochs: int) -> TrainConfig:
    """The same course of training in another number of epochs: all that is counted in them, in proportion."""
    ratio, schedule = epochs / config.epochs, config.schedule
    counted = {"warmup": schedule.warmup * ratio}
    counted |= {n: max(1, round(getattr(schedule, n) * ratio)) for n in COUNTED if getattr(schedule, n, 0)}
    patience = max(1, round(config.early_stopping * ratio)) if config.early_stopping else 0
    changed = {"epochs": epochs, "schedule": replace(schedule, **counted), "early_stopping": patience}
    return config.model_copy(update=changed)


def point_at(config: TrainConfig, data: Dataset, fraction: float, callbacks: list[Callback]) -> Point:
    """One training on a fraction of the training images."""
    labels = hard(data.train.labels)
    kept = stratified(labels, fraction, config.seed) if fraction < 1 else np.ones(len(labels), bool)
    part = replace(data, train=data.train[kept], test=None)
    batch = min(config.batch_size, len(part.train))
    steps = config.epochs * math.ceil(len(labels) / config.batch_size)
    epochs = max(1, round(steps / math.ceil(len(part.train) / batch)))
    settings = stretched(config, epochs).model_copy(
        update={"batch_size": batch, "accumulate": min(config.accumulate, batch)}
    )
    found = run(build_model(settings, part), part, settings, callbacks=callbacks).val
    assert found is not None
    return Point(len(part.train), found.samples - int(np.trace(found.confusion)), found.samples)
