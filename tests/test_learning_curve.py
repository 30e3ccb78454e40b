"""Would more images help: the line that is fitted, what is said of it, and that trainings are comparable."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet import schedules
from glassnet.errors import ConfigError, DataError, FileFormatError
from glassnet.evaluation.learning_curve import FILE, LearningCurve, Point
from glassnet.train import Callback, TrainConfig
from glassnet.train.fractions import learning_curve, stretched
from messages import message_of
from test_cli import run_json


def curve(*points):
    return LearningCurve(tuple(Point(*point) for point in points))


def test_the_line_is_that_of_numpy_on_logarithms():
    found = curve((100, 400, 1000), (200, 290, 1000), (400, 210, 1000), (800, 140, 1000))
    x = np.log([[100, 1], [200, 1], [400, 1], [800, 1]])
    x[:, 1] = 1
    y = np.log([400.5, 290.5, 210.5, 140.5]) - np.log(1001)
    slope, level = np.linalg.lstsq(x, y, rcond=None)[0]
    assert found.slope == pytest.approx(-slope, rel=1e-9)
    assert found.predicted(1600) == pytest.approx(np.exp(level + slope * np.log(1600)), rel=1e-9)


def test_what_is_said_of_a_curve():
    steep = curve((100, 400, 1000), (200, 200, 1000), (400, 100, 1000))
    assert steep.slope == pytest.approx(1, abs=0.01)
    assert steep.verdict() == (
        "Twice the images would bring the error from 10.04% to about 5.03%, if it goes on as from 100 to 400 "
        "images."
    )
    flat = curve((100, 103, 1000), (400, 100, 1000))
    assert flat.verdict() == (
        "More images like these would hardly help: with 400 the error is 10.04%, and it barely fell on the "
        "way there."
    )
    unsure = curve((100, 21, 200), (400, 20, 200))
    assert unsure.verdict() == (
        "200 validation images cannot tell whether more images like these would help: with 400 the error is "
        "between 6.57% and 14.94%. Hold more of them out."
    )
    assert "cannot tell" in curve((10, 0, 4), (20, 0, 4), (40, 0, 4)).verdict()
    small = curve((100, 8, 50), (400, 5, 50))
    assert small.verdict().endswith("That is within the doubt about the error itself (4.35% to 21.36%).")


class Counting(Callback):
    """Steps and training images of each training."""

    def __init__(self):
        self.trainings = []

    def on_train_end(self, training):
        self.trainings.append((training.train_samples, training.history[-1].step, training.val_samples))


def test_every_fraction_trains_as_long_on_the_same_validation_images():
    config = TrainConfig(data="digits", model="linear", epochs=40, batch_size=64, val_fraction=0.2, seed=2)
    seen = Counting()
    found = learning_curve(config, gn.data.load("digits"), (1.0, 0.25), callbacks=[seen])
    (few, few_steps, val), (all_of_them, steps, same) = seen.trainings
    assert [point.samples for point in found.points] == [few, all_of_them]
    assert few == pytest.approx(0.25 * all_of_them, rel=0.02)
    assert few_steps == pytest.approx(steps, rel=0.1) and val == same == found.points[0].total
    assert found.points[0].error > found.points[1].error


@pytest.mark.parametrize(
    ("schedule", "stretched_to"),
    [
        (schedules.Step(every=2, warmup=0.5), schedules.Step(every=6, warmup=1.5)),
        (schedules.Plateau(patience=4), schedules.Plateau(patience=12)),
        (schedules.Plateau(patience=0), schedules.Plateau(patience=0)),
        (schedules.OneCycle(), schedules.OneCycle()),
    ],
)
def test_what_is_counted_in_epochs_is_stretched_with_them(schedule, stretched_to):
    config = TrainConfig(data="digits", epochs=10, early_stopping=5, schedule=schedule)
    longer = stretched(config, 30)
    assert (longer.epochs, longer.early_stopping, longer.schedule) == (30, 15, stretched_to)
    assert stretched(config.override("early_stopping=0"), 30).early_stopping == 0


def test_a_batch_larger_than_the_fraction_is_cut():
    config = TrainConfig(data="digits", model="linear", epochs=1, batch_size=1024, accumulate=512)
    seen = Counting()
    learning_curve(config, gn.data.load("digits"), (0.1, 0.2), callbacks=[seen])
    assert [samples for samples, _, _ in seen.trainings] == [129, 259]


def test_the_points_before_an_interruption_are_kept(tmp_path):
    class Interrupting(Counting):
        def on_epoch_end(self, training, record):
            if len(self.trainings) == 2:
                raise KeyboardInterrupt

    config = TrainConfig(data="digits", model="linear", epochs=1)
    with pytest.raises(KeyboardInterrupt):
        learning_curve(
            config, gn.data.load("digits"), (0.1, 0.2, 1), callbacks=[Interrupting()], folder=tmp_path
        )
    assert [point.samples for point in LearningCurve.load(tmp_path).points] == [129, 259]


def test_a_saved_curve_is_read_again(tmp_path):
    found = curve((100, 8, 50), (400, 5, 50))
    assert LearningCurve.load(tmp_path) is None
    found.save(tmp_path)
    assert LearningCurve.load(tmp_path) == found
    (tmp_path / FILE).write_text('[{"sample": 3}]')
    assert message_of(FileFormatError, LearningCurve.load, tmp_path).startswith(
        f"{tmp_path / FILE} is no learning curve: "
    )


def test_what_is_refused():
    data = gn.data.load("digits")
    for fractions in ((0.5,), (0, 1), (0.5, 1.5)):
        text = message_of(ConfigError, learning_curve, TrainConfig(data="digits"), data, fractions)
        assert text == (
            f"A learning curve needs two fractions or more, above 0 up to 1, got {sorted(set(fractions))}."
        )
    bare = TrainConfig(data="digits", val_fraction=0)
    assert message_of(DataError, learning_curve, bare, data) == (
        "A learning curve needs validation images. Set val_fraction, such as 0.1."
    )


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_json(capsys, "train", "digits", "--model", "linear", "--epochs", 2, "--name", "one")
    result, err = run_json(capsys, "curve", "runs/one", "--fractions", "0.25,1")
    assert [point["samples"] for point in result["points"]] == [324, 1295]
    assert result["verdict"] in err and "2 trainings of about" in err
    assert LearningCurve.load(tmp_path / "runs" / "one").verdict() == result["verdict"]
