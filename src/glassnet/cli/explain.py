"""glassnet explain."""

from __future__ import annotations

from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from PIL import Image

from glassnet.cli.output import JsonFlag, Output
from glassnet.cli.predict import expanded, groups_of_images, say_failures
from glassnet.cli.progress import compiling
from glassnet.errors import ConfigError, did_you_mean
from glassnet.explain import (
    contact_sheet,
    feature_maps,
    feature_tiles,
    filter_tiles,
    filters,
    gradcam,
    gradcam_plus_plus,
    occlusion,
    panel,
    saliency,
    sanity_check,
    smoothgrad,
)
from glassnet.explain.passes import class_numbers, map_layer
from glassnet.explain.pictures import Picture
from glassnet.explain.sanity import Method
from glassnet.io import load
from glassnet.network import Sequential
from glassnet.runs.folder import model_file
from glassnet.summary import table

CAMS: Final = {"gradcam": gradcam, "gradcam++": gradcam_plus_plus}
METHODS: Final = (*CAMS, "saliency", "smoothgrad", "occlusion")
SHEETS: Final = ("features", "filters")


def explain(
    model: Annotated[str, typer.Argument(help="A run folder or a model file.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Images, folders or patterns of them, or NumPy files (.npy, .npz)."),
    ] = None,
    method: Annotated[str, typer.Option(help=f"{', '.join((*METHODS, *SHEETS))}.")] = "gradcam",
    layer: Annotated[str | None, typer.Option(help="The layer to look at, else the last with maps.")] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="The class, else the predicted.")] = None,
    out: Annotated[Path, typer.Option(help="The folder for pictures.")] = Path("explained"),
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Compare with random weights; status 1 if they explain alike.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides SmoothGrad's noise and the random weights.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Show where in images a network sees a class.

    A picture for each image: itself, where the evidence lies, and both together. The methods features and
    filters write contact sheets of what a layer puts out and of a convolution's weights.

    Example: glassnet explain runs/digits-1 seven.png --method saliency
    """
    net, output, pictures = load(model_file(model)), Output(json), Pictures(out)
    check(method, layer, class_name, files, sanity)
    report = None
    failures: dict[str, Exception] = {}
    with compiling(output.say):
        if method == "filters":
            pictures.save("filters", contact_sheet(filter_tiles(filters(net, layer=layer))))
        elif method == "features":
            save_features(net, files or [], layer, pictures, failures)
        else:
            names, images = all_images(net, files or [], failures)
            numbers = class_numbers(net, images, class_name if net.classes else as_number(class_name))
            explained = method_named(method, net, layer, seed)
            for i, (name, number) in enumerate(zip(names, numbers, strict=True)):
                heat = explained(net, images[i : i + 1], numbers[i : i + 1])[0]
                shown = str(number) if net.classes is None else net.classes[number]
                pictures.save(f"{name}-{method}", panel(images[i], heat), image=name, **{"class": shown})
            if sanity:
                draws = np.random.default_rng(seed)
                report = sanity_check(explained, net, images, numbers, generator=draws)
    output.say(*pictures.lines())
    say_failures(failures, output)
    if report is not None:
        output.say("", str(report))
    checked = {} if report is None else {"sanity": {"ok": report.ok, "correlations": report.correlations}}
    output.result(method=method, pictures=pictures.saved, **checked)
    if report is not None and not report.ok:
        raise typer.Exit(1)


class Pictures:
    """PNG files in one folder, a new name for each. saved: what is known of each, its file as "picture"."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved: list[dict[str, Any]] = []

    def save(self, name: str, picture: Picture, **about: str) -> None:
        """Write one as <name>.png; where two images have the same name, the later ones count on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        taken = {known["picture"] for known in self.saved}
        path, number = self.folder / f"{name}.png", 2
        while str(path) in taken:
            path, number = self.folder / f"{name}-{number}.png", number + 1
        Image.fromarray(picture).save(path)
        self.saved.append(about | {"picture": str(path)})

    def lines(self) -> list[str]:
        """The table of what was saved."""
        columns = list(self.saved[0])
        return table(columns, [tuple(known[c] for c in columns) for known in self.saved], left=len(columns))


def check(
    method: str, layer: str | None, class_name: str | None, files: list[str] | None, sanity: bool
) -> None:
    """Refuse a method that does not exist, and options that it would ignore."""
    if method not in (*METHODS, *SHEETS):
        raise ConfigError(f"Unknown method {method!r}.{did_you_mean(method, (*METHODS, *SHEETS))}")
    ignored = {
        "--layer": layer is not None and method not in (*CAMS, *SHEETS),
        "--class": class_name is not None and method in SHEETS,
        "--sanity": sanity and method in SHEETS,
    }
    for option, given in ignored.items():
        if given:
            raise ConfigError(f"The method {method} takes no {option}. Leave it out.")
    if (method == "filters") == bool(files):
        needs = "is about weights and takes no images" if files else "needs at least one image"
        raise ConfigError(f"The method {method} {needs}.")


def method_named(method: str, net: Sequential, layer: str | None, seed: int) -> Method:
    """A function of network, images and class numbers; SmoothGrad draws the same noise each time."""
    if method in CAMS:
        return partial(CAMS[method], layer=map_layer(net, layer))
    if method == "smoothgrad":
        return lambda net, images, numbers: smoothgrad(
            net, images, numbers, generator=np.random.default_rng(seed)
        )
    return saliency if method == "saliency" else occlusion


def save_features(
    net: Sequential,
    files: list[str],
    layer: str | None,
    pictures: Pictures,
    failures: dict[str, Exception],
) -> None:
    """A contact sheet of one layer's output for each image."""
    layer = map_layer(net, layer)
    names, images = all_images(net, files, failures)
    for i, name in enumerate(names):
        maps = feature_maps(net, images[i : i + 1], layer=layer)[0]
        pictures.save(f"{name}-{layer}", contact_sheet(feature_tiles(maps)), image=name)


def all_images(
    net: Sequential, files: list[str], failures: dict[str, Exception]
) -> tuple[list[str], np.ndarray]:
    """(a name for each, raw images (N, H, W, C)) of all files, as 0..1 where preprocessing takes them."""
    names, images = [], []
    for file, found in chain.from_iterable(groups_of_images(net, expanded(files, failures), failures)):
        stem = Path(file).stem
        names += [f"{stem}-{i}" for i in range(len(found))] if len(found) > 1 else [stem]
        images.append(found / np.float32(255) if found.dtype == np.uint8 else found)
    if not images:
        raise next(iter(failures.values()))
    return names, np.concatenate(images)


def as_number(class_name: str | None) -> int | None:
    """The class of a network whose classes have no names."""
    if class_name is None or class_name.isdecimal():
        return None if class_name is None else int(class_name)
    raise ConfigError(f"This network's classes have no names. Give a number, got --class {class_name}.")
