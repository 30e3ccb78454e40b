"""Which image files a folder holds, of which class and split: by folders, split files or a table of paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from glassnet.data.folder_report import Skipped, class_name, listed, readable
from glassnet.data.manifest import is_manifest, read_manifest
from glassnet.errors import ConfigError, DataError, did_you_mean

SPLITS: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What folders and split files may be called, and the split that each is."""

SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
"""A file called so is an image, or is reported as unreadable; others are where their content says so."""

RAW: Final = frozenset({".dng", ".cr2", ".nef", ".arw"})
"""What cameras save beside a JPEG: by content a TIFF file, whose first picture is a thumbnail."""

NOT_READ: Final = RAW | {".heic", ".heif", ".avif", ".jp2"}
"""A file called so is a photo, but of a kind that is not read."""

SIGNATURE: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF.{4}WEBP|GIF8[79]a|II\*\0|MM\0\*|BM.{4}\0{4}", re.DOTALL
)

NOT_CLASSES: Final = frozenset({"__MACOSX", "__pycache__", "@eaDir", "lost+found"})
"""Folders that systems leave behind."""

MAX_FOLDERS: Final = 20_000
"""A tree with more folders than this is none of photos by class, and listing it would take too long."""


class Photo(NamedTuple):
    """One image file: its path, as it can be opened, the split and the class that it belongs to."""

    path: str
    split: str
    label: str


@dataclass
class Listing:
    """What was found: photos in order of split, class and path, and what was left out. No file is decoded."""

    layout: str = ""
    photos: list[Photo] = field(default_factory=list)
    unreadable: list[Skipped] = field(default_factory=list)
    passed_over: list[Skipped] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    """Class folders without an image."""
    warnings: list[str] = field(default_factory=list)


def list_photos(root: Path, split_files: Mapping[str, str | os.PathLike[str]] | None = None) -> Listing:
    """The photos under a folder, or in a manifest (see read_manifest).

    With split_files, those that they list: files with one path a line, from root on, whose last folder is the
    class; or manifests. Else root/class/*, or root/split/class/*, at any depth; see SPLITS.
    Raises DataError where nothing that could be a data set is found.
    """
    listing = Listing()
    if split_files is not None:
        _list_split_files(root, split_files, listing)
    elif is_manifest(root) and not root.is_dir():
        listing.layout = "paths and classes in a table"
        _add_rows(root.parent, read_manifest(root, "train"), listing)
    elif not root.is_dir():
        kind = "is a file and no folder of photos" if root.exists() else "does not exist"
        raise DataError(f"{readable(root)} {kind}. Give a folder with one folder of images for each class.")
    else:
        _list_folders(root, listing)
    order = {split: place for place, split in enumerate(dict.fromkeys(SPLITS.values()))}
    listing.photos.sort(key=lambda photo: (order[photo.split], photo.label, photo.path))
    return listing


def images_in(root: Path) -> tuple[list[str], list[Skipped]]:
    """The image files in a folder and in those inside it, less what is hidden; those that cannot be read."""
    walk = _Walk(root, Listing())
    folders, files = walk.entries(str(root))
    images = [*walk.images_among(files), *(image for folder in folders for image in walk.images(folder))]
    return images, walk.listing.unreadable


class _Walk:
    """Goes through folders, each once, and no more than MAX_FOLDERS of them."""

    def __init__(self, root: Path, listing: Listing) -> None:
        self.root, self.listing, self.folders = root, listing, 0
        self.inside: dict[str, set[str]] = {}  # class -> the folders right inside it that hold images
        self.above = {_identity(folder) for folder in (root.resolve(), *root.resolve().parents)}

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """(folders, files) in a folder, sorted, less what is hidden and what cannot be followed."""
        folders, files = [], []
        try:
            with os.scandir(folder) as scan:
                for entry in scan:
                    if entry.name.startswith(".") or entry.name in NOT_CLASSES:
                        self.pass_over(entry.path, "hidden")
                    elif os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                        folders.append(entry.path)
                        self._count_folder()
                    elif os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file():
                        files.append(entry.path)
                    elif entry.is_symlink():
                        self.listing.unreadable.append(Skipped(readable(entry.path), "a link to nothing."))
                    else:
                        self.pass_over(entry.path, "neither a file nor a folder")
        except OSError as error:
            self.listing.unreadable.append(Skipped(readable(folder), f"{error.strerror}."))
        return sorted(folders), sorted(files)

    def images(self, folder: str) -> Iterator[str]:
        """The image files in a folder and in those in it. A link back to a folder above is not followed."""
        seen, waiting = set(self.above), [folder]
        while waiting:
            current = waiting.pop()
            identity = _identity(current)
            if identity in seen:
                self.pass_over(current, "a link to a folder that holds it or was read already")
                continue
            seen.add(identity)
            folders, files = self.entries(current)
            waiting += reversed(folders)
            yield from self.images_among(files)

    def images_among(self, files: list[str]) -> Iterator[str]:
        """The files that are images; of the others it is kept why they are not."""
        for file in files:
            if _is_image(file):
                yield file
            elif _suffix(file) in NOT_READ:
                reason = "it is of a kind that is not read. Save it as JPEG."
                self.listing.unreadable.append(Skipped(readable(file), reason))
            else:
                self.pass_over(file, "not an image of a kind that is read")

    def pass_over(self, path: str, reason: str) -> None:
        self.listing.passed_over.append(Skipped(readable(path), reason))

    def _count_folder(self) -> None:
        self.folders += 1
        if self.folders > MAX_FOLDERS:
            raise DataError(
                f"{readable(self.root)} has more than {MAX_FOLDERS:,} folders. Give the one that holds "
                f"a folder of images for each class."
            )


def _list_folders(root: Path, listing: Listing) -> None:
    walk = _Walk(root, listing)
    folders, files = walk.entries(str(root))
    splits = {folder: SPLITS.get(os.path.basename(folder).lower()) for folder in folders}
    if not _are_splits(walk, splits):
        listing.layout = "one folder a class"
        _list_classes(walk, "train", folders, files)
    else:
        listing.layout = "folders for splits, in each one folder a class"
        _check_splits(root, [os.path.basename(folder) for folder, split in splits.items() if split])
        for folder, split in splits.items():
            if split is None:
                walk.pass_over(folder, "a folder beside the splits")
            else:
                _list_classes(walk, split, *walk.entries(folder))
        for file in files:
            walk.pass_over(file, "outside the class folders")
    listing.empty = sorted(set(listing.empty) - {photo.label for photo in listing.photos})
    if not listing.photos:
        alone = sum(_is_image(file) for file in files)
        raise DataError(
            f"{readable(root)} holds no images in class folders"
            + (f", and {alone} outside them" if alone else "")
            + ". It needs one folder of images for each class, or such folders in train, val and test."
            + _lost(listing)
        )
    _check_classes(walk)


def _list_classes(walk: _Walk, split: str, folders: list[str], files: list[str]) -> None:
    """The photos of one split, whose classes are these folders."""
    for file in files:
        walk.pass_over(file, "outside the class folders")
    for folder in folders:
        label = class_name(os.path.basename(folder))
        paths = list(walk.images(folder))
        walk.listing.photos += [Photo(path, split, label) for path in paths]
        if not paths:
            walk.listing.empty.append(label)
            continue
        below = [path[len(folder) + 1 :].split(os.sep) for path in paths]
        walk.inside.setdefault(label, set()).update(readable(names[0]) for names in below if len(names) > 1)


def _check_classes(walk: _Walk) -> None:
    """Two or more, and a warning where they seem to be one folder further down."""
    common = set.intersection(*walk.inside.values())
    if len(walk.inside) == 1:
        label = next(iter(walk.inside))
        below = common and (walk.root / label).is_dir()
        raise DataError(
            f"{readable(walk.root)} has images of one class only, {label!r}, and training needs two."
            + (f" If the folders in it are the classes, give {readable(walk.root / label)}." if below else "")
            + _lost(walk.listing)
        )
    if len(common) > 1:
        walk.listing.warnings.append(
            f"The classes {listed(sorted(walk.inside))} hold folders of the same names "
            f"({listed(sorted(common))}). If those are the classes, give one of the folders that hold them, "
            f"or sort the images by class first."
        )


def _are_splits(walk: _Walk, splits: dict[str, str | None]) -> bool:
    """Whether folders are splits and no classes: one for training has folders in it, or all are called so."""
    if splits and all(splits.values()) and "train" not in splits.values():
        return True
    return any(split == "train" and _has_folder(folder) for folder, split in splits.items())


def _lost(listing: Listing) -> str:
    """What cannot be read, for an error about images that are missing."""
    if not listing.unreadable:
        return ""
    path, reason = listing.unreadable[0]
    return f" {len(listing.unreadable)} cannot be read, such as {path}: {reason}"


def _has_folder(folder: str) -> bool:
    try:
        with os.scandir(folder) as scan:
            return any(entry.is_dir() and not entry.name.startswith(".") for entry in scan)
    except OSError:
        return False


def _check_splits(root: Path | str, names: list[str]) -> None:
    """One folder or file a split, and one to train on."""
    for name in names:
        if name.lower() not in SPLITS:
            raise ConfigError(f"There is no split {name!r}." + did_you_mean(name, SPLITS))
    found = [SPLITS[name.lower()] for name in names]
    twice = [name for name, split in zip(names, found, strict=True) if found.count(split) > 1]
    if twice:
        raise DataError(f"{readable(root)} has one split under two names: {' and '.join(twice)}. Keep one.")
    if "train" not in found:
        raise DataError(f"{readable(root)} has {' and '.join(names)} but nothing to train on, called train.")


def _list_split_files(
    root: Path, split_files: Mapping[str, str | os.PathLike[str]], listing: Listing
) -> None:
    listing.layout = "split files"
    if not root.is_dir():
        raise DataError(f"{readable(root)} is no folder. Split files name paths inside one.")
    _check_splits("split_files", list(split_files))
    for name, given in split_files.items():
        split, path = SPLITS[name.lower()], Path(given)
        if not path.exists():
            path = root / path
        rows = read_manifest(path, split) if is_manifest(path) else _read_lines(path, split)
        _add_rows(root, rows, listing)


def _read_lines(path: Path, split: str) -> Iterator[tuple[str, str, str]]:
    """(path, split, class) of each line, a path whose last folder is the class."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            file = line.strip()
            label = os.path.basename(os.path.dirname(file))
            if file and not label:
                raise DataError(
                    f"Line {number} of {readable(path)} must be a path whose folder is the class, such as "
                    f"cat/1.jpg, got {readable(file)!r}. A table of paths and classes is a .csv file."
                )
            if file:
                yield file, split, class_name(label)


def _add_rows(root: Path, rows: Iterator[tuple[str, str, str]], listing: Listing) -> None:
    """The rows whose files are there; the others are unreadable."""
    for name, split, label in rows:
        if split not in SPLITS:
            raise DataError(f"{readable(name)} is in a split {split!r}." + did_you_mean(split, SPLITS))
        path = os.path.join(root, name)
        if os.path.isfile(path):
            listing.photos.append(Photo(path, SPLITS[split], label))
        else:
            listing.unreadable.append(Skipped(readable(path), "there is no such file."))
    if not listing.photos:
        raise DataError(
            f"None of the {len(listing.unreadable)} files listed for {readable(root)} exists, "
            f"such as {listing.unreadable[0].path}."
            if listing.unreadable
            else f"The lists for {readable(root)} name no file."
        )


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_image(path: str) -> bool:
    """By its name, or else by its first bytes."""
    if (suffix := _suffix(path)) in SUFFIXES | RAW:
        return suffix in SUFFIXES
    try:
        with open(path, "rb") as file:
            return SIGNATURE.match(file.read(32)) is not None
    except OSError:
        return False


def _identity(folder: str | Path) -> tuple[int, int]:
    """What tells folders apart, however they are reached."""
    try:
        status = os.stat(folder)
    except OSError:  # gone since it was listed; listing it will say so
        return (0, 0)
    return status.st_dev, status.st_ino
