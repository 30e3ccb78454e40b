"""`fit`: a network and data become a trained network and a Run. All is checked before the first step."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from glassnet.data import Dataset, from_arrays
from glassnet.data.augment import Augment
from glassnet.data.dataset import stratified
from glassnet.data.fingerprint import changes, fingerprint
from glassnet.data.labels import hard
from glassnet.errors import CheckpointError, DataError, OutOfMemoryError, RunFolderError
from glassnet.losses import Loss
from glassnet.models import build_model, tables_of
from glassnet.network import Sequential
from glassnet.optim import SGD, Optimizer
from glassnet.runs.folder import RunFolder
from glassnet.runs.lock import RunLock
from glassnet.runs.records import Run
from glassnet.schedules import Constant, Schedule
from glassnet.settings.config import TrainConfig
from glassnet.settings.settling import balanced, load_data
from glassnet.train.batch import Batches
from glassnet.train.callbacks import Callback, Checkpoint, EarlyStopping, MetricsLog, Training
from glassnet.train.checks import batch_plan, check_network, check_watching, checked_weights
from glassnet.train.health import Health
from glassnet.train.loop import Loop
from glassnet.train.resume import Facts, Saver, Tensors, put_facts, put_layers, put_tensors
from glassnet.train.sizes import at_size, smaller_sizes
from glassnet.train.stepper import make_stepper

Path = str | os.PathLike[str]
BATCH_SIZE = 32
log = logging.getLogger(__name__)


def fit(
    net: Sequential,
    data: Dataset | tuple[ArrayLike, ArrayLike],
    *,
    epochs: int = 10,
    batch_size: int | None = None,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
    loss: Loss | None = None,
    val_fraction: float = 0.1,
    sampling: str = "shuffled",
    seed: int = 0,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    clip_on: str = "mean",
    accumulate: int = 1,
    sample_weight: ArrayLike | None = None,
    early_stopping: int | None = None,
    monitor: str = "loss",
    augment: Augment | None = None,
    ema: float = 0.0,
    progressive: Sequence[float] = (),
    tta: str = "none",
    checkpoint_minutes: float = 1.0,
    checkpoint_steps: int = 0,
    backend: str = "auto",
    processor: str = "host",
    run_dir: Path | None = None,
    callbacks: Iterable[Callback] = (),
) -> Run:
    """Train `net` on a data set, or on (images, labels), and evaluate it.

    Sets the network's classes, preprocessing and loss, which its model file then holds.

    batch_size: 32 unless given, or all training images where there are fewer.
    optimizer: SGD() unless given. schedule: the rate stays constant unless given.
    loss: the network's own unless given; class weights and label smoothing are settings of it.
    val_fraction: of each class of the training images, held out where the data has no validation split.
    sampling: each training image once an epoch, or as many of each class ("balanced").
    clip_value: bound on each element of the gradient of the batch's mean loss; with clip_on="sum", of its
    summed loss. clip_norm: bound on the norm of all gradients together.
    accumulate: parts that a batch is computed in, one after another; the result is that of the whole batch.
    sample_weight: one number for each training image.
    early_stopping: epochs to wait for a better validation; the best weights are then restored.
    monitor: what is better there: a lower "loss", or a higher "accuracy" (and of equals the lower loss).
    augment: what may happen to training images, drawn anew for each step and sample.
    ema: decay of a moving average of the weights (0.999), which is then evaluated and kept in their place.
    progressive: input sizes in the first part of the run, as parts of the whole size.
    tta: "flip" averages predictions over an image and its mirror image, from then on.
    run_dir: a new folder for models, metrics, settings and pictures, and while the run is in progress for
    checkpoints, every so many minutes or steps (0: not by that), from which `resume` goes on.

    Raises Interrupted on Ctrl-C or SIGTERM, with the run so far; NotFiniteError where a loss or gradient is
    NaN or infinite, before it changes any weight; all other errors before the first step.
    """
    dataset = as_dataset(data)
    config = TrainConfig(
        data=dataset.name,
        layers=[] if run_dir is None else tables_of(net.built()),
        epochs=epochs,
        batch_size=BATCH_SIZE if batch_size is None else batch_size,
        optimizer=optimizer or SGD(),
        schedule=schedule or Constant(),
        loss=loss or net.loss,
        val_fraction=val_fraction,
        sampling=sampling,
        seed=seed,
        init_seed=None if net.seed == seed else net.seed,
        clip_value=clip_value or 0.0,
        clip_norm=clip_norm or 0.0,
        clip_on=clip_on,
        accumulate=accumulate,
        early_stopping=early_stopping or 0,
        monitor=monitor,
        augment=augment or Augment(),
        ema=ema,
        progressive=[*progressive],
        tta=tta,
        checkpoint_minutes=checkpoint_minutes,
        checkpoint_steps=checkpoint_steps,
        backend=backend,
        processor=processor,
    )
    if batch_size is None:
        samples = int((~held(dataset, config)).sum())
        config = config.model_copy(update={"batch_size": min(BATCH_SIZE, samples)})
    return run(net, dataset, config, sample_weight=sample_weight, run_dir=run_dir, callbacks=callbacks)


def fit_config(
    config: TrainConfig,
    *,
    data: Dataset | None = None,
    run_dir: Path | Callable[[], Path] | None = None,
    callbacks: Iterable[Callback] = (),
) -> tuple[Sequential, Run]:
    """The network and the run that a config describes, on the data set that it names.

    data: that data set, where it is read already. run_dir: as in `fit`, or called for it once all is checked.
    """
    data = load_data(config) if data is None else data
    net = build_model(config, data)
    return net, run(net, data, config, run_dir=run_dir, callbacks=callbacks)


def run(
    net: Sequential,
    data: Dataset,
    config: TrainConfig,
    *,
    sample_weight: ArrayLike | None = None,
    run_dir: Path | Callable[[], Path] | None = None,
    callbacks: Iterable[Callback] = (),
) -> Run:
    """Check everything, train, evaluate: what `fit` does, once its settings are a config."""
    config = balanced(config, data)
    with explained(data):
        loop = prepare(net, data, config, sample_weight)
        if run_dir is None:
            return start(loop, None, callbacks)
        folder = RunFolder.new(run_dir() if callable(run_dir) else run_dir)
        with RunLock(folder.path):
            folder.begin(config, data.report)
            return start(loop, folder, callbacks)


@contextmanager
def explained(data: Dataset) -> Iterator[None]:
    """Where memory runs out, say for what."""
    try:
        yield
    except OutOfMemoryError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError(
            f"Training on {data.name} needs more memory than there is. Use a smaller batch_size or network, "
            f"or cut batches in more parts with accumulate. ({error})"
        ) from error


def resume(
    run_dir: Path,
    *,
    data: Dataset | tuple[ArrayLike, ArrayLike] | None = None,
    net: Sequential | None = None,
    sample_weight: ArrayLike | None = None,
    callbacks: Iterable[Callback] = (),
) -> tuple[Sequential, Run]:
    """Go on with a run that was interrupted or killed; it ends with the bits of one that never was.

    data, sample_weight: as they were given to `fit`; data that is known by name need not be given.
    net: a network of the same layers, where some are classes of your own.
    Raises RunFolderError where the run is finished or in use, CheckpointError where no checkpoint is whole or
    its settings or data are not those of before.
    """
    folder = RunFolder(run_dir)
    with RunLock(folder.path):
        if folder.finished:
            raise RunFolderError(f"The run {folder.path} is finished. Train a new one to go further.")
        folder.remove_unfinished()
        config = TrainConfig.from_toml(folder.path / "config.toml")
        dataset = load_data(config) if data is None else as_dataset(data)
        tensors, facts = folder.checkpoints.latest()
        if facts["config"] != config.to_dict():
            raise CheckpointError(
                f"{folder.path / 'config.toml'} was changed since the checkpoint. Put it back as it was, or "
                "train anew with the new settings."
            )
        net = build_model(config, dataset) if net is None else net
        put_layers(net.built(), facts)
        loop = prepare(net, dataset, config, sample_weight)
        if facts["backend"] != loop.training.backend:
            raise CheckpointError(
                f"The run {folder.path} began on the {facts['backend']} backend, which is not to be had "
                f"here: {loop.training.backend} would give other bits."
            )
        with explained(loop.data):
            return net, start(loop, folder, callbacks, (tensors, facts))


def prepare(net: Sequential, data: Dataset, config: TrainConfig, sample_weight: ArrayLike | None) -> Loop:
    """All checks, and a loop ready to run, without folder and callbacks."""
    check_network(net, data, config.loss)
    weight = checked_weights(sample_weight, len(data.train))
    data, weight = held_out(data, weight, config)
    check_watching(config, data)
    smaller = {size: at_size(net, size) for size in smaller_sizes(config, data.train.image_shape[:2])}
    nets = [net, *smaller.values()]
    plan = batch_plan(config, nets, data.train)
    for each in nets:
        each.classes, each.loss = data.classes, config.loss
        each.preprocessing = replace(data.preprocessing, tta=config.tta)
        each.backend, each.processor = config.backend, config.processor
    for kind in config.optimizer.kinds():
        net.store.add_optimizer_state(kind)
        net.store.optimizer[kind][:] = 0  # a run starts without the momentum of an earlier one
    net.store.average = None
    if config.ema:
        net.store.keep_average()
    stepper_of = partial(
        make_stepper,
        config.backend,
        split=data.train,
        loss=config.loss,
        optimizer=config.optimizer,
        seed=config.seed,
        capacity=-(-plan.capacity // config.accumulate),
        augmented=bool(config.progressive) or not config.augment.off,
    )
    stepper = stepper_of(net)
    samples, val_samples = len(data.train), 0 if data.val is None else len(data.val)
    training = Training(net, config, stepper.backend, stepper.machine, None, len(plan), samples, val_samples)
    batches = Batches(
        data.train,
        config.loss,
        weight,
        accumulate=config.accumulate,
        augment=config.augment,
        resized=bool(config.progressive),
        seed=config.seed,
    )
    steppers = {size: (twin, stepper_of(twin)) for size, twin in smaller.items()}
    return Loop(training, stepper, stepper_of, plan, batches, data, [], smaller=steppers)


def start(
    loop: Loop,
    folder: RunFolder | None,
    callbacks: Iterable[Callback],
    checkpoint: tuple[Tensors, Facts] | None = None,
) -> Run:
    """Run a prepared loop, from a checkpoint on where there is one."""
    training, config = loop.training, loop.training.config
    training.folder = folder
    loop.callbacks = all_callbacks(config, folder, [Health(loop.data.train), *callbacks])
    if folder is not None:
        fingerprinted = fingerprint(loop.data, loop.batches.sample_weight)
        if checkpoint is not None and (differences := changes(checkpoint[1]["data"], fingerprinted)):
            raise CheckpointError(
                f"The data of {folder.path} changed since the checkpoint: {'; '.join(differences)}. Put it "
                "back as it was, or train anew."
            )
        folder.keep(fingerprinted)
        minutes = config.checkpoint_minutes
        loop.saver = Saver(folder.checkpoints, fingerprinted, steps=config.checkpoint_steps, minutes=minutes)
    if checkpoint is not None:
        tensors, facts = checkpoint
        loop.progress = put_facts(training, facts)
        put_tensors(training.net, loop.callbacks, tensors)
    log.info("Training on the %s backend.", training.backend)
    with loop.stepper.session():
        return loop.run()


def as_dataset(data: Any) -> Dataset:
    """A Dataset as it is; (images, labels) as one."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        return from_arrays(*data)
    raise DataError(
        f"fit takes a Dataset or (images, labels), got {type(data).__name__}. Make one with "
        "glassnet.data.load('mnist') or glassnet.data.from_arrays(images, labels)."
    )


def held_out(
    data: Dataset, weight: np.ndarray | None, config: TrainConfig
) -> tuple[Dataset, np.ndarray | None]:
    """The data with a validation split, unless it has one or none is wanted, and the weights that stay."""
    if data.val is not None or not config.val_fraction:
        return data, weight
    if weight is not None:
        weight = weight[~held(data, config)]
    return data.holdout(config.val_fraction, config.seed), weight


def held(data: Dataset, config: TrainConfig) -> np.ndarray:
    """(N,) bool: which training images `held_out` takes for validation."""
    if data.val is not None or not config.val_fraction:
        return np.zeros(len(data.train), bool)
    return stratified(hard(data.train.labels), config.val_fraction, config.seed)


def all_callbacks(config: TrainConfig, folder: RunFolder | None, own: Iterable[Callback]) -> list[Callback]:
    """The ones that the settings ask for, then the user's own."""
    found: list[Callback] = []
    if folder is not None:
        found += [MetricsLog(folder), Checkpoint(folder)]
    if config.early_stopping:
        found.append(EarlyStopping(config.early_stopping))
    return [*found, *own]
