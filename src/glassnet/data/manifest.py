"""A manifest: a table of paths and classes, and perhaps splits, as a text file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from glassnet.data.folder_report import class_name, readable
from glassnet.errors import FileFormatError

COLUMNS: Final = {
    "path": {"path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path"},
    "label": {"label", "class", "class_name", "category", "target"},
    "split": {"split", "subset", "set", "partition"},
}
"""What a column may be called in the first line. Without such a line they are path, label and split."""

FIRST_LINE: Final = 1 << 16
"""Characters by which a table is told from images, whose first line may be long."""


def is_manifest(path: Path) -> bool:
    """Whether a file is taken for a manifest, by its name."""
    return path.suffix.lower() in (".csv", ".tsv")


def names_files(path: Path) -> bool:
    """Whether a table of this name begins as a manifest does, and not as images: see `load_csv`.

    Its first line names columns of paths and classes, or a file that is there.
    """
    if path.suffix.lower() == ".tsv":
        return True
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        first = file.readline(FIRST_LINE)
    cells = next(csv.reader([first], delimiter=_delimiter(first)), [])
    return bool(_header(cells)) or os.path.isfile(path.parent / "".join(cells[:1]).strip())


def read_manifest(path: Path, split: str) -> Iterator[tuple[str, str, str]]:
    """(path, split, class) of each row of a table, divided by commas, semicolons or tabs.

    split: that of all rows, where no column says it.
    Raises FileFormatError with the line that is wrong.
    """
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = _delimiter(first)
        columns: list[str] | None = None
        try:
            for number, cells in enumerate(csv.reader(file, delimiter=delimiter), start=1):
                if columns is None:
                    header = _header(cells)
                    columns = header or ["path", "label", "split"]
                    if header:
                        continue
                row = {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
                if row.get("path") and row.get("label"):
                    yield row["path"], row.get("split", split).lower(), class_name(row["label"])
                elif any(cells):
                    raise FileFormatError(
                        f"Line {number} of {readable(path)} must be a path and a class, got "
                        f"{readable(delimiter.join(cells))[:80]!r}."
                    )
        except csv.Error as error:
            raise FileFormatError(f"{readable(path)} is not a table of paths ({error}).") from error


def _delimiter(line: str) -> str:
    """What divides the cells of a line."""
    return max(",;\t", key=line.count)


def _header(cells: list[str]) -> list[str]:
    """What each column is, "" for others; nothing where the first line names no path and no label."""
    names = [
        next((kind for kind, known in COLUMNS.items() if cell.strip().lower() in known), "") for cell in cells
    ]
    return names if {"path", "label"} <= set(names) else []
