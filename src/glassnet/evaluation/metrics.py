"""How good predictions are: loss, accuracy, top-k, the confusion matrix and what it says of each class."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from glassnet.data import Split
from glassnet.data.labels import hard
from glassnet.errors import NotFiniteError, ShapeError
from glassnet.losses import Loss, targets_for
from glassnet.network import Sequential
from glassnet.ops.reference import ReferenceOps

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


def evaluate(net: Sequential, split: Split, *, top_k: int = 5) -> Evaluation:
    """The network's Evaluation on a split, by its own loss, preprocessing and backend."""
    check_classes(net, split)
    return evaluation(net.scores(split.images), split, net.loss, top_k=top_k)


def check_classes(net: Sequential, split: Split) -> None:
    """The network's scores must be those of the split's classes."""
    if net.classes is not None and net.classes != split.classes:
        raise ShapeError(
            f"The network knows the classes {', '.join(net.classes)}, but the data has "
            f"{', '.join(split.classes)}."
        )


def evaluation(scores: Array, split: Split, loss: Loss, *, top_k: int = 5) -> Evaluation:
    """The Evaluation of scores (N, K) on a split; a soft label counts as its largest class."""
    wrong = int((~np.isfinite(scores)).any(axis=-1).sum())
    if wrong:
        raise NotFiniteError(
            f"The network's scores of {wrong} of {len(scores)} images are NaN or infinite. "
            "Look at its weights, or train again with a lower learning rate."
        )
    labels, outputs = hard(split.labels), scores.shape[-1]
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
