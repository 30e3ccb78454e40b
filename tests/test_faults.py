"""Processes that die while they train: tests/faults/kill.py in short, and moments that it seldom hits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import glassnet as gn
from glassnet.runs import plots
from glassnet.train import Callback, resume

KILL = Path(__file__).parent / "faults" / "kill.py"
DIGITS = gn.data.load("digits")
FEW = gn.data.Dataset("digits", DIGITS.train[:60], DIGITS.test[:20], DIGITS.test[20:40])


class Death(Exception):
    """As a killed process ends: no checkpoint is saved on the way out."""


def die(*arguments):
    raise Death


class DeathAfterEpoch(Callback):
    def on_epoch_end(self, training, record):
        die()


def train(folder, *callbacks):
    """Two epochs with a checkpoint before the first step only, until death."""
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    with pytest.raises(Death):
        gn.fit(net, FEW, epochs=2, run_dir=folder, checkpoint_minutes=0, callbacks=callbacks)


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits():
    command = [sys.executable, KILL, "--times", "3"]
    result = subprocess.run(command, capture_output=True, text=True)
    found = re.fullmatch(
        r"(\d+) times killed, \d+ of them inside a checkpoint: \d+ runs resumed to the same bits\.\n",
        result.stdout,
    )
    assert found is not None, result.stdout + result.stderr
    assert int(found[1]) >= 3


def test_an_epoch_after_the_last_checkpoint_is_told_of_once(tmp_path):
    train(tmp_path / "run", DeathAfterEpoch())
    resume(tmp_path / "run", data=FEW)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_a_run_that_died_while_it_wrote_a_model_leaves_nothing_of_it(tmp_path):
    train(tmp_path / "run", DeathAfterEpoch())
    (tmp_path / "run" / ".best.gnet.1539.part").write_bytes(b"half of a model")
    resume(tmp_path / "run", data=FEW)
    assert not list((tmp_path / "run").glob(".*.part"))


def test_a_run_that_died_while_it_drew_its_pictures_is_not_finished(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(plots, "draw_curves", die)
        train(tmp_path / "run")
    resume(tmp_path / "run", data=FEW)
    assert {"curves.png", "confusion.png", "evaluation.json"} < {p.name for p in (tmp_path / "run").iterdir()}
