"""glassnet profile."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from glassnet.cli.output import JsonFlag, Output, percent
from glassnet.cli.plan import BatchSize
from glassnet.cli.progress import compiling
from glassnet.cli.target import recorded
from glassnet.summary import table


def profile(
    target: Annotated[
        str, typer.Argument(help="A data set, a config (.toml), a model file or a run folder.")
    ],
    batch_size: BatchSize = None,
    out: Annotated[Path | None, typer.Option(help="Also draw it, as a PNG.")] = None,
    json: JsonFlag = False,
) -> None:
    """Measure each step of a network's training plan.

    Alone, on one thread and a full batch of random images: time, billions of float32 operations a second, and
    the share of the most that a core can compute, measured at the same time.

    Example: glassnet profile digits --batch-size 32 --out profile.png
    """
    output = Output(json)
    with compiling(output.say):
        from glassnet.engine.profile import profile as measure

        step = recorded(target, batch_size, 1)
        found = measure(step.compiled)
    whole = 2e-9 * step.compiled.macs / found.seconds
    share = 1e9 * whole / found.peak
    output.say(
        *table(
            ("section", "layer", "operation", "kernel", "time", "GF/s", "of peak"),
            [
                (
                    r.section,
                    r.layer,
                    r.operation,
                    r.kernel,
                    f"{1e6 * r.seconds:,.1f} us",
                    f"{r.gflops:,.1f}" if r.macs else "",
                    percent(r.share_of_peak) if r.macs else "",
                )
                for r in found.rows
            ],
            left=4,
        ),
        "",
        f"All steps, batch {step.compiled.capacity}, one thread: {1e3 * found.seconds:,.3f} ms, "
        f"{whole:,.1f} GF/s, {percent(share)} of the peak of {found.peak / 1e9:,.1f} GF/s.",
    )
    if out is not None:
        from glassnet.runs.plots import draw_profile

        draw_profile([(f"{r.layer} {r.operation}", r.seconds, r.share_of_peak) for r in found.rows], out)
        output.say(f"The picture is {out}.")
    rows = [asdict(row) | {"gflops": row.gflops} for row in found.rows]
    output.result(batch_size=step.compiled.capacity, seconds=found.seconds, peak=found.peak, steps=rows)
