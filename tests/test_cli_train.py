"""glassnet train: settings from files and options, the run that it leaves, and what it says in the end."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest

import glassnet as gn
from glassnet.cli.output import Output
from glassnet.cli.target import asked_for
from glassnet.cli.train import report
from glassnet.train import TrainConfig, fit
from glassnet.train.fitting import prepare
from test_cli import run, run_json, start


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_train_in_a_process_of_its_own(tmp_path):
    args = ("--epochs", "2", "--seed", "3", "--backend", "reference", "--json")
    process = start("train", "digits", *args, folder=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result.keys() == {"test_accuracy", "val_accuracy", "epochs", "seconds", "backend", "run"}
    assert (result["epochs"], result["backend"]) == (2, "reference")
    assert Path(result["run"]) == Path("runs/digits-1")
    assert result["test_accuracy"] > 0.15
    assert "epoch 1/2  loss" in err and "epoch 2/2  loss" in err and "images/s" in err
    names = {path.name for path in (tmp_path / "runs" / "digits-1").iterdir()}
    assert {"config.toml", "metrics.jsonl", "last.gnet", "report.html", "curves.png"} <= names


def test_train_ends_with_the_accuracy_the_run_and_what_to_try(capsys):
    args = (
        "train",
        "digits",
        "--epochs",
        "1",
        "--model",
        "linear",
        "--backend",
        "reference",
        "--name",
        "said",
    )
    status, out, err = run(capsys, *args)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "Training linear on digits: 1,295 images of 8 x 8 x 1, 143 held out; 1 x 41 steps of 32, "
        "learning rate 0.1, on the reference backend."
    )
    share, between = r"accuracy [\d.]+ %", r"\([\d.]+ % to [\d.]+ %\)"
    assert any(
        re.fullmatch(
            f"Test {share} of 359 {between}, validation {share} of 143 {between}, after [\\d.]+ s\\.", x
        )
        for x in lines
    )
    assert f"Everything is in {Path('runs/said')}" in out
    assert [line.split()[1] for line in lines if line.startswith("  glassnet")] == [
        "report",
        "evaluate",
        "summary",
        "gradcheck",
        "predict",
    ]


def test_options_go_over_the_config_and_set_over_both(capsys, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('data = "digits"\nmodel = "linear"\nepochs = 3\nbatch_size = 64\nseed = 1\n')
    args = ("--epochs", 2, "--lr", 0.5, "--set", "epochs=1", "--set", "optimizer.momentum=0.8")
    result, _ = run_json(capsys, "train", "--config", config, *args)
    text = Path(result["run"], "config.toml").read_text()
    assert result["epochs"] == 1
    for line in (
        "epochs = 1",
        "batch_size = 64",
        "lr = 0.5",
        "momentum = 0.8",
        "seed = 1",
        'model = "linear"',
    ):
        assert line in text


@pytest.mark.parametrize("name", ["optimizer=adam", "optimizer.name=adam"])
def test_the_rate_is_that_of_an_optimizer_set_by_name(capsys, name):
    args = ("--model", "linear", "--epochs", 1, "--lr", 0.02, "--backend", "reference", "--set", name)
    result, _ = run_json(capsys, "train", "digits", *args)
    assert TrainConfig.from_toml(Path(result["run"], "config.toml")).optimizer == gn.Adam(lr=0.02)


def test_runs_started_together_get_folders_of_their_own(capsys, monkeypatch):
    """Another one begins while this one compiles."""

    def prepare_while_another_begins(*args):
        loop = prepare(*args)
        Path("runs/digits-1").mkdir(parents=True)
        Path("runs/digits-1/config.toml").touch()
        return loop

    monkeypatch.setattr("glassnet.train.fitting.prepare", prepare_while_another_begins)
    args = ("--model", "linear", "--epochs", 1, "--backend", "reference")
    result, _ = run_json(capsys, "train", "digits", *args)
    assert Path(result["run"]) == Path("runs/digits-2")


def test_what_fails_before_training_leaves_no_folder(capsys):
    status, _, err = run(capsys, "train", "digits", "--model", "linear", "--batch-size", 10_000)
    assert status == 2 and "batch_size" in err
    assert not Path("runs").exists()


def test_the_data_that_is_named_goes_over_that_of_the_config(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        f'data = "{tmp_path}"\n[data_options]\nsize = [16, 20]\nsplit_files = {{train = "a.txt"}}\n'
    )
    assert asked_for("digits", config) == {"data": "digits", "data_options": {"size": [16, 20]}}
    files = {"split_files": {"train": "a.txt"}}
    for same in (None, str(tmp_path)):
        options = asked_for(same, config, {"size": 8})
        assert options == {"data": str(tmp_path), "data_options": {"size": 8} | files}


def test_a_run_on_which_nothing_can_be_measured_says_so(capsys, tmp_path, generator):
    images = generator.integers(0, 256, (20, 4, 4), np.uint8)
    net = gn.Sequential([gn.Flatten(), gn.Linear(2)], input_shape=(4, 4, 1))
    place = tmp_path / "my photos-1"
    how = {"epochs": 1, "batch_size": 10, "val_fraction": 0, "run_dir": place}
    report(Output(False), fit(net, (images, np.arange(20) % 2), **how))
    out = capsys.readouterr().out
    assert out.startswith("No images were held out to measure accuracy on, after ")
    assert f"  glassnet report '{place}'\n" in out


def test_classes_of_which_none_was_recognised_are_named(capsys, generator):
    images, labels = (
        generator.integers(0, 256, (300, 4, 4), np.uint8),
        ["cat"] * 100 + ["ox"] * 197 + ["fox"] * 3,
    )
    net = gn.Sequential([gn.Flatten(), gn.Linear(3)], input_shape=(4, 4, 1))
    done = fit(net, (images, labels), epochs=1, optimizer=gn.SGD(lr=1e-4), val_fraction=0.4)
    classes = [row.name for row in done.val.per_class if not row.recall]
    assert classes
    report(Output(False), done)
    out = capsys.readouterr().out
    assert f"\nClasses of which no image was recognised: {', '.join(classes)}.\n" in out


def test_the_same_seed_gives_the_same_run(capsys):
    args = ("train", "digits", "--model", "linear", "--epochs", "1", "--seed")
    one, two, other = (run_json(capsys, *args, seed)[0]["run"] for seed in (5, 5, 6))
    files = [Path(path, "last.gnet").read_bytes() for path in (one, two, other)]
    assert files[0] == files[1] != files[2]


def test_ctrl_c_saves_and_exits_130(tmp_path):
    process = start("train", "digits", "--epochs", "100000", folder=tmp_path)
    while "epoch 2/" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith("Training was interrupted in epoch ")
    assert err.endswith("last.gnet. To go on: glassnet resume runs/digits-1\n")
    assert gn.load(tmp_path / "runs" / "digits-1" / "last.gnet").classes == tuple("0123456789")


def test_a_run_that_failed_is_no_run_to_go_on_with(capsys):
    args = ("train", "digits", "--model", "linear", "--lr", "1e5", "--backend", "reference", "--name", "high")
    status, _, err = run(
        capsys, *args, "--set", "optimizer.momentum=0", "--set", "optimizer.weight_decay=0.1"
    )
    assert status == 2 and " is NaN or infinite, " in err
    rate = float(err.split("Try a learning rate of ")[1].split(",")[0])
    assert 0.01 < rate < 10
    assert err.endswith("The run runs/high is kept as failed. Train anew under another name.\n")
    for command in (("evaluate", "runs/high"), ("report", "runs/high"), ("predict", "runs/high", "8.npy")):
        np.save("8.npy", np.zeros((1, 8, 8), np.uint8))
        status, out, err = run(capsys, *command)
        assert status == 0, err
        assert out.splitlines()[0] == "Warning: The run runs/high failed after 0 of 30 epochs."
    assert "Stopped early: failed." in Path("runs/high/report.html").read_text()
    status, _, err = run(capsys, *args)
    assert err.endswith(" The run there failed, and would fail again if resumed.\n")


def test_a_first_step_that_is_not_finite_is_an_error(capsys):
    args = ("--model", "linear", "--set", "optimizer.name=sgd", "--lr", "1e39", "--backend", "reference")
    status, _, err = run(capsys, "train", "digits", "--epochs", "1", *args)
    assert status == 2 and "is NaN or infinite" in err
