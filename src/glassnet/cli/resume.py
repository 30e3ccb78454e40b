"""glassnet resume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glassnet.cli.output import JsonFlag, Output
from glassnet.cli.progress import progress
from glassnet.cli.train import report
from glassnet.train import RunFolder
from glassnet.train import resume as resume_run


def resume(
    run: Annotated[Path, typer.Argument(help="The folder of a run that was interrupted or killed.")],
    json: JsonFlag = False,
) -> None:
    """Go on with a run from its last checkpoint, in the middle of an epoch if need be.

    It ends with the same bits as one that was never stopped. Settings, data and backend must be those of
    before. Checkpoints are taken every `checkpoint_minutes` or `checkpoint_steps`, and on Ctrl-C or SIGTERM.

    Example: glassnet resume runs/digits-1
    """
    output = Output(json)
    if RunFolder(run).finished:
        output.say(f"The run {run} is finished: nothing is left to do.")
        output.result(finished_before=True, run=str(run))
        return
    with progress(output) as shown:
        _, finished = resume_run(run, callbacks=[shown])
    report(output, finished)
