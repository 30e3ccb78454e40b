"""glassnet data check | show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.progress import Progress as Bar

from glassnet.cli.output import JsonFlag, Output
from glassnet.data import Dataset
from glassnet.data.decoding import Progress
from glassnet.data.folder import load_folder
from glassnet.errors import ConfigError
from glassnet.explain import contact_sheet
from glassnet.preprocessing import Preprocessing

SMALL_SIDE = 64
"""Up to here images are augmented as small objects, beyond as photos."""

data = typer.Typer(name="data", no_args_is_help=True, help="Look at a folder of photos before training.")

Folder = Annotated[Path, typer.Argument(help="A folder of photos by class, or a .csv of paths and classes.")]
SizeOption = Annotated[str, typer.Option("--size", help="auto, a side such as 96, or HEIGHTxWIDTH.")]
ResizeOption = Annotated[str, typer.Option("--resize", help="crop (in proportion, the centre) or stretch.")]
SplitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--split-file", help="train=FILE, val=FILE or test=FILE: one path a line.", metavar="S=FILE"
    ),
]
StrictFlag = Annotated[bool, typer.Option("--strict", help="Refuse unreadable images, not leave them out.")]


@data.command()
def check(
    folder: Folder,
    size: SizeOption = "auto",
    resize: ResizeOption = "crop",
    split_file: SplitOption = None,
    strict: StrictFlag = False,
    json: JsonFlag = False,
) -> None:
    """Say what is in a folder, what would be left out and why, and which pictures are there twice.

    Example: glassnet data check photos
    """
    output = Output(json)
    report = read(folder, size, resize, split_file, strict, output).report
    assert report is not None
    output.say(*report.lines())
    output.result(**report.to_dict())


@data.command()
def show(
    folder: Folder,
    augment: Annotated[bool, typer.Option("--augment", help="Show how training would vary images.")] = False,
    columns: Annotated[int, typer.Option(min=1, help="Images in a row.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Decides which images, and how they vary.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("sheet.png"),
    size: SizeOption = "auto",
    resize: ResizeOption = "crop",
    split_file: SplitOption = None,
    json: JsonFlag = False,
) -> None:
    """Write a contact sheet of training images as the network is fed them, a row for each class.

    With --augment each row begins with one image, followed by variations of it.

    Example: glassnet data show photos --augment --out sheet.png
    """
    output = Output(json)
    photos = read(folder, size, resize, split_file, False, output)
    chosen = drawn(photos, 1 if augment else columns, seed)
    if augment:
        rows = [varied(image, columns, seed, photos.preprocessing) for image in chosen[:, 0]]
    else:
        rows = list(chosen / np.float32(255))
    tiles = np.concatenate(rows)
    Image.fromarray(contact_sheet(tiles, columns=columns)).save(out)
    names = [photos.classes[k] for k in np.flatnonzero(photos.train.counts())]
    output.say(f"{out} has a row for each class: {', '.join(names)}.")
    output.result(sheet=str(out), classes=names, images=len(tiles))


def read(
    folder: Path, size: str, resize: str, split_file: list[str] | None, strict: bool, output: Output
) -> Dataset:
    """The photos, with a bar on a terminal while they are decoded."""
    with decoding(output) as progress:
        return load_folder(
            folder,
            size=parsed_size(size),
            resize=resize,
            split_files=parsed_splits(split_file),
            strict=strict,
            progress=progress,
        )


def parsed_size(text: str) -> tuple[int, int] | str:
    """`auto`, a side, or HEIGHTxWIDTH."""
    if text == "auto":
        return text
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ConfigError(f"--size must be auto, a side such as 96, or HEIGHTxWIDTH, got {text!r}.")
    return int(sides[0]), int(sides[-1])


def parsed_splits(pairs: list[str] | None) -> dict[str, str] | None:
    """["train=a.txt", …] as a dict."""
    for pair in pairs or ():
        if "=" not in pair:
            raise ConfigError(f"--split-file must be such as train=FILE, got {pair!r}.")
    return dict(pair.split("=", 1) for pair in pairs) if pairs else None


@contextmanager
def decoding(output: Output) -> Iterator[Progress | None]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(file=output.stream)
    if not console.is_terminal:
        yield None
        return
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("decoding")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def drawn(photos: Dataset, count: int, seed: int) -> np.ndarray:
    """(classes, count, H, W, C) uint8: training images of each class, repeated where it has fewer."""
    generator, labels = np.random.default_rng(seed), photos.train.labels
    rows = [
        photos.train.images[np.resize(generator.permutation(np.flatnonzero(labels == k)), count)]
        for k in np.flatnonzero(photos.train.counts())
    ]
    return np.stack(rows)


def varied(image: np.ndarray, count: int, seed: int, preprocessing: Preprocessing) -> np.ndarray:
    """(count, H, W, C) in 0..1: an image (H, W, C), then what the network would be fed in later epochs."""
    from glassnet.data.augment import default_augment
    from glassnet.ops.augment import augment_images

    kind = "photos" if max(image.shape) > SMALL_SIDE else "objects"
    table = default_augment(kind).draw(seed=seed, step=0, samples=count, size=image.shape[:2])
    same = np.repeat(image[None], count, axis=0)
    fed = augment_images(same, table.rows[0], same, *preprocessing.scale_shift(image.dtype))
    seen = fed * np.array(preprocessing.std, np.float32) + np.array(preprocessing.mean, np.float32)
    return np.concatenate([image[None] / np.float32(255), seen[1:].clip(0, 1)])
