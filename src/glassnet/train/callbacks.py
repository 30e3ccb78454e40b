"""What may happen at the moments of a run. The loop calls each callback, in order; none of them prints."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import numpy as np

from glassnet.network import Sequential
from glassnet.runs.folder import RunFolder
from glassnet.runs.records import EpochRecord, StepRecord, best_epoch
from glassnet.settings.config import TrainConfig


@dataclass
class Training:
    """A run in progress, as callbacks see it. Setting `stop` to a reason ends it after this epoch.

    machine: what its bits depend on, beside the settings. warnings: what was said of its health.
    calm_rate: where steps were far too long, a learning rate at which they are not.
    """

    net: Sequential
    config: TrainConfig
    backend: str
    machine: str
    folder: RunFolder | None
    batches: int
    train_samples: int
    val_samples: int
    history: list[EpochRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    calm_rate: float | None = None
    stop: str | None = None
    interrupted: bool = False

    @property
    def best_epoch(self) -> int:
        """The epoch with the best monitored figure so far."""
        return best_epoch(self.history, self.config.monitor)


class Callback:
    """Override the moments that matter. An exception from any of them ends the run."""

    def on_train_begin(self, training: Training) -> None:
        """Everything is checked; the first step comes next."""

    def on_steps(self, training: Training, records: list[StepRecord]) -> None:
        """These steps were taken together; the weights are those after the last."""

    def on_step(self, training: Training, record: StepRecord) -> None:
        """The weights were just updated. Where this is overridden each step is taken by itself: slower."""

    def on_epoch_end(self, training: Training, record: EpochRecord) -> None:
        """The epoch is whole, validated and in `training.history`."""

    def on_train_end(self, training: Training) -> None:
        """No more steps will be taken, because the run is done or was interrupted."""

    def tensors(self) -> dict[str, np.ndarray]:
        """What a checkpoint must keep of this callback, by name."""
        return {}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Take back what `tensors` gave, in a run that is resumed; `on_train_begin` comes after."""


class EarlyStopping(Callback):
    """Stop when the monitored figure has not been better for `patience` epochs; restore the best weights.

    An interrupted run keeps the weights of its last step.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best: dict[str, np.ndarray] = {}

    def tensors(self) -> dict[str, np.ndarray]:
        return self.best

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        self.best = {name: array.copy() for name, array in tensors.items()}

    def on_epoch_end(self, training: Training, record: EpochRecord) -> None:
        if training.best_epoch == record.epoch:
            self.best = training.net.store.snapshot()
        elif record.epoch - training.best_epoch >= self.patience:
            better = {"loss": "lower validation loss", "accuracy": "higher validation accuracy"}
            training.stop = f"no {better[training.config.monitor]} in {self.patience} epochs"

    def on_train_end(self, training: Training) -> None:
        if self.best and not training.interrupted:
            training.net.store.restore(self.best)


class MetricsLog(Callback):
    """One JSON line an epoch in metrics.jsonl of the run folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_begin(self, training: Training) -> None:
        """A resumed run may have written epochs that its checkpoint does not know of, the first one too."""
        self.folder.write("metrics.jsonl", "".join(line(record) + "\n" for record in training.history))

    def on_epoch_end(self, training: Training, record: EpochRecord) -> None:
        self.folder.append("metrics.jsonl", line(record))


def line(record: EpochRecord) -> str:
    """As JSON."""
    return json.dumps(asdict(record))


class Checkpoint(Callback):
    """The model after each epoch as last.gnet; as best.gnet the one that early stopping goes back to.

    The untrained model comes first: what cannot be saved is known before it is trained.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.last, self.best = folder.path / "last.gnet", folder.path / "best.gnet"

    def on_train_begin(self, training: Training) -> None:
        if not training.history:
            training.net.save(self.last)

    def on_epoch_end(self, training: Training, record: EpochRecord) -> None:
        training.net.save(self.last)
        if training.config.early_stopping and training.best_epoch == record.epoch:
            training.net.save(self.best)

    def on_train_end(self, training: Training) -> None:
        if training.interrupted:
            training.net.save(self.last)
