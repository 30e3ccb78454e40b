"""What is seen of a run in progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from glassnet.cli.output import Output, percent
from glassnet.train import Callback, EpochRecord, StepRecord, TrainConfig, Training

QUIET_SECONDS = 10.0
SECOND = 1.0


class Bar(Callback):
    """One bar for the whole run: images/s, loss and time left; a line above it for each epoch."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn(
                "{task.percentage:3.0f} %  {task.fields[speed]:,.0f} images/s  loss {task.fields[loss]:.4f} "
            ),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
        )

    def on_train_begin(self, training: Training) -> None:
        total = training.config.epochs * training.batches
        self.task: TaskID = self.progress.add_task(
            "", total=total, epoch=f"1/{training.config.epochs}", speed=0.0, loss=float("nan")
        )
        self.say(begin_line(training))
        self.progress.start()

    def on_steps(self, training: Training, records: list[StepRecord]) -> None:
        record = records[-1]
        self.progress.update(
            self.task,
            completed=record.step,
            epoch=f"{record.epoch}/{training.config.epochs}",
            speed=record.images_per_second,
            loss=record.loss,
        )

    def on_epoch_end(self, training: Training, record: EpochRecord) -> None:
        self.say(epoch_line(training, record))

    def say(self, line: str) -> None:
        """A line above the bar."""
        self.progress.console.print(line, highlight=False, soft_wrap=True)


class Lines(Callback):
    """A line for each epoch, and within a long one every ten seconds."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def on_train_begin(self, training: Training) -> None:
        self.say(begin_line(training))

    def on_steps(self, training: Training, records: list[StepRecord]) -> None:
        record = records[-1]
        if time.monotonic() - self.last > QUIET_SECONDS:
            self.say(
                f"epoch {record.epoch}/{training.config.epochs}  batch {record.batch}/{training.batches}  "
                f"loss {record.loss:.4f}  {record.images_per_second:,.0f} images/s"
            )

    def on_epoch_end(self, training: Training, record: EpochRecord) -> None:
        self.say(epoch_line(training, record))

    def say(self, line: str) -> None:
        """A line now; the next but one no sooner than after the quiet time."""
        self.output.say(line)
        self.last = time.monotonic()


@contextmanager
def progress(output: Output) -> Iterator[Callback]:
    """The bar on a terminal, taken away whatever happens; else lines."""
    console = Console(file=output.stream)
    if not console.is_terminal:
        lines = Lines(output)
        with heard(lines.say):
            yield lines
        return
    bar = Bar(console)
    try:
        with heard(bar.say):
            yield bar
    finally:
        bar.progress.stop()


class Warnings(logging.Handler):
    """Says what is logged as a warning, such as what ails a run."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        self.say(f"Warning: {record.getMessage()}")


@contextmanager
def heard(say: Callable[[str], None]) -> Iterator[None]:
    """Compiling and warnings inside are said."""
    logs, handler = (
        [logging.getLogger(f"glassnet.{name}") for name in ("data", "train", "runs")],
        Warnings(say),
    )
    for log in logs:
        log.addHandler(handler)
    try:
        with compiling(say):
            yield
    finally:
        for log in logs:
            log.removeHandler(handler)


class Compiling(logging.Handler):
    """Says what the engine's log says of kernels being compiled, at most once a second, and counts them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self.say, self.count, self.last = say, 0, -SECOND

    def emit(self, record: logging.LogRecord) -> None:
        warns = record.levelno > logging.INFO
        self.count += not warns
        if warns or time.monotonic() - self.last > SECOND:
            self.say(record.getMessage())
            self.last = time.monotonic()


@contextmanager
def compiling(say: Callable[[str], None]) -> Iterator[Compiling]:
    """Whatever is compiled inside is said, where the cache of machine code does not have it yet."""
    log, handler = logging.getLogger("glassnet.engine.machine.cache"), Compiling(say)
    before = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield handler
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def begin_line(training: Training) -> str:
    """What is about to run, and where."""
    config, shape = training.config, " x ".join(map(str, training.net.input_shape or ()))
    return (
        f"Training {network(config)}on {config.data}: {training.train_samples:,} images of {shape}, "
        f"{training.val_samples:,} held out; {config.epochs} x {training.batches} steps of "
        f"{config.batch_size}, learning rate {config.optimizer.lr:g}, on the {training.backend} backend."
    )


def network(config: TrainConfig) -> str:
    """A network that has a name, with its options."""
    options = ", ".join(f"{name} {value}" for name, value in config.model_options.items())
    return f"{config.model} ({options}) " if options else f"{config.model} " if config.model else ""


def epoch_line(training: Training, record: EpochRecord) -> str:
    """One epoch's figures."""
    validation = ""
    if record.val_loss is not None:
        validation = f"val loss {record.val_loss:.4f}  accuracy {percent(record.val_accuracy)}  "
    return (
        f"epoch {record.epoch}/{training.config.epochs}  loss {record.loss:.4f}  {validation}"
        f"{record.images_per_second:,.0f} images/s  {record.seconds:.1f} s"
    )
