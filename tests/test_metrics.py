"""Metrics: compared with scikit-learn, and at the places where a ratio has nothing to divide by."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import glassnet as gn
from glassnet.data import from_arrays, load
from glassnet.errors import DataError, NotFiniteError, ShapeError
from glassnet.evaluation.metrics import confusion_matrix, evaluate, evaluation, per_class, top_k_accuracy
from glassnet.preprocessing import Preprocessing
from messages import message_of
from oracles import oracle

NAMES = ("a", "b", "c", "d", "e", "f", "g")


def split(labels, classes=NAMES):
    """Labels with images that no one looks at."""
    return from_arrays(np.zeros((len(labels), 2, 2), np.uint8), labels, classes=classes).train


@pytest.fixture
def predictions(generator):
    """Scores of 7 classes for 200 samples; class 5 never occurs and class 6 is never predicted."""
    scores = generator.standard_normal((200, 7)).astype(np.float32)
    labels = generator.choice([0, 1, 2, 3, 4, 6], 200)
    scores[np.arange(200), labels] += 1
    scores[:, 6] = -9
    return scores, labels


def test_all_figures_are_those_of_scikit_learn(predictions):
    metrics = oracle("sklearn.metrics")
    scores, labels = predictions
    found = evaluation(scores, split(labels), gn.SoftmaxCrossEntropy(), top_k=3)
    predicted, classes = scores.argmax(axis=1), range(7)
    assert found.samples == 200 and found.k == 3
    assert found.accuracy == metrics.accuracy_score(labels, predicted)
    assert found.top_k == metrics.top_k_accuracy_score(labels, scores, k=3, labels=classes)
    np.testing.assert_array_equal(
        found.confusion, metrics.confusion_matrix(labels, predicted, labels=classes)
    )
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    for i, row in enumerate(found.per_class):
        assert (row.name, row.support) == (NAMES[i], support[i])
        assert (row.precision, row.recall, row.f1) == pytest.approx(
            (precision[i], recall[i], f1[i]), abs=1e-15
        )
    probabilities = np.exp(scores.astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert found.loss == pytest.approx(metrics.log_loss(labels, probabilities, labels=classes), rel=1e-9)


def test_a_ratio_of_nothing_is_zero():
    rows = per_class(confusion_matrix(np.array([0, 0, 2]), np.array([0, 1, 0]), 4), NAMES[:4])
    assert [(r.precision, r.recall, r.f1, r.support) for r in rows] == [
        (0.5, 0.5, 0.5, 2),  # found once, missed once
        (0.0, 0.0, 0.0, 0),  # predicted, but never there
        (0.0, 0.0, 0.0, 1),  # there, but never predicted
        (0.0, 0.0, 0.0, 0),  # neither
    ]


def test_equal_scores_rank_as_argmax_does():
    scores = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert top_k_accuracy(scores, np.array([0, 1]), 1) == 0.5
    assert top_k_accuracy(scores, np.array([0, 1]), 2) == 1.0
    assert top_k_accuracy(scores, np.array([2, 2]), 2) == 0.0


def test_k_is_at_most_the_number_of_classes(predictions):
    found = evaluation(
        predictions[0][:, :3], split([0, 1, 2] * 66 + [0, 1], NAMES[:3]), gn.SoftmaxCrossEntropy()
    )
    assert (found.k, found.top_k) == (3, 1.0)


def test_a_soft_label_counts_as_its_largest_class():
    soft = np.array([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.3, 0.7, 0.0]])
    found = evaluation(np.log(soft + 1e-9), split(soft, NAMES[:3]), gn.SoftmaxCrossEntropy())
    assert found.accuracy == 1.0 and [row.support for row in found.per_class] == [1, 1, 1]
    entropy = -(soft * np.log(soft, where=soft > 0, out=np.zeros_like(soft))).sum(axis=1).mean()
    assert found.loss == pytest.approx(entropy, rel=1e-6)


def test_the_loss_weighs_classes_as_in_training():
    scores, labels = np.array([[0.0, 0.0], [0.0, 2.0]]), [0, 1]
    each = np.log(2), np.log(1 + np.exp(-2))
    found = evaluation(scores, split(labels, NAMES[:2]), gn.SoftmaxCrossEntropy(class_weights=(1.0, 3.0)))
    assert found.loss == pytest.approx((each[0] + 3 * each[1]) / 4, rel=1e-12)


def test_figures_can_be_written_as_json(predictions):
    found = evaluation(predictions[0], split(predictions[1]), gn.SoftmaxCrossEntropy())
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["samples"] == 200 and plain["per_class"][6]["name"] == "g"
    assert np.array(plain["confusion"]).sum() == 200


def test_evaluate_agrees_with_predict():
    data = load("digits")
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    gn.fit(net, data, epochs=1, backend="reference")
    found = evaluate(net, data.test, top_k=2)
    assert 0.5 < found.accuracy == (net.predict(data.test.images) == data.test.labels.astype(str)).mean()
    assert found.accuracy < found.top_k < 1


def test_scores_that_are_not_finite_are_refused(predictions):
    scores, labels = predictions
    scores[[3, 5], 1] = np.nan, np.inf
    assert message_of(NotFiniteError, evaluation, scores, split(labels), gn.SoftmaxCrossEntropy()) == (
        "The network's scores of 2 of 200 images are NaN or infinite. "
        "Look at its weights, or train again with a lower learning rate."
    )


def test_data_of_other_classes_is_refused():
    net = gn.Sequential([gn.Flatten(), gn.Linear(2)], input_shape=(2, 2, 1))
    gn.fit(
        net,
        (np.zeros((4, 2, 2), np.uint8), ["cat", "dog", "cat", "dog"]),
        epochs=1,
        batch_size=2,
        backend="reference",
    )
    for names, hint in (
        (("cat", "eel"), "eel. Known: cat, dog."),
        (("Dog", "cat"), "Dog. Did you mean 'dog'?"),
    ):
        assert message_of(ShapeError, evaluate, net, split(names, None)) == (
            f"The data has classes that the network does not know: {hint}"
        )


def knows(classes, generator):
    """An untrained network that knows these classes, and images for it."""
    net = gn.Sequential([gn.Flatten(), gn.Linear(len(classes))], input_shape=(4, 4, 1))
    net.classes, net.preprocessing = classes, Preprocessing.identity("L")
    return net, generator.integers(0, 256, (40, 4, 4), np.uint8)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("own", [("c", "a"), ("b", "c", "d"), ("d", "c", "b", "a")])
def test_data_of_some_of_the_classes_is_found_by_name(own, soft, generator):
    net, images = knows(NAMES[:4], generator)
    names = generator.choice(own, 40)
    labels = np.eye(len(own))[[own.index(name) for name in names]] if soft else names
    found = evaluate(net, from_arrays(images, labels, classes=own).train)
    numbers = [NAMES.index(name) for name in names]
    assert found.to_dict() == evaluate(net, (images, numbers)).to_dict()
    assert [row.support for row in found.per_class] == [(names == name).sum() for name in NAMES[:4]]
    assert found.accuracy == (net.predict(images) == names).mean()


def test_evaluate_takes_what_fit_takes(generator):
    net, images = knows(NAMES[:3], generator)
    labels = generator.integers(0, 3, 40)
    data = from_arrays(images, labels, classes=NAMES[:3], test=(images[:9], labels[:9]), val=(images, labels))
    test, val = evaluate(net, data.test).to_dict(), evaluate(net, data.val).to_dict()
    assert evaluate(net, data).to_dict() == test != val
    assert evaluate(net, dataclasses.replace(data, test=None)).to_dict() == val
    for given in (labels, labels.astype(float), np.array(NAMES)[labels], np.eye(3)[labels]):
        assert evaluate(net, (images, given)).to_dict() == val
    assert evaluate(net, (images[:1], labels[:1])).samples == 1
    net.classes = None
    assert [row.name for row in evaluate(net, (images, labels)).per_class] == ["0", "1", "2"]


def test_evaluate_error(generator):
    net, images = knows(("cat", "dog"), generator)
    bare = from_arrays(images, np.arange(40) % 2, name="bare")
    for data, error, message in (
        (bare, DataError, "Dataset 'bare' has neither a test nor a validation split. Name a split, such as "
         "data.train."),
        (images, DataError, "evaluate takes a Split, a Dataset or (images, labels), got ndarray. Make one "
         "with glassnet.data.load('mnist') or glassnet.data.from_arrays(images, labels)."),
        ((images, ["Dog"] * 40), DataError, "The labels hold 'Dog', which is no class. Did you mean 'dog'?"),
        ((images, [1]), ShapeError, "A split needs one label for each image, got 40 images and 1 labels."),
    ):  # fmt: skip
        assert message_of(error, evaluate, net, data) == message
