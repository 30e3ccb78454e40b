"""glassnet train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from glassnet.cli.output import JsonFlag, Output, percent
from glassnet.cli.progress import progress
from glassnet.errors import ConfigError
from glassnet.train import Run, TrainConfig, fit_config, next_run


def train(
    data: Annotated[str | None, typer.Argument(help="digits, mnist or fashion-mnist.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.")] = None,
    model: Annotated[str | None, typer.Option(help="A network by name.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Times through the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides weights, order, hold-out and dropout.")] = None,
    backend: Annotated[str | None, typer.Option(help="auto, reference or compiled.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, such as optimizer.lr=0.1. Repeatable.")
    ] = None,
    run_dir: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="The run folder's name, else <data>-<number>.")] = None,
    json: JsonFlag = False,
) -> None:
    """Train a network on images.

    It is evaluated on the test images, and everything about the run is kept in a new folder. Settings come
    from the data set's recipe, then --config, then the other options, then --set.

    Example: glassnet train digits --epochs 2
    """
    flags = {"model": model, "epochs": epochs, "batch_size": batch_size, "optimizer.lr": lr}
    flags |= {"seed": seed, "backend": backend}
    resolved = resolve(data, config, flags, settings or [])
    output = Output(json)
    folder = run_dir / name if name else next_run(run_dir, resolved.data)
    with progress(output) as shown:
        _, run = fit_config(resolved, run_dir=folder, callbacks=[shown])
    report(output, run)


def resolve(data: str | None, config: Path | None, flags: dict[str, Any], settings: list[str]) -> TrainConfig:
    """The settings that the command line asks for."""
    if config is not None:
        base = TrainConfig.from_toml(config, data=data)
    elif data is not None:
        base = TrainConfig.resolve({"data": data})
    else:
        raise ConfigError("train needs a data set or a --config file. Try: glassnet train digits")
    given = [f"{key}={value}" for key, value in flags.items() if value is not None]
    return base.override(*given, *settings)


def report(output: Output, run: Run) -> None:
    """How it went, where it is, and what to do next."""
    accuracy = {
        "test": None if run.test is None else run.test.accuracy,
        "validation": None if run.val is None else run.val.accuracy,
    }
    figures = ", ".join(
        f"{what} accuracy {percent(value)}" for what, value in accuracy.items() if value is not None
    )
    stopped = f" Stopped early: {run.stopped}." if run.stopped else ""
    output.say(
        f"{figures[:1].upper()}{figures[1:]}, after {run.seconds:.1f} s.{stopped}",
        f"Everything is in {run.folder}: models, metrics, settings, curves.png, confusion.png.",
        "Next, try:",
        f"  glassnet evaluate {run.folder}",
        f"  glassnet summary {run.folder}",
        f"  glassnet gradcheck {run.folder}",
        f"  glassnet predict {run.folder} IMAGE.png",
    )
    output.result(
        test_accuracy=accuracy["test"],
        val_accuracy=accuracy["validation"],
        epochs=len(run.history),
        seconds=run.seconds,
        backend=run.backend,
        run=str(run.folder),
    )
