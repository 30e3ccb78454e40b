"""glassnet data check | show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from glassnet.cli.output import JsonFlag, Output, check_out
from glassnet.cli.photos import ResizeOption, SizeOption, SplitOption, StrictFlag, decoding, reading
from glassnet.data import Dataset
from glassnet.data.augment import Augment
from glassnet.data.folder import load_folder
from glassnet.explain import contact_sheet
from glassnet.ops.augment import augment_images
from glassnet.preprocessing import Preprocessing
from glassnet.settings.config import augmentation
from glassnet.settings.defaults import suited

data = typer.Typer(name="data", no_args_is_help=True, help="Look at a folder of photos before training.")

Folder = Annotated[Path, typer.Argument(help="A folder of photos by class, or a .csv of paths and classes.")]


@data.command()
def check(
    folder: Folder,
    size: SizeOption = None,
    resize: ResizeOption = None,
    split_file: SplitOption = None,
    strict: StrictFlag = False,
    json: JsonFlag = False,
) -> None:
    """Say what is in a folder, what would be left out and why, and which pictures are there twice.

    Example: glassnet data check photos
    """
    output = Output(json)
    report = read(folder, reading(size, resize, split_file, strict), output, warn=False).report
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
    size: SizeOption = None,
    resize: ResizeOption = None,
    split_file: SplitOption = None,
    json: JsonFlag = False,
) -> None:
    """Write a contact sheet of training images as the network is fed them, a row for each class.

    With --augment each row begins with one image, followed by variations of it.

    Example: glassnet data show photos --augment --out sheet.png
    """
    check_out(out, ".png")
    output = Output(json)
    photos = read(folder, reading(size, resize, split_file), output)
    chosen = drawn(photos, 1 if augment else columns, seed)
    if augment:
        usual = augmentation(suited(photos)["augment"])
        rows = [varied(image, columns, seed, photos.preprocessing, usual) for image in chosen[:, 0]]
    else:
        rows = list(chosen / np.float32(255))
    tiles = np.concatenate(rows)
    Image.fromarray(contact_sheet(tiles, columns=columns)).save(out)
    names = [photos.classes[k] for k in np.flatnonzero(photos.train.counts())]
    output.say(f"{out} has a row for each class: {', '.join(names)}.")
    output.result(sheet=str(out), classes=names, images=len(tiles))


def read(folder: Path, options: dict[str, Any], output: Output, *, warn: bool = True) -> Dataset:
    """The photos, with a bar on a terminal while they are decoded."""
    with decoding(output, warn=warn) as progress:
        return load_folder(folder, **options, progress=progress)


def drawn(photos: Dataset, count: int, seed: int) -> np.ndarray:
    """(classes, count, H, W, C) uint8: training images of each class, repeated where it has fewer."""
    generator, labels = np.random.default_rng(seed), photos.train.labels
    rows = [
        photos.train.images[np.resize(generator.permutation(np.flatnonzero(labels == k)), count)]
        for k in np.flatnonzero(photos.train.counts())
    ]
    return np.stack(rows)


def varied(
    image: np.ndarray, count: int, seed: int, preprocessing: Preprocessing, augment: Augment
) -> np.ndarray:
    """(count, H, W, C) in 0..1: an image (H, W, C), then what the network would be fed in later epochs."""
    table = augment.draw(seed=seed, step=0, samples=count, size=(image.shape[0], image.shape[1]))
    same = np.repeat(image[None], count, axis=0)
    fed = augment_images(same, table.rows[0], same, *preprocessing.scale_shift(image.dtype))
    seen = fed * np.array(preprocessing.std, np.float32) + np.array(preprocessing.mean, np.float32)
    return np.concatenate([image[None] / np.float32(255), seen[1:].clip(0, 1)])
