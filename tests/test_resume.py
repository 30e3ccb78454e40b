"""A run that was stopped anywhere and resumed ends with the bits of one that never was."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import glassnet as gn
from glassnet.data.augment import Augment
from glassnet.engine.machine.cpu import host, processor
from glassnet.errors import CheckpointError, DataError, RunFolderError
from glassnet.runs.folder import way_on
from glassnet.settings.settling import load_data
from glassnet.train import Callback, Interrupted, TrainConfig, resume
from messages import message_of

DIGITS = gn.data.load("digits")
FEW = gn.data.Dataset("digits", DIGITS.train[:150], DIGITS.test[:40], DIGITS.test[40:90])
TIMES = {"seconds", "images_per_second", "warnings"}  # a look is taken when there is time

SETTINGS = {
    "plain": {},
    "momentum, steps": {
        "optimizer": gn.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
        "schedule": gn.schedules.Step(every=1, gamma=0.7),
    },
    "adam, one cycle, average": {
        "optimizer": gn.Adam(lr=0.01),
        "schedule": gn.schedules.OneCycle(warmup=0.5),
        "ema": 0.9,
    },
    "adamw, cosine, norm": {
        "optimizer": gn.AdamW(lr=0.01),
        "schedule": gn.schedules.Cosine(),
        "clip_norm": 0.5,
    },
    "rmsprop, plateau, stopping": {
        "optimizer": gn.RMSProp(lr=0.02),
        "schedule": gn.schedules.Plateau(patience=0, threshold=0.5),
        "early_stopping": 2,
    },
    "augmentation, mixing": {
        "augment": Augment(shift=1, rotation=(0, 15), cutout=2, mixup=0.4, cutmix=1.0),
        "ema": 0.99,
    },
    "accumulation, sums, smoothing": {
        "augment": Augment(shift=1, zoom=(0.8, 1.2)),
        "accumulate": 3,
        "clip_value": 0.5,
        "clip_on": "sum",
        "loss": gn.SoftmaxCrossEntropy(label_smoothing=0.1),
    },
}


class Stop(Callback):
    """Asks for an end, as Ctrl-C does, after a step or an epoch."""

    def __init__(self, step=0, epoch=0, number=signal.SIGINT):
        self.step, self.epoch, self.number = step, epoch, number

    def on_steps(self, training, records):
        if self.step and records[-1].step >= self.step:
            self.step = 0
            signal.raise_signal(self.number)

    def on_epoch_end(self, training, record):
        if record.epoch == self.epoch:
            signal.raise_signal(self.number)


def network():
    layers = [
        *(gn.Conv2d(4, 3, padding="same"), gn.BatchNorm2d(), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten()),
        *(gn.Dropout(0.3), gn.Linear(10)),
    ]
    net = gn.Sequential(layers, input_shape=(8, 8, 1), seed=2)
    net["linear_1"].scale_lr(0.5)
    return net


def train(folder, backend, callbacks=(), **settings):
    """Four epochs of nine steps and a smaller last one, with a checkpoint every second step."""
    settings = {"epochs": 4, "batch_size": 16, "seed": 3, "checkpoint_steps": 2} | settings
    return gn.fit(network(), FEW, backend=backend, run_dir=folder, callbacks=callbacks, **settings)


def outcome(folder):
    """All that a run leaves, times excepted."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    history = [{key: value for key, value in line.items() if key not in TIMES} for line in lines]
    result = json.loads((folder / "evaluation.json").read_text())
    models = {path.name: path.read_bytes() for path in folder.glob("*.gnet")}
    return history, {key: value for key, value in result.items() if key not in TIMES}, models


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_the_bits_are_those_of_a_run_never_stopped(name, backend, tmp_path):
    train(tmp_path / "whole", backend, **SETTINGS[name])
    for step in (7, 23) if backend == "compiled" else (10,):
        folder = tmp_path / f"stopped after {step}"
        with pytest.raises(Interrupted):
            train(folder, backend, [Stop(step)], **SETTINGS[name])
        net, run = resume(folder, data=FEW)
        assert outcome(folder) == outcome(tmp_path / "whole")
        saved = gn.load(folder / "last.gnet").store.tensors()
        assert all(saved[key].tobytes() == array.tobytes() for key, array in net.store.tensors().items())
        assert run.history[-1].seconds > 0


def test_stopped_many_times_and_between_epochs(tmp_path):
    train(tmp_path / "whole", "compiled")
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupted, match="in epoch 2"):
        train(folder, "compiled", [Stop(epoch=1)])
    for step in (13, 14, 20, 31):
        with pytest.raises(Interrupted):
            resume(folder, data=FEW, callbacks=[Stop(step)])
    resume(folder, data=FEW)
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_what_was_resumed_from_stays_beside_the_next_checkpoint(tmp_path):
    """And not the newer one, which was damaged."""
    folder = tmp_path / "run" / "checkpoints"

    class Look(Stop):
        def on_steps(self, training, records):
            self.seen = set(folder.glob("*.json"))
            super().on_steps(training, records)

    with pytest.raises(Interrupted):
        train(folder.parent, "compiled", [Stop(7)], checkpoint_steps=1000)
    older, newest = sorted(folder.glob("*.json"))
    newest.write_bytes(b"damaged")
    look = Look(1)
    with pytest.raises(Interrupted):
        resume(folder.parent, data=FEW, callbacks=[look])
    assert len(look.seen) == 2 and older in look.seen and newest not in look.seen


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path):
    """The folder as it is in the middle of a run is what a kill leaves."""

    class Copy(Callback):
        def on_steps(self, training, records):
            if records[-1].step == 26:
                shutil.copytree(tmp_path / "whole", tmp_path / "killed")

    train(tmp_path / "whole", "compiled", [Copy()])
    resume(tmp_path / "killed", data=FEW)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


def test_a_run_killed_before_its_first_step(tmp_path):
    class Copy(Callback):
        def on_steps(self, training, records):
            if records[-1].step <= 2:
                shutil.copytree(tmp_path / "whole", tmp_path / "killed")

    train(tmp_path / "whole", "compiled", [Copy()])
    resume(tmp_path / "killed", data=FEW)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


def stopped(folder, **settings):
    with pytest.raises(Interrupted) as caught:
        train(folder, "compiled", [Stop(7)], **settings)
    return caught.value


def test_sigterm_is_a_request_too(tmp_path):
    with pytest.raises(Interrupted) as caught:
        train(tmp_path / "run", "compiled", [Stop(7, number=signal.SIGTERM)])
    assert caught.value.signal == signal.SIGTERM
    resume(tmp_path / "run", data=FEW)


def test_custom_weights_and_frozen_layers_come_back(tmp_path):
    def fit(folder, callbacks=()):
        net = network()
        net["conv2d_1"].freeze()
        net["conv2d_1"].weight[...] = 0.25
        gn.fit(net, FEW, epochs=2, run_dir=folder, callbacks=callbacks)

    fit(tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(tmp_path / "stopped", [Stop(3)])
    net, _ = resume(tmp_path / "stopped", data=FEW)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")
    assert (net["conv2d_1"].weight == 0.25).all() and not net["conv2d_1"].trainable


def test_changed_data_is_refused_with_what_changed(tmp_path):
    stopped(tmp_path / "run")
    images = FEW.train.images.copy()
    images[17, 3, 3] ^= 1
    other = gn.data.Dataset(
        "digits", gn.data.Split(images, FEW.train.labels, FEW.classes, FEW.preprocessing), FEW.val, FEW.test
    )
    assert message_of(CheckpointError, resume, tmp_path / "run", data=other) == (
        f"The data of {tmp_path / 'run'} changed since the checkpoint: train images differ. Put it back "
        "as it was, or train anew."
    )
    fewer = gn.data.Dataset("digits", FEW.train[:149], FEW.val, FEW.test)
    assert "149" in message_of(CheckpointError, resume, tmp_path / "run", data=fewer)


def test_changed_settings_are_refused(tmp_path):
    stopped(tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("epochs = 4", "epochs = 5"))
    assert message_of(CheckpointError, resume, tmp_path / "run", data=FEW) == (
        f"{config} was changed since the checkpoint. Put it back as it was, or train anew with the new "
        "settings."
    )


@pytest.mark.parametrize("name", ["arrays", "mine"])
def test_a_run_on_arrays_is_resumed_in_python(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    data = gn.data.from_arrays(DIGITS.train.images[:150], DIGITS.train.labels[:150], name=name)
    way = "glassnet.resume('run', data=...) in Python, with the same data"

    def fit(folder, callbacks=()):
        gn.fit(network(), data, epochs=2, run_dir=folder, callbacks=callbacks)

    with pytest.raises(Interrupted) as caught:
        fit("run", [Stop(epoch=1)])
    model = Path("run/last.gnet")
    assert str(caught.value) == (
        f"Training was interrupted in epoch 2. Its model is {model}. To go on: {way}"
    )
    assert message_of(RunFolderError, fit, "run") == (
        "The run folder run is not empty. Choose a new name: no run is overwritten. To go on with the run "
        f"that was interrupted: {way}"
    )
    said = message_of(DataError, resume, "run")
    if name == "arrays":
        assert said == (
            "There is no data set, file or folder 'arrays'. A run on arrays calls its data so, and does not "
            "keep it. Give it again: in Python glassnet.resume(folder, data=(images, labels)), to commands "
            "that take it as --data FILE."
        )
    fit("whole")
    gn.resume("run", data=data)
    assert outcome(Path("run")) == outcome(Path("whole"))


def test_a_folder_called_arrays_is_data_like_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("arrays").mkdir()
    assert "A run on arrays" not in message_of(DataError, load_data, TrainConfig(data="arrays"))
    assert way_on(Path("run"), "arrays") == "glassnet resume run"


def test_what_cannot_be_resumed(tmp_path):
    nowhere = tmp_path / "nowhere"
    assert message_of(RunFolderError, resume, nowhere) == (
        f"There is no run folder {nowhere}. Check its name."
    )
    train(tmp_path / "done", "compiled", epochs=1)
    assert message_of(RunFolderError, resume, tmp_path / "done") == (
        f"The run {tmp_path / 'done'} is finished. Train a new one to go further."
    )
    assert not (tmp_path / "done" / "checkpoints").exists()


def test_an_average_of_weights_is_what_is_evaluated_and_kept(tmp_path):
    """With a decay of nearly 1 and few steps, it is the mean of the last tenth of the steps, weighted."""

    class Weights(Callback):
        def __init__(self):
            self.average = None

        def on_step(self, training, record):
            weight = training.net["linear_1"].weight.astype(np.float64)
            gain = 1 - record.step / (9 + record.step)
            self.average = weight if self.average is None else self.average + gain * (weight - self.average)

    for backend in ("compiled", "reference"):
        weights, net = Weights(), network()
        start = net["linear_1"].weight.astype(np.float64)
        weights.average = start
        run = gn.fit(net, FEW, epochs=2, ema=0.9999, backend=backend, callbacks=[weights])
        np.testing.assert_allclose(net["linear_1"].weight, weights.average, rtol=1e-4, atol=1e-6)
        assert run.val.loss == run.history[-1].val_loss


# Processors


def test_another_kind_of_processor_is_said(tmp_path, monkeypatch, caplog):
    stopped(tmp_path / "run")
    monkeypatch.setattr("glassnet.train.compiled.processor", lambda name: replace(host(), name="another"))
    resume(tmp_path / "run", data=FEW)
    said = [message for message in caplog.messages if "its bits may come out otherwise" in message]
    assert len(said) == 1
    assert said[0].startswith(f"This run began on {host().name} with ") and "here is another with" in said[0]


def test_one_kind_of_code_for_all_processors(tmp_path):
    """Its bits are its own, and repeated; the numbers are nearly those of this processor's own code."""
    runs = [gn.fit(network(), FEW, epochs=2, seed=3, processor="x86-64-v3") for _ in range(2)]
    own = gn.fit(network(), FEW, epochs=2, seed=3)
    losses, again, others = ([record.loss for record in run.history] for run in (*runs, own))
    assert losses == again
    np.testing.assert_allclose(losses, others, rtol=1e-3)
    train(tmp_path / "whole", "compiled", processor="x86-64-v3")
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", "compiled", [Stop(7)], processor="x86-64-v3")
    net, _ = resume(tmp_path / "stopped", data=FEW)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")
    assert net.processor == "x86-64-v3"


def test_the_processor_decides_the_code():
    assert processor("host") is host()
    common = processor("x86-64-v3")
    assert (common.lanes, common.registers, common.l2) == (8, 16, 512 << 10)
