"""glassnet evaluate."""

from __future__ import annotations

from typing import Annotated

import typer

from glassnet import train
from glassnet.cli.output import JsonFlag, Output, percent
from glassnet.cli.progress import compiling
from glassnet.cli.target import needed, say_unfinished, with_unseen
from glassnet.errors import DataError
from glassnet.evaluation.judging import SPLITS, judged_split
from glassnet.io import load
from glassnet.runs.folder import model_file
from glassnet.summary import table


def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder or a model file.")],
    data: Annotated[str | None, typer.Option(help="A data set, else that of the run.")] = None,
    json: JsonFlag = False,
) -> None:
    """Evaluate a model on test images.

    Where there are none, on the validation images of its run, or on all images of other data. Loss, accuracy,
    top-5 accuracy, and precision, recall and F1 of each class.

    Example: glassnet evaluate runs/digits-1
    """
    path = model_file(model)
    net = load(path)
    output = Output(json)
    say_unfinished(model, output)
    dataset = needed(data, model, net.preprocessing, output)
    if dataset.test is None:
        dataset = with_unseen(dataset, data, model)
    name, split = judged_split(dataset)
    if split is None:
        raise DataError(f"The data set {dataset.name} has no test images, and its run held none out.")
    with compiling(output.say):
        found = train.evaluate(net, split)
    output.say(
        f"{path} on the {found.samples:,} {SPLITS[name]} images of {dataset.name}:",
        f"loss {found.loss:.4f}, accuracy {percent(found.accuracy)}, top-{found.k} {percent(found.top_k)}",
        "",
        *table(
            ("class", "precision", "recall", "F1", "images"),
            [
                (row.name, percent(row.precision), percent(row.recall), percent(row.f1), f"{row.support:,}")
                for row in found.per_class
            ],
            left=1,
        ),
    )
    output.result(model=str(path), data=dataset.name, split=name, **found.to_dict())
