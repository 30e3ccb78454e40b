"""glassnet summary."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from glassnet.cli.output import JsonFlag, Output
from glassnet.cli.target import found


def summary(
    target: Annotated[
        str, typer.Argument(help="A data set, a config (.toml), a model file or a run folder.")
    ],
    json: JsonFlag = False,
) -> None:
    """Show the layers of a network.

    Output shape, parameters, multiply-adds (MACs), bytes, and how many pixels one value sees.

    Example: glassnet summary digits
    """
    shown = found(target).net.summary()
    output = Output(json)
    output.say(str(shown))
    output.result(parameters=shown.parameters, macs=shown.macs, layers=[asdict(row) for row in shown.rows])
