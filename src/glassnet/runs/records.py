"""What a run tells: a record for each step and epoch, and all that is known at its end."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from glassnet.errors import FileFormatError
from glassnet.evaluation.metrics import Evaluation
from glassnet.settings.config import TrainConfig


@dataclass(frozen=True)
class StepRecord:
    """One update. step counts from 1 over the run, batch from 1 over the epoch; loss is that of its batch.

    correct: how many of its samples were predicted right, before the update.
    gradient_norm: of all gradients together, before clipping. images_per_second: since the epoch began.
    """

    epoch: int
    step: int
    batch: int
    samples: int
    correct: int
    loss: float
    lr: float
    gradient_norm: float
    images_per_second: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, counted from 1. Training figures are means over its steps, taken while the weights moved.

    val_loss, val_accuracy: of the weights at its end, None without a validation split. seconds: both parts.
    """

    epoch: int
    step: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float

    @property
    def watched(self) -> float:
        """The loss that tells epochs apart: on the validation split, else in training."""
        return self.loss if self.val_loss is None else self.val_loss

    @property
    def watched_accuracy(self) -> float:
        """Of the same images."""
        return self.accuracy if self.val_accuracy is None else self.val_accuracy


@dataclass(frozen=True, eq=False)
class Run:
    """A training run that is finished, was interrupted or failed.

    val, test: the network as it was left, on those splits; None without the split, or before the end.
    best_epoch: the one with the lowest validation (else training) loss, or as `config.monitor` has it the
    highest accuracy; 0 before the first is whole.
    seconds: training and validation, not the evaluation at the end. stopped: why it ended early, or None;
    "failed" where a figure became NaN or infinite, which `fit` raises.
    warnings: what was said of its health.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    val: Evaluation | None
    test: Evaluation | None
    seconds: float
    backend: str
    config: TrainConfig
    folder: Path | None
    stopped: str | None
    warnings: tuple[str, ...] = ()


def best_epoch(history: list[EpochRecord], monitor: str) -> int:
    """The first epoch with the best watched figure, 0 where there is none."""
    ranks = [rank(monitor, record.watched, record.watched_accuracy) for record in history]
    return history[ranks.index(min(ranks))].epoch if history else 0


def rank(monitor: str, loss: float, accuracy: float) -> tuple[float, float]:
    """Lower is better. Of equal accuracies, as a few hundred images often give, the lower loss is better."""
    return (-accuracy if monitor == "accuracy" else 0.0), loss


def read_run(folder: str | os.PathLike[str]) -> Run:
    """The Run that a run folder tells of, without its evaluations."""
    path = Path(folder)
    facts = path / "evaluation.json"
    try:
        about = json.loads(facts.read_text(encoding="utf-8"))
        lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        history = tuple(EpochRecord(**json.loads(line)) for line in lines)
        return Run(
            history=history,
            best_epoch=about["best_epoch"],
            val=None,
            test=None,
            seconds=about["seconds"],
            backend=about["backend"],
            config=TrainConfig.from_toml(path / "config.toml"),
            folder=path,
            stopped=about["stopped"],
            warnings=tuple(map(str, about.get("warnings", ()))),
        )
    except FileNotFoundError as error:
        raise FileFormatError(
            f"The run folder {path} has no {Path(error.filename).name}: its run never came to an end."
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"The run folder {path} cannot be read: {error!r}.") from error
