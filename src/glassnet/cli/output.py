"""How commands write: text for people, or with --json one object as the last line of stdout."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from glassnet.errors import ConfigError

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Text goes to stderr; the last line of stdout is one JSON object.")
]


@dataclass(frozen=True)
class Output:
    """Where text goes, and whether there is a result for machines."""

    json: bool

    @property
    def stream(self) -> TextIO:
        """Where people read."""
        return sys.stderr if self.json else sys.stdout

    def say(self, *lines: str) -> None:
        """Text for people."""
        print(*lines, sep="\n", file=self.stream, flush=True)

    def result(self, **values: Any) -> None:
        """The result for machines, where it is wanted."""
        if self.json:
            print(json.dumps(values))


def check_out(out: Path, *kinds: str) -> None:
    """Refuse a file of another kind, or that cannot be written, before the work that it is for."""
    if out.suffix not in kinds:
        raise ConfigError(f"--out must be a {' or '.join(kinds)} file, got {out}.")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out} is to be in a folder that is not there. Make {out.parent} first.")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise ConfigError(f"--out {out} cannot be written there. Choose another place.")


def percent(share: float | None) -> str:
    """98.3 %, or a dash where there is none."""
    return "-" if share is None else f"{100 * share:.2f} %"
