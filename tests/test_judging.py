"""Calibration, intervals and mistakes: compared with scikit-learn, SciPy and plain loops."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import glassnet as gn
from glassnet.data import Dataset, from_arrays
from glassnet.errors import ShapeError
from glassnet.evaluation.calibration import COLDEST, calibration, temperature
from glassnet.evaluation.intervals import bootstrap, wilson
from glassnet.evaluation.judging import judge
from glassnet.network import probabilities
from messages import message_of
from oracles import oracle


def logits_of(generator, samples=600, classes=4, sharpness=3.0):
    """(logits, labels) that are right often enough, and too sure."""
    labels = generator.integers(0, classes, samples)
    logits = generator.standard_normal((samples, classes))
    logits[np.arange(samples), labels] += 1
    return sharpness * logits, labels


# Calibration


def test_calibration_is_that_of_scikit_learn(generator):
    curve = oracle("sklearn.calibration").calibration_curve
    logits, labels = logits_of(generator)
    sure = probabilities(logits, "softmax")
    found = calibration(sure, labels)
    right = sure.argmax(axis=1) == labels
    accuracy, confidence = curve(right, sure.max(axis=1), n_bins=15)
    filled = found.counts > 0
    np.testing.assert_allclose(found.accuracy[filled], accuracy, rtol=1e-12)
    np.testing.assert_allclose(found.confidence[filled], confidence, rtol=1e-12)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_by_loops(generator, bins):
    """Guo et al., equation 3, bin by bin."""
    logits, labels = logits_of(generator, samples=200)
    sure = probabilities(logits, "softmax")
    error = 0.0
    for b in range(1, bins + 1):
        inside = [n for n in range(200) if (b - 1) / bins < sure[n].max() <= b / bins]
        if inside:
            accuracy = sum(int(sure[n].argmax()) == labels[n] for n in inside) / len(inside)
            confidence = sum(float(sure[n].max()) for n in inside) / len(inside)
            error += len(inside) / 200 * abs(accuracy - confidence)
    assert calibration(sure, labels, bins=bins).error == pytest.approx(error, abs=1e-12)


def test_calibration_with_numbers():
    """Four images at .75, three of them right; one, sure and wrong: 4/5 * 0 + 1/5 * 1."""
    sure = np.array([[0.75, 0.25]] * 4 + [[0.0, 1.0]])
    found = calibration(sure, np.array([0, 0, 0, 1, 0]))
    assert found.error == pytest.approx(0.2)
    assert found.counts.tolist() == [0] * 11 + [4, 0, 0, 1]
    edges = calibration(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 0]), bins=4)
    assert edges.counts.tolist() == [0, 1, 1, 0]  # an edge belongs to the bin below it


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 5.0])
def test_temperature_minimises_the_likelihood(generator, sharpness):
    scipy = oracle("scipy.optimize")
    logits, labels = logits_of(generator, sharpness=sharpness)

    def loss(log_t):
        return -np.log(probabilities(logits / np.exp(log_t), "softmax")[np.arange(600), labels]).mean()

    best = scipy.minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10})
    assert temperature(logits, labels) == pytest.approx(math.exp(best.x), rel=1e-6)


def test_temperature_mends_what_is_only_too_sure(generator):
    """Labels drawn from softmax(z / 2.5): that temperature is found, and the error falls."""
    z = 4 * generator.standard_normal((20_000, 5))
    honest = probabilities(z / 2.5, "softmax")
    labels = (honest.cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    heat = temperature(z, labels)
    assert heat == pytest.approx(2.5, rel=0.03)
    plain, scaled = calibration(probabilities(z, "softmax"), labels), calibration(honest, labels)
    assert plain.error > 0.1 and scaled.error < 0.02


def test_temperature_has_a_bound_where_nothing_is_wrong():
    assert temperature(np.array([[2.0, 0], [0, 2.0]]), np.array([0, 1])) == pytest.approx(COLDEST)


# Intervals


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 7), (9_744, 10_000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_that_of_scipy(k, n, level):
    wanted = oracle("scipy.stats").binomtest(k, n).proportion_ci(level, "wilson")
    assert wilson(k, n, level=level) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_nothing_is_known_without_trials():
    assert wilson(0, 0) == (0, 1)


def test_bootstrap_of_a_mean_is_that_of_scipy(generator):
    values = generator.exponential(size=400)
    low, high = bootstrap(lambda index: values[index].mean(), 400, generator, resamplings=4000)
    wanted = oracle("scipy.stats").bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    )
    assert (low, high) == pytest.approx(wanted.confidence_interval, rel=0.01)
    assert low < values.mean() < high


# A network judged


@pytest.fixture(scope="module")
def trained():
    data = gn.data.load("digits").holdout(0.2, 1)
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    gn.fit(net, data, epochs=2, backend="reference")
    return net, data


def test_the_figures_of_a_judgement(trained, generator):
    net, data = trained
    found = judge(net, data, generator)
    plain = gn.evaluate(net, data.test)
    assert found.split == "test" and found.evaluation.to_dict() == plain.to_dict()
    assert found.accuracy[0] < plain.accuracy < found.accuracy[1]
    for row, bounds in zip(plain.per_class, found.classes, strict=True):
        for name in ("precision", "recall", "f1"):
            low, high = getattr(bounds, name)
            assert 0 <= low <= getattr(row, name) <= high <= 1
        hits = plain.confusion[int(row.name), int(row.name)]
        assert bounds.recall == pytest.approx(wilson(hits, row.support))
    sure = net.predict_proba(data.test.images)
    assert found.sureness.plain.error == pytest.approx(calibration(sure, data.test.labels).error, abs=1e-6)
    assert found.sureness.interval[0] < found.sureness.plain.error < found.sureness.interval[1]
    assert found.sureness.temperature == pytest.approx(
        temperature(net.scores(data.val.images), data.val.labels)
    )


def test_mistakes_are_those_with_the_largest_loss(trained, generator):
    net, data = trained
    found = judge(net, data, generator, worst=5).mistakes
    sure, labels = net.predict_proba(data.test.images), data.test.labels
    losses = -np.log(sure[np.arange(len(labels)), labels])
    wrong = [n for n in range(len(labels)) if sure[n].argmax() != labels[n]]
    assert [m.index for m in found] == sorted(wrong, key=lambda n: -losses[n])[:5]
    for m in found:
        assert (m.true, m.predicted) == (str(labels[m.index]), str(sure[m.index].argmax()))
        assert m.loss == pytest.approx(losses[m.index], rel=1e-4)
        assert m.own == pytest.approx(sure[m.index, labels[m.index]], rel=1e-6)
        assert m.probability == pytest.approx(sure[m.index].max(), rel=1e-6)


def test_without_a_test_split_the_validation_split_is_judged(trained, generator):
    net, data = trained
    held = gn.data.dataset.Dataset("held", data.train, data.val)
    assert judge(net, held, generator).split == "val"
    assert judge(net, gn.data.dataset.Dataset("bare", data.train), generator) is None


def test_scores_that_are_no_probabilities_have_no_calibration(generator):
    images, labels = generator.integers(0, 256, (40, 4, 4), np.uint8), generator.integers(0, 2, 40)
    data = from_arrays(images, labels, test=(images, labels))
    net = gn.Sequential([gn.Flatten(), gn.Linear(2)], input_shape=(4, 4, 1))
    gn.fit(net, data, epochs=1, loss=gn.MeanSquaredError(), backend="reference")
    assert judge(net, data, generator).sureness is None


def test_probabilities_are_calibrated_like_their_logits(trained, generator):
    net, data = trained
    ends = gn.Sequential([gn.Flatten(), gn.Linear(10), gn.Softmax()], input_shape=(8, 8, 1))
    ends.store.restore(net.store.snapshot())
    ends.classes, ends.preprocessing, ends.loss = net.classes, net.preprocessing, gn.ProbabilityCrossEntropy()
    one, two = (judge(n, data, np.random.default_rng(0)).sureness for n in (net, ends))
    assert two.plain.error == pytest.approx(one.plain.error, abs=1e-6)
    assert two.temperature == pytest.approx(one.temperature, rel=1e-3)


def test_other_classes_are_refused(generator):
    images, labels = generator.integers(0, 256, (20, 4, 4), np.uint8), np.arange(20) % 2
    net = gn.Sequential([gn.Flatten(), gn.Linear(2)], input_shape=(4, 4, 1))
    net.classes = ("cat", "dog")
    data = from_arrays(images, labels, test=(images, labels), classes=("cat", "fox"))
    assert message_of(ShapeError, judge, net, data, generator) == (
        "The data has classes that the network does not know: fox. Known: cat, dog."
    )


def test_data_of_some_of_the_classes_is_judged_by_name(trained):
    """With the temperature that its validation images give."""
    net, data = trained
    few = [split[np.isin(split.labels, (3, 7))] for split in (data.train, data.val, data.test)]
    same = Dataset("same", *few)
    seven_first = [
        dataclasses.replace(split, labels=np.where(split.labels == 7, 0, 1), classes=("7", "3"))
        for split in few
    ]
    mixed = Dataset("mixed", *seven_first)
    one, two = (judge(net, each, np.random.default_rng(0)) for each in (mixed, same))
    assert one.evaluation.to_dict() == two.evaluation.to_dict()
    assert (one.mistakes, one.classes, one.sureness.temperature) == (
        two.mistakes,
        two.classes,
        two.sureness.temperature,
    )
    assert one.evaluation.samples == len(few[2]) and one.evaluation.accuracy > 0.5
