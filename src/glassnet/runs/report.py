"""report.html: all that is known of a run, in one file that opens anywhere."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import numpy as np

from glassnet.data import Dataset
from glassnet.evaluation.judging import (
    SPLITS,
    Interval,
    Judgement,
    Mistake,
    Sureness,
    judge,
    judged_split,
)
from glassnet.evaluation.learning_curve import LearningCurve
from glassnet.evaluation.metrics import Evaluation
from glassnet.io import write_atomically
from glassnet.network import Sequential
from glassnet.runs import html, plots
from glassnet.runs.records import Run

MOST_CELLS = 30  # classes whose matrix still is a table
PAIRS = 10
LISTED = 200


def write_report(run: Run, net: Sequential, data: Dataset, path: str | os.PathLike[str]) -> Judgement | None:
    """Judge the network on the data's test (else validation) split and write the page; return the figures.

    data: with the run's validation split, which fits the temperature. A learning curve in the run's folder is
    shown, too.
    """
    judged = judge(net, data, np.random.default_rng(run.config.seed))
    _, split = judged_split(data)
    root = None if data.report is None else data.report.root
    learned = None if run.folder is None else LearningCurve.load(run.folder)
    page = html.page(
        f"{data.name}: a training run" if run.folder is None else f"{data.name}: {run.folder.name}",
        *headline(run, data, judged),
        "" if judged is None else classes(judged),
        "" if judged is None else confusion(judged.evaluation),
        "" if judged is None or judged.sureness is None else sureness(judged.sureness),
        "" if judged is None or split is None else worst(judged, split.images, root),
        html.section("Would more images help?", *more_images(learned)),
        html.section("Training", html.drawing(plots.curves(run.history), "loss and accuracy by epoch"))
        if run.history
        else "",
        found(data),
        html.section("Network", html.plain(str(net.summary()))),
        html.section("Settings", html.plain(run.config.to_toml())),
        html.paragraph("Intervals hold the true value 19 times in 20.", "note"),
    )
    write_atomically(path, page.encode())
    return judged


def headline(run: Run, data: Dataset, judged: Judgement | None) -> list[str]:
    """How good it is, how it came about, and what to look at first."""
    sizes = [f"{len(data.train):,} training"]
    held = (("validation", data.val), ("test", data.test))
    sizes += [f"{len(split):,} {word}" for word, split in held if split is not None]
    lead = "No images were held out, so that nothing can be said of how good it is."
    if judged is not None:
        right = judged.evaluation
        lead = (
            f"Accuracy {right.accuracy:.2%} ({between(judged.accuracy)}) on {right.samples:,} "
            f"{SPLITS[judged.split]} images"
            + (f", top-{right.k} {right.top_k:.2%}." if right.k < len(data.classes) else ".")
        )
    stopped = f" Stopped early: {run.stopped}." if run.stopped else ""
    epochs = f"{len(run.history)} epoch{'s' * (len(run.history) != 1)}"
    best = {"loss": "lowest watched loss", "accuracy": "highest watched accuracy"}
    return [
        html.paragraph(lead, "lead"),
        html.paragraph(
            f"{', '.join(sizes)} images of {len(data.classes)} classes. {epochs} in "
            f"{timedelta(seconds=round(run.seconds))} on the {run.backend} backend; epoch {run.best_epoch} "
            f"had the {best[run.config.monitor]}.{stopped}"
        ),
        *(html.paragraph(warning, "warning") for warning in run.warnings),
        *(html.paragraph(warning, "warning") for warning in (data.report.warnings if data.report else ())),
    ]


def classes(judged: Judgement) -> str:
    """Precision, recall and F1 of each class with their intervals."""
    rows = []
    for row, bounds in zip(judged.evaluation.per_class, judged.classes, strict=True):
        figures = [(getattr(row, what), getattr(bounds, what)) for what in ("precision", "recall", "f1")]
        shown = [f"{value:.1%} ({between(interval)})" for value, interval in figures]
        rows.append((row.name, *shown, f"{row.support:,}"))
    return html.section("Classes", html.table(("class", "precision", "recall", "F1", "images"), rows))


def confusion(evaluation: Evaluation) -> str:
    """Who is taken for whom: a table where it can be read, else a picture; and the most frequent pairs."""
    counts = evaluation.confusion
    names = [row.name for row in evaluation.per_class]
    if len(names) > MOST_CELLS:
        matrix = html.drawing(plots.confusion(evaluation), "confusion matrix")
    else:
        rows = [(name, *(n or "" for n in row)) for name, row in zip(names, counts.tolist(), strict=True)]
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        matrix = html.table(("true \\ predicted", *names), rows, shares)
    off = counts * (1 - np.eye(len(names), dtype=counts.dtype))
    order = np.argsort(-off, axis=None, kind="stable")[:PAIRS]
    places = [divmod(int(flat), len(names)) for flat in order if off.flat[flat]]
    pairs = [f"{names[i]} taken for {names[j]}: {off[i, j]:,} of {counts[i].sum():,}" for i, j in places]
    return html.section("Confusion", matrix, html.listing(pairs))


def sureness(found: Sureness) -> str:
    """Whether probabilities can be believed."""
    text = (
        f"Expected calibration error {found.plain.error:.2%} ({between(found.interval)}): by so much the "
        f"largest probability and the accuracy differ, in the mean over {len(found.plain.counts)} bins."
    )
    if found.temperature is not None and found.scaled is not None:
        text += (
            f" Divided by the temperature {found.temperature:.3f}, fitted on the validation images, the "
            f"scores give {found.scaled.error:.2%}. No prediction changes by that."
        )
    picture = html.drawing(plots.reliability(found.plain, found.scaled), "accuracy by confidence")
    return html.section("Calibration", html.paragraph(text), picture)


def worst(judged: Judgement, images: np.ndarray, root: str | None) -> str:
    """The mistakes with the largest loss as pictures; root: the folder that their files are named from."""
    wrong = judged.evaluation.samples - int(np.trace(judged.evaluation.confusion))
    if not judged.mistakes:
        return html.section("Worst errors", html.paragraph("There are none."))
    shown = f"{len(judged.mistakes)} of {wrong:,}, those with the largest loss first."
    names = [name_of(mistake, root) for mistake in judged.mistakes]
    shots = [
        html.shot(np.asarray(images[mistake.index]), caption(mistake, name), name)
        for mistake, name in zip(judged.mistakes, names, strict=True)
    ]
    return html.section(
        "Worst errors", html.paragraph(shown), "<div class='shots'>\n" + "\n".join(shots) + "\n</div>"
    )


def caption(mistake: Mistake, name: str) -> list[str]:
    """What stands under a mistake."""
    return [
        f"{mistake.true} ({mistake.own:.1%})",
        f"taken for {mistake.predicted} ({mistake.probability:.1%})",
        name,
    ]


def name_of(mistake: Mistake, root: str | None) -> str:
    """The file, from the root on where it is in there, or which image of the split it is."""
    if mistake.file is None:
        return f"image {mistake.index}"
    file = Path(mistake.file)
    return str(file.relative_to(root)) if root is not None and file.is_relative_to(root) else mistake.file


def more_images(learned: LearningCurve | None) -> list[str]:
    """The learning curve, where there is one."""
    if learned is None:
        return []
    return [
        html.paragraph(learned.verdict()),
        html.drawing(plots.learning(learned), "error by training images"),
    ]


def found(data: Dataset) -> str:
    """What was read, left out and repeated, where the images came from files."""
    report = data.report
    if report is None:
        return ""
    skipped = [(row.path, row.reason) for row in (*report.unreadable, *report.passed_over)]
    repeated = [(row.first, row.second) for row in (*report.across_splits, *report.across_classes)]
    return html.section(
        "Files",
        html.listing(report.lines()),
        html.table(("left out", "why"), skipped[:LISTED]) if skipped else "",
        html.table(("same picture in two splits or classes", "and"), repeated[:LISTED]) if repeated else "",
    )


def between(interval: Interval) -> str:
    """An interval of a share."""
    return "{:.1%} to {:.1%}".format(*interval)
