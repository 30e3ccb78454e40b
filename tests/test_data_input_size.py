"""The size and the channels that a folder of photos is fed in, chosen from headers."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from glassnet.data.folder import load_folder
from glassnet.errors import ConfigError
from messages import message_of
from photos import photo_folder, picture, save_picture


def load(root, **options):
    return load_folder(root, **{"cache": Path(root).parent / "cache", **options})


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(24, 32)] * 3, (24, 32)),
        ([(24, 32), (32, 24), (40, 24)], (24, 24)),
        ([(61, 80), (80, 61), (61, 61)], (56, 56)),
        ([(300, 200)] * 2, (128, 128)),
        ([(128, 128)] * 2, (128, 128)),
        ([(100, 100), (20, 20), (90, 300)], (88, 88)),
    ],
)
def test_auto_is_the_size_of_all_or_a_square_of_the_median_side(tmp_path, sizes, chosen):
    for i, size in enumerate(sizes):
        for name in "ab":
            save_picture(tmp_path / "p" / name / f"{i}.png", 2 * i + (name == "a"), size)
    assert load(tmp_path / "p").image_shape == (*chosen, 3)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_auto_sees_photos_upright(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    for i, name in enumerate("ab"):
        save_picture(tmp_path / "p" / name / f"0.{suffix}", i, (24, 32), exif=exif)
    assert load(tmp_path / "p").image_shape == (32, 24, 3)


def test_auto_is_grey_where_all_images_are(tmp_path):
    for i, name in enumerate("abc"):
        (tmp_path / "p" / name).mkdir(parents=True)
        Image.fromarray(picture(i)).convert("L").save(tmp_path / "p" / name / "0.png")
    assert load(tmp_path / "p").preprocessing.channels == "L"
    assert load(tmp_path / "p", channels="RGB").image_shape == (24, 32, 3)
    save_picture(tmp_path / "p" / "a" / "colour.png", 9)
    assert load(tmp_path / "p").preprocessing.channels == "RGB"


def test_a_size_that_means_nothing_is_refused(tmp_path):
    photos = photo_folder(tmp_path / "photos", {"cat": 1, "dog": 1})
    assert message_of(ConfigError, load, photos, size="big") == (
        "size must be (height, width), a side or 'auto', got 'big'."
    )
    assert message_of(ConfigError, load, photos, size=(0, 4)) == (
        "size must be None or (height, width), two whole numbers from 1 on, got (0, 4)."
    )
    assert message_of(ConfigError, load, photos, resize="pad") == (
        "resize must be 'stretch' or 'crop', got 'pad'."
    )


@pytest.mark.parametrize(
    ("sizes", "options", "warning"),
    [
        ([(16, 120)] * 4, {}, None),  # all of one size, which is fed as it is
        (
            [(16, 120)] * 3 + [(24, 120)],
            {},
            "13% is used, its centre. Use --resize stretch or --size 16x120.",
        ),
        ([(200, 1600)] * 4, {}, "12% is used, its centre. Use --resize stretch or --size 48x360."),
        ([(24, 192)] * 4, {"size": 24, "resize": "stretch"}, None),
        ([(24, 192), (192, 24)] * 2, {}, "12% is used, its centre. Use --resize stretch."),
        ([(90, 160)] * 4, {"size": 64}, None),
        ([(24, 192)] * 4, {"size": (24, 96)}, None),
        (
            [(24, 192)] * 4,
            {"size": (24, 72)},
            "38% is used, its centre. Use --resize stretch or --size 24x192.",
        ),
    ],
)
def test_a_crop_that_leaves_little_is_named(tmp_path, sizes, options, warning):
    for i, size in enumerate(sizes):
        save_picture(tmp_path / "p" / "ab"[i % 2] / f"{i}.png", i, size)
    wanted = () if warning is None else (f"Of the median picture {warning}",)
    assert load(tmp_path / "p", **options).report.warnings == wanted
