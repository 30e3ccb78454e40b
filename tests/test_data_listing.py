"""list_photos: what is taken for an image, a class and a split, in every layout, and what is passed over."""

from __future__ import annotations

import os
import time
import unicodedata

import pytest

from glassnet.data.listing import MAX_FOLDERS, images_in, list_photos
from glassnet.errors import ConfigError, DataError, FileFormatError
from messages import message_of
from photos import photo_folder, save_picture


def found(listing, root):
    return [(os.path.relpath(photo.path, root), photo.split, photo.label) for photo in listing.photos]


def reasons(skipped, root):
    return {os.path.relpath(path, root): reason for path, reason in skipped}


# Folders


def test_each_folder_is_a_class_at_any_depth(tmp_path):
    photo_folder(tmp_path, {"dog": 1, "cat": 2, "cat/young": 1})
    listing = list_photos(tmp_path)
    assert listing.layout == "one folder a class"
    assert found(listing, tmp_path) == [
        ("cat/0.png", "train", "cat"),
        ("cat/1.png", "train", "cat"),
        ("cat/young/0.png", "train", "cat"),
        ("dog/0.png", "train", "dog"),
    ]


@pytest.mark.parametrize(
    ("train", "name", "test"),
    [
        ("train", "val", "test"),
        ("train", "valid", "test"),
        ("Training", "validation", "Testing"),
        ("train", "Valid", "testing"),
    ],
)
def test_folders_for_splits(tmp_path, train, name, test):
    for split in (train, name, test):
        photo_folder(tmp_path / split, {"a": 1, "b": 1})
    (tmp_path / "extra").mkdir()
    save_picture(tmp_path / test / "unsorted.png", 0)
    listing = list_photos(tmp_path)
    assert listing.layout == "folders for splits, in each one folder a class"
    assert [split for _, split, _ in found(listing, tmp_path)] == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert reasons(listing.passed_over, tmp_path) == {
        "extra": "a folder beside the splits",
        f"{test}/unsorted.png": "outside the class folders",
    }
    assert not listing.warnings


def test_a_class_may_be_called_train(tmp_path):
    photo_folder(tmp_path, {"train": 1, "plane": 1})
    assert {label for _, _, label in found(list_photos(tmp_path), tmp_path)} == {"train", "plane"}


def test_splits_that_are_unclear_are_refused(tmp_path):
    for split in ("val", "test"):
        photo_folder(tmp_path / "a" / split, {"x": 1})
    assert message_of(DataError, list_photos, tmp_path / "a") == (
        f"{tmp_path / 'a'} has test and val but nothing to train on, called train."
    )
    for split in ("train", "val", "validation"):
        photo_folder(tmp_path / "b" / split, {"x": 1})
    assert message_of(DataError, list_photos, tmp_path / "b") == (
        f"{tmp_path / 'b'} has one split under two names: val and validation. Keep one."
    )


def test_classes_that_may_be_one_folder_down_are_doubted(tmp_path):
    photo_folder(tmp_path, {f"fold{i}/{name}": 1 for i in (1, 2) for name in ("cat", "dog")})
    assert list_photos(tmp_path).warnings == [
        "The classes fold1, fold2 hold folders of the same names (cat, dog). If those are the classes, give "
        "one of the folders that hold them, or sort the images by class first."
    ]
    photo_folder(tmp_path, {"other": 1})
    assert not list_photos(tmp_path).warnings


def test_one_class_alone_is_refused_before_anything_is_decoded(tmp_path):
    photo_folder(tmp_path, {"animals/cat": 1, "animals/dog": 1})
    assert message_of(DataError, list_photos, tmp_path) == (
        f"{tmp_path} has images of one class only, 'animals', and training needs two. "
        f"If the folders in it are the classes, give {tmp_path}/animals."
    )
    photo_folder(tmp_path / "p" / "train", {"animals/cat": 1, "animals/dog": 1})
    assert message_of(DataError, list_photos, tmp_path / "p") == (
        f"{tmp_path}/p has images of one class only, 'animals', and training needs two."
    )


PHONE = "it is of a kind that is not read. Save it as JPEG."


def test_photos_of_a_kind_that_is_not_read_are_named(tmp_path):
    photo_folder(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    save_picture(tmp_path / "b" / "exported.heic", 2, format="JPEG")  # as some albums name them
    save_picture(tmp_path / "b" / "camera.nef", 3, format="TIFF")  # a thumbnail before the photo
    listing = list_photos(tmp_path)
    assert reasons(listing.unreadable, tmp_path) == {"a/phone.HEIC": PHONE, "b/camera.nef": PHONE}
    assert [name for name, _, _ in found(listing, tmp_path)] == ["a/0.png", "b/0.png", "b/exported.heic"]
    (tmp_path / "a" / "0.png").unlink()
    assert message_of(DataError, list_photos, tmp_path) == (
        f"{tmp_path} has images of one class only, 'b', and training needs two. 2 cannot be read, such as "
        f"{tmp_path}/a/phone.HEIC: {PHONE}"
    )


def test_images_in_a_folder_and_those_that_cannot_be_read(tmp_path):
    photo_folder(tmp_path, {"": 1, "deep": 1})
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "deep" / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    images, unreadable = images_in(tmp_path)
    assert images == [f"{tmp_path}/0.png", f"{tmp_path}/deep/0.png"]
    assert reasons(unreadable, tmp_path) == {"phone.heic": PHONE, "deep/gone.jpg": "a link to nothing."}


def test_an_accent_is_one_letter_or_two_and_the_class_the_same(tmp_path):
    whole, two = (unicodedata.normalize(form, "caf\xe9") for form in ("NFC", "NFD"))
    photo_folder(tmp_path, {whole: 1, two: 1, "tea": 1})
    assert {photo.label for photo in list_photos(tmp_path).photos} == {whole, "tea"}
    (tmp_path / "t.csv").write_text(f"tea/0.png,{two}\n{two}/0.png,{whole}\n", "utf-8")
    (tmp_path / "v.txt").write_text(f"{two}/0.png\n", "utf-8")
    listing = list_photos(tmp_path, {"train": "t.csv", "val": "v.txt"})
    assert {photo.label for photo in listing.photos} == {whole}


def test_hidden_and_foreign_files_are_passed_over_with_a_word(tmp_path):
    photo_folder(
        tmp_path, {"a": 1, "b": 1, ".ipynb_checkpoints": 1, "a/.ipynb_checkpoints": 1, "__MACOSX": 1}
    )
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "README.md").write_text("about")
    os.mkfifo(tmp_path / "b" / "pipe.jpg")
    listing = list_photos(tmp_path)
    assert {label for _, _, label in found(listing, tmp_path)} == {"a", "b"} and len(listing.photos) == 2
    assert reasons(listing.passed_over, tmp_path) == {
        ".ipynb_checkpoints": "hidden",
        "a/.ipynb_checkpoints": "hidden",
        "__MACOSX": "hidden",
        "a/.DS_Store": "hidden",
        "a/notes.txt": "not an image of a kind that is read",
        "README.md": "outside the class folders",
        "b/pipe.jpg": "neither a file nor a folder",
    }


def test_content_decides_where_the_name_says_nothing(tmp_path):
    photo_folder(tmp_path, {"a": 1, "b": 1})
    for number, kind in enumerate(("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")):
        save_picture(tmp_path / "a" / f"{kind}.dat", number, format=kind)
    assert sorted(name for name, _, _ in found(list_photos(tmp_path), tmp_path)) == [
        "a/0.png",
        *sorted(f"a/{kind}.dat" for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")),
        "b/0.png",
    ]


def test_links_that_lead_back_or_nowhere_end(tmp_path):
    photo_folder(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    (tmp_path / "a" / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tmp_path / "c").symlink_to(tmp_path)
    listing = list_photos(tmp_path)
    assert len(listing.photos) == 2 and listing.empty == ["c"]
    assert reasons(listing.unreadable, tmp_path) == {
        "a/gone.jpg": "a link to nothing.",
        "a/self": "a link to nothing.",
    }
    assert set(reasons(listing.passed_over, tmp_path)) == {"a/up", "c"}


def test_links_to_folders_elsewhere_are_followed(tmp_path):
    photo_folder(tmp_path / "elsewhere", {"birds": 2})
    photo_folder(tmp_path / "data", {"a": 1})
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere" / "birds")
    assert [label for _, _, label in found(list_photos(tmp_path / "data"), tmp_path)] == ["a", "b", "b"]


def test_names_that_are_not_utf8_are_shown_as_escapes(tmp_path):
    photo_folder(tmp_path, {"a": 1})
    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(odd)
    source = (tmp_path / "a" / "0.png").read_bytes()
    with open(os.path.join(odd, b"\xff.png"), "wb") as file:
        file.write(source)
    photo = list_photos(tmp_path).photos[-1]
    assert photo.label == "caf\\xe9"
    with open(photo.path, "rb") as file:
        assert file.read() == source


def test_empty_class_folders_are_named(tmp_path):
    photo_folder(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "c" / "deep").mkdir(parents=True)
    assert list_photos(tmp_path).empty == ["c"]


def test_thousands_of_empty_folders_are_listed_in_bounded_time(tmp_path):
    photo_folder(tmp_path, {"a": 1, "b": 1})
    for i in range(4000):
        (tmp_path / f"empty{i:05}").mkdir()
    start = time.thread_time()
    assert len(list_photos(tmp_path).empty) == 4000
    assert time.thread_time() - start < 5


def test_more_folders_than_photos_could_need_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("glassnet.data.listing.MAX_FOLDERS", 50)
    for i in range(51):
        (tmp_path / f"empty{i}").mkdir()
    assert MAX_FOLDERS == 20_000
    assert message_of(DataError, list_photos, tmp_path) == (
        f"{tmp_path} has more than 50 folders. Give the one that holds a folder of images for each class."
    )


@pytest.mark.parametrize(("images", "found"), [(0, ""), (3, ", and 3 outside them")])
def test_a_folder_without_class_folders_is_refused(tmp_path, images, found):
    for i in range(images):
        save_picture(tmp_path / f"{i}.jpg", i)
    assert message_of(DataError, list_photos, tmp_path) == (
        f"{tmp_path} holds no images in class folders{found}. "
        "It needs one folder of images for each class, or such folders in train, val and test."
    )


def test_what_is_no_folder_is_refused(tmp_path):
    wish = "Give a folder with one folder of images for each class."
    assert message_of(DataError, list_photos, tmp_path / "no") == f"{tmp_path / 'no'} does not exist. {wish}"
    path = save_picture(tmp_path / "a.png", 0)
    assert message_of(DataError, list_photos, path) == (f"{path} is a file and no folder of photos. {wish}")


# Split files


def test_split_files_name_paths_whose_folder_is_the_class(tmp_path):
    photo_folder(tmp_path, {"a": 3, "x/b": 2})
    (tmp_path / "train.txt").write_text("\ufeffx/b/0.png\n\na/0.png\r\na/9.png\n", encoding="utf-8")
    (tmp_path / "held.txt").write_text("a/1.png")
    listing = list_photos(tmp_path, {"train": "train.txt", "valid": tmp_path / "held.txt"})
    assert listing.layout == "split files"
    assert found(listing, tmp_path) == [
        ("a/0.png", "train", "a"),
        ("x/b/0.png", "train", "b"),
        ("a/1.png", "val", "a"),
    ]
    assert reasons(listing.unreadable, tmp_path) == {"a/9.png": "there is no such file."}


def test_split_files_that_say_too_little_are_refused(tmp_path):
    photo_folder(tmp_path, {"a": 1})
    path = tmp_path / "list.txt"
    path.write_text("a/0.png\n0.png 1\n")
    assert message_of(DataError, list_photos, tmp_path, {"train": path}) == (
        f"Line 2 of {path} must be a path whose folder is the class, such as cat/1.jpg, got '0.png 1'. "
        "A table of paths and classes is a .csv file."
    )
    path.write_text("a/7.png\n")
    assert message_of(DataError, list_photos, tmp_path, {"train": path}) == (
        f"None of the 1 files listed for {tmp_path} exists, such as {tmp_path / 'a/7.png'}."
    )
    path.write_text("\n")
    assert message_of(DataError, list_photos, tmp_path, {"train": path}) == (
        f"The lists for {tmp_path} name no file."
    )
    assert message_of(ConfigError, list_photos, tmp_path, {"trian": path}) == (
        "There is no split 'trian'. Did you mean 'train'?"
    )
    assert message_of(DataError, list_photos, tmp_path, {"val": path}) == (
        "split_files has val but nothing to train on, called train."
    )
    with pytest.raises(FileNotFoundError):
        list_photos(tmp_path, {"train": "none.txt"})


# Tables


@pytest.mark.parametrize(
    "text",
    [
        "a/0.png,cat\na/1.png,dog\na/2.png,cat\n",
        "label,id,filename\ncat,7,a/0.png\ndog,8,a/1.png\n\ncat,9,a/2.png\n",
        "Path;Class\na/0.png;cat\na/1.png;dog\na/2.png;cat\n",
        '"a/0.png"\tcat\na/1.png\tdog\na/2.png\tcat\n',
    ],
)
def test_a_table_names_paths_and_classes(tmp_path, text):
    photo_folder(tmp_path, {"a": 3})
    (tmp_path / "labels.csv").write_text(text)
    listing = list_photos(tmp_path / "labels.csv")
    assert found(listing, tmp_path) == [
        ("a/0.png", "train", "cat"),
        ("a/2.png", "train", "cat"),
        ("a/1.png", "train", "dog"),
    ]


def test_a_table_may_name_splits(tmp_path):
    photo_folder(tmp_path, {"a": 3})
    path = tmp_path / "labels.csv"
    path.write_text("path,label,split\na/0.png,x,train\na/1.png,y,Valid\na/2.png,x,test\n")
    assert [split for _, split, _ in found(list_photos(path), tmp_path)] == ["train", "val", "test"]
    path.write_text("a/0.png,x,train\na/1.png,y,tset\n")
    assert message_of(DataError, list_photos, path) == "a/1.png is in a split 'tset'. Did you mean 'test'?"


def test_a_table_may_be_a_split_file(tmp_path):
    photo_folder(tmp_path, {"a": 2})
    (tmp_path / "t.csv").write_text("a/0.png,x\n")
    (tmp_path / "v.csv").write_text("a/1.png,y\n")
    listing = list_photos(tmp_path, {"train": "t.csv", "val": "v.csv"})
    assert found(listing, tmp_path) == [("a/0.png", "train", "x"), ("a/1.png", "val", "y")]


def test_a_row_that_lacks_its_class_is_named(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("path,label\na/0.png,\n")
    assert message_of(FileFormatError, list_photos, path) == (
        f"Line 2 of {path} must be a path and a class, got 'a/0.png,'."
    )
    path.write_text('a/0.png,"' + "x" * 200_000)
    assert message_of(FileFormatError, list_photos, path) == (
        f"{path} is not a table of paths (field larger than field limit (131072))."
    )
