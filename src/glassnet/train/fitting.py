"""`fit`: a network and data become a trained network and a Run. All is checked before the first step."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from glassnet.data import Dataset, from_arrays, load
from glassnet.data.dataset import stratified
from glassnet.data.labels import hard
from glassnet.errors import DataError
from glassnet.losses import Loss
from glassnet.network import Sequential
from glassnet.optim import SGD, Optimizer
from glassnet.schedules import Constant, Schedule
from glassnet.train.batch import Batches
from glassnet.train.callbacks import Callback, Checkpoint, EarlyStopping, MetricsLog, Training
from glassnet.train.checks import batch_plan, check_network, check_watching, checked_weights
from glassnet.train.config import TrainConfig
from glassnet.train.loop import Loop
from glassnet.train.models import build_model, tables_of
from glassnet.train.records import Run
from glassnet.train.run_folder import RunFolder
from glassnet.train.stepper import make_stepper

Path = str | os.PathLike[str]
log = logging.getLogger(__name__)


def fit(
    net: Sequential,
    data: Dataset | tuple[ArrayLike, ArrayLike],
    *,
    epochs: int = 10,
    batch_size: int = 32,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
    loss: Loss | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    clip_on: str = "mean",
    accumulate: int = 1,
    sample_weight: ArrayLike | None = None,
    early_stopping: int | None = None,
    backend: str = "auto",
    run_dir: Path | None = None,
    callbacks: Iterable[Callback] = (),
) -> Run:
    """Train `net` on a data set, or on (images, labels), and evaluate it.

    Sets the network's classes, preprocessing and loss, which its model file then holds.

    optimizer: SGD() unless given. schedule: the rate stays constant unless given.
    loss: the network's own unless given; class weights and label smoothing are settings of it.
    val_fraction: of each class of the training images, held out where the data has no validation split.
    clip_value: bound on each element of the gradient of the batch's mean loss; with clip_on="sum", of its
    summed loss. clip_norm: bound on the norm of all gradients together.
    accumulate: parts that a batch is computed in, one after another; the result is that of the whole batch.
    sample_weight: one number for each training image.
    early_stopping: epochs to wait for a lower validation loss; the best weights are then restored.
    run_dir: a new folder for models, metrics, settings and pictures.

    Raises Interrupted on Ctrl-C, with the run so far; NotFiniteError where a loss or gradient is NaN or
    infinite, before it changes any weight; all other errors before the first step.
    """
    dataset = as_dataset(data)
    config = TrainConfig(
        data=dataset.name,
        layers=[] if run_dir is None else tables_of(net.built()),
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer or SGD(),
        schedule=schedule or Constant(),
        loss=loss or net.loss,
        val_fraction=val_fraction,
        seed=seed,
        init_seed=None if net.seed == seed else net.seed,
        clip_value=clip_value or 0.0,
        clip_norm=clip_norm or 0.0,
        clip_on=clip_on,
        accumulate=accumulate,
        early_stopping=early_stopping or 0,
        backend=backend,
    )
    return run(net, dataset, config, sample_weight=sample_weight, run_dir=run_dir, callbacks=callbacks)


def fit_config(
    config: TrainConfig, *, run_dir: Path | None = None, callbacks: Iterable[Callback] = ()
) -> tuple[Sequential, Run]:
    """The network and the run that a config describes, on the data set that it names."""
    data = load(config.data)
    net = build_model(config, data)
    return net, run(net, data, config, run_dir=run_dir, callbacks=callbacks)


def run(
    net: Sequential,
    data: Dataset,
    config: TrainConfig,
    *,
    sample_weight: ArrayLike | None = None,
    run_dir: Path | None = None,
    callbacks: Iterable[Callback] = (),
) -> Run:
    """Check everything, train, evaluate: what `fit` does, once its settings are a config."""
    check_network(net, data, config.loss)
    weight = checked_weights(sample_weight, len(data.train))
    data, weight = held_out(data, weight, config)
    check_watching(config, data)
    plan = batch_plan(config, net, len(data.train))
    net.classes, net.preprocessing, net.loss = data.classes, data.preprocessing, config.loss
    net.backend = config.backend
    stepper = make_stepper(
        config.backend,
        net,
        data.train,
        config.loss,
        config.optimizer,
        config.seed,
        capacity=-(-plan.capacity // config.accumulate),
    )
    folder = None if run_dir is None else RunFolder(run_dir, config)
    training = Training(
        net,
        config,
        stepper.backend,
        folder,
        len(plan),
        len(data.train),
        0 if data.val is None else len(data.val),
    )
    batches = Batches(data.train, config.loss, weight, config.accumulate)
    loop = Loop(training, stepper, plan, batches, data, all_callbacks(config, folder, callbacks))
    log.info("Training on the %s backend.", stepper.backend)
    with stepper.session():
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
        weight = weight[~stratified(hard(data.train.labels), config.val_fraction, config.seed)]
    return data.holdout(config.val_fraction, config.seed), weight


def all_callbacks(config: TrainConfig, folder: RunFolder | None, own: Iterable[Callback]) -> list[Callback]:
    """The ones that the settings ask for, then the user's own."""
    found: list[Callback] = []
    if folder is not None:
        found += [MetricsLog(folder), Checkpoint(folder)]
    if config.early_stopping:
        found.append(EarlyStopping(config.early_stopping))
    return [*found, *own]
