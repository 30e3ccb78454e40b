"""glassnet curve."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from glassnet.cli.output import JsonFlag, Output, percent
from glassnet.cli.progress import progress
from glassnet.cli.target import needed, with_unseen
from glassnet.errors import ConfigError
from glassnet.io import load
from glassnet.runs.folder import model_file
from glassnet.runs.records import read_run
from glassnet.summary import table
from glassnet.train.fractions import learning_curve


def curve(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[str | None, typer.Option(help="A data set, else that of the run.")] = None,
    fractions: Annotated[str, typer.Option(help="Of the training images; 1 is all.")] = "0.25,0.5,1",
    json: JsonFlag = False,
) -> None:
    """Find out whether more images would help.

    Trains the run's network anew on fractions of its images, for as many steps each time: each costs as much
    as the run did. The curve is kept in the run folder, and `glassnet report` shows it.

    Example: glassnet curve runs/digits-1 --fractions 0.5,1
    """
    output, record = Output(json), read_run(run)
    wanted = numbers(fractions)
    like = load(model_file(run)).preprocessing
    dataset = with_unseen(needed(data, run, like, output), data, run)
    output.say(f"{len(wanted)} trainings of about {record.seconds:.0f} s each.")
    with progress(output) as shown:
        found = learning_curve(record.config, dataset, wanted, callbacks=[shown], folder=run)
    rows = [
        (f"{point.samples:,}", percent(point.error), " to ".join(map(percent, point.interval)))
        for point in found.points
    ]
    output.say("", *table(("training images", "validation error", "95 % interval"), rows, left=0), "")
    output.say(found.verdict(), f"To see it: glassnet report {shlex.quote(str(run))}")
    output.result(
        points=[{"samples": point.samples, "error": point.error, "interval": point.interval}
                for point in found.points],
        slope=found.slope,
        error_with_twice=float(found.predicted(2 * found.points[-1].samples)),
        verdict=found.verdict(),
    )  # fmt: skip


def numbers(text: str) -> list[float]:
    """Numbers with commas between them."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--fractions takes numbers such as 0.25,0.5,1, got {text!r}.") from None
