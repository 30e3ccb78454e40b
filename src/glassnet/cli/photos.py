"""How a folder of photos is read: the options that commands share, and what is seen meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress as Bar

from glassnet.cli.output import Output
from glassnet.cli.progress import heard
from glassnet.data.decoding import Progress
from glassnet.errors import ConfigError

SizeOption = Annotated[
    str | None, typer.Option("--size", help="Of photos: auto, a side such as 96, or HEIGHTxWIDTH.")
]
ResizeOption = Annotated[
    str | None,
    typer.Option("--resize", help="Of photos: crop (in proportion, the centre) or stretch."),
]
SplitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--split-file", help="train=FILE, val=FILE or test=FILE: one path a line.", metavar="S=FILE"
    ),
]
StrictFlag = Annotated[bool, typer.Option("--strict", help="Refuse unreadable images, not leave them out.")]


def reading(
    size: str | None, resize: str | None, split_file: list[str] | None, strict: bool = False
) -> dict[str, Any]:
    """The options for `glassnet.data.load` that were given."""
    options: dict[str, Any] = {"size": None if size is None else parsed_size(size), "resize": resize}
    options |= {"split_files": parsed_splits(split_file), "strict": strict or None}
    return {key: value for key, value in options.items() if value is not None}


def parsed_size(text: str) -> list[int] | str:
    """`auto`, a side, or HEIGHTxWIDTH."""
    if text == "auto":
        return text
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ConfigError(f"--size must be auto, a side such as 96, or HEIGHTxWIDTH, got {text!r}.")
    return [int(sides[0]), int(sides[-1])]


def parsed_splits(pairs: list[str] | None) -> dict[str, str] | None:
    """["train=a.txt", …] as a dict."""
    for pair in pairs or ():
        if "=" not in pair:
            raise ConfigError(f"--split-file must be such as train=FILE, got {pair!r}.")
    return dict(pair.split("=", 1) for pair in pairs) if pairs else None


@contextmanager
def decoding(output: Output, *, warn: bool = True) -> Iterator[Progress | None]:
    """A bar on a terminal, and warnings; not those where they will be in a report."""
    console, say = Console(file=output.stream), output.say if warn else lambda line: None
    if not console.is_terminal:
        with heard(say):
            yield None
        return
    with Bar(console=console, transient=True) as bar, heard(say):
        task = bar.add_task("decoding")
        yield lambda done, total: bar.update(task, completed=done, total=total)
