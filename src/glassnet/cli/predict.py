"""glassnet predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from glassnet.cli.output import JsonFlag, Output, percent
from glassnet.cli.progress import compiling
from glassnet.io import load, model_file, read_images
from glassnet.summary import table


def predict(
    model: Annotated[str, typer.Argument(help="A run folder or a model file.")],
    files: Annotated[list[Path], typer.Argument(help="Images, or NumPy files (.npy, .npz) of images.")],
    top_k: Annotated[int, typer.Option(min=1, help="Show the k most probable classes.")] = 1,
    json: JsonFlag = False,
) -> None:
    """Name the class of images. Each is resized and converted as the model's preprocessing says.

    Example: glassnet predict runs/digits-1 seven.png --top-k 3
    """
    output = Output(json)
    net = load(model_file(model))
    predictions: list[tuple[str, list[tuple[str, float]]]] = []
    for file in files:
        images = read_images(file, net.preprocessing)
        with compiling(output.say):
            scores = net.predict_proba(images)
        names = net.classes or tuple(map(str, range(scores.shape[-1])))
        for i, row in enumerate(scores):
            best = np.argsort(-row, kind="stable")[:top_k]
            place = f"{file}[{i}]" if len(scores) > 1 else str(file)
            predictions.append((place, [(names[k], float(row[k])) for k in best]))
    columns = [f"{word} {k + 1}" for k in range(len(predictions[0][1])) for word in ("class", "score")]
    rows = [(file, *(c for name, score in top for c in (name, percent(score)))) for file, top in predictions]
    output.say(*table(("file", *columns), rows, left=1))
    output.result(
        predictions=[
            {"file": file, "top": [{"class": name, "score": score} for name, score in top]}
            for file, top in predictions
        ]
    )
