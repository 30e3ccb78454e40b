"""glassnet gradcheck."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import Annotated

import typer

from glassnet import explain
from glassnet.cli.output import JsonFlag, Output
from glassnet.cli.target import found, needed


def gradcheck(
    target: Annotated[
        str, typer.Argument(help="A data set, a config (.toml), a model file or a run folder.")
    ],
    data: Annotated[str | None, typer.Option(help="A data set, else that of the config or run.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Training images to check with.")] = 4,
    json: JsonFlag = False,
) -> None:
    """Prove every gradient of a network.

    Each is compared with central differences in float64, on some training images: those of each layer, those
    that come through the whole network, and the loss's. A row for the input and each parameter shows the
    largest relative error. Exit status 1 where a gradient is not proved.

    Example: glassnet gradcheck runs/digits-1
    """
    net, _, read = found(target, data)
    output = Output(json)
    if read is None or data is not None:
        read = needed(data, target, net.preprocessing, output)
    report = explain.gradcheck(net, read.train[:samples])
    output.say(str(report))
    rows = [asdict(row) | {"error": row.error if isfinite(row.error) else None} for row in report.rows]
    output.result(ok=report.ok, tolerance=report.tolerance, rows=rows)
    if not report.ok:
        raise typer.Exit(1)
