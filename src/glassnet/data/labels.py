"""Labels as users hold them -> class numbers or soft labels, and the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassnet.errors import DataError, ShapeError, did_you_mean

MAX_UNNAMED = 10_000
"""Numbers from here on are no class numbers but something else (an id, a year), unless classes are named."""

SOFT_SUM_TOLERANCE = 1e-3
"""A row of soft labels adds up to 1 within this; float16 rows with ten classes do."""


def label_array(labels: ArrayLike, what: str) -> NDArray[Any]:
    """Checked labels: (N,) int64, (N,) strings, or (N, K) float32 soft labels. `what` names them in errors.

    Float labels (N,) are class numbers too where every one is whole.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "iufU":
        raise DataError(
            f"The {what} must be whole numbers, strings or soft labels (N, K), got {array.dtype}. "
            f"Convert them, for instance with labels.astype(int) or labels.astype(str)."
        )
    if array.ndim == 2 and array.dtype.kind == "f":
        return _soft_labels(array, what)
    if array.ndim != 1:
        raise ShapeError(
            f"The {what} must have shape (N,), or (N, K) as float soft labels, got {array.dtype} "
            f"{array.shape}. Use labels.argmax(axis=1) on one-hot rows, labels.ravel() on one column."
        )
    if array.dtype.kind == "U":
        return array
    whole = np.isfinite(array) & (np.floor(array) == array) & (np.abs(array) < 2**53)
    if not whole.all():
        raise DataError(f"The {what} must be whole numbers, got {_at_first(array, ~whole)}.")
    if (array < 0).any():
        raise DataError(f"The {what} must count from 0, got {_at_first(array, array < 0)}.")
    return array.astype(np.int64, copy=False)


def class_names(labels: NDArray[Any], classes: Sequence[str] | None, what: str) -> tuple[str, ...]:
    """The given names, checked, or those that checked labels imply: sorted strings, or "0", "1", … ."""
    if classes is not None:
        return _checked_names(classes)
    if labels.dtype.kind == "U":
        return tuple(str(name) for name in np.unique(labels))
    if labels.ndim == 2:
        return tuple(str(k) for k in range(labels.shape[1]))
    if labels.max() >= MAX_UNNAMED:
        raise DataError(
            f"The {what} must be class numbers below {MAX_UNNAMED} where classes are not named, got "
            f"{_at_first(labels, labels >= MAX_UNNAMED)}. Number the classes from 0, or give strings."
        )
    return tuple(str(k) for k in range(labels.max() + 1))


def encode(labels: NDArray[Any], classes: tuple[str, ...], what: str) -> NDArray[Any]:
    """Checked labels -> (N,) int64 class numbers, or (N, K) soft labels, that fit these classes."""
    if labels.ndim == 2:
        if labels.shape[1] != len(classes):
            raise ShapeError(
                f"The {what} must have one column for each of the {len(classes)} classes, got {labels.shape}."
            )
        return labels
    if labels.dtype.kind == "U":
        return _numbers_of(labels, classes, what)
    outside = labels >= len(classes)
    if outside.any():
        raise DataError(
            f"The {what} must be below {len(classes)}, the number of classes, got "
            f"{_at_first(labels, outside)}."
        )
    return labels


def check_same_kind(labels: NDArray[Any], train_labels: NDArray[Any], what: str) -> None:
    """Refuse checked numbers where those of train are strings, and the reverse: numbers count its classes."""
    if {labels.dtype.kind, train_labels.dtype.kind} == {"i", "U"}:
        raise DataError(
            f"The {what} are {_kind(labels)}, but the train labels are {_kind(train_labels)}. "
            f"Give all as numbers, or all as strings."
        )


def hard(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Class numbers (N,): the largest entry of each soft row, or the numbers themselves."""
    return labels.argmax(axis=1) if labels.ndim == 2 else labels


def _soft_labels(array: NDArray[Any], what: str) -> NDArray[np.float32]:
    """(N, K) float32 rows that are finite, not negative, and add up to 1."""
    wrong = ~((array >= 0).all(axis=1) & (np.abs(array.sum(axis=1) - 1) <= SOFT_SUM_TOLERANCE))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"Each row of the {what} must be probabilities that add up to 1, got "
            f"{array[row].tolist()} in row {row}."
        )
    return array.astype(np.float32, copy=False)


def _checked_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Two or more different strings; one string is not taken for a sequence of letters."""
    names = () if isinstance(classes, str) else tuple(classes)
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise DataError(f"classes must be two or more names, got {classes!r}.")
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"classes must differ, but {name!r} is there {names.count(name)} times.")
    return tuple(str(name) for name in names)


def _numbers_of(labels: NDArray[Any], classes: tuple[str, ...], what: str) -> NDArray[np.int64]:
    """The place of each string in classes."""
    names, inverse = np.unique(labels, return_inverse=True)
    number_of = {name: number for number, name in enumerate(classes)}
    for name in names:
        if name not in number_of:
            raise DataError(
                f"The {what} hold {str(name)!r}, which is no class." + did_you_mean(name, classes)
            )
    return np.array([number_of[name] for name in names], np.int64)[inverse]


def _kind(labels: NDArray[Any]) -> str:
    """What the labels are, with a string that is no number where there is one."""
    if labels.dtype.kind != "U":
        return "numbers"
    names = [str(name) for name in np.unique(labels)]
    return f"strings such as {next((name for name in names if not name.isdecimal()), names[0])!r}"


def _at_first(array: NDArray[Any], wrong: NDArray[np.bool_]) -> str:
    index = int(wrong.argmax())
    return f"{array[index].item()} at index {index}"
