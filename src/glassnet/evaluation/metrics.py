"""How good predictions are: loss, accuracy, top-k, the confusion matrix and what it says of each class."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from glassnet.data import Dataset, Split
from glassnet.data.labels import encode, hard, label_array
from glassnet.errors import DataError, ShapeError, did_you_mean
from glassnet.losses import Loss, targets_for
from glassnet.network import Sequential, finite
from glassnet.ops.reference import ReferenceOps
from glassnet.preprocessing import Preprocessing

Array = np.ndarray


@dataclass(frozen=True)
class ClassMetrics:
    """One class. precision: of those predicted so, how many are; recall: of those that are, how many found.

    f1 = 2 * precision * recall / (precision + recall); support: samples of the class. A ratio of 0 / 0 is 0.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A network on a split. loss: as in training, with its smoothing and weights, over the whole split.

    top_k: how often the label is among the k largest scores. confusion[i, j]: samples of class i that were
    predicted as class j.
    """

    loss: float
    accuracy: float
    top_k: float
    k: int
    confusion: Array
    per_class: tuple[ClassMetrics, ...]

    @property
    def samples(self) -> int:
        """How many samples were evaluated."""
        return int(self.confusion.sum())

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        plain = {name: getattr(self, name) for name in ("samples", "loss", "accuracy", "top_k", "k")}
        per_class = [asdict(metrics) for metrics in self.per_class]
        return plain | {"confusion": self.confusion.tolist(), "per_class": per_class}


def evaluate(net: Sequential, data: Split | Dataset | tuple[Any, Any], *, top_k: int = 5) -> Evaluation:
    """The network's Evaluation, by its own loss, preprocessing and backend.

    data: a Split, a Dataset (its test split, else its validation split), or (images, labels).
    """
    split = in_classes_of(net, as_split(net, data))
    return evaluation(net.scores(split.images), split, net.loss, top_k=top_k)


def as_split(net: Sequential, data: Any) -> Split:
    """The Split that `evaluate` was given, or that is in what it was given."""
    if isinstance(data, Split):
        return data
    if isinstance(data, Dataset):
        split = data.val if data.test is None else data.test
        if split is None:
            raise DataError(
                f"Dataset {data.name!r} has neither a test nor a validation split. Name a split, such as "
                "data.train."
            )
        return split
    if isinstance(data, tuple) and len(data) == 2:
        images, labels = data
        classes = net.classes or tuple(map(str, range(net.outputs)))
        numbers = encode(label_array(labels, "labels"), classes, "labels")
        return Split(np.asarray(images), numbers, classes, net.preprocessing or Preprocessing.identity("L"))
    raise DataError(
        f"evaluate takes a Split, a Dataset or (images, labels), got {type(data).__name__}. Make one with "
        "glassnet.data.load('mnist') or glassnet.data.from_arrays(images, labels)."
    )


def in_classes_of(net: Sequential, split: Split) -> Split:
    """The split with the network's classes, among which its own are found by name."""
    if net.classes is None or net.classes == split.classes:
        return split
    unknown = [name for name in split.classes if name not in net.classes]
    if unknown:
        raise ShapeError(
            f"The data has classes that the network does not know: {', '.join(unknown)}."
            f"{did_you_mean(unknown[0], net.classes)}"
        )
    numbers = np.array([net.classes.index(name) for name in split.classes])
    if split.labels.ndim == 1:
        labels = numbers[split.labels]
    else:
        labels = np.zeros((len(split), len(net.classes)), split.labels.dtype)
        labels[:, numbers] = split.labels
    return replace(split, labels=labels, classes=net.classes)


def evaluation(scores: Array, split: Split, loss: Loss, *, top_k: int = 5) -> Evaluation:
    """The Evaluation of scores (N, K) on a split; a soft label counts as its largest class."""
    labels, outputs = hard(split.labels), finite(scores).shape[-1]
    confusion = confusion_matrix(labels, scores.argmax(axis=-1), outputs)
    k = min(top_k, outputs)
    return Evaluation(
        loss=float(sample_losses(scores, split, loss).sum()),
        accuracy=float(np.trace(confusion) / len(labels)),
        top_k=top_k_accuracy(scores, labels, k),
        k=k,
        confusion=confusion,
        per_class=per_class(confusion, split.classes),
    )


def sample_losses(scores: Array, split: Split, loss: Loss) -> Array:
    """(N,): each sample's part of the loss of the whole split, as in training, in float64."""
    targets = targets_for(loss, split.targets, len(split.classes))
    target, share = loss.targets(targets, scores.shape[-1])
    return loss.forward(ReferenceOps(), scores.astype(np.float64), target, share)


def confusion_matrix(labels: Array, predicted: Array, classes: int) -> Array:
    """(K, K): [i, j] counts samples of class i predicted as class j, from class numbers (N,) each."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def per_class(confusion: Array, names: tuple[str, ...]) -> tuple[ClassMetrics, ...]:
    """Precision, recall and F1 of each class from a confusion matrix."""
    found, predicted, support = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall = ratio(found, predicted), ratio(found, support)
    f1 = ratio(2 * precision * recall, precision + recall)
    rows = zip(names, precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), strict=True)
    return tuple(ClassMetrics(*row) for row in rows)


def ratio(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(len(a)), where=b != 0)


def top_k_accuracy(scores: Array, labels: Array, k: int) -> float:
    """How often fewer than k scores come before the label's; of equal ones the first does, as in argmax."""
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[-1]) < labels[:, None]
    rank = ((scores > own) | ((scores == own) & earlier)).sum(axis=-1)
    return float((rank < k).mean())
