"""The training loop: it decides what each step is; a stepper computes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from glassnet.data import Dataset, Split
from glassnet.data.batches import BatchPlan
from glassnet.errors import NotFiniteError
from glassnet.train.batch import Batch, Batches
from glassnet.train.callbacks import Callback, Training
from glassnet.train.interrupt import Interrupted, uninterrupted
from glassnet.train.metrics import Evaluation, evaluation
from glassnet.train.not_finite import first_place
from glassnet.train.records import EpochRecord, Run, StepRecord
from glassnet.train.stepper import Clip, Guard, Stepper


@dataclass
class Loop:
    """The epochs and steps of one run."""

    training: Training
    stepper: Stepper
    plan: BatchPlan
    batches: Batches
    data: Dataset
    callbacks: Sequence[Callback]
    step: int = 0  # updates made so far

    def run(self) -> Run:
        """Train until the last epoch, an early stop or Ctrl-C; evaluate unless interrupted."""
        training, start = self.training, time.perf_counter()
        self.fresh_optimizer_state()
        try:
            self.tell("on_train_begin")
            while training.stop is None and len(training.history) < training.config.epochs:
                self.epoch(len(training.history))
        except KeyboardInterrupt as interrupt:
            training.stop, training.interrupted = "interrupted", True
            self.tell("on_train_end")
            raise Interrupted(self.finish(time.perf_counter() - start)) from interrupt
        self.tell("on_train_end")
        return self.finish(time.perf_counter() - start)

    def tell(self, moment: str, *record: StepRecord | EpochRecord) -> None:
        """Call that method of every callback."""
        for callback in self.callbacks:
            getattr(callback, moment)(self.training, *record)

    def fresh_optimizer_state(self) -> None:
        """A run starts without the momentum of an earlier one."""
        for block in self.training.net.store.optimizer.values():
            block[:] = 0

    def epoch(self, number: int) -> None:
        """All batches once, then the validation split. `number` counts from 0."""
        start, samples, steps = time.perf_counter(), 0, []
        for i, index in enumerate(self.plan.batches(number), 1):
            batch = self.batches.cut(index)
            lr = self.learning_rate()
            guard, correct = self.take_step(batch, lr)
            samples += len(batch)
            speed = samples / (time.perf_counter() - start)
            record = StepRecord(
                epoch=number + 1,
                step=self.step,
                batch=i,
                samples=len(batch),
                correct=correct,
                loss=guard.loss,
                lr=lr,
                gradient_norm=guard.gradient_norm,
                images_per_second=speed,
            )
            steps.append(record)
            self.tell("on_step", record)
        self.end_epoch(steps, start)

    def end_epoch(self, steps: list[StepRecord], start: float) -> None:
        """Validate, and tell of the epoch that these steps were."""
        val = self.evaluate(self.data.val)
        last, samples = steps[-1], sum(step.samples for step in steps)
        record = EpochRecord(
            epoch=last.epoch,
            step=last.step,
            loss=sum(step.loss * step.samples for step in steps) / samples,
            accuracy=sum(step.correct for step in steps) / samples,
            val_loss=None if val is None else val.loss,
            val_accuracy=None if val is None else val.accuracy,
            lr=last.lr,
            seconds=time.perf_counter() - start,
            images_per_second=last.images_per_second,
        )
        self.training.history.append(record)
        self.tell("on_epoch_end", record)

    def learning_rate(self) -> float:
        """The rate of the step to come."""
        config, watched = self.training.config, [record.watched for record in self.training.history]
        steps = config.epochs * len(self.plan)
        return config.optimizer.lr * config.schedule.factor(self.step, steps, len(self.plan), watched)

    def take_step(self, batch: Batch, lr: float) -> tuple[Guard, int]:
        """(what the guard saw, correct predictions) of one update."""
        net, optimizer = self.training.net, self.training.config.optimizer
        scores = [
            self.stepper.accumulate(
                part.index, part.target, part.share, step=self.step, first_sample=part.first_sample
            )[1]
            for part in batch.parts
        ]
        guard = self.stepper.guard()
        if not guard.finite:
            raise self.not_finite(batch, guard, lr)
        scalars = {name: optimizer.scalars(slot, lr, self.step + 1) for name, slot in net.store.learning()}
        with uninterrupted():
            self.stepper.update(scalars, self.clip(batch))
        self.step += 1
        return guard, batch.correct(scores)

    def clip(self, batch: Batch) -> Clip:
        """The bounds on the mean gradient of this batch; the summed one is `denominator` times as large."""
        config = self.training.config
        value = config.clip_value / (batch.denominator if config.clip_on == "sum" else 1.0)
        return Clip(value or None, config.clip_norm or None)

    def not_finite(self, batch: Batch, guard: Guard, lr: float) -> NotFiniteError:
        """The error that stops the run, with the place where the trouble starts and what to try."""
        net, config = self.training.net, self.training.config
        place = first_place(net, self.data.train, config.loss, batch, seed=config.seed, step=self.step)
        what = "gradient" if np.isfinite(guard.loss) else "loss"
        folder = self.training.folder
        epoch = len(self.training.history) + 1
        kept = f" Models of earlier epochs are in {folder.path}." if folder and epoch > 1 else ""
        return NotFiniteError(
            f"The {what} of step {self.step + 1} (epoch {epoch}) is NaN or infinite, which first appears "
            f"{place}. This step changed no weight. Try a learning rate below {lr:g}, clip_norm=1.0, or "
            f"look at the data.{kept}"
        )

    def evaluate(self, split: Split | None) -> Evaluation | None:
        """The network as it is now, on the run's own backend."""
        if split is None:
            return None
        return evaluation(self.stepper.predict(split.images), split, self.training.config.loss)

    def finish(self, seconds: float) -> Run:
        """The Run, written to its folder."""
        training = self.training
        result = Run(
            history=tuple(training.history),
            best_epoch=training.best_epoch,
            val=None,
            test=None,
            seconds=seconds,
            backend=training.backend,
            config=training.config,
            folder=None if training.folder is None else training.folder.path,
            stopped=training.stop,
        )
        if not training.interrupted:
            result = replace(result, val=self.evaluate(self.data.val), test=self.evaluate(self.data.test))
        if training.folder is not None:
            training.folder.finish(result)
        return result
