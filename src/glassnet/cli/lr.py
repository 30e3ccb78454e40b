"""glassnet lr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from glassnet.cli.output import JsonFlag, Output, check_out
from glassnet.cli.photos import ResizeOption, SizeOption, SplitOption, StrictFlag, decoding, reading
from glassnet.cli.progress import compiling
from glassnet.cli.target import asked_for, is_config
from glassnet.data import Dataset
from glassnet.settings.settling import settle
from glassnet.train import TrainConfig, build_model
from glassnet.train.lr_finder import STEPS, RateSearch, find_lr


def lr(
    data: Annotated[str, typer.Argument(help="A folder of photos, a data set by name, or a config (.toml).")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, such as batch_size=64. Repeatable.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to take.")] = STEPS,
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("lr.png"),
    split_file: SplitOption = None,
    size: SizeOption = None,
    resize: ResizeOption = None,
    strict: StrictFlag = False,
    json: JsonFlag = False,
) -> None:
    """Find a learning rate.

    Takes steps with a rate that rises from one to the next until the loss grows, on a network that is then
    forgotten. The suggestion is a tenth of the rate at the lowest loss; `glassnet train --lr auto` takes it.

    Example: glassnet lr digits --steps 40 --out lr.png
    """
    from glassnet.runs import plots  # matplotlib takes most of a second

    output = Output(json)
    check_out(out, ".png")
    options = reading(size, resize, split_file, strict)
    asked = asked_for(None, data, options) if is_config(data) else asked_for(data, None, options)
    with decoding(output) as progressed:
        config, dataset = settle(asked, *(settings or []), progress=progressed)
    search = searched(config, dataset, steps, output)
    plots.save(plots.rates(search.rates, search.losses, search.smoothed, search.suggestion), out)
    output.say(
        f"Suggested learning rate: {search.suggestion:g}, a tenth of {search.lowest:.2g}, where the loss was "
        f"lowest. It fell fastest at {search.steepest:.2g}.",
        f"{out} shows the loss over the rates of {len(search.rates)} steps.",
    )
    output.result(
        suggestion=search.suggestion,
        lowest=search.lowest,
        steepest=search.steepest,
        rates=search.rates,
        losses=search.losses,
        smoothed=search.smoothed,
    )


def searched(config: TrainConfig, dataset: Dataset, steps: int, output: Output) -> RateSearch:
    """The search for a config's learning rate, with a bar on a terminal."""
    console = Console(file=output.stream)
    with (
        compiling(output.say),
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("learning rate", total=steps)
        return find_lr(
            build_model(config, dataset),
            dataset,
            config,
            steps=steps,
            progress=lambda done, _: bar.update(task, completed=done),
        )
