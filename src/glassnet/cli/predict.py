"""glassnet predict."""

from __future__ import annotations

import csv
import glob
import io
import json as jsons
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from glassnet.cli.output import JsonFlag, Output, check_out, percent
from glassnet.cli.progress import compiling
from glassnet.cli.target import say_unfinished
from glassnet.data.folder_report import readable
from glassnet.data.listing import images_in
from glassnet.errors import DataError, FileFormatError, ShapeError
from glassnet.io import load, read_images, write_atomically
from glassnet.network import Sequential
from glassnet.runs.folder import model_file
from glassnet.summary import table

AT_ONCE = 256
"""Files that are decoded before they are predicted."""
LISTED = 10

Prediction = dict[str, Any]
"""{"file": its name, "top": [{"class": name, "score": probability}, …]}, the most probable first."""


def predict(
    model: Annotated[str, typer.Argument(help="A run folder or a model file.")],
    files: Annotated[
        list[str], typer.Argument(help="Images, folders or patterns of them, or NumPy files (.npy, .npz).")
    ],
    top_k: Annotated[int, typer.Option(min=1, help="Show the k most probable classes.")] = 1,
    out: Annotated[Path | None, typer.Option(help="A .csv or .json file for the predictions.")] = None,
    json: JsonFlag = False,
) -> None:
    """Name the class of images. Each is resized and converted as the model's preprocessing says.

    Folders are searched to any depth. Images that cannot be read are named and left out.

    Example: glassnet predict runs/digits-1 seven.png --top-k 3
    """
    if out is not None:
        check_out(out, ".csv", ".json")
    output = Output(json)
    net = load(model_file(model))
    say_unfinished(model, output)
    found: list[Prediction] = []
    failures: dict[str, Exception] = {}
    for group in groups_of_images(net, expanded(files, failures), failures):
        names = [name for file, images in group for name in numbered(file, len(images))]
        with compiling(output.say):
            found += predictions(net, names, np.concatenate([images for _, images in group]), top_k)
    if not found:
        raise next(iter(failures.values()))
    if out is None:
        output.say(*shown(found))
    else:
        write_atomically(out, (as_csv(found) if out.suffix == ".csv" else jsons.dumps(found)).encode())
        output.say(f"{out} has the predictions for {len(found):,} images.")
    say_failures(failures, output)
    output.result(predictions=found, unreadable=[*failures])


def expanded(names: Sequence[str], failures: dict[str, Exception]) -> list[str]:
    """The files that names stand for: files, folders of images, or patterns such as photos/*.jpg.

    Images of a folder that cannot be read go to `failures`.
    """
    files: list[str] = []
    for name in names:
        known = len(failures)
        if Path(name).is_dir():
            found = inside(name, failures)
            nothing = f"There are no images in the folder {name}."
        elif glob.has_magic(name) and not Path(name).exists():
            matches = sorted(glob.glob(name, recursive=True))
            every = [inside(match, failures) if Path(match).is_dir() else [match] for match in matches]
            found = list(dict.fromkeys(chain.from_iterable(every)))  # ** matches a folder and what is in it
            nothing = f"No file matches {name}."
        else:
            found, nothing = [name], ""
        if not found and len(failures) == known:
            raise DataError(nothing)
        files += found
    return files


def inside(folder: str, failures: dict[str, Exception]) -> list[str]:
    """The images in a folder at any depth; those that cannot be read go to `failures`."""
    found, unreadable = images_in(Path(folder))
    failures |= {path: FileFormatError(f"{path}: {reason}") for path, reason in unreadable}
    return found


def groups_of_images(
    net: Sequential, files: Sequence[str], failures: dict[str, Exception]
) -> Iterator[list[tuple[str, np.ndarray]]]:
    """(file, its raw images) of at most AT_ONCE files whose images make one array.

    Files that cannot be read, or are no input of the network, go to `failures`.
    """

    def attempt(file: str) -> np.ndarray | Exception:
        try:
            return net.raw_images(read_images(file, net.preprocessing))
        except (DataError, ShapeError) as error:
            return DataError(f"{readable(file)}: {error}")
        except (FileFormatError, OSError) as error:
            return error

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), AT_ONCE):
            part = files[start : start + AT_ONCE]
            found = []
            for file, read in zip(part, pool.map(attempt, part), strict=True):
                if isinstance(read, Exception):
                    failures[readable(file)] = read
                else:
                    found.append((readable(file), read))
            for _, group in groupby(found, key=kind):
                yield list(group)


def kind(found: tuple[str, np.ndarray]) -> tuple[Any, ...]:
    """What images must have in common to be one array: bytes beside floats would be read as floats."""
    return found[1].dtype, found[1].shape[1:]


def numbered(name: str, count: int) -> list[str]:
    """A name for each image of a file."""
    return [f"{name}[{i}]" for i in range(count)] if count > 1 else [name]


def predictions(net: Sequential, names: Sequence[str], images: np.ndarray, top_k: int) -> list[Prediction]:
    """The most probable classes of each image."""
    scores = net.predict_proba(images)
    classes = net.classes or tuple(map(str, range(scores.shape[-1])))
    best = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
    return [
        {"file": name, "top": [{"class": classes[k], "score": float(row[k])} for k in order]}
        for name, row, order in zip(names, scores, best, strict=True)
    ]


def cells(found: Sequence[Prediction], score: Any) -> Iterator[list[Any]]:
    """A header, and a row for each prediction."""
    yield ["file", *(f"{word} {k + 1}" for k in range(len(found[0]["top"])) for word in ("class", "score"))]
    for row in found:
        yield [row["file"], *(cell for top in row["top"] for cell in (top["class"], score(top["score"])))]


def shown(found: Sequence[Prediction]) -> list[str]:
    """The predictions as a table for people."""
    header, *rows = cells(found, percent)
    return table(header, rows, left=1)


def as_csv(found: Sequence[Prediction]) -> str:
    """The predictions as a table for programs."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells(found, "{:.6g}".format))
    return text.getvalue()


def say_failures(failures: dict[str, Exception], output: Output) -> None:
    """Name what was left out."""
    if failures:
        output.say(f"Left out, for they cannot be read or do not fit: {len(failures)}")
        output.say(*(f"  {error}" for error in [*failures.values()][:LISTED]))
