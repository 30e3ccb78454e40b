"""What watching a run's health costs, as a share of its time.

    python benchmarks/health.py

Every call of the watching callback is timed, inside trainings of healthy networks, the smallest included:
there a step takes some microseconds, and watching it must take far less. The clock's own time is counted too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import glassnet as gn
from glassnet.data import Dataset, from_arrays, load
from glassnet.train import MODELS, Callback, TrainConfig, build_model
from glassnet.train.health import Health
from networks import resnet8

CLASSES = 10


class Timed(Callback):
    """Passes everything on to a callback and adds up the seconds that it takes."""

    def __init__(self, watched: Health) -> None:
        self.watched, self.seconds = watched, 0.0

    def on_train_begin(self, *arguments: Any) -> None:
        self._timed(self.watched.on_train_begin, *arguments)

    def on_steps(self, *arguments: Any) -> None:
        self._timed(self.watched.on_steps, *arguments)

    def on_epoch_end(self, *arguments: Any) -> None:
        self._timed(self.watched.on_epoch_end, *arguments)

    def _timed(self, call: Callable[..., None], *arguments: Any) -> None:
        start = time.perf_counter()
        call(*arguments)
        self.seconds += time.perf_counter() - start


def by_recipe(name: str, **settings: Any) -> tuple[gn.Sequential, Dataset, dict[str, Any]]:
    """The network, data and settings of a data set's recipe."""
    data, config = load(name), TrainConfig.resolve({"data": name} | settings)
    kept = {key: getattr(config, key) for key in ("epochs", "batch_size", "optimizer", "schedule")}
    return build_model(config, data), data, kept


def noise(net: gn.Sequential) -> Dataset:
    """Labelled noise of the network's size."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2000, *(net.input_shape or ())), np.uint8)
    return from_arrays(images, generator.integers(0, CLASSES, len(images)))


def cases() -> dict[str, tuple[gn.Sequential, Dataset, dict[str, Any]]]:
    """Networks, small to large, with what they are trained on."""
    tiny = gn.Sequential(MODELS["linear"](CLASSES), input_shape=(8, 8, 1))
    large = resnet8()
    return {
        "linear on digits, batch 8": (tiny, load("digits"), {"epochs": 300, "batch_size": 8}),
        "digits, its recipe": by_recipe("digits"),
        "mnist, its recipe": by_recipe("mnist"),
        "resnet8 on noise, batch 64": (large, noise(large), {"epochs": 3, "batch_size": 64}),
    }


def main() -> None:
    for name, (net, data, settings) in cases().items():
        timed = Timed(Health(data.train))
        run = gn.fit(net, data, callbacks=[timed], **settings)
        steps = run.history[-1].step
        print(
            f"{name:28} {steps:6d} steps, {1e6 * run.seconds / steps:8.1f} us each; watching "
            f"{1e6 * timed.seconds / steps:6.2f} us a step, {timed.seconds / run.seconds:6.3%}, "
            f"{len(timed.watched.reports)} reports"
        )


if __name__ == "__main__":
    main()
