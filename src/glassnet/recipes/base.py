"""What a recipe is: everything that decides the result of a published system, and how one seed is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from glassnet.data import Dataset, Split
from glassnet.data.labels import hard
from glassnet.errors import ConfigError, RunFolderError
from glassnet.evaluation.metrics import evaluation
from glassnet.io import load
from glassnet.models import tables_of
from glassnet.network import Sequential
from glassnet.recipes.result import SeedResult
from glassnet.runs.folder import RunFolder, model_file
from glassnet.runs.lock import RunLock
from glassnet.runs.records import read_run
from glassnet.settings.settling import balanced, load_data
from glassnet.train import Callback, Interrupted, Run, TrainConfig, Training
from glassnet.train.fitting import resume, run

Say = Callable[[str], None]
LOG = "log.txt"
"""In a run folder: the publication's lines."""
CURVE = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
"""What is kept of each epoch."""


@dataclass(frozen=True)
class Published:
    """What a publication reports: its title and place, test and train accuracy, seconds, cost by epoch.

    Without a source there is no publication: the recipe is what a task gets today.
    """

    source: str = ""
    test_accuracy: float | None = None
    train_accuracy: float | None = None
    seconds: float | None = None
    cost: dict[int, float] = field(default_factory=dict)


class Log(Callback):
    """The publication's own lines: said as they come, and kept for the result, through interruptions too."""

    def __init__(self, say: Say) -> None:
        self.lines: list[str] = []
        self._say = say

    def add(self, line: str) -> None:
        """One more line."""
        self.lines.append(line)
        self._say(line)

    def tensors(self) -> dict[str, np.ndarray]:
        return {"lines": np.frombuffer("\n".join(self.lines).encode(), np.uint8)} if self.lines else {}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        if "lines" in tensors:
            self.lines = tensors["lines"].tobytes().decode().split("\n")

    def on_train_end(self, training: Training) -> None:
        if training.folder is not None and self.lines:
            training.folder.write(LOG, "\n".join(self.lines))

    def read(self, folder: Path) -> None:
        """The lines of a run that is finished."""
        if (folder / LOG).exists():
            self.lines = (folder / LOG).read_text(encoding="utf-8").split("\n")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published system, or what its task gets today.

    config: all settings of training; its `data` is the set that is wanted, `read` what reads it, `prepare`
    the part of it that is used and how it is scaled. network: the network with first weights from a seed.
    as_published: whether the settings are the publication's. required, required_train: accuracies on test and
    train that the means over `seeds` must reach. within: seconds of training that the fastest run may take.
    today: the recipe that solves the same task as one would now. log: what says the publication's own lines.
    scores: how the trained network is asked, where one look at each image is not all (the mean over shifted
    copies, say). runs_of: the recipe of the same settings whose runs are these, asked in another way.
    """

    name: str
    about: str
    config: TrainConfig
    network: Callable[[int], Sequential]
    published: Published = Published()
    read: Callable[[TrainConfig], Dataset] = load_data
    prepare: Callable[[Dataset], Dataset] = lambda data: data
    as_published: bool = False
    required: float | None = None
    required_train: float | None = None
    within: float | None = None
    seeds: int = 3
    today: str = ""
    runs_of: str = ""
    log: Callable[[Say], Log] = Log
    scores: Callable[[Sequential, np.ndarray], np.ndarray] = Sequential.scores

    def settings(self) -> dict[str, Any]:
        """All settings but the seed, as plain values; `rates` has the layers that learn at another rate."""
        net = self.network(0)
        plain = self.config.to_dict() | {"layers": tables_of(net)}
        rates = {layer.name: layer.lr_factor * layer.trainable for layer in net.walk() if layer.tensors}
        plain["rates"] = {name: rate for name, rate in rates.items() if rate != 1}
        return {key: value for key, value in plain.items() if key not in ("seed", "model")}

    def train(
        self,
        seed: int,
        *,
        data: Dataset | None = None,
        steps: int | None = None,
        hold_out: int = 0,
        folder: Path | None = None,
        callbacks: Iterable[Callback] = (),
        say: Say = lambda line: None,
    ) -> SeedResult:
        """One run of this recipe, evaluated on test and training images.

        data: in place of the set that the config names. steps: a rehearsal, one epoch over a few images that
        make so many steps. hold_out: so many training images take the place of test, which is not looked at:
        what a recipe is chosen by. folder: of the run, which goes on where an earlier one was interrupted.
        say: is given the publication's log lines. Raises DataError that names missing files, where they were
        sought and how to provide them.
        """
        data = self.prepared(data, hold_out)
        net = self.network(seed)
        config = self.config.override(f"seed={seed}")
        if steps is not None:
            config = config.override("epochs=1")
            data = replace(data, train=few(data.train, steps * config.batch_size))
        if folder is not None:
            config = TrainConfig(**config.to_dict() | {"layers": tables_of(net)})
        log = self.log(say)
        net, done = trained(net, data, config, folder, log, callbacks)
        return SeedResult(
            seed=seed,
            test_accuracy=self.accuracy(net, data.test),
            train_accuracy=self.accuracy(net, data.train),
            seconds=done.seconds,
            backend=done.backend,
            curve=tuple({name: getattr(record, name) for name in CURVE} for record in done.history),
            log=tuple(log.lines),
        )

    def prepared(self, data: Dataset | None, hold_out: int) -> Dataset:
        """The data given, or else read, as the recipe uses it; so many images of train may be its test."""
        data = self.read(self.config) if data is None else data
        return self.prepare(held_out(data, hold_out) if hold_out else data)

    def accuracy(self, net: Sequential, split: Split | None) -> float | None:
        """The trained network on a split."""
        if split is None:
            return None
        return evaluation(self.scores(net, split.images), split, net.loss).accuracy


def trained(
    net: Sequential,
    data: Dataset,
    config: TrainConfig,
    folder: Path | None,
    log: Log,
    callbacks: Iterable[Callback],
) -> tuple[Sequential, Run]:
    """The network and its run in that folder: new, resumed, or finished before, but with its result not kept.

    Raises RunFolderError where it was begun with other settings.
    """
    callbacks, resumable = [log, *callbacks], False
    if folder is not None and folder.exists():
        begun = RunFolder(folder)
        resumable = begun.resumable
        if begun.finished or resumable:
            check_settings(balanced(config, data), folder)
        if begun.finished:
            return finished(folder, net, log)
        if not resumable:
            with RunLock(folder):
                begun.forget_beginning()
    try:
        if folder is not None and resumable:
            return resume(folder, data=data, net=net, callbacks=callbacks)
        return net, run(net, data, config, run_dir=folder, callbacks=callbacks)
    except Interrupted as stopped:  # `glassnet resume` would not know how a recipe prepares its data
        raise Interrupted(stopped.run, stopped.signal, "the same command again") from stopped


def check_settings(config: TrainConfig, folder: Path) -> None:
    """The run in that folder must be of this config."""
    if TrainConfig.from_toml(folder / "config.toml").to_dict() != config.to_dict():
        raise RunFolderError(
            f"The run {folder} was begun with other settings than the recipe has now. Remove that folder, or "
            "choose another place."
        )


def finished(folder: Path, net: Sequential, log: Log) -> tuple[Sequential, Run]:
    """What `net` became in the run of that folder, and the Run, without evaluations."""
    log.read(folder)
    return load(model_file(folder), layers={type(layer) for layer in net.walk()}), read_run(folder)


def held_out(data: Dataset, count: int) -> Dataset:
    """So many training images as test: the last ones; where they lie class by class, images evenly drawn."""
    total = len(data.train)
    if count >= total:
        raise ConfigError(f"hold_out must leave images to train on: it is {count} of {total}.")
    out = np.arange(total - count, total)
    if (np.diff(hard(data.train.labels)) >= 0).all():
        out = np.linspace(0, total - 1, count).astype(int)
    return replace(data, train=data.train[np.setdiff1d(np.arange(total), out)], test=data.train[out])


def few(train: Split, count: int) -> Split:
    """The first images; where they lie class by class, as photos do, images evenly drawn."""
    if (np.diff(hard(train.labels)) < 0).any():
        return train[:count]
    return train[np.linspace(0, len(train) - 1, min(count, len(train))).astype(int)]


def scaled(data: Dataset, mean: float = 0.0) -> Dataset:
    """Images as x / 255 - mean, as most publications feed them."""
    channels = data.image_shape[2]
    preprocessing = replace(data.preprocessing, mean=(mean,) * channels, std=(1.0,) * channels)

    def split(split: Split | None) -> Split | None:
        return None if split is None else replace(split, preprocessing=preprocessing)

    train = replace(data.train, preprocessing=preprocessing)
    return replace(data, train=train, val=split(data.val), test=split(data.test))
