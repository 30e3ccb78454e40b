"""glassnet data: what is found in a folder, and a sheet of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from glassnet.cli import data as command
from glassnet.cli.app import app
from glassnet.cli.output import Output
from glassnet.data.augment import Augment
from glassnet.data.folder import load_folder
from photos import photo_folder, picture


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Photos in the current folder, and a cache of this test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return photo_folder(tmp_path / "photos", {"cat": 5, "dog": 4})


def run(capsys, *args):
    """(exit status, stdout, stderr) of glassnet data."""
    with pytest.raises(SystemExit) as end:
        app(["data", *map(str, args)], prog_name="glassnet")
    captured = capsys.readouterr()
    return end.value.code or 0, captured.out, captured.err


def test_check_says_what_is_there(photos, capsys):
    (photos / "cat" / "empty.jpg").write_bytes(b"")
    status, out, err = run(capsys, "check", "photos")
    assert status == 0 and not err
    assert out.splitlines()[:2] == ["photos: one folder a class", "train: 9 images (cat 5, dog 4)"]
    assert "  photos/cat/empty.jpg: it is empty." in out.splitlines()
    status, out, err = run(capsys, "check", "photos", "--json")
    found = json.loads(out)
    assert found["counts"] == {"train": {"cat": 5, "dog": 4}} and found["decoded"] == 0
    assert found["unreadable"] == [{"path": "photos/cat/empty.jpg", "reason": "it is empty."}]


def test_check_refuses_where_asked(photos, capsys):
    (photos / "cat" / "empty.jpg").write_bytes(b"")
    assert run(capsys, "check", "photos", "--strict") == (
        2,
        "",
        "Error: 1 of the images of photos cannot be read: photos/cat/empty.jpg: it is empty.\n",
    )


def test_check_takes_split_files_and_sizes(photos, capsys):
    (photos / "t.txt").write_text("cat/0.png\ndog/0.png\n")
    (photos / "v.txt").write_text("cat/1.png\n")
    options = ["--split-file", "train=t.txt", "--split-file", "valid=v.txt", "--json"]
    _, out, _ = run(capsys, "check", "photos", *options, "--size", "10x14", "--resize", "stretch")
    found = json.loads(out)
    assert found["counts"] == {"train": {"cat": 1, "dog": 1}, "val": {"cat": 1}}
    assert (found["size"], found["resize"]) == ([10, 14], "stretch")
    _, out, _ = run(capsys, "check", "photos", "--size", "12", "--json")
    assert json.loads(out)["size"] == [12, 12]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "big"], "--size must be auto, a side such as 96, or HEIGHTxWIDTH, got 'big'."),
        (["--size", "1x2x3"], "--size must be auto, a side such as 96, or HEIGHTxWIDTH, got '1x2x3'."),
        (["--split-file", "t.txt"], "--split-file must be such as train=FILE, got 't.txt'."),
    ],
)
def test_options_that_mean_nothing_are_refused(photos, capsys, options, message):
    assert run(capsys, "check", "photos", *options) == (2, "", f"Error: {message}\n")


def test_a_sheet_shows_a_row_of_each_class(photos, capsys):
    status, out, _ = run(capsys, "show", "photos", "--columns", "6")
    assert (status, out) == (0, "sheet.png has a row for each class: cat, dog.\n")
    sheet = np.asarray(Image.open("sheet.png"))
    times, gap = 64 // 32, 1
    assert sheet.shape == (2 * (24 * times + gap) + gap, 6 * (32 * times + gap) + gap, 3)
    tiles = [sheet[1 : 1 + 48 : 2, 1 + 65 * i : 1 + 65 * i + 64 : 2] for i in range(6)]
    shown = sorted(next(k for k in range(9) if np.array_equal(tile, picture(k))) for tile in tiles)
    assert set(shown) == {0, 1, 2, 3, 4}  # five cats, and one of them again


def test_a_sheet_that_cannot_be_written_is_refused(photos, capsys):
    for name in ("sheet", "sheet.foo"):
        assert run(capsys, "show", "photos", "--out", name) == (
            2,
            "",
            f"Error: --out must be a .png file, got {name}.\n",
        )
    assert run(capsys, "show", "photos", "--out", "gone/sheet.png") == (
        2,
        "",
        "Error: --out gone/sheet.png is to be in a folder that is not there. Make gone first.\n",
    )


def test_a_sheet_of_variations_begins_with_the_image(photos, capsys):
    status, out, _ = run(capsys, "show", "photos", "--augment", "--out", "varied.png", "--json")
    assert json.loads(out) == {"sheet": "varied.png", "classes": ["cat", "dog"], "images": 16}
    sheet = np.asarray(Image.open("varied.png"))
    tiles = [sheet[1 : 1 + 48 : 2, 1 + 65 * i : 1 + 65 * i + 64 : 2] for i in range(8)]
    assert any(np.array_equal(tiles[0], picture(k)) for k in range(5))
    assert all((tile != tiles[0]).any() for tile in tiles[1:])


def test_variations_are_what_the_network_is_fed(photos):
    """Without any augmentation, they are the image."""
    train = load_folder(photos).train
    same = command.varied(train.images[0], 3, 0, train.preprocessing, Augment())
    np.testing.assert_allclose(same, np.repeat(train.images[:1], 3, axis=0) / 255, atol=1e-6)


def test_variations_are_those_of_training(tmp_path, photos, capsys):
    """Of images as small as digits there are none."""
    assert run(capsys, "show", "photos", "--augment", "--columns", "3", "--size", "12")[0] == 0
    sheet = np.asarray(Image.open("sheet.png"))
    tiles = np.split(sheet[1:-1, 1:].reshape(-1, sheet.shape[1] - 1, 3), 3, axis=1)
    assert np.array_equal(tiles[0], tiles[1]) and np.array_equal(tiles[0], tiles[2])


def test_a_terminal_shows_a_bar_and_a_file_does_not(monkeypatch):
    with command.decoding(Output(False)) as progress:
        assert progress is None
    monkeypatch.setattr(Console, "is_terminal", True)
    with command.decoding(Output(False)) as progress:
        progress(3, 4)


@pytest.mark.parametrize("name", ["check", "show"])
def test_the_example_in_the_help_runs(photos, capsys, name):
    _, text, _ = run(capsys, name, "--help")
    example = next(
        line.split("Example: glassnet data ")[1] for line in text.splitlines() if "Example:" in line
    )
    assert run(capsys, *example.split())[0] == 0
