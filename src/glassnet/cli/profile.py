"""glassnet profile."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from glassnet.cli.output import JsonFlag, Output, check_out, percent
from glassnet.cli.plan import BatchSize
from glassnet.cli.progress import compiling
from glassnet.cli.target import found, recorded
from glassnet.data import Split
from glassnet.summary import table

if TYPE_CHECKING:
    from glassnet.engine.profile import Profile

DECODED = 64
"""Files that are decoded to measure how fast that is."""


def profile(
    target: Annotated[
        str, typer.Argument(help="A data set, a config (.toml), a model file or a run folder.")
    ],
    batch_size: BatchSize = None,
    out: Annotated[Path | None, typer.Option(help="Also draw it, as a PNG.")] = None,
    json: JsonFlag = False,
) -> None:
    """Measure each step of a network's training plan, and whether images come as fast as they are trained on.

    Alone, on one thread and a full batch of random images: time, billions of float32 operations a second, and
    the share of the most that a core can compute, measured at the same time. Then images a second of one
    thread: in training, in making its inputs (gathered, augmented, normalised), and in decoding files.

    Example: glassnet profile digits --batch-size 32 --out profile.png
    """
    if out is not None:
        check_out(out, ".png")
    output = Output(json)
    with compiling(output.say):
        from glassnet.engine.profile import profile as measure

        wanted = found(target)
        step = recorded(wanted, batch_size, 1)
        measured = measure(step.compiled)
    whole = 2e-9 * step.compiled.macs / measured.seconds
    share = 1e9 * whole / measured.peak
    rates = feeding(measured, step.compiled.capacity, None if wanted.data is None else wanted.data.train)
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
                for r in measured.rows
            ],
            left=4,
        ),
        "",
        f"All steps, batch {step.compiled.capacity}, one thread: {1e3 * measured.seconds:,.3f} ms, "
        f"{whole:,.1f} GF/s, {percent(share)} of the peak of {measured.peak / 1e9:,.1f} GF/s.",
        "Images a second of one thread: " + ", ".join(f"{name} {n:,.0f}" for name, n in rates.items()) + ".",
    )
    if out is not None:
        from glassnet.runs.plots import draw_profile

        draw_profile([(f"{r.layer} {r.operation}", r.seconds, r.share_of_peak) for r in measured.rows], out)
        output.say(f"The picture is {out}.")
    rows = [asdict(row) | {"gflops": row.gflops} for row in measured.rows]
    output.result(
        batch_size=step.compiled.capacity,
        seconds=measured.seconds,
        peak=measured.peak,
        images_per_second=rates,
        steps=rows,
    )


def feeding(measured: Profile, samples: int, split: Split | None) -> dict[str, float]:
    """Images a second of one thread: all steps, those that make inputs, and decoding where images are files.

    Files are decoded once, before the first epoch; inputs are made in every step, whose time includes it.
    """
    inputs = sum(row.seconds for row in measured.rows if row.layer == "input")
    rates = {"training": samples / measured.seconds, "inputs": samples / inputs}
    if split is not None and split.files is not None:
        rates["decoding"] = decoding_rate(split)
    return rates


def decoding_rate(split: Split) -> float:
    """Images a second that one thread decodes and resizes, of files from all over the split."""
    from glassnet.data.decoding import decode_with_facts  # brings Pillow

    assert split.files is not None
    chosen = np.unique(np.linspace(0, len(split) - 1, DECODED).round().astype(int))
    start = time.perf_counter()
    for place in chosen:
        decode_with_facts(split.files[place], split.preprocessing)
    return len(chosen) / (time.perf_counter() - start)
