"""What was found in a folder of photos, what was left out and why, and what to look at before training."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

SHOWN = 10
"""Names that a text lists before it only counts the rest."""


class Skipped(NamedTuple):
    """A file or folder that was left out, and why."""

    path: str
    reason: str


class Duplicate(NamedTuple):
    """Two files that show the same picture; exact where they are the same bytes."""

    first: str
    second: str
    exact: bool


@dataclass(frozen=True)
class FolderReport:
    """All that `load_folder` did; paths are as it was given them, readable in any encoding.

    counts: split -> class -> images. size: (H, W) of the pixels. found: the smallest, the median and the
    largest shorter side among the files, of those whose headers were read.
    unreadable: image files that are not in the data. passed_over: what was not taken for an image or a class.
    across_splits, across_classes: the same picture in two splits or classes; repeated: pairs inside one.
    decoded: images decoded in this call, 0 where all came from the cache, in `seconds`.
    pixels: bytes of all images as they are fed. cached: the folder that keeps them, None where memory does.
    """

    root: str
    layout: str
    counts: dict[str, dict[str, int]]
    size: tuple[int, int]
    channels: str
    resize: str
    found: tuple[int, int, int]
    unreadable: tuple[Skipped, ...]
    passed_over: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    across_splits: tuple[Duplicate, ...]
    across_classes: tuple[Duplicate, ...]
    repeated: int
    decoded: int
    seconds: float
    pixels: int
    cached: str | None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold."""
        plain = asdict(self)
        for key, value in plain.items():
            if value and isinstance(value, tuple) and isinstance(value[0], tuple):
                plain[key] = [row._asdict() for row in value]
        return plain

    def overview(self) -> list[str]:
        """What there is, and how it is fed."""
        height, width = self.size
        kind = {"L": "grey", "RGB": "colour"}[self.channels]
        how = {"crop": "resized in proportion, centre kept", "stretch": "stretched"}[self.resize]
        low, median, high = self.found
        return [
            f"{self.root}: {self.layout}",
            *_count_lines(self.counts),
            f"Files have a shorter side of {low} to {high} pixels, median {median}; "
            f"fed as {height} x {width}, {kind}, {how}.",
        ]

    def brief(self) -> list[str]:
        """The report in short: what is left out or there twice is only counted."""
        counts = {
            "unreadable": len(self.unreadable),
            "passed over": len(self.passed_over),
            "in two splits": len(self.across_splits),
            "in two classes": len(self.across_classes),
            "repeated": self.repeated,
        }
        found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return [*self.overview(), *([f"Of the files: {found}."] if found else [])]

    def lines(self) -> list[str]:
        """The report for people: what there is, then what was left out, then what to look at."""
        place = f"in {self.cached}" if self.cached else "in memory only"
        lines = [
            *self.overview(),
            f"{self.decoded} decoded in {self.seconds:.1f} s; they take {self.pixels / 1e6:.1f} MB {place}.",
        ]
        for title, skipped in (("Unreadable", self.unreadable), ("Passed over", self.passed_over)):
            if skipped:
                rows = [f"  {path}: {reason}" for path, reason in skipped]
                lines += [f"{title}: {len(skipped)}", *shortened(rows)]
        for title, pairs in (
            ("The same picture in two splits", self.across_splits),
            ("The same picture in two classes", self.across_classes),
        ):
            if pairs:
                rows = [f"  {d.first} and {d.second}{' (same file)' * d.exact}" for d in pairs]
                lines += [f"{title}: {len(pairs)}", *shortened(rows)]
        if self.repeated:
            lines.append(f"The same picture again in its class and split: {self.repeated}")
        return lines + [f"Warning: {warning}" for warning in self.warnings]


def readable(path: str | os.PathLike[str]) -> str:
    """A path that any terminal and file can hold: bytes that are not UTF-8 become escapes such as \\xe9."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def class_name(name: str) -> str:
    """The class that a folder or a cell names, readable; accents may be letters of their own there (NFD)."""
    return unicodedata.normalize("NFC", readable(name))


def shortened(rows: Sequence[str]) -> list[str]:
    """The first SHOWN rows, and how many more there are."""
    more = len(rows) - SHOWN
    return [*rows[:SHOWN], *([f"  … and {more} more"] if more > 0 else [])]


def listed(names: Sequence[str]) -> str:
    """`a, b, c`, cut after SHOWN names."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _count_lines(counts: dict[str, dict[str, int]]) -> list[str]:
    """One line a split: its images, and how many of each class."""
    return [
        f"{split}: {sum(classes.values())} images ("
        + listed([f"{name} {count}" for name, count in classes.items()])
        + ")"
        for split, classes in counts.items()
    ]
