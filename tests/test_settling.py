"""From the path of a folder to a config that a run is repeated and resumed from."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import glassnet as gn
from glassnet.data.augment import Augment, default_augment
from glassnet.errors import ConfigError, FileFormatError
from glassnet.runs.records import read_run
from glassnet.runs.report import write_report
from glassnet.settings.settling import balanced, load_data, settle
from glassnet.train import Interrupted, TrainConfig, fit_config, resume
from messages import message_of
from photos import photo_folder, save_picture
from test_resume import Stop, outcome

SMALL = ("model_options={width=4, stages=2, halvings=1}", "epochs=3", "checkpoint_steps=1")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with photos in it and a cache for their pixels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("glassnet.data.catalog.user_cache", lambda: tmp_path / "cache")
    photo_folder(tmp_path / "photos", {"cat": 14, "dog": 8})
    return tmp_path


def test_a_folder_gets_what_suits_its_photos(folder):
    config, data = settle({"data": "photos"})
    assert config.data == str(folder / "photos") and data.image_shape == (24, 32, 3)
    assert (config.model, config.epochs, config.schedule) == ("resnet", 100, gn.schedules.OneCycle())
    assert config.augment == default_augment("objects") and config.loss.label_smoothing == 0.1
    assert config.ema > 0 and not config.early_stopping


def test_the_config_of_a_folder_comes_back_from_its_toml(folder):
    """Also what was turned off: nothing of what suits the data is put back."""
    off = ("augment.horizontal_flip=0", "augment.shift=0", "augment.cutout=0", "ema=0")
    for assignments in ((), off):
        config, data = settle({"data": "photos", "data_options": {"size": 16}}, *assignments)
        (folder / "a.toml").write_text(config.to_toml())
        assert TrainConfig.from_toml("a.toml") == config
        again, _ = settle(TrainConfig.from_toml("a.toml").to_dict())
        assert again == config
        assert config.augment.off == bool(assignments) and data.image_shape == (16, 16, 3)


def test_a_run_reads_photos_alike_when_others_are_there_later(folder):
    config, data = settle({"data": "photos"})
    assert config.data_options == {"size": [24, 32], "channels": "RGB"}
    save_picture(folder / "photos" / "dog" / "large.png", 99, (62, 70))
    assert load_data(config).image_shape == data.image_shape == (24, 32, 3)
    assert settle({"data": "photos"})[1].image_shape == (24, 24, 3)
    assert "size" not in settle({"data": "digits"})[0].data_options


def test_settings_lie_over_what_suits_the_data(folder):
    config, _ = settle({"data": "photos", "epochs": 7, "augment": {"shift": 1}}, "optimizer.lr=0.5")
    assert (config.epochs, config.optimizer.lr, config.optimizer.weight_decay) == (7, 0.5, 0.05)
    assert config.augment == Augment(shift=1)
    config, _ = settle({"data": "photos", "model_options": {"width": 8}})
    assert config.model_options == {"width": 8}
    config, _ = settle({"data": "photos"}, "augment.shift=1", "model_options.width=8")
    assert config.augment.shift == 1 and config.augment.horizontal_flip == 0.5
    assert config.model_options["width"] == 8 and config.model_options["stages"] == 3


def test_wrong_settings_are_said_before_anything_is_read(folder, monkeypatch):
    monkeypatch.setattr("glassnet.settings.settling.load", None)
    assert message_of(ConfigError, settle, {"data": "photos"}, "epoch=3") == (
        "Unknown setting 'epoch'. Did you mean 'epochs'?"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sise": 16}, "Data from photos takes no option 'sise'. Did you mean 'size'?"),
        ({"source": 16}, "Data from photos takes no option 'source'."),
        ({"progress": 3}, "progress must be a function of (done, all), got 3."),
        ({"size": "16"}, "size must be (height, width), a side or 'auto', got '16'."),
        ({"size": True}, "size must be (height, width), a side or 'auto', got True."),
        ({"strict": "yes"}, "strict must be true or false, got 'yes'."),
        ({"cache_limit": "much"}, "cache_limit must be a whole number of bytes, got 'much'."),
        ({"split_files": "a.txt"}, "split_files must be such as {'train': 'train.txt'}, got 'a.txt'."),
        ({"resize": 3}, "resize must be 'stretch' or 'crop', got 3."),
    ],
)
def test_wrong_ways_to_read(folder, options, message):
    config = TrainConfig(data="photos", data_options=options)
    assert message_of(ConfigError, load_data, config).startswith(message)


def test_a_name_takes_no_options():
    assert message_of(ConfigError, settle, {"data": "digits", "data_options": {"size": 16}}) == (
        "The data set 'digits' takes no option 'size'. It takes none."
    )


def test_progress_of_decoding_is_told_once(folder):
    told = []
    for _ in range(2):
        settle({"data": "photos"}, progress=lambda done, total: told.append((done, total)))
    assert told == [(22, 22)]
    assert settle({"data": "digits"}, progress=lambda *_: told.append(None))[1].name == "digits"
    assert len(told) == 1


def lists(folder):
    """Split files in another folder than the photos."""
    (folder / "lists").mkdir()
    for split, numbers in (("train", range(6)), ("val", (6,)), ("test", (7,))):
        lines = [f"{name}/{i}.png" for name in ("cat", "dog") for i in numbers]
        (folder / "lists" / f"{split}.txt").write_text("\n".join(lines))
    return {split: f"lists/{split}.txt" for split in ("train", "val", "test")}


def test_a_run_on_photos_is_resumed_from_anywhere(folder, monkeypatch):
    options = {"split_files": lists(folder), "size": [16, 20], "resize": "stretch", "strict": True}
    config, data = settle({"data": "photos", "data_options": options}, *SMALL)
    assert data.image_shape == (16, 20, 3) and len(data.test) == 2
    fit_config(config, run_dir="whole")
    with pytest.raises(Interrupted):
        fit_config(config, data=data, run_dir="stopped", callbacks=[Stop(4)])
    monkeypatch.chdir(os.sep)
    resume(folder / "stopped")
    assert outcome(folder / "stopped") == outcome(folder / "whole")


def test_what_was_found_stays_in_the_run_folder(folder):
    (folder / "photos" / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    config, data = settle({"data": "photos"}, *SMALL, "epochs=1")
    net, _ = fit_config(config, data=data, run_dir="run")
    kept = json.loads((folder / "run" / "data.json").read_text())
    assert kept == json.loads(json.dumps(data.report.to_dict()))
    assert kept["unreadable"][0]["path"].endswith("broken.jpg")
    write_report(read_run("run"), net, data, "page.html")
    assert "broken.jpg" in (folder / "page.html").read_text()
    with pytest.raises((ConfigError, FileFormatError, gn.errors.DataError), match=r"broken\.jpg"):
        settle({"data": "photos", "data_options": {"strict": True}})


def test_the_report_in_short(folder):
    (folder / "photos" / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (folder / "photos" / "dog" / "again.png").write_bytes((folder / "photos/cat/3.png").read_bytes())
    _, data = settle({"data": "photos"})
    assert data.report.brief() == [
        *data.report.overview(),
        "Of the files: 1 unreadable, 1 in two classes.",
    ]
    assert data.report.lines()[: len(data.report.overview())] == data.report.overview()


def test_balanced_class_weights_are_numbers_in_the_config(folder):
    config, data = settle({"data": "photos"}, *SMALL, "loss.class_weights=balanced", "epochs=1")
    assert config.loss.class_weights == "balanced"
    _, run = fit_config(config, data=data, run_dir="run")
    assert list(run.config.loss.class_weights) == [22 / 28, 22 / 16]
    assert list(TrainConfig.from_toml("run/config.toml").loss.class_weights) == [22 / 28, 22 / 16]
    assert list(gn.load("run/last.gnet").loss.class_weights) == [22 / 28, 22 / 16]


def test_a_class_without_images_has_the_weight_one():
    images, labels = np.zeros((6, 4, 4), np.uint8), np.array([0, 0, 0, 0, 2, 2])
    data = gn.data.from_arrays(images, labels, classes=["a", "b", "c"])
    config = TrainConfig(data="", loss=gn.SoftmaxCrossEntropy(class_weights="balanced"))
    assert list(balanced(config, data).loss.class_weights) == [0.75, 1, 1.5]
    plain = TrainConfig(data="", loss=gn.SoftmaxCrossEntropy(class_weights=[1, 2, 3]))
    assert balanced(plain, data) is plain


def test_balanced_is_refused_where_nothing_counts():
    loss = gn.SoftmaxCrossEntropy(class_weights="balanced")
    assert message_of(ConfigError, loss.targets, np.array([0, 1]), 2) == (
        "class_weights='balanced' is for training, which counts images. Give numbers."
    )
    assert message_of(ConfigError, gn.SoftmaxCrossEntropy, class_weights="even") == (
        "class_weights must be one number a class or 'balanced', got 'even'."
    )
