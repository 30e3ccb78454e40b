"""Split, Dataset and from_arrays: what they hold, how they cut, and what they refuse, with whole messages."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from glassnet.data.dataset import Dataset, Split, channel_statistics, from_arrays, stratified
from glassnet.errors import ConfigError, DataError, ShapeError
from glassnet.preprocessing import Preprocessing
from messages import message_of

IMAGES = np.arange(6 * 2 * 3, dtype=np.uint8).reshape(6, 2, 3)
LABELS = [0, 1, 2, 0, 1, 2]


# What is held


def test_bytes_stay_bytes_and_are_not_copied():
    data = from_arrays(IMAGES, LABELS)
    assert data.train.images.dtype == np.uint8 and data.train.images.shape == (6, 2, 3, 1)
    assert np.shares_memory(data.train.images, IMAGES)
    assert data.image_shape == data.train.image_shape == (2, 3, 1)
    assert data.preprocessing.size == (2, 3) and data.preprocessing.channels == "L"


def test_floats_become_float32():
    data = from_arrays(IMAGES / 255, LABELS)
    assert data.train.images.dtype == np.float32
    np.testing.assert_allclose(data.train.inputs(), from_arrays(IMAGES, LABELS).train.inputs(), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.float32])
def test_whole_numbers_become_int64(dtype):
    train = from_arrays(IMAGES, np.array(LABELS, dtype)).train
    assert train.labels.dtype == np.int64 and train.labels.tolist() == LABELS
    assert train.classes == ("0", "1", "2")
    assert train.targets is train.labels


def test_strings_are_numbered_by_their_sorted_names():
    data = from_arrays(IMAGES, list("cabcab"), test=(IMAGES[:2], ["b", "c"]))
    assert data.classes == ("a", "b", "c")
    assert data.train.labels.tolist() == [2, 0, 1, 2, 0, 1]
    assert data.test.labels.tolist() == [1, 2]


def test_given_classes_decide_the_numbers():
    by_name = from_arrays(IMAGES, list("cabcab"), classes=list("cbad"))
    assert by_name.train.labels.tolist() == [0, 2, 1, 0, 2, 1]
    assert from_arrays(IMAGES, LABELS, classes=list("cbad")).train.labels.tolist() == LABELS


def test_soft_labels_are_kept():
    soft = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]] * 2, np.float16)
    train = from_arrays(IMAGES, soft).train
    assert train.labels.dtype == np.float32 and train.classes == ("0", "1")
    np.testing.assert_array_equal(train.labels, soft)
    assert train.counts().tolist() == [2, 4]


def test_counts_include_absent_classes():
    assert from_arrays(IMAGES, [0, 0, 0, 0, 2, 2], classes=list("abcd")).train.counts().tolist() == [
        4,
        0,
        2,
        0,
    ]


def test_splits_share_classes_and_the_statistics_of_train():
    data = from_arrays(IMAGES, LABELS, val=(IMAGES[:2] + 50, [0, 1]), test=(IMAGES[:3], [0, 1, 2]))
    assert (len(data.train), len(data.val), len(data.test)) == (6, 2, 3)
    assert data.val.preprocessing == data.test.preprocessing == from_arrays(IMAGES, LABELS).preprocessing
    assert repr(data) == "Dataset('arrays', train=6, val=2, test=3, image_shape=(2, 3, 1), classes=3)"


# Normalisation


def test_inputs_of_train_have_mean_0_and_deviation_1_in_each_channel(generator):
    images = (generator.random((50, 4, 5, 3)) * [60, 120, 200]).astype(np.uint8)
    inputs = from_arrays(images, np.arange(50) % 2).train.inputs().astype(np.float64)
    np.testing.assert_allclose(inputs.mean(axis=(0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(inputs.std(axis=(0, 1, 2)), 1, atol=1e-6)


def test_without_normalising_inputs_are_in_unit_scale():
    inputs = from_arrays(IMAGES, LABELS, normalise=False).train.inputs()
    np.testing.assert_allclose(inputs, IMAGES[..., None] / 255, rtol=1e-6)


def test_a_constant_channel_becomes_zero():
    images = np.full((6, 2, 3, 1), 7, np.uint8)
    np.testing.assert_allclose(from_arrays(images, LABELS).train.inputs(), 0, atol=1e-7)


def test_statistics_are_those_of_the_whole_set(generator):
    images = generator.integers(0, 256, (1000, 40, 40, 3), np.uint8)  # several blocks, the last one partial
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), rtol=1e-12)


def test_statistics_keep_their_digits_far_from_zero(generator):
    images = (generator.random((100, 4, 4, 1)) + 10_000).astype(np.float32)
    wide = images.astype(np.float64)
    np.testing.assert_allclose(channel_statistics(images)[1], [wide.std()], rtol=1e-9)


def test_statistics_never_hold_a_float_copy_of_the_set():
    images = np.zeros((200, 256, 256, 3), np.uint8)
    images[::2] = 255
    tracemalloc.start()
    channel_statistics(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes  # a float64 copy would be eight times as large


# Cutting


def test_a_slice_shares_memory_and_indices_pick():
    train = from_arrays(IMAGES, LABELS).train
    assert np.shares_memory(train[1:3].images, train.images) and np.shares_memory(
        train[1:3].labels, train.labels
    )
    assert len(train[1:3]) == 2 and train[1:3].classes == train.classes
    for index in ([4, 1], np.array([4, 1], np.uint8), np.array([0, 1, 0, 0, 1, 0], bool)):
        np.testing.assert_array_equal(sorted(train[index].images[:, 0, 0, 0]), [6, 24])
    assert train[[4, 1]].labels.tolist() == [1, 1] and train[[4, 0]].labels.tolist() == [1, 0]


def test_inputs_of_an_index_are_rows_of_all_inputs():
    train = from_arrays(IMAGES, LABELS).train
    np.testing.assert_array_equal(train.inputs([4, 1]), train.inputs()[[4, 1]])
    np.testing.assert_array_equal(train.inputs(slice(2, 4)), train.inputs()[2:4])


def test_files_stay_with_their_images():
    train = from_arrays(IMAGES, LABELS).train
    assert train.files is None and train[[1, 2]].files is None
    named = replace(train, files=tuple("abcdef"))
    assert named[1:3].files == ("b", "c") and named[[4, 1]].files == ("e", "b")
    assert named[np.array([0, 1, 0, 0, 1, 0], bool)].files == ("b", "e")
    cut = Dataset("named", named).holdout(0.5, seed=0)
    assert sorted(cut.train.files + cut.val.files) == list("abcdef")
    assert message_of(ShapeError, replace, train, files=("a",)) == (
        "A split needs one file for each image, got 6 images and 1 files."
    )


@pytest.mark.parametrize(
    ("index", "found"), [(3, "int64 ()"), ([0.5], "float64 (1,)"), ([[1, 2]], "int64 (1, 2)")]
)
def test_other_indices_are_refused(index, found):
    assert message_of(ConfigError, from_arrays(IMAGES, LABELS).train.__getitem__, index) == (
        f"A split is indexed by a slice or by one row of whole numbers, got {found}. "
        "One sample is split[i:i + 1]."
    )


def numbered(counts):
    """A Dataset with so many images of each class, each image holding its own number."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1) / len(labels)
    return from_arrays(np.tile(images, (1, 2, 2, 1)), labels)


def test_holdout_takes_its_share_of_each_class_and_loses_nothing():
    data = numbered([10, 50, 5, 2, 1])
    cut = data.holdout(0.2, seed=3)
    assert cut.val.counts().tolist() == [2, 10, 1, 1, 0]
    assert cut.train.counts().tolist() == [8, 40, 4, 1, 1]
    numbers = np.concatenate([cut.train.images[:, 0, 0, 0], cut.val.images[:, 0, 0, 0]])
    np.testing.assert_array_equal(np.sort(numbers), data.train.images[:, 0, 0, 0])
    assert (np.diff(cut.val.images[:, 0, 0, 0]) > 0).all()
    assert cut.preprocessing == data.preprocessing


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_each_class_of_two_or_more_is_on_both_sides(fraction):
    held = stratified(np.array([0] * 2 + [1] * 3 + [2]), fraction, seed=0)
    assert held[:2].sum() == 1 and 1 <= held[2:5].sum() <= 2 and not held[5]


def test_holdout_depends_on_the_seed_alone():
    labels = np.arange(200) % 4
    np.testing.assert_array_equal(stratified(labels, 0.3, 1), stratified(labels, 0.3, 1))
    assert not np.array_equal(stratified(labels, 0.3, 1), stratified(labels, 0.3, 2))


def test_holdout_of_soft_labels_goes_by_the_largest_entry():
    soft = np.array([[0.9, 0.1]] * 4 + [[0.3, 0.7]] * 4)
    cut = from_arrays(np.arange(32, dtype=np.uint8).reshape(8, 2, 2), soft).holdout(0.25, seed=0)
    assert cut.val.counts().tolist() == [1, 1]


@pytest.mark.parametrize("fraction", [0, 1, -0.2, float("nan")])
def test_holdout_of_no_share_is_refused(fraction):
    assert message_of(ConfigError, numbered([5, 5]).holdout, fraction, 0) == (
        f"The fraction to hold out must lie between 0 and 1, got {fraction}."
    )


def test_a_second_validation_split_is_refused():
    assert message_of(ConfigError, numbered([5, 5]).holdout(0.4, 0).holdout, 0.2, 0) == (
        "Dataset 'arrays' already has a validation split of 4 images. "
        "Use it, or build the dataset without it."
    )


def test_holdout_of_single_images_is_refused():
    assert message_of(DataError, numbered([1, 1, 1]).holdout, 0.5, 0) == (
        "Nothing can be held out: each of the 3 training images is alone in its class. "
        "Set val_fraction=0 to train without validation images."
    )


# What is refused. That images are checked is tested here once; how, in test_preprocessing.

LABEL_PROBLEMS = {
    "lengths": (
        [0, 1],
        ShapeError,
        "The train split has 6 images but 2 labels; each image needs one.",
    ),
    "bool": (
        [True, False] * 3,
        DataError,
        "The train labels must be whole numbers, strings or soft labels (N, K), got bool. "
        "Convert them, for instance with labels.astype(int) or labels.astype(str).",
    ),
    "object": (
        np.array(["a", None] * 3, object),
        DataError,
        "The train labels must be whole numbers, strings or soft labels (N, K), got object. "
        "Convert them, for instance with labels.astype(int) or labels.astype(str).",
    ),
    "complex": (
        np.zeros(6, complex),
        DataError,
        "The train labels must be whole numbers, strings or soft labels (N, K), got complex128. "
        "Convert them, for instance with labels.astype(int) or labels.astype(str).",
    ),
    "fractions": (
        [0, 1, 1.5, 0, 2.5, 1],
        DataError,
        "The train labels must be whole numbers, got 1.5 at index 2.",
    ),
    "nan": (
        [0, 1, 1, 0, np.nan, 1],
        DataError,
        "The train labels must be whole numbers, got nan at index 4.",
    ),
    "negative": (
        [0, 1, 1, -1, 0, 1],
        DataError,
        "The train labels must count from 0, got -1 at index 3.",
    ),
    "one column": (
        [[0], [1]] * 3,
        ShapeError,
        "The train labels must have shape (N,), or (N, K) as float soft labels, got int64 (6, 1). "
        "Use labels.argmax(axis=1) on one-hot rows, labels.ravel() on one column.",
    ),
    "soft three-dimensional": (
        np.zeros((6, 2, 2)),
        ShapeError,
        "The train labels must have shape (N,), or (N, K) as float soft labels, got float64 (6, 2, 2). "
        "Use labels.argmax(axis=1) on one-hot rows, labels.ravel() on one column.",
    ),
    "soft sum": (
        [[0.5, 0.5], [0.5, 0.25]] * 3,
        DataError,
        "Each row of the train labels must be probabilities that add up to 1, got [0.5, 0.25] in row 1.",
    ),
    "soft negative": (
        [[0.5, 0.5], [1.5, -0.5]] * 3,
        DataError,
        "Each row of the train labels must be probabilities that add up to 1, got [1.5, -0.5] in row 1.",
    ),
    "one class": (
        [2] * 6,
        DataError,
        "Training needs images of at least two classes, but all 6 are of class '2'.",
    ),
    "ids": (
        [0, 1, 90210, 2, 3, 4],
        DataError,
        "The train labels must be class numbers below 10000 where classes are not named, got "
        "90210 at index 2. Number the classes from 0, or give strings.",
    ),
}


@pytest.mark.parametrize(("labels", "error", "message"), LABEL_PROBLEMS.values(), ids=LABEL_PROBLEMS)
def test_labels_that_cannot_be_learned_from_are_refused(labels, error, message):
    assert message_of(error, from_arrays, IMAGES, labels) == message


CLASS_PROBLEMS = {
    "number outside": (
        [0, 1, 3, 0, 4, 1],
        ["a", "b", "c"],
        DataError,
        "The train labels must be below 3, the number of classes, got 3 at index 2.",
    ),
    "string outside": (
        ["cat", "dog", "bird"] * 2,
        ["cats", "dog", "bird"],
        DataError,
        "The train labels hold 'cat', which is no class. Did you mean 'cats'?",
    ),
    "soft columns": (
        [[0.5, 0.5]] * 6,
        ["a", "b", "c"],
        ShapeError,
        "The train labels must have one column for each of the 3 classes, got (6, 2).",
    ),
    "one name": (LABELS, ["a"], DataError, "classes must be two or more names, got ['a']."),
    "letters": (LABELS, "abc", DataError, "classes must be two or more names, got 'abc'."),
    "numbers": (LABELS, [0, 1, 2], DataError, "classes must be two or more names, got [0, 1, 2]."),
    "twice": (LABELS, ["a", "b", "a"], DataError, "classes must differ, but 'a' is there 2 times."),
}


@pytest.mark.parametrize(
    ("labels", "classes", "error", "message"), CLASS_PROBLEMS.values(), ids=CLASS_PROBLEMS
)
def test_classes_that_do_not_fit_are_refused(labels, classes, error, message):
    assert message_of(error, from_arrays, IMAGES, labels, classes=classes) == message


IMAGE_PROBLEMS = {
    "empty": (IMAGES[:0], DataError, "The train images are empty: their shape is (0, 2, 3, 1)."),
    "object": (
        IMAGES.astype(object),
        DataError,
        "The train images must be uint8 (0 to 255) or float (0 to 1), got object. "
        "Convert them, for instance with images.astype(np.uint8) if they hold 0 to 255.",
    ),
    "nan": (
        np.where(IMAGES == 8, np.nan, IMAGES),
        DataError,
        "The train images hold 1 NaN or infinite value, the first at index (1, 0, 2, 0).",
    ),
    "flat": (
        IMAGES.reshape(6, 6),
        ShapeError,
        "The train images must have shape (N, H, W) or (N, H, W, C), got (6, 6). "
        "A single grey image becomes a batch of one with image[None].",
    ),
}


@pytest.mark.parametrize(("images", "error", "message"), IMAGE_PROBLEMS.values(), ids=IMAGE_PROBLEMS)
def test_images_that_cannot_be_learned_from_are_refused(images, error, message):
    assert message_of(error, from_arrays, images, LABELS) == message


def test_the_split_at_fault_is_named():
    assert message_of(DataError, from_arrays, IMAGES, LABELS, test=(IMAGES[:2], [0, 7])) == (
        "The test labels must be below 3, the number of classes, got 7 at index 1."
    )
    assert message_of(DataError, from_arrays, IMAGES, LABELS, val=(IMAGES[:2], [0, -1])) == (
        "The val labels must count from 0, got -1 at index 1."
    )
    assert message_of(DataError, from_arrays, IMAGES, LABELS, val=(IMAGES.astype(int), LABELS)) == (
        "The val images must be uint8 (0 to 255) or float (0 to 1), got int64. "
        "Convert them, for instance with images.astype(np.uint8) if they hold 0 to 255."
    )


def test_splits_of_other_sizes_are_refused():
    assert message_of(DataError, from_arrays, IMAGES, LABELS, test=(IMAGES[:, :1], LABELS)) == (
        "The test split must have the image_shape of the train split, (2, 3, 1), got (1, 3, 1)."
    )


def test_splits_of_other_classes_are_refused():
    train, other = from_arrays(IMAGES, LABELS).train, from_arrays(IMAGES, list("abcabc")).train
    assert message_of(DataError, Dataset, "mixed", train, val=other) == (
        "The val split must have the classes of the train split, ('0', '1', '2'), got ('a', 'b', 'c')."
    )


def test_a_split_needs_as_many_labels_as_images():
    identity = Preprocessing.identity("L")
    assert message_of(ShapeError, Split, IMAGES[..., None], np.zeros(4, int), ("a", "b"), identity) == (
        "A split needs one label for each image, got 6 images and 4 labels."
    )
