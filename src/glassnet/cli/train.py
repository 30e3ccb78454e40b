"""glassnet train."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from glassnet.cli.lr import searched
from glassnet.cli.output import JsonFlag, Output, percent
from glassnet.cli.photos import ResizeOption, SizeOption, SplitOption, StrictFlag, decoding, reading
from glassnet.cli.progress import progress
from glassnet.cli.target import asked_for
from glassnet.data.folder_report import listed
from glassnet.errors import ConfigError
from glassnet.evaluation.intervals import wilson
from glassnet.settings.settling import settle
from glassnet.train import Evaluation, Run, fit_config, next_run
from glassnet.train.lr_finder import STEPS


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            help="A folder of photos or a .csv of their paths, digits, mnist, fashion-mnist or cifar10."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.")] = None,
    model: Annotated[str | None, typer.Option(help="A network by name.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Times through the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step.")] = None,
    lr: Annotated[
        str | None, typer.Option(help="Learning rate, or auto: what `glassnet lr` would suggest.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides weights, order, hold-out and dropout.")] = None,
    backend: Annotated[str | None, typer.Option(help="auto, reference or compiled.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, such as optimizer.lr=0.1. Repeatable.")
    ] = None,
    split_file: SplitOption = None,
    size: SizeOption = None,
    resize: ResizeOption = None,
    strict: StrictFlag = False,
    run_dir: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="The run folder's name, else <data>-<number>.")] = None,
    json: JsonFlag = False,
) -> None:
    """Train a network on images.

    It is evaluated on the test images, and everything about the run is kept in a new folder. Settings come
    from what suits the data, then --config, then the data that is named and other options, then --set.

    Example: glassnet train digits --epochs 2
    """
    if data is None and config is None:
        raise ConfigError("train needs a data set or a --config file. Try: glassnet train digits")
    rate = None if lr == "auto" else lr
    flags = {"model": model, "epochs": epochs, "batch_size": batch_size, "optimizer.lr": rate}
    flags |= {"seed": seed, "backend": backend}
    given = [f"{key}={value}" for key, value in flags.items() if value is not None]
    asked = asked_for(data, config, reading(size, resize, split_file, strict))
    output = Output(json)
    with decoding(output) as progressed:
        resolved, dataset = settle(asked, *given, *(settings or []), progress=progressed)
    if dataset.report is not None:
        output.say(*dataset.report.brief(), "")
    if lr == "auto":
        found = searched(resolved, dataset, STEPS, output).suggestion
        output.say(f"The learning rate is {found:g}.")
        resolved = resolved.override(f"optimizer.lr={found}")
    folder = run_dir / name if name else partial(next_run, run_dir, dataset.name)
    with progress(output) as shown:
        _, run = fit_config(resolved, data=dataset, run_dir=folder, callbacks=[shown])
    report(output, run)


def report(output: Output, run: Run) -> None:
    """How it went, where it is, and what to do next."""
    found = {"test": run.test, "validation": run.val}
    figures = ", ".join(f"{what} {accuracy(split)}" for what, split in found.items() if split is not None)
    figures = figures or "no images were held out to measure accuracy on"
    shown, stopped = run.test or run.val, f" Stopped early: {run.stopped}." if run.stopped else ""
    missed = [row.name for row in shown.per_class if row.support and not row.recall] if shown else []
    folder = shlex.quote(str(run.folder))
    output.say(
        f"{figures[:1].upper()}{figures[1:]}, after {run.seconds:.1f} s.{stopped}",
        *([f"Classes of which no image was recognised: {listed(missed)}."] if missed else []),
        f"Everything is in {run.folder}: report.html, the model, metrics, settings, pictures.",
        "Next, try:",
        f"  glassnet report {folder}",
        f"  glassnet evaluate {folder}",
        f"  glassnet summary {folder}",
        f"  glassnet gradcheck {folder}",
        f"  glassnet predict {folder} IMAGE.png",
    )
    output.result(
        test_accuracy=None if run.test is None else run.test.accuracy,
        val_accuracy=None if run.val is None else run.val.accuracy,
        epochs=len(run.history),
        seconds=run.seconds,
        backend=run.backend,
        run=str(run.folder),
    )


def accuracy(found: Evaluation) -> str:
    """How much was right, of how many images, and how far that can be trusted."""
    low, high = map(float, wilson(np.trace(found.confusion), found.samples))
    return f"accuracy {percent(found.accuracy)} of {found.samples:,} ({percent(low)} to {percent(high)})"
