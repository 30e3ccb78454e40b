"""glassnet report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glassnet.cli.output import JsonFlag, Output, check_out, percent
from glassnet.cli.progress import compiling
from glassnet.cli.target import needed, say_unfinished, with_unseen
from glassnet.io import load
from glassnet.runs.folder import model_file
from glassnet.runs.records import read_run


def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[str | None, typer.Option(help="A data set, else that of the run.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write it, else report.html in the run.")] = None,
    json: JsonFlag = False,
) -> None:
    """Write all that is known of a run as one page.

    Settings, curves, confusion, each class with its intervals, calibration, the worst errors as pictures,
    what was left out, warnings. The page holds its pictures and opens without a network.

    Example: glassnet report runs/digits-1
    """
    from glassnet.runs.report import write_report  # matplotlib takes most of a second

    if out is not None:
        check_out(out, ".html")
    output, path = Output(json), out or run / "report.html"
    net = load(model_file(run))
    say_unfinished(run, output)
    record = read_run(run)
    dataset = with_unseen(needed(data, run, net.preprocessing, output), data, run)
    with compiling(output.say):
        judged = write_report(record, net, dataset, path)
    output.say(f"The report is {path}.")
    if judged is None:
        output.result(report=str(path))
        return
    low, high = judged.accuracy
    sure = judged.sureness
    output.say(
        f"Accuracy {percent(judged.evaluation.accuracy)}, 95 % interval {percent(low)} to {percent(high)}."
    )
    output.result(
        report=str(path),
        split=judged.split,
        accuracy=judged.evaluation.accuracy,
        accuracy_interval=judged.accuracy,
        calibration_error=None if sure is None else sure.plain.error,
        calibration_interval=None if sure is None else sure.interval,
        temperature=None if sure is None else sure.temperature,
        worst=[{"index": m.index, "file": m.file, "true": m.true, "predicted": m.predicted}
               for m in judged.mistakes],
    )  # fmt: skip
