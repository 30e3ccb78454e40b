"""Folders of small generated photos, which differ enough not to be taken for duplicates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """(H, W, 3) uint8: a smooth random pattern, the same for the same number."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def save_picture(path: Path, number: int, size: tuple[int, int] = (24, 32), **options: object) -> Path:
    """The picture of this number as a file, in folders made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(number, size)).save(path, **options)
    return path


def photo_folder(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    """root/class/0.png, … for each class; every picture is another one."""
    for name, count in counts.items():
        for i in range(count):
            save_picture(root / name / f"{i}.png", start)
            start += 1
    return root
