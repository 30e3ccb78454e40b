"""Predictions averaged over an image and its mirror image: everywhere, or nowhere."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import ConfigError
from glassnet.preprocessing import Preprocessing
from glassnet.train import evaluate
from messages import message_of
from test_resume import FEW, network


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_scores_are_the_mean_of_both_views(backend, tmp_path):
    net = network()
    run = gn.fit(net, FEW, epochs=2, backend=backend, tta="flip", run_dir=tmp_path / "run")
    images = FEW.test.images
    scores = net.scores(images)
    assert net.preprocessing.tta == "flip" and FEW.preprocessing.tta == "none"
    alone = gn.load(tmp_path / "run" / "last.gnet")
    alone.backend = backend
    np.testing.assert_array_equal(alone.scores(images), scores)  # the saved model does the same
    alone.preprocessing = FEW.preprocessing
    halves = [alone.scores(images), alone.scores(images[:, :, ::-1])]
    assert not np.allclose(*halves)
    np.testing.assert_array_equal(sum(halves) / 2, scores)
    np.testing.assert_array_equal(net.scores(images[:, :, ::-1]), scores)
    assert run.test.loss == pytest.approx(evaluate(net, FEW.test).loss)  # the run was evaluated like this
    assert run.history[-1].val_loss == run.val.loss


def test_training_steps_see_one_view():
    """The first epoch's training loss is that of a run without: only what is evaluated differs."""
    runs = [gn.fit(network(), FEW, epochs=1, tta=tta) for tta in ("none", "flip")]
    assert runs[0].history[0].loss == runs[1].history[0].loss
    assert runs[0].val.loss != runs[1].val.loss


def test_settings_of_old_files_mean_one_view():
    plain = Preprocessing.identity("L").to_dict()
    assert plain.pop("tta") == "none"
    assert Preprocessing.from_dict(plain).tta == "none"
    message = message_of(ConfigError, Preprocessing, None, (0.0,), (1.0,), "L", tta="rotate")
    assert message == "tta must be 'none' or 'flip', got 'rotate'."
