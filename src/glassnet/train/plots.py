"""The pictures of a run, and that of a profile. Figures come without pyplot: no window, no global state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glassnet.train.metrics import Evaluation
from glassnet.train.records import EpochRecord

DPI = 120
MOST_LABELLED = 20  # classes whose counts still fit their cells


def draw_curves(history: Sequence[EpochRecord], path: Path) -> None:
    """Loss and accuracy by epoch, in training and on the validation split, as a PNG."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        curve(axes, history, what, "training")
        if history[0].val_loss is not None:
            curve(axes, history, f"val_{what}", "validation")
        axes.set(xlabel="epoch", ylabel=what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=DPI)


def curve(axes: Axes, history: Sequence[EpochRecord], field: str, label: str) -> None:
    """One line, a point an epoch."""
    axes.plot([r.epoch for r in history], [getattr(r, field) for r in history], marker=".", label=label)


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """The confusion matrix as a PNG: a row a true class, shaded by its share of the row."""
    names = [metrics.name for metrics in evaluation.per_class]
    support = evaluation.confusion.sum(axis=1, keepdims=True)
    side = 2.5 + 0.4 * min(len(names), MOST_LABELLED)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(evaluation.confusion / np.maximum(support, 1), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title=f"accuracy {evaluation.accuracy:.2%}")
    if len(names) <= MOST_LABELLED:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        for (i, j), count in np.ndenumerate(evaluation.confusion):
            if count:
                dark = count > support[i, 0] / 2
                axes.text(
                    j, i, str(count), ha="center", va="center", color="white" if dark else "black", size=8
                )
    figure.savefig(path, dpi=DPI)


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
    figure.savefig(path, dpi=DPI)
