"""load_folder: a Dataset from photos and a report of everything that was left out, on real broken files."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glassnet.data import decoding
from glassnet.data.dataset import channel_statistics
from glassnet.data.decode import decode, read_image
from glassnet.data.folder import load_folder
from glassnet.data.folder_report import Duplicate, Skipped
from glassnet.errors import DataError
from messages import message_of
from photos import photo_folder, save_picture

NOT_AN_IMAGE = "its content is none of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM."


def load(root, **options):
    return load_folder(root, **{"cache": Path(root).parent / "cache", **options})


@pytest.fixture
def photos(tmp_path):
    """20 cats and 12 dogs."""
    return photo_folder(tmp_path / "photos", {"cat": 20, "dog": 12})


# What is loaded


def test_photos_become_a_dataset(photos):
    data = load(photos, size=(24, 32))
    assert repr(data) == "Dataset('photos', train=32, image_shape=(24, 32, 3), classes=2)"
    assert data.classes == ("cat", "dog") and data.train.counts().tolist() == [20, 12]
    assert data.train.images.dtype == np.uint8
    for i in (0, 19, 31):
        assert np.array_equal(data.train.images[i], np.asarray(Image.open(data.train.files[i])))
        assert Path(data.train.files[i]).parent.name == data.classes[data.train.labels[i]]


def test_every_split_has_its_images_and_files(tmp_path):
    start = 0
    for split, count in (("train", 4), ("val", 3), ("test", 2)):
        photo_folder(tmp_path / "p" / split, {"a": count, "b": count}, start)
        start += 2 * count
    data = load(tmp_path / "p")
    for split in (data.train, data.val, data.test):
        for pixels, file in zip(split.images, split.files, strict=True):
            assert np.array_equal(pixels, read_image(file, data.preprocessing))
    assert (len(data.train), len(data.val), len(data.test)) == (8, 6, 4)
    assert data.report.counts["test"] == {"a": 2, "b": 2} and not data.report.warnings


def test_the_preprocessing_normalises_training_images_and_reads_new_ones_alike(photos):
    data = load(photos, size=(16, 16), resize="stretch")
    mean, std = channel_statistics(data.train.images)
    np.testing.assert_allclose(data.preprocessing.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(data.preprocessing.std, std, rtol=1e-12)
    assert (data.preprocessing.size, data.preprocessing.resize) == ((16, 16), "stretch")
    inputs = data.train.inputs().astype(np.float64)
    np.testing.assert_allclose(inputs.mean(axis=(0, 1, 2)), 0, atol=1e-6)


def test_statistics_are_of_training_images_alone(tmp_path):
    photo_folder(tmp_path / "p" / "train", {"a": 2, "b": 2})
    alone = load(tmp_path / "p", size=(16, 16)).preprocessing
    photo_folder(tmp_path / "p" / "test", {"a": 2, "b": 2}, start=9)
    assert load(tmp_path / "p", size=(16, 16)).preprocessing == alone


def test_a_constant_channel_becomes_zero(tmp_path):
    for name in "ab":
        (tmp_path / "p" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 7).save(tmp_path / "p" / name / "0.png")
    assert not load(tmp_path / "p").train.inputs().round(6).any()


def test_real_photos_by_their_split_files(real_data, tmp_path):
    names = {split: f"split_{split}.txt" for split in ("train", "valid", "test")}
    data = load_folder(real_data / "animals_224", split_files=names, size=(32, 32), cache=tmp_path)
    assert repr(data) == (
        "Dataset('animals_224', train=2400, val=300, test=300, image_shape=(32, 32, 3), classes=3)"
    )
    listed = (real_data / "animals_224" / "split_test.txt").read_text().split()
    assert sorted(os.path.relpath(f, real_data / "animals_224") for f in data.test.files) == sorted(listed)
    assert data.report.repeated == 1  # dogs_00276 and dogs_00404
    assert not (data.report.across_splits or data.report.across_classes or data.report.unreadable)


# Broken files


@pytest.fixture
def broken(photos):
    """Photos with every kind of broken file among them: (folder, {name: reason})."""
    whole = save_picture(photos / "cat" / "whole.jpg", 99, (64, 64)).read_bytes()
    (photos / "cat" / "whole.jpg").unlink()
    (photos / "cat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "cat" / "empty.jpg").write_bytes(b"")
    (photos / "dog" / "text.jpg").write_text("this is no picture")
    (photos / "dog" / "really-a-jpeg.png").write_bytes(whole)
    return photos, {
        "cat/cut.jpg": "image file is truncated (",
        "cat/empty.jpg": "it is empty.",
        "dog/text.jpg": NOT_AN_IMAGE,
    }


def test_broken_files_are_left_out_and_named(broken, caplog):
    photos, wanted = broken
    data = load(photos)
    found = {os.path.relpath(path, photos): reason for path, reason in data.report.unreadable}
    assert found.keys() == wanted.keys()
    assert all(found[name].startswith(reason) for name, reason in wanted.items())
    assert len(data.train) == 33 and str(photos / "dog" / "really-a-jpeg.png") in data.train.files
    assert data.report.warnings == ("3 unreadable images left out.",)
    assert caplog.messages == [f"{photos}: 3 unreadable images left out."]
    for pixels, file in zip(data.train.images, data.train.files, strict=True):
        assert np.array_equal(pixels, read_image(file, data.preprocessing))


def test_broken_files_are_refused_where_asked(photos):
    load(photos, strict=True)
    (photos / "cat" / "empty.jpg").write_bytes(b"")
    (photos / "dog" / "text.jpg").write_text("this is no picture")
    assert message_of(DataError, load, photos, strict=True) == (
        f"2 of the images of {photos} cannot be read: {photos}/cat/empty.jpg: it is empty., "
        f"{photos}/dog/text.jpg: {NOT_AN_IMAGE}"
    )


def test_a_file_that_vanishes_between_listing_and_reading_is_named(photos, monkeypatch):
    read = decoding.read_bytes

    def vanish(path):
        if path.endswith("cat/3.png"):
            os.unlink(path)
        return read(path)

    monkeypatch.setattr(decoding, "read_bytes", vanish)
    data = load(photos)
    gone = Skipped(f"{photos}/cat/3.png", "No such file or directory.")
    assert data.report.unreadable == (gone,) and len(data.train) == 31
    assert load(photos).report.unreadable == ()


UNPRIVILEGED = """
import json, os, sys
from glassnet.data.folder import load_folder
load_folder(sys.argv[1], cache_limit=0)  # everything is imported while that is allowed
for path in sys.argv[2:]:
    os.chmod(path, 0)
if os.geteuid() == 0:
    os.seteuid(65534)
data = load_folder(sys.argv[1], cache_limit=0)
report = data.report.to_dict()
print(json.dumps([data.classes, len(data.train), report["unreadable"], report["warnings"]]))
"""


def test_files_and_folders_without_permission_are_named():
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # and so are the folders above it, unlike those of tmp_path
        photos = photo_folder(Path(name) / "photos", {"a": 3, "b": 2, "closed": 1})
        command = [sys.executable, "-c", UNPRIVILEGED, photos, photos / "a" / "1.png", photos / "closed"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        (photos / "closed").chmod(0o700)
    assert result.returncode == 0, result.stderr
    classes, count, unreadable, warnings = json.loads(result.stdout)
    assert (classes, count) == (["a", "b"], 4)
    assert {row["path"]: row["reason"] for row in unreadable} == {
        f"{photos}/closed": "Permission denied.",
        f"{photos}/a/1.png": "Permission denied.",
    }
    assert warnings[0] == "Classes without images are left out: closed."


def test_a_bomb_is_left_out(photos):
    Image.new("1", (30_000, 30_000)).save(photos / "cat" / "bomb.png")
    assert load(photos).report.unreadable == (
        Skipped(f"{photos}/cat/bomb.png", "it says it holds more than 60,000,000 pixels."),
    )


def test_a_folder_with_no_readable_image_is_refused(tmp_path):
    for name in "ab":
        (tmp_path / "p" / name).mkdir(parents=True)
        (tmp_path / "p" / name / "0.jpg").write_bytes(b"")
    assert message_of(DataError, load, tmp_path / "p") == (
        f"2 of the images of {tmp_path}/p cannot be read: {tmp_path}/p/a/0.jpg: it is empty., "
        f"{tmp_path}/p/b/0.jpg: it is empty."
    )


def test_a_folder_with_one_class_is_refused(tmp_path):
    photo_folder(tmp_path / "p", {"cat": 5})
    assert message_of(DataError, load, tmp_path / "p") == (
        f"{tmp_path}/p has images of one class only, 'cat', and training needs two."
    )


def test_training_images_that_cannot_be_read_are_not_made_up_for_by_others(tmp_path):
    photo_folder(tmp_path / "p" / "test", {"a": 2, "b": 2})
    (tmp_path / "p" / "train" / "a").mkdir(parents=True)
    (tmp_path / "p" / "train" / "a" / "0.jpg").write_bytes(b"")
    assert message_of(DataError, load, tmp_path / "p") == "None of the training images can be read."


def test_names_that_are_not_utf8_come_through(photos):
    odd = os.fsencode(photos) + b"/caf\xe9"
    os.mkdir(odd)
    shutil.copy(photos / "cat" / "0.png", odd + b"/\xff.png")
    data = load(photos)
    assert data.classes == ("caf\\xe9", "cat", "dog")
    json.dumps(data.report.to_dict()).encode()
    "\n".join(data.report.lines()).encode()
    assert read_image(data.train.files[0], data.preprocessing).shape == (24, 32, 3)


# What to look at


def test_classes_that_cannot_be_learned_or_measured_are_named(tmp_path):
    photo_folder(tmp_path / "p" / "train", {"a": 2, "b": 2, "single": 1})
    photo_folder(tmp_path / "p" / "test", {"a": 2, "only-here": 1}, start=10)
    (tmp_path / "p" / "train" / "none").mkdir()
    (tmp_path / "p" / "train" / "broken").mkdir()
    (tmp_path / "p" / "train" / "broken" / "0.jpg").write_bytes(b"")
    data = load(tmp_path / "p")
    assert data.classes == ("a", "b", "only-here", "single")
    assert data.report.warnings == (
        "Classes without images are left out: none, broken.",
        "Classes without train images, which cannot be learned: only-here.",
        "Classes without test images, which are not measured there: b, single.",
        "Classes with one training image: single.",
        "1 unreadable image left out.",
    )


def test_pictures_in_two_splits_or_classes_are_named(tmp_path):
    root = tmp_path / "p"
    photo_folder(root / "train", {"a": 8, "b": 8})
    photo_folder(root / "test", {"a": 4, "b": 4}, start=50)
    shutil.copy(root / "train" / "a" / "0.png", root / "test" / "a" / "same.png")
    save_picture(root / "test" / "b" / "smaller.jpg", 9, (20, 27), quality=80)  # train/b/1.png
    shutil.copy(root / "train" / "a" / "2.png", root / "train" / "b" / "twin.png")
    save_picture(root / "train" / "a" / "again.bmp", 3)
    report = load(root).report
    assert report.across_splits == (
        Duplicate(f"{root}/train/a/0.png", f"{root}/test/a/same.png", True),
        Duplicate(f"{root}/train/b/1.png", f"{root}/test/b/smaller.jpg", False),
    )
    assert report.across_classes == (Duplicate(f"{root}/train/a/2.png", f"{root}/train/b/twin.png", True),)
    assert report.repeated == 1
    assert report.warnings == (
        "2 pictures are in two splits, so that measured accuracy would be too high.",
        "1 pictures are in two classes.",
    )


def test_copies_that_may_be_held_out_are_named(tmp_path):
    root = photo_folder(tmp_path / "p", {"a": 4, "b": 4})
    for name in ("x", "y"):
        shutil.copy(root / "a" / "0.png", root / "a" / f"{name}.png")
    report = load(root).report
    assert report.repeated == 2 and report.warnings == (
        "2 pictures are in their class twice. Where one of two is held out, the other is trained on, so that "
        "measured accuracy would be too high. Remove copies.",
    )
    lists = {"train": tmp_path / "t.txt", "val": tmp_path / "v.txt"}
    lists["train"].write_text("a/0.png\na/x.png\nb/0.png\nb/2.png")
    lists["val"].write_text("a/1.png\nb/1.png")
    assert not load(root, split_files=lists).report.warnings


def test_classes_of_very_different_size_are_named(tmp_path):
    root = photo_folder(tmp_path / "p", {"a": 19, "b": 2})
    assert not load(root).report.warnings
    save_picture(root / "a" / "more.png", 99)
    assert load(root).report.warnings == (
        "Class a has 20 training images, b 2. sampling=balanced shows as many of each.",
    )


def test_a_folder_with_a_dot_in_its_name_gives_all_of_it(tmp_path):
    assert load(photo_folder(tmp_path / "photos.v2", {"a": 1, "b": 1})).name == "photos.v2"
    (tmp_path / "labels.csv").write_text("photos.v2/a/0.png,a\nphotos.v2/b/0.png,b\n")
    assert load(tmp_path / "labels.csv").name == "labels"


# The report


def test_the_report_says_everything(broken):
    photos, _ = broken
    (photos / ".hidden").mkdir()
    report = load(photos).report
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["counts"] == {"train": {"cat": 20, "dog": 13}}
    assert plain["passed_over"] == [{"path": f"{photos}/.hidden", "reason": "hidden"}]
    assert [row["path"] for row in plain["unreadable"]] == [skipped.path for skipped in report.unreadable]
    lines = report.lines()
    assert lines[:3] == [
        f"{photos}: one folder a class",
        "train: 33 images (cat 20, dog 13)",
        "Files have a shorter side of 24 to 64 pixels, median 24; fed as 24 x 24, colour, resized in "
        "proportion, centre kept.",
    ]
    assert lines[4:6] == ["Unreadable: 3", f"  {photos}/cat/cut.jpg: {report.unreadable[0].reason}"]
    assert lines[8:] == [
        "Passed over: 1",
        f"  {photos}/.hidden: hidden",
        "Warning: 3 unreadable images left out.",
    ]


def test_long_lists_are_cut(photos):
    for i in range(25):
        (photos / "cat" / f"empty{i:02}.jpg").write_bytes(b"")
    lines = load(photos).report.lines()
    start = lines.index("Unreadable: 25")
    assert lines[start + 10].endswith("empty09.jpg: it is empty.")
    assert lines[start + 11] == "  … and 15 more"


def test_progress_is_told(photos):
    seen = []
    load(photos, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(32, 32)]


def test_nothing_to_say_is_not_said(photos, caplog):
    with caplog.at_level(logging.WARNING):
        load(photos)
    assert not caplog.messages


def test_training_pixels_are_those_of_decode(photos):
    exif = Image.Exif()
    exif[0x0112] = 8
    save_picture(photos / "cat" / "turned.jpg", 77, (300, 500), exif=exif)
    data = load(photos)
    row = data.train.files.index(str(photos / "cat" / "turned.jpg"))
    content = (photos / "cat" / "turned.jpg").read_bytes()
    assert np.array_equal(data.train.images[row], decode(content, data.preprocessing))
