"""runs/<name>/: everything about one run, so that it can be understood and repeated."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from glassnet.data.catalog import ALIASES, NAMES, place_of
from glassnet.data.fingerprint import WEIGHTS, Fingerprint, changes, fingerprint
from glassnet.errors import DataError, FileFormatError, RunFolderError
from glassnet.io import write_atomically
from glassnet.runs.checkpoint import Checkpoints
from glassnet.settings.config import TrainConfig, read_toml

if TYPE_CHECKING:
    from glassnet.data import Dataset
    from glassnet.data.folder_report import FolderReport
    from glassnet.runs.records import Run


LOCK = ".lock"
FINGERPRINT = "fingerprint.json"
BEGINNING = ("config.toml", "data.json", FINGERPRINT, "metrics.jsonl", "last.gnet", "checkpoints")
"""What lies in a run folder before the first step."""


def next_run(root: str | os.PathLike[str], data_name: str) -> Path:
    """root/<data>-<n>, made with the first n from 1 on that is not there yet: no other process gets it."""
    number = 1
    while True:
        path = Path(root) / f"{data_name}-{number}"
        with making(path), suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
        number += 1


@contextmanager
def making(path: Path) -> Iterator[None]:
    """Where that folder cannot be made, say so."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"The run folder {path} cannot be made: {error.strerror}. Choose another place."
        ) from error


def model_file(path: str | os.PathLike[str]) -> Path:
    """The model file that is meant: that file, or of a run folder the model that its run ended with.

    best.gnet is of the epoch that early stopping goes back to. Runs without it had one too in early versions.
    """
    path = Path(path)
    if not path.exists():
        raise FileFormatError(
            f"There is no model file or run folder {path}. Train one with `glassnet train digits`."
        )
    if not path.is_dir():
        return path
    names, config = ["best.gnet", "last.gnet"], path / "config.toml"
    if config.exists() and not TrainConfig.from_toml(config).early_stopping:
        names.reverse()
    for name in names:
        if (path / name).exists():
            return path / name
    raise FileFormatError(
        f"The folder {path} holds no best.gnet or last.gnet, so that it is not a run folder."
    )


def way_on(folder: Path, data: str) -> str:
    """How to resume a run on that data: by the command where a name or path leads to it, else in Python."""
    if ALIASES.get(data, data) in NAMES or place_of(data).exists():
        return f"glassnet resume {folder}"
    return f"glassnet.resume({str(folder)!r}, data=...) in Python, with the same data"


class RunFolder:
    """The folder of one run: config.toml, metrics.jsonl, models, evaluation.json, report.html, two pictures;
    fingerprint.json, by which its data is known again; for photos data.json, with what was found of them.

    While the run is in progress there is also the folder `checkpoints`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path / "checkpoints")

    @classmethod
    def new(cls, path: str | os.PathLike[str]) -> RunFolder:
        """An empty one, or one with a lock, to be taken before `begin`: a process may be at work there."""
        folder = cls(path)
        with making(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
            locked = (folder.path / LOCK).exists()
        if not locked:
            folder._check_empty()
        return folder

    def begin(self, config: TrainConfig, report: FolderReport | None = None) -> None:
        """Before the first step, so that a place that cannot be written costs no training."""
        self._check_empty()
        self.write("config.toml", config.to_toml())
        if report is not None:
            self.write("data.json", json.dumps(report.to_dict(), indent=2))

    def _check_empty(self) -> None:
        with making(self.path):
            occupied = any(entry.name != LOCK for entry in self.path.iterdir())
        if occupied:
            raise RunFolderError(
                f"The run folder {self.path} is not empty. Choose a new name: no run is overwritten."
                + self._hint()
            )

    def remove_unfinished(self) -> None:
        """What a process that was killed left of a file that it wrote; its checkpoints see to their own."""
        for part in self.path.glob(".*.part"):
            part.unlink()

    def forget_beginning(self) -> None:
        """Remove what a run leaves that was killed before its first checkpoint, where no more lies there."""
        if {entry.name for entry in self.path.iterdir() if not entry.match(".*.part")} <= {LOCK, *BEGINNING}:
            self.remove_unfinished()
            shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
            for name in BEGINNING:
                (self.path / name).unlink(missing_ok=True)

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint."""
        return any((self.path / "checkpoints").glob("*.json"))

    @property
    def finished(self) -> bool:
        """Whether the run came to its end, and neither failed nor was interrupted."""
        return not self.unfinished

    @property
    def unfinished(self) -> str:
        """What became of a run that did not come to its end; nothing where it did."""
        try:
            stopped = json.loads((self.path / "evaluation.json").read_text("utf-8"))["stopped"]
            return {"interrupted": "was interrupted", "failed": "failed"}.get(stopped, "")
        except (OSError, ValueError, KeyError, TypeError):
            return "is in progress or was killed"

    def remark(self) -> str:
        """What to know before the model of a run that did not come to its end is used."""
        epochs, metrics = TrainConfig.from_toml(self.path / "config.toml").epochs, self.path / "metrics.jsonl"
        done = len(metrics.read_text("utf-8").splitlines()) if metrics.exists() else 0
        return f"The run {self.path} {self.unfinished} after {done} of {epochs} epochs."

    def _hint(self) -> str:
        """What can be done with the run that is in the way."""
        if not self.resumable or self.finished:
            return ""
        if self.unfinished == "failed":
            return " The run there failed, and would fail again if resumed."
        way = way_on(self.path, str(read_toml(self.path / "config.toml").get("data")))
        return f" To go on with the run that was interrupted: {way}"

    def keep(self, fingerprinted: Fingerprint) -> None:
        """By what the data of the run, with its validation split, is known again."""
        self.write(FINGERPRINT, json.dumps(fingerprinted, indent=2))

    def check_data(self, data: Dataset) -> None:
        """Refuse other splits than those of the run. Runs of early versions do not tell.

        Another image in the folder is enough to draw another validation split, of images trained on.
        """
        path = self.path / FINGERPRINT
        if not path.exists():
            return
        try:
            before = dict(json.loads(path.read_text("utf-8")))
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"{path} is no fingerprint of data: {error}.") from error
        now = fingerprint(data) | {WEIGHTS: before.get(WEIGHTS)}  # weights are given with the data, not in it
        if differences := changes(before, now):
            raise DataError(
                f"The data of {self.path} changed since it was trained: {'; '.join(differences)}. Figures "
                "would be those of images that it was trained on. Put the data back as it was, or train anew."
            )

    def write(self, name: str, text: str) -> None:
        """A whole text file, or none."""
        with self._explained(name):
            write_atomically(self.path / name, text.encode())

    def append(self, name: str, line: str) -> None:
        """One more line of a text file."""
        with self._explained(name), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunFolderError(
                f"{name} cannot be written to the run folder {self.path}: {error.strerror}. "
                "Choose another place."
            ) from error

    def finish(self, run: Run) -> None:
        """The two pictures, as far as the run got; then evaluation.json, which says that the run is over."""
        from glassnet.runs.plots import draw_confusion, draw_curves  # matplotlib takes most of a second

        splits = {"val": run.val, "test": run.test}
        results = {name: split.to_dict() for name, split in splits.items() if split is not None}
        about = {
            "best_epoch": run.best_epoch,
            "seconds": run.seconds,
            "backend": run.backend,
            "stopped": run.stopped,
            "warnings": list(run.warnings),
        }
        if run.history:
            draw_curves(run.history, self.path / "curves.png")
        shown = run.test or run.val
        if shown is not None:
            draw_confusion(shown, self.path / "confusion.png")
        self.write("evaluation.json", json.dumps(about | results, indent=2))
