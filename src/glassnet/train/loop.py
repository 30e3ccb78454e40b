"""The training loop: it decides what each step is; a stepper computes it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from glassnet.data import Dataset, Split
from glassnet.data.batches import BatchPlan
from glassnet.errors import NotFiniteError
from glassnet.evaluation.metrics import Evaluation, evaluation
from glassnet.io.model import layer_facts, put_layer_facts
from glassnet.network import Sequential
from glassnet.runs.records import EpochRecord, Run, StepRecord
from glassnet.store import Slot
from glassnet.train.batch import Batches, Block
from glassnet.train.callbacks import Callback, Training
from glassnet.train.health import SEARCH, two_figures
from glassnet.train.interrupt import Interrupted, Requests
from glassnet.train.not_finite import first_place
from glassnet.train.resume import Progress, Saver
from glassnet.train.sizes import Size, input_size
from glassnet.train.stepper import Change, Clip, Outcome, Stepper

EARLIEST = 10
"""Moving averages start over the last of step / EARLIEST steps, and lengthen to what the settings say."""


@dataclass
class Loop:
    """The epochs and steps of one run, new or resumed."""

    training: Training
    stepper: Stepper
    stepper_of: Callable[[Sequential], Stepper]
    plan: BatchPlan
    batches: Batches
    data: Dataset
    callbacks: Sequence[Callback]
    saver: Saver | None = None
    progress: Progress = field(default_factory=Progress)
    smaller: dict[Size, tuple[Sequential, Stepper]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.planned = layer_facts(self.training.net)

    def run(self) -> Run:
        """Train and evaluate. Where a figure is NaN or infinite, the folder says so, too."""
        start = time.perf_counter() - self.progress.seconds
        try:
            return self.train(start)
        except Exception as error:
            self.adopt_average()
            if isinstance(error, NotFiniteError) and self.training.folder is not None:
                raise self.failed(error, start) from error
            raise

    def failed(self, error: NotFiniteError, start: float) -> NotFiniteError:
        """The error with what to do next. Of the folder, only what says how the run ended changes."""
        training, folder = self.training, self.training.folder
        assert folder is not None
        training.stop = "failed"
        training.warnings.append(str(error))
        self.finish(time.perf_counter() - start)
        kept = ", with models of earlier epochs" if training.history else ""
        return NotFiniteError(
            f"{error} The run {folder.path} is kept as failed{kept}. Train anew under another name."
        )

    def train(self, start: float) -> Run:
        """Train until the last epoch, an early stop or an interruption; evaluate unless interrupted."""
        training = self.training
        whole = True  # whether the state is that between two steps
        requests = Requests()
        try:
            with requests:
                self.tell("on_train_begin")
                self.save(start, first=True)
                while len(training.history) < training.config.epochs:
                    if training.stop is not None and not self.progress.batch:  # else the epoch is ended first
                        break
                    requests.check()
                    self.plan_anew()
                    for block in self.epoch():
                        whole = False
                        outcome = self.take(block)
                        whole = True
                        if outcome.taken < len(block):
                            raise self.not_finite(block, outcome)
                        self.save(start)
                        requests.check()
                    whole = False
                    self.end_epoch()
                    whole = True
        except KeyboardInterrupt as interrupt:
            if whole:
                self.save(start, last=True)
            training.stop, training.interrupted = "interrupted", True
            self.adopt_average()
            self.tell("on_train_end")
            result = self.finish(time.perf_counter() - start)
            raise Interrupted(result, requests.received or signal.SIGINT) from interrupt
        self.adopt_average()
        self.tell("on_train_end")
        result = self.finish(time.perf_counter() - start)
        if self.saver is not None:
            self.saver.remove()
        return result

    def tell(self, moment: str, *record: EpochRecord) -> None:
        """Call that method of every callback."""
        for callback in self.callbacks:
            getattr(callback, moment)(self.training, *record)

    def tell_steps(self, records: list[StepRecord]) -> None:
        """All callbacks hear of the steps: together, or one by one."""
        for callback in self.callbacks:
            callback.on_steps(self.training, records)
            if hears_each(callback):
                for record in records:
                    callback.on_step(self.training, record)

    def save(self, start: float, *, first: bool = False, last: bool = False) -> None:
        """A checkpoint, where one is due."""
        if self.saver is not None and (first or last or self.saver.due(self.progress.step)):
            self.progress.seconds = time.perf_counter() - start
            self.saver.save(self.training, self.progress, self.callbacks)

    def epoch(self) -> Iterator[Block]:
        """The steps of the epoch that the run is in, from where it is, as many at a time as may be."""
        progress, stepper = self.progress, self.at_size()[1]
        most = 1 if any(map(hears_each, self.callbacks)) else stepper.most
        if self.saver is not None and self.saver.steps:
            most = min(most, self.saver.steps)
        self.kinds = self.kinds_of_rates()
        self.begun, self.begun_samples = time.perf_counter(), progress.samples
        for index in self.plan.blocks(len(self.training.history), progress.batch, most):
            yield self.batches.block(progress.step, index)

    def plan_anew(self) -> None:
        """Where layers were frozen or their rates scaled since, make the plans that hold what learns anew."""
        now = layer_facts(self.training.net)
        if now == self.planned:
            return
        self.planned, self.stepper = now, self.stepper_of(self.training.net)
        for size, (twin, _) in self.smaller.items():
            put_layer_facts(twin, now)
            self.smaller[size] = twin, self.stepper_of(twin)

    def at_size(self) -> tuple[Sequential, Stepper]:
        """The network and its stepper for the input size of the epoch that the run is in."""
        training, whole = self.training, self.data.train.image_shape[:2]
        size = input_size(training.config, len(training.history), whole)
        self.batches.resize(size)
        return self.smaller.get(size, (training.net, self.stepper))

    def take(self, block: Block) -> Outcome:
        """Take the steps of a block, as far as they are finite, and tell of them."""
        progress, epoch = self.progress, len(self.training.history) + 1
        rates = self.learning_rates(len(block))
        changes = [self.change(block, number, lr) for number, lr in enumerate(rates)]
        outcome = self.at_size()[1].take(block, changes)
        taken, n = outcome.taken, block.samples
        speed = (progress.samples - self.begun_samples + taken * n) / (time.perf_counter() - self.begun)
        records = []
        losses, norms, correct = outcome.losses.tolist(), outcome.norms.tolist(), outcome.correct.tolist()
        for number in range(taken):
            progress.count(n, losses[number], correct[number])
            records.append(
                StepRecord(
                    epoch=epoch,
                    step=progress.step,
                    batch=progress.batch,
                    samples=n,
                    correct=correct[number],
                    loss=losses[number],
                    lr=rates[number],
                    gradient_norm=norms[number],
                    images_per_second=speed,
                )
            )
        progress.lr, progress.speed = rates[min(taken, len(block) - 1)], speed
        if records:  # else the first of them was not finite
            self.tell_steps(records)
        return outcome

    def end_epoch(self) -> None:
        """Validate, and tell of the epoch that is whole; both see the averaged weights, if there are any."""
        progress, training = self.progress, self.training
        with self.averaged():
            val = self.evaluate(self.data.val)
            record = EpochRecord(
                epoch=len(training.history) + 1,
                step=progress.step,
                loss=progress.loss / progress.samples,
                accuracy=progress.correct / progress.samples,
                val_loss=None if val is None else val.loss,
                val_accuracy=None if val is None else val.accuracy,
                lr=progress.lr,
                seconds=time.perf_counter() - self.begun,
                images_per_second=progress.speed,
            )
            training.history.append(record)
            progress.begin_epoch()
            self.tell("on_epoch_end", record)

    def learning_rates(self, steps: int) -> list[float]:
        """The rates of the steps to come."""
        config, watched = self.training.config, [record.watched for record in self.training.history]
        total, epoch, lr = config.epochs * len(self.plan), len(self.plan), config.optimizer.lr
        first = self.progress.step
        return [
            lr * config.schedule.factor(step, total, epoch, watched) for step in range(first, first + steps)
        ]

    def kinds_of_rates(self) -> list[tuple[Slot, list[str]]]:
        """The parameters that share their scalars: one of them, and the names of all."""
        kinds: dict[tuple[float, bool], tuple[Slot, list[str]]] = {}
        for name, slot in self.training.net.store.learning():
            kinds.setdefault((slot.layer.lr_factor, slot.tensor.decays), (slot, []))[1].append(name)
        return [*kinds.values()]

    def change(self, block: Block, number: int, lr: float) -> Change:
        """What step `number` of a block does with its gradients."""
        config, step = self.training.config, block.step + number
        scalars: dict[str, tuple[float, ...]] = {}
        for slot, names in self.kinds:
            scalars |= dict.fromkeys(names, config.optimizer.scalars(slot, lr, step + 1))
        gain = max(1 - config.ema, 1 - (1 + step) / (EARLIEST + step)) if config.ema else 0.0
        return Change(scalars, self.clip(float(block.denominator[number])), gain)

    def clip(self, denominator: float) -> Clip:
        """The bounds on a batch's mean gradient; the summed one is `denominator` times as large."""
        config = self.training.config
        value = config.clip_value / (denominator if config.clip_on == "sum" else 1.0)
        return Clip(value or None, config.clip_norm or None)

    def not_finite(self, block: Block, outcome: Outcome) -> NotFiniteError:
        """The error that stops the run, with the place where the trouble starts and what to try."""
        net, config, number = self.at_size()[0], self.training.config, outcome.taken
        place = first_place(net, self.data.train, config.loss, block, number, seed=config.seed)
        what = "gradient" if np.isfinite(outcome.losses[number]) else "loss"
        step, epoch, calm = block.step + number + 1, len(self.training.history) + 1, self.training.calm_rate
        rate = f"of {calm:g}" if calm else f"below {two_figures(self.progress.lr):g}"
        advice = f"Try a learning rate {rate}, clip_norm=1.0, or look at the data. {SEARCH}"
        if step == 1:
            advice = "No update was made before: look at the data, and try smaller first weights."
        return NotFiniteError(
            f"The {what} of step {step} (epoch {epoch}) is NaN or infinite, which first appears {place}. "
            f"This step changed no weight. {advice}"
        )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the network has the averaged weights."""
        store = self.training.net.store
        store.swap_average()
        try:
            yield
        finally:
            store.swap_average()

    def adopt_average(self) -> None:
        """The averaged weights are from now on the network's own."""
        store = self.training.net.store
        store.swap_average()
        store.average = None

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
            warnings=tuple(training.warnings),
        )
        ended = training.stop not in ("interrupted", "failed")
        if ended:
            result = replace(result, val=self.evaluate(self.data.val), test=self.evaluate(self.data.test))
        if training.folder is not None:
            if ended:
                from glassnet.runs.report import write_report  # matplotlib takes most of a second

                write_report(result, training.net, self.data, training.folder.path / "report.html")
            training.folder.finish(result)  # which says that the run is over
        return result


def hears_each(callback: Callback) -> bool:
    """Whether it must be called after each step, which then is taken by itself."""
    return type(callback).on_step is not Callback.on_step
