"""How the time of a training step grows with the batch and with the channels, and how near the peak it stays.

    python benchmarks/growth.py --out docs/images/growth.png

Batches of 1 to 1024 through the network `2 complex`; 8 to 256 channels in and out of one 3x3 convolution of
14x14 images, 64 at a time. The FMA peak is measured in the same run and drawn in.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from matplotlib.figure import Figure
from steps import our_step
from timer import take_turns

import glassnet as gn
from glassnet.engine.machine.peak import measure_peak
from networks import complex_

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CHANNELS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def wide(channels: int) -> gn.Sequential:
    """A 1x1 convolution to `channels`, then the 3x3 one whose three passes are what takes the time."""
    layers = [
        gn.Conv2d(channels, 1),
        gn.Conv2d(channels, 3, padding="same"),
        gn.GlobalAvgPool2d(),
        gn.Linear(10),
    ]
    return gn.Sequential(layers, input_shape=(14, 14, 3))


def measure(
    nets: dict[int, tuple[Callable[[], gn.Sequential], int]], threads: int
) -> list[tuple[int, float, float]]:
    """(size, milliseconds a step, GF/s) of each network and batch."""
    points = []
    for size, (build, batch) in nets.items():
        run, step = our_step(build(), batch, threads)
        seconds = take_turns({"step": run}, rounds=5, seconds=0.1).median("step")
        points.append((size, 1e3 * seconds, 2e-9 * step.compiled.macs / seconds))
        print(f"{size:6d} {points[-1][1]:10.3f} ms {points[-1][2]:7.0f} GF/s", flush=True)
    return points


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", help="a PNG file for the picture")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    peak = args.threads * measure_peak() / 1e9
    print(f"FMA peak of {args.threads} threads: {peak:.0f} GF/s\nbatch of 2 complex")
    by_batch = measure({batch: (complex_, batch) for batch in BATCHES}, args.threads)
    print("channels of a 3x3 convolution, batch 64")
    by_channels = measure({c: (lambda c=c: wide(c), 64) for c in CHANNELS}, args.threads)
    if args.out:
        draw(by_batch, by_channels, peak).savefig(args.out, dpi=110)


def draw(
    by_batch: list[tuple[int, float, float]], by_channels: list[tuple[int, float, float]], peak: float
) -> Figure:
    """Speed over size, with the peak as a line."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = zip(figure.subplots(1, 2), (by_batch, by_channels), ("batch size", "channels"), strict=True)
    for axes, points, name in panels:
        axes.semilogx([p[0] for p in points], [p[2] for p in points], "o-", base=2)
        axes.axhline(peak, color="grey", linestyle="--", label="FMA peak")
        axes.set(xlabel=name, ylabel="GF/s of a training step", ylim=(0, 1.08 * peak))
        axes.legend()
    return figure


if __name__ == "__main__":
    main()
