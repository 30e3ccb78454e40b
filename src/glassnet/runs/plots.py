"""The pictures of a run, and that of a profile. Figures come without pyplot: no window, no global state."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter

from glassnet.evaluation.calibration import Calibration
from glassnet.evaluation.learning_curve import LearningCurve
from glassnet.evaluation.metrics import Evaluation
from glassnet.runs.records import EpochRecord

DPI = 120
MOST_LABELLED = 20  # classes whose counts still fit their cells


def save(figure: Figure, path: Path | IO[bytes]) -> None:
    """The figure as a PNG. Letters that the font lacks become boxes, without a warning each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(path, dpi=DPI, format="png")


def draw_curves(history: Sequence[EpochRecord], path: Path) -> None:
    """The picture of `curves` as a PNG."""
    save(curves(history), path)


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """The picture of `confusion` as a PNG."""
    save(confusion(evaluation), path)


def curves(history: Sequence[EpochRecord]) -> Figure:
    """Loss and accuracy by epoch, in training and on the validation split."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        curve(axes, history, what, "training")
        if history[0].val_loss is not None:
            curve(axes, history, f"val_{what}", "validation")
        axes.set(xlabel="epoch", ylabel=what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def curve(axes: Axes, history: Sequence[EpochRecord], field: str, label: str) -> None:
    """One line, a point an epoch."""
    axes.plot([r.epoch for r in history], [getattr(r, field) for r in history], marker=".", label=label)


def confusion(evaluation: Evaluation) -> Figure:
    """The confusion matrix: a row a true class, shaded by its share of the row."""
    names = [metrics.name for metrics in evaluation.per_class]
    support = evaluation.confusion.sum(axis=1, keepdims=True)
    side = 2.5 + 0.4 * min(len(names), MOST_LABELLED)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(evaluation.confusion / np.maximum(support, 1), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title=f"accuracy {evaluation.accuracy:.2%}")
    if len(names) <= MOST_LABELLED:
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        for (i, j), count in np.ndenumerate(evaluation.confusion):
            if count:
                dark = count > support[i, 0] / 2
                axes.text(
                    j, i, str(count), ha="center", va="center", color="white" if dark else "black", size=8
                )
    return figure


def reliability(found: Calibration, scaled: Calibration | None) -> Figure:
    """Accuracy by confidence, above how many images have that confidence; after scaling as a second line."""
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot((0, 1), (0, 1), color="grey", linestyle="--", label="as sure as right")
    lines = {"as trained": found} | ({} if scaled is None else {"after scaling": scaled})
    for label, one in lines.items():
        filled = one.counts > 0
        above.plot(one.confidence[filled], one.accuracy[filled], marker="o", markersize=4, label=label)
    edges = np.linspace(0, 1, len(found.counts) + 1)
    below.stairs(found.counts, edges, fill=True)
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    below.set(xlabel="confidence", ylabel="images")
    above.grid(alpha=0.3)
    above.legend()
    return figure


def learning(found: LearningCurve) -> Figure:
    """Error by training images on two logarithmic axes, with the line fitted, as far as twice the images."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    samples = np.array([point.samples for point in found.points])
    errors = np.array([point.error for point in found.points])
    low, high = np.array([point.interval for point in found.points]).T
    axes.errorbar(samples, errors, (np.maximum(errors - low, 0), high - errors), fmt="o", capsize=3)
    line = np.geomspace(samples[0], 2 * samples[-1])
    axes.loglog(line, found.predicted(line), linestyle="--", color="grey")
    axes.set(xlabel="training images", ylabel="validation error")
    axes.set_xticks(samples, [f"{count:,}" for count in samples])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.yaxis.set_minor_formatter(PercentFormatter(1, decimals=1))
    axes.grid(alpha=0.3, which="both")
    return figure


def rates(
    tried: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float
) -> Figure:
    """Loss over the learning rate, of each step and smoothed, with the rate that is suggested."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(tried, losses, ".", alpha=0.35, label="each step")
    axes.plot(tried, smoothed, label="smoothed")
    axes.axvline(suggestion, color="C2", linestyle="--", label=f"suggested: {suggestion:g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(0, 2 * smoothed[0]))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def draw_profile(steps: Sequence[tuple[str, float, float]], path: Path) -> None:
    """(name, seconds, share of peak) of each step as bars from the top, as a PNG."""
    names, seconds, shares = zip(*steps, strict=True)
    figure = Figure(figsize=(9, 1.2 + 0.22 * len(steps)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(steps)), 1e6 * np.array(seconds))
    axes.bar_label(bars, [f"{share:.0%}" if share else "" for share in shares], padding=3, fontsize=8)
    axes.set_yticks(range(len(steps)), names, fontsize=8)
    axes.set(xlabel="microseconds for the whole batch; beside it, share of one core's peak")
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.01)
    save(figure, path)
