"""The command line on photos: training on a folder, searching a rate, predicting files and folders."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import glassnet as gn
from glassnet.cli.target import is_model
from glassnet.train import TrainConfig
from photos import photo_folder, save_picture
from test_cli import run, run_json

QUICK = ("--epochs", 1, "--set", "model_options={width=4, stages=2, halvings=1}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with photos in it, on which one run was trained."""
    folder = tmp_path_factory.mktemp("photos")
    photo_folder(folder / "photos", {"cat": 10, "dog": 6})
    (folder / "photos" / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("glassnet.data.catalog.user_cache", lambda: folder / "cache")


@pytest.fixture
def trained(folder, capsys):
    if not Path("runs/photos-1").exists():
        assert run(capsys, "train", "photos", *QUICK)[0] == 0
    return "runs/photos-1"


def test_train_on_a_folder(capsys):
    shutil.rmtree("runs", ignore_errors=True)
    status, out, err = run(capsys, "train", "photos", *QUICK)
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0] == "Warning: photos: 1 unreadable image left out."
    assert lines[1] == "photos: one folder a class"
    assert lines[2] == "train: 16 images (cat 10, dog 6)"
    assert "Of the files: 1 unreadable." in lines
    assert any(
        line.startswith("Training resnet (width 4, stages 2, halvings 1) on ") and " 2 held out" in line
        for line in lines
    )
    config = TrainConfig.from_toml("runs/photos-1/config.toml")
    assert (config.model, config.data) == ("resnet", str(Path("photos").resolve()))
    assert json.loads(Path("runs/photos-1/data.json").read_text())["counts"] == {
        "train": {"cat": 10, "dog": 6}
    }


def test_options_of_reading_are_in_the_config(capsys, tmp_path):
    for split, numbers in (("train", range(4)), ("test", (5,))):
        lines = [f"{name}/{i}.png" for name in ("cat", "dog") for i in numbers]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    files = [
        option
        for split in ("train", "test")
        for option in ("--split-file", f"{split}={tmp_path}/{split}.txt")
    ]
    how = ("--size", "16x20", "--resize", "stretch", "--strict")
    result, _ = run_json(capsys, "train", "photos", *QUICK, *files, *how, "--name", "lists")
    assert TrainConfig.from_toml("runs/lists/config.toml").data_options == {
        "size": [16, 20],
        "channels": "RGB",
        "resize": "stretch",
        "split_files": {split: f"{tmp_path}/{split}.txt" for split in ("train", "test")},
        "strict": True,
    }
    found, _ = run_json(capsys, "evaluate", "runs/lists")  # reads the photos in the same way
    assert (found["samples"], found["accuracy"]) == (2, result["test_accuracy"])
    again, _ = run_json(capsys, "train", "--config", "runs/lists/config.toml", "--name", "again")
    assert again["test_accuracy"] == result["test_accuracy"]
    assert Path("runs/again/last.gnet").read_bytes() == Path("runs/lists/last.gnet").read_bytes()
    assert run(capsys, "train", "photos", "--strict", *QUICK)[0] == 2


def test_a_rate_can_be_searched_first(capsys):
    found, _ = run_json(capsys, "lr", "digits", "--steps", 40, "--out", "rates.png", "--set", "seed=3")
    assert Path("rates.png").read_bytes().startswith(b"\x89PNG")
    assert found["suggestion"] == float(f"{found['lowest'] / 10:.1e}") and len(found["rates"]) <= 40
    args = ("--lr", "auto", "--epochs", 1, "--model", "linear", "--name", "searched")
    status, out, err = run(capsys, "train", "digits", *args)
    assert status == 0, err
    rate = TrainConfig.from_toml("runs/searched/config.toml").optimizer.lr
    assert f"The learning rate is {rate:g}." in out and rate != 0.1


def test_a_rate_that_is_none_is_refused(capsys):
    assert run(capsys, "train", "digits", "--lr", "fast") == (
        2,
        "",
        "Error: optimizer.lr must be a number, got 'fast'.\n",
    )


def test_folders_of_photos_are_no_models(trained, tmp_path):
    assert is_model(trained) and is_model(f"{trained}/last.gnet") and is_model("nothing.gnet")
    assert not is_model("photos") and not is_model("digits") and not is_model(f"{trained}/config.toml")


def test_summary_of_a_folder_is_of_the_network_that_suits_it(capsys):
    found, _ = run_json(capsys, "summary", "photos")
    assert found["layers"][0]["output_shape"][-1] == 16


def test_predict_on_files_folders_and_patterns(trained, capsys):
    save_picture(Path("more/deep/b.png"), 99, (40, 30))
    save_picture(Path("more/a.jpg"), 98)
    Path("more/notes.txt").write_text("none")
    result, _ = run_json(capsys, "predict", trained, "more", "photos/dog/*.png", "photos/cat/1.png")
    files = [entry["file"] for entry in result["predictions"]]
    dogs = [f"photos/dog/{i}.png" for i in range(6)]
    assert files == ["more/a.jpg", "more/deep/b.png", *dogs, "photos/cat/1.png"]
    net = gn.load(f"{trained}/last.gnet")
    for entry in result["predictions"]:
        images = gn.io.read_images(entry["file"], net.preprocessing)
        assert entry["top"][0]["class"] == net.predict(images)[0]


def test_a_pattern_may_match_folders(trained, capsys):
    whole, _ = run_json(capsys, "predict", trained, "photos")
    for pattern in ("photos/*", "photos/**"):
        assert run_json(capsys, "predict", trained, pattern)[0] == whole


def test_images_are_read_alike_whatever_is_beside_them(trained, capsys):
    """Bytes beside floats are not floats."""
    height, width = gn.load(f"{trained}/last.gnet").preprocessing.size
    np.save("float.npy", np.zeros((2, height, width, 3), np.float32))
    alone, _ = run_json(capsys, "predict", trained, "photos/cat/1.png")
    beside, _ = run_json(capsys, "predict", trained, "photos/cat/1.png", "float.npy")
    files = [entry["file"] for entry in beside["predictions"]]
    assert files == ["photos/cat/1.png", "float.npy[0]", "float.npy[1]"]
    assert beside["predictions"][:1] == alone["predictions"]


def test_predictions_as_files(trained, capsys):
    result, err = run_json(capsys, "predict", trained, "photos", "--top-k", 2, "--out", "found.json")
    assert "found.json has the predictions for 16 images." in err
    assert json.loads(Path("found.json").read_text()) == result["predictions"]
    status, out, _ = run(capsys, "predict", trained, "photos", "--top-k", 2, "--out", "found.csv")
    assert status == 0 and "cat/0.png" not in out
    with open("found.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "class 1", "score 1", "class 2", "score 2"]
    assert [row[0] for row in rows] == [entry["file"] for entry in result["predictions"]]
    for row, entry in zip(rows, result["predictions"], strict=True):
        assert row[1::2] == [top["class"] for top in entry["top"]]
        np.testing.assert_allclose(np.float64(row[2::2]), [top["score"] for top in entry["top"]], rtol=1e-5)
    assert run(capsys, "predict", trained, "photos", "--out", "gone/found.csv") == (
        2,
        "",
        "Error: --out gone/found.csv is to be in a folder that is not there. Make gone first.\n",
    )
    assert run(capsys, "predict", trained, "photos", "--out", "found.xls") == (
        2,
        "",
        "Error: --out must be a .csv or .json file, got found.xls.\n",
    )


def test_images_that_cannot_be_read_are_named(trained, capsys):
    result, err = run_json(capsys, "predict", trained, "photos/cat")
    assert len(result["predictions"]) == 10 and result["unreadable"] == ["photos/cat/broken.jpg"]
    assert "Left out, for they cannot be read or do not fit: 1\n  photos/cat/broken.jpg is " in err
    save_picture(Path("phone/a.jpg"), 97)
    Path("phone/b.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    result, err = run_json(capsys, "predict", trained, "phone")
    assert (len(result["predictions"]), result["unreadable"]) == (1, ["phone/b.HEIC"])
    assert "  phone/b.HEIC: it is of a kind that is not read. Save it as JPEG.\n" in err
    result, _ = run_json(capsys, "predict", trained, "gone.png", "photos/cat/1.png")
    assert (len(result["predictions"]), result["unreadable"]) == (1, ["gone.png"])


def test_arrays_that_do_not_fit_are_named_and_the_others_predicted(trained, capsys):
    height, width = gn.load(f"{trained}/last.gnet").preprocessing.size
    arrays = {
        "shape": np.zeros((2, 5, 5, 3), np.uint8),
        "dtype": np.zeros((2, height, width, 3), np.int64),
        "nan": np.full((1, height, width, 3), np.nan, np.float32),
        "number": np.zeros((), np.uint8),
        "good": np.zeros((1, height, width, 3), np.float32),
    }
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    files = [f"{name}.npy" for name in arrays]
    result, err = run_json(capsys, "predict", trained, *files, "photos/cat/1.png")
    assert [entry["file"] for entry in result["predictions"]] == ["good.npy", "photos/cat/1.png"]
    assert result["unreadable"] == files[:-1]
    assert f"  shape.npy: The images must be {height} high and {width} wide, got 5 high and 5 wide." in err
    status, _, err = run(capsys, "predict", trained, "shape.npy")
    assert status == 2 and err.startswith("Error: shape.npy: The images must be ")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nothing/*.png"], "No file matches nothing/*.png."),
        (["empty"], "There are no images in the folder empty."),
        (["nothing.png"], "nothing.png: No such file or directory."),
        (["photos/cat/broken.jpg"], "photos/cat/broken.jpg is not an image that can be read: "),
    ],
)
def test_nothing_to_predict(trained, capsys, names, message):
    Path("empty").mkdir(exist_ok=True)
    status, out, err = run(capsys, "predict", trained, *names)
    assert (status, out) == (2, "") and err.startswith(f"Error: {message}")


def test_a_run_without_test_images_is_evaluated_on_those_it_held_out(trained, capsys):
    said = json.loads(Path(f"{trained}/evaluation.json").read_text())["val"]
    for data in ((), ("--data", "photos")):
        found, err = run_json(capsys, "evaluate", trained, *data)
        assert (found["split"], found["samples"], found["accuracy"]) == ("val", 2, said["accuracy"])
        assert "on the 2 validation images of photos:" in err


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_all_images_of_another_folder_are_read_as_the_model_needs_them(trained, capsys, command):
    for name, number in (("cat", 70), ("dog", 71)):
        save_picture(Path("others") / name / "0.png", number, (90, 50))
    found, _ = run_json(
        capsys, command, trained, "--data", "others", *(("--out", "o.html") * (command == "report"))
    )
    net = gn.load(f"{trained}/last.gnet")
    images = [gn.io.read_images(f"others/{name}/0.png", net.preprocessing) for name in ("cat", "dog")]
    right = (net.predict(np.concatenate(images)) == ["cat", "dog"]).mean()
    assert (found["split"], found["accuracy"]) == ("test", right)


def test_warnings_of_a_folder_are_said_once(capsys):
    photo_folder(Path("double"), {"cat": 8, "dog": 8})
    shutil.copy("double/cat/0.png", "double/dog/9.png")
    for command in (("train", "double", *QUICK), ("data", "check", "double")):
        _, out, err = run(capsys, *command)
        assert (out + err).count("Warning: ") == 1 == (out + err).count("1 pictures are in two classes.")


@pytest.mark.parametrize("command", ["report", "curve"])
def test_photos_added_later_are_no_reason_to_judge_on_training_photos(capsys, command):
    """They change which photos are held out."""
    shutil.rmtree("grown", ignore_errors=True)
    shutil.rmtree("runs/grown", ignore_errors=True)
    photo_folder(Path("grown"), {"cat": 10, "dog": 6})
    assert run(capsys, "train", "grown", *QUICK, "--name", "grown")[0] == 0
    assert run(capsys, "report", "runs/grown")[0] == 0
    save_picture(Path("grown/cat/more.png"), 50)
    status, _, err = run(capsys, command, "runs/grown")
    assert status == 2
    assert err.startswith("Error: The data of runs/grown changed since it was trained: ")
    assert "; train: 15 images " in err
