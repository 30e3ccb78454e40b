"""The folder of a run: what lies in it, what it is worth later, and places where it cannot be made."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import glassnet as gn
from glassnet.data import Dataset, load
from glassnet.errors import ConfigError, DataError, FileFormatError, NotFiniteError, RunFolderError
from glassnet.runs.folder import RunFolder, model_file
from glassnet.runs.records import read_run
from glassnet.train import Callback, Interrupted, TrainConfig, build_model, fit_config, next_run
from messages import message_of

DIGITS = load("digits")
fit = partial(gn.fit, backend="reference")
PNG = b"\x89PNG\r\n\x1a\n"
SETTINGS = ("epochs=3", "model=linear", "seed=5", "early_stopping=2", "backend=reference")


class NoTraining(Callback):
    """Fails the test where training starts."""

    def on_train_begin(self, training):
        raise AssertionError("training began")


@pytest.fixture
def finished(tmp_path):
    """(net, run, folder) of a short run."""
    config = TrainConfig.resolve({"data": "digits"}).override(*SETTINGS)
    folder = tmp_path / "runs" / "first"
    net, run = fit_config(config, run_dir=folder)
    return net, run, folder


def test_what_lies_in_the_folder(finished):
    net, run, folder = finished
    assert run.folder == folder
    assert sorted(path.name for path in folder.iterdir()) == [
        *(".lock", "best.gnet", "config.toml", "confusion.png", "curves.png", "evaluation.json"),
        *("fingerprint.json", "last.gnet", "metrics.jsonl", "report.html"),
    ]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["val_loss"] for line in lines] == [record.val_loss for record in run.history]
    results = json.loads((folder / "evaluation.json").read_text())
    assert results["test"]["accuracy"] == run.test.accuracy and results["val"]["samples"] == 143
    assert (results["best_epoch"], results["backend"], results["stopped"]) == (
        run.best_epoch,
        "reference",
        None,
    )
    for picture in ("curves.png", "confusion.png"):
        content = (folder / picture).read_bytes()
        assert content.startswith(PNG) and len(content) > 5000


def test_the_models_are_those_of_the_last_and_the_best_epoch(finished):
    net, run, folder = finished
    best = gn.load(folder / "best.gnet")
    best.backend = "reference"
    assert best.classes == DIGITS.classes and best.preprocessing == DIGITS.preprocessing
    np.testing.assert_array_equal(best.scores(DIGITS.test.images), net.scores(DIGITS.test.images))
    assert gn.evaluate(best, DIGITS.test).loss == run.test.loss
    last = gn.evaluate(gn.load(folder / "last.gnet"), DIGITS.holdout(0.1, seed=5).val)
    assert last.loss == pytest.approx(run.history[-1].val_loss, rel=1e-6)


@pytest.mark.parametrize(("early_stopping", "name"), [(0, "last.gnet"), (30, "best.gnet"), (2, "best.gnet")])
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_model_of_a_folder_is_the_one_that_was_evaluated(tmp_path, early_stopping, name, ema):
    """Also where the last epoch was not the best one."""
    data = Dataset("few", train=DIGITS.train[:60], val=DIGITS.train[60:200])
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    how = {"epochs": 20, "optimizer": gn.SGD(lr=5.0), "early_stopping": early_stopping, "ema": ema}
    run = fit(net, data, run_dir=tmp_path, **how)
    assert run.best_epoch < len(run.history)
    assert model_file(tmp_path) == tmp_path / name
    assert (tmp_path / "best.gnet").exists() == bool(early_stopping)
    found = gn.load(tmp_path / name)
    found.backend = "reference"
    assert gn.evaluate(found, data.val).to_dict() == run.val.to_dict()
    (tmp_path / "best.gnet").touch()  # which early versions wrote in every run
    assert model_file(tmp_path) == tmp_path / name


def test_a_file_or_a_folder_of_models_without_settings(tmp_path):
    last, best = tmp_path / "last.gnet", tmp_path / "best.gnet"
    last.touch()
    assert model_file(tmp_path) == last
    best.touch()
    assert model_file(str(tmp_path)) == best
    assert model_file(last) == last


def test_the_config_repeats_the_run(finished, tmp_path):
    net, run, folder = finished
    config = TrainConfig.from_toml(folder / "config.toml")
    assert config == run.config
    again, _ = fit_config(config, run_dir=tmp_path / "again")
    assert (tmp_path / "again" / "config.toml").read_text() == (folder / "config.toml").read_text()
    for name, array in net.store.tensors().items():
        assert again.store.tensors()[name].tobytes() == array.tobytes()


def test_the_config_of_a_network_made_by_hand_holds_its_layers(tmp_path):
    net = gn.Sequential({"flat": gn.Flatten(), "out": gn.Linear(10)}, input_shape=(8, 8, 1), seed=3)
    fit(net, DIGITS, epochs=1, run_dir=tmp_path / "run", optimizer=gn.Adam(lr=0.01))
    config = TrainConfig.from_toml(tmp_path / "run" / "config.toml")
    assert (config.seed, config.init_seed, config.optimizer) == (0, 3, gn.Adam(lr=0.01))
    assert list(build_model(config, DIGITS).children()) == ["flat", "out"]


def test_the_data_of_a_run_is_known_again(tmp_path):
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    fit(net, DIGITS, epochs=1, sample_weight=np.ones(len(DIGITS.train)), run_dir=tmp_path)
    folder = RunFolder(tmp_path)
    folder.check_data(DIGITS.holdout(0.1, 0))
    assert message_of(DataError, folder.check_data, DIGITS.holdout(0.1, 1)) == (
        f"The data of {tmp_path} changed since it was trained: train images differ; train labels differ; val "
        "images differ; val labels differ. Figures would be those of images that it was trained on. Put the "
        "data back as it was, or train anew."
    )
    (tmp_path / "fingerprint.json").write_text("[1]")
    assert message_of(FileFormatError, folder.check_data, DIGITS).startswith(
        f"{tmp_path / 'fingerprint.json'} is no fingerprint of data: "
    )
    (tmp_path / "fingerprint.json").unlink()
    folder.check_data(DIGITS)  # a run of an early version


def test_pictures_without_validation_and_with_many_classes(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (60, 4, 4), np.uint8)
    net = gn.Sequential([gn.Flatten(), gn.Linear(30)], input_shape=(4, 4, 1))
    data = gn.data.from_arrays(images, np.arange(60) % 30, test=(images, np.arange(60) % 30))
    fit(net, data, epochs=1, val_fraction=0, run_dir=tmp_path / "run")
    assert (tmp_path / "run" / "confusion.png").read_bytes().startswith(PNG)


def test_runs_are_counted(tmp_path):
    assert next_run(tmp_path / "new", "digits") == tmp_path / "new" / "digits-1"
    assert next_run(tmp_path, "digits") == tmp_path / "digits-1"
    assert not list((tmp_path / "digits-1").iterdir())
    (tmp_path / "digits-2").write_text("")
    (tmp_path / "mnist-3").mkdir()
    (tmp_path / "digits-3").symlink_to(tmp_path / "gone")
    assert next_run(tmp_path, "digits") == tmp_path / "digits-4"


def test_no_two_runs_get_the_same_number(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: next_run(tmp_path, "digits"), range(40)))
    assert sorted(got) == sorted(tmp_path / f"digits-{number}" for number in range(1, 41))


def test_of_two_runs_in_one_folder_the_first_keeps_it(tmp_path, monkeypatch):
    """The second comes when the first has found it empty, and written nothing yet."""
    write, told = RunFolder.write, []

    def write_while_another_comes(folder, name, text):
        if not told:
            net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
            told.append(None)
            told[0] = message_of(RunFolderError, fit, net, DIGITS, epochs=2, run_dir=tmp_path / "run")
        write(folder, name, text)

    monkeypatch.setattr(RunFolder, "write", write_while_another_comes)
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    fit(net, DIGITS, epochs=1, run_dir=tmp_path / "run")
    assert told == [
        f"The run folder {tmp_path / 'run'} is in use by process {os.getpid()}. Wait until it is done, or "
        "stop it."
    ]
    assert (
        len(read_run(tmp_path / "run").history) == TrainConfig.from_toml(tmp_path / "run/config.toml").epochs
    )


def test_a_run_in_progress_is_not_offered_to_be_resumed(tmp_path):
    told = []

    class Another(Callback):
        def on_epoch_end(self, training, record):
            told.append(message_of(RunFolderError, fit, training.net, DIGITS, run_dir=tmp_path / "run"))

    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    fit(net, DIGITS, epochs=1, run_dir=tmp_path / "run", callbacks=[Another()])
    assert told == [
        f"The run folder {tmp_path / 'run'} is in use by process {os.getpid()}. Wait until it is done, or "
        "stop it."
    ]


# Places where it cannot be made. Permissions do not stop a superuser, so nothing here rests on them.


@pytest.mark.parametrize(
    ("place", "reason"),
    [("file", "File exists"), ("file/below", "Not a directory")],
)
def test_a_file_in_the_way(tmp_path, place, reason):
    (tmp_path / "file").write_text("kept")
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    path = tmp_path / place
    message = message_of(RunFolderError, fit, net, DIGITS, run_dir=path, callbacks=[NoTraining()])
    assert message == f"The run folder {path} cannot be made: {reason}. Choose another place."
    assert (tmp_path / "file").read_text() == "kept"


def test_a_file_in_the_way_of_numbered_runs(tmp_path):
    (tmp_path / "file").write_text("kept")
    assert message_of(RunFolderError, next_run, tmp_path / "file", "digits") == (
        f"The run folder {tmp_path / 'file' / 'digits-1'} cannot be made: Not a directory. Choose another "
        "place."
    )


def test_a_folder_of_other_files_stays_as_it_is(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert message_of(RunFolderError, RunFolder.new, tmp_path) == (
        f"The run folder {tmp_path} is not empty. Choose a new name: no run is overwritten."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    """A read-only folder, as the operating system reports it."""

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    folder = RunFolder.new(tmp_path / "run")
    assert message_of(RunFolderError, folder.begin, TrainConfig(data="digits")) == (
        f"config.toml cannot be written to the run folder {tmp_path / 'run'}: Permission denied. "
        "Choose another place."
    )


def test_no_run_is_overwritten(finished):
    net, run, folder = finished
    assert message_of(RunFolderError, fit, net, DIGITS, run_dir=folder, callbacks=[NoTraining()]) == (
        f"The run folder {folder} is not empty. Choose a new name: no run is overwritten."
    )
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3


def test_what_was_only_begun_can_be_forgotten_and_nothing_else(tmp_path):
    folder = RunFolder.new(tmp_path / "run")
    folder.begin(TrainConfig(data="digits"))
    (folder.path / "checkpoints").mkdir()
    for name in (".lock", ".data.json.7.part", "checkpoints/.00000001.safetensors.7.part", "notes.txt"):
        (folder.path / name).touch()
    before = sorted(folder.path.rglob("*"))
    folder.forget_beginning()
    assert sorted(folder.path.rglob("*")) == before
    (folder.path / "notes.txt").unlink()
    folder.forget_beginning()
    assert [path.name for path in folder.path.iterdir()] == [".lock"]


def test_an_interrupted_run_is_not_overwritten_but_can_be_gone_on_with(tmp_path):
    class Interrupt(Callback):
        def on_epoch_end(self, training, record):
            raise KeyboardInterrupt

    net, folder = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1)), tmp_path / "run"
    with pytest.raises(Interrupted):
        fit(net, DIGITS, run_dir=folder, callbacks=[Interrupt()])
    assert message_of(RunFolderError, fit, net, DIGITS, run_dir=folder) == (
        f"The run folder {folder} is not empty. Choose a new name: no run is overwritten. "
        f"To go on with the run that was interrupted: glassnet resume {folder}"
    )


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_that_failed_says_so_and_is_not_offered_to_be_resumed(tmp_path, epoch):
    class Spoil(Callback):
        def on_step(self, training, record):
            if record.epoch == epoch:
                training.net.store.values[0] = np.nan

    net, folder = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1)), tmp_path / "run"
    message = message_of(NotFiniteError, fit, net, DIGITS, run_dir=folder, callbacks=[Spoil()])
    kept = ", with models of earlier epochs" * (epoch > 1)
    reason, end = message.split(" The run ")
    assert end == f"{folder} is kept as failed{kept}. Train anew under another name."
    run = read_run(folder)
    assert (run.stopped, len(run.history), run.warnings) == ("failed", epoch - 1, (reason,))
    assert not RunFolder(folder).finished and RunFolder(folder).resumable
    assert RunFolder(folder).remark() == f"The run {folder} failed after {epoch - 1} of 10 epochs."
    assert all(np.isfinite(a).all() for a in gn.load(folder / "last.gnet").store.tensors().values())
    assert message_of(RunFolderError, fit, net, DIGITS, run_dir=folder) == (
        f"The run folder {folder} is not empty. Choose a new name: no run is overwritten. "
        "The run there failed, and would fail again if resumed."
    )


def test_scores_that_are_not_finite_are_a_failure_too(tmp_path):
    """They are found in validation, after steps that were finite."""

    class Spoil(Callback):
        def on_step(self, training, record):
            if record.batch == training.batches:
                training.net.store.values[0] = np.nan

    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    message = message_of(NotFiniteError, fit, net, DIGITS, run_dir=tmp_path / "run", callbacks=[Spoil()])
    assert message.startswith("The network's scores of ") and f" The run {tmp_path / 'run'} is " in message
    assert read_run(tmp_path / "run").stopped == "failed"


def test_a_run_without_an_end_is_in_progress_or_was_killed(finished):
    _, _, folder = finished
    (folder / "evaluation.json").unlink()
    assert RunFolder(folder).remark() == f"The run {folder} is in progress or was killed after 3 of 3 epochs."
    for text in ("{}", "[1]", '{"stopped": [1]}'):
        (folder / "evaluation.json").write_text(text)
        assert not RunFolder(folder).finished


def test_a_network_that_no_file_can_hold_is_refused_before_training(tmp_path):
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1)).as_dtype(np.float64)
    steps = []

    class Steps(Callback):
        def on_step(self, training, record):
            steps.append(record)

    with pytest.raises(ConfigError, match="float32"):
        fit(net, DIGITS, run_dir=tmp_path / "run", callbacks=[Steps()])
    assert not steps
