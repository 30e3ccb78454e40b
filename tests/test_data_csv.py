"""The CSV reader: labels first or by name, whole pixels or fractions, and every way a row can be wrong."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest

from glassnet.data.csv_images import ROW_LIMIT, load_csv, read_csv
from glassnet.errors import ConfigError, DataError, FileFormatError
from messages import message_of


def file_of(tmp_path, text, name="set.csv"):
    path = tmp_path / name
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("name", ["set.csv", "set.csv.gz"])
def test_labels_come_first_where_there_is_no_header(tmp_path, name):
    images, labels = read_csv(file_of(tmp_path, "3,0,1,2,255\n0,4,5,6,7\n", name))
    assert images.tolist() == [[[[0], [1]], [[2], [255]]], [[[4], [5]], [[6], [7]]]]
    assert images.dtype == np.uint8 and labels.dtype == np.int64
    assert labels.tolist() == [3, 0]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("label,1x1,1x2,2x1,2x2\n7,0,1,2,3\n", {}),
        ("label,0,1,2,3\r\n7,0,1,2,3\r\n", {}),
        ("\ufeff1x1,label,1x2,2x1,2x2\n0,7,1,2,3", {}),
        ('"a","b","c","d","kind"\n0,1,2,3,"7"\n', {"label": "kind"}),
        ("digit,0,1,2,3\n7,0,1,2,3\n", {"label": "digit"}),
        ("4,0,1,2,3\n7,0,1,2,3\n", {"label": "4"}),
        ("0,1,2,3,4\n7,0,1,2,3\n", {"label": 0}),
    ],
)
def test_a_header_names_the_label(tmp_path, text, options):
    images, labels = read_csv(file_of(tmp_path, text), **options)
    assert images.reshape(-1).tolist() == [0, 1, 2, 3] and labels.tolist() == [7]


def test_fractions_make_floats_even_where_they_come_late(tmp_path, monkeypatch):
    monkeypatch.setattr("glassnet.data.csv_images.BLOCK", 32)
    text = "0,0,1,0,1\n" * 10 + "1,0.5,1e-1,1.0,0\n" + "2,1,1,1,1\n" * 10
    images, labels = read_csv(file_of(tmp_path, text))
    assert images.dtype == np.float32 and len(images) == 21
    assert images[10].reshape(-1).tolist() == [0.5, np.float32(0.1), 1, 0]
    assert labels.tolist() == [0] * 10 + [1] + [2] * 10


def test_labels_may_be_texts(tmp_path):
    text = 'cat,0,1,2,4\n"a, b",4,5,6,7\ncat,8,9,10,11\n'
    assert read_csv(file_of(tmp_path, text))[1].tolist() == ["cat", "a, b", "cat"]
    data = load_csv(file_of(tmp_path, text), classes=["cat", "dog", "a, b"])
    assert data.train.labels.tolist() == [0, 2, 0] and data.name == "set"
    letters_too = file_of(tmp_path, "7,0,1,2,4\nx,4,5,6,7\n")
    assert read_csv(letters_too)[1].tolist() == ["7", "x"]


def test_shapes_are_square_or_as_asked_for(tmp_path):
    row = "0," + ",".join(map(str, range(12))) + "\n"
    path = file_of(tmp_path, row)
    assert read_csv(path, channels=3)[0].shape == (1, 2, 2, 3)
    assert read_csv(path, shape=(3, 4))[0].shape == (1, 3, 4, 1)
    assert read_csv(path, shape=(1, 4, 3))[0][0, 0, 1].tolist() == [3, 4, 5]
    assert message_of(ConfigError, read_csv, path) == (
        f"{path} has 12 pixels in a row, which do not make a square image with 1 channel. "
        "Give shape=(height, width) or shape=(height, width, 3)."
    )
    assert message_of(ConfigError, read_csv, path, shape=(3, 5)) == (
        f"{path} has 12 pixels in a row, which do not make an image of shape (3, 5). "
        "Give shape=(height, width) or shape=(height, width, 3)."
    )
    assert message_of(ConfigError, read_csv, path, channels=2) == "channels must be 1 or 3, got 2."


def test_other_files_are_the_other_splits(tmp_path):
    train = file_of(tmp_path, "0,0,1,2,3\n1,4,5,6,7\n", "train.csv")
    test = file_of(tmp_path, "1,0,0,0,0\n", "test.csv.gz")
    data = load_csv(train, test=test, val=train)
    assert (len(data.train), len(data.val), len(data.test)) == (2, 2, 1)
    other = file_of(tmp_path, "2,0,0,0,0\n", "other.csv")
    assert message_of(DataError, load_csv, train, test=other) == (
        "The test labels must be below 2, the number of classes, got 2 at index 0."
    )


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("1x2", "121", "The test labels are numbers, but the train labels are strings such as 'x'."),
        ("121", "1x2", "The test labels are strings such as 'x', but the train labels are numbers."),
        ("abc", "101", "The test labels are numbers, but the train labels are strings such as 'a'."),
    ],
)
@pytest.mark.parametrize("classes", [None, list("12x")])
def test_numbers_and_texts_in_two_files_are_not_mixed(tmp_path, train, test, message, classes):
    if classes and "a" in train:
        classes = list("abc")
    paths = [
        file_of(tmp_path, "".join(f"{label},0,1,2,4\n" for label in labels), f"{labels}.csv")
        for labels in (train, test)
    ]
    assert message_of(DataError, load_csv, paths[0], test=paths[1], classes=classes) == (
        f"{message} Give all as numbers, or all as strings."
    )


GOOD = "0,0,1,2,3\n"
PROBLEMS = {
    "short": (GOOD + "1,4,5,6\n", " line 2 must have 5 values, but has 4."),
    "long": (GOOD * 3 + "1,4,5,6,7,8\n" + GOOD, " line 4 must have 5 values, but has 6."),
    "blank": (GOOD + "\n" + GOOD, " line 2 must have 5 values, but has 0."),
    "text": (GOOD + "1,4,x,6,7\n", " line 2 must have pixels from 0 to 255, but has 'x'."),
    "empty": (GOOD + "1,4,,6,7\n", " line 2 must have pixels from 0 to 255, but has ''."),
    "large": (GOOD + "1,4,256,6,7\n", " line 2 must have pixels from 0 to 255, but has '256'."),
    "larger": (GOOD + "1,4,99999,6,7\n", " line 2 must have pixels from 0 to 255, but has '99999'."),
    "negative": (GOOD + "1,4,-1,6,7\n", " line 2 must have pixels from 0 to 255, but has '-1'."),
    "nan": (GOOD + "1,4,nan,6,7\n", " line 2 must have pixels from 0 to 255, but has 'nan'."),
    "header": ("label,a,b,c,d\n0,1,2,3,4\n0,1,2,3\n", " line 3 must have 5 values, but has 4."),
    "mixed": (
        GOOD + "1,0.5,0,0,0\n",
        " holds fractions and also values up to 3 by line 2. Pixels are whole numbers from 0 to 255, "
        "or all from 0 to 1.",
    ),
    "only a header": ("label,a,b,c,d\n", " holds no images."),
    "quote": (GOOD + '1,4,"5,6,7\n', " line 2 must have 5 values, but has 3."),
    "no label": (GOOD + ",4,5,6,7\n", " line 2 has no label."),
    "space for a label": (GOOD + "cat,4,5,6,7\n \t,4,5,6,7\n", " line 3 has no label."),
    "nothing": ("", " is empty."),
    "byte order mark": ("\ufeff", " is empty."),
    "blank first": ("\n" + GOOD, " line 1 must be values divided by commas, but is blank."),
    "semicolons": ("0;0;1;2;3\n", " line 1 must be values divided by commas, but is '0;0;1;2;3'."),
    "tabs": ("0\t0\t1\n", " line 1 must be values divided by commas, but is '0\\t0\\t1'."),
    "comment": ("# digits\n" + GOOD, " line 1 must be values divided by commas, but is '# digits'."),
    "archive": ("PK\3\4\r\x14", " is a zip file, but must be text. Unpack it first."),
    "empty first": ("0,0,,2,3\n" + GOOD, " line 1 must have pixels from 0 to 255, but has ''."),
    "comma at the end": ("0,0,1,2,3,\n", " line 1 must have pixels from 0 to 255, but has ''."),
    "old Mac": ("0,0,1,2,3\r0,0,1,2,3\r", " must end its lines with LF or CR LF, but has CR alone."),
    "zero byte": (GOOD + "1,4,\0,6,7\n", " line 2 must have pixels from 0 to 255, but has '\\x00'."),
}


@pytest.mark.parametrize(("text", "message"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_wrong_row_is_named(tmp_path, text, message):
    path = file_of(tmp_path, text)
    assert message_of(FileFormatError, read_csv, path) == f"{path}{message}"


def test_what_only_the_parser_refuses_is_in_its_words(tmp_path):
    path = file_of(tmp_path, GOOD + "1,4,1_0,6,7\n")
    assert message_of(FileFormatError, read_csv, path) == (
        f"{path} from line 1 on cannot be read: could not convert string '1_0' to float32 at row 1, column 3."
    )


def test_a_wrong_row_in_a_later_block_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("glassnet.data.csv_images.BLOCK", 64)
    path = file_of(tmp_path, "label,a,b,c,d\n" + GOOD * 50 + "1,4,5,6\n" + GOOD * 50)
    assert message_of(FileFormatError, read_csv, path) == f"{path} line 52 must have 5 values, but has 4."


def test_other_files_are_refused(tmp_path):
    path = file_of(tmp_path, b"\x89PNG\xff,\n1,2\n")
    assert message_of(FileFormatError, read_csv, path).startswith(f"{path} is no text in UTF-8: ")
    path.write_bytes(gzip.compress(GOOD.encode())[:-4])
    assert message_of(FileFormatError, read_csv, path).startswith(
        f"{path} is a truncated or altered gzip file"
    )


NAME_IT = "Name the column of the labels: label=..., or --set data_options.label=... on the command line."
HEADERS = {
    "misspelled": ("lable,a,b,c,d\n0,1,2,3,4\n", "Did you mean 'lable'?"),
    "last of many": (
        ",".join([f"pixel{i}" for i in range(64)] + ["lable"]) + "\n" + "0," * 64 + "1\n",
        "Did you mean 'lable'?",
    ),
    "numbered": ("digit,1,2,3,4\n7,0,1,2,3\n8,0,1,2,3\n", "Known: 1, 2, 3, 4, digit."),
    "numbered, texts below": ("kind,0,1,2,3\ncat,0,1,2,3\n", "Known: 0, 1, 2, 3, kind."),
    "of pandas": ("0,1,2,3,4\n7,0,1,2,3\n", "Known: 0, 1, 2, 3, 4."),
    "of pandas with an index": (",0,1,2,3\n0,7,1,2,3\n", "Known: , 0, 1, 2, 3."),
    "a block long": ("digit,1,2,3,4" + " " * 64 + "\n7,0,1,2,3\n", "Known: 1, 2, 3, 4, digit."),
}


@pytest.mark.parametrize(("text", "hint"), HEADERS.values(), ids=HEADERS)
def test_a_header_without_a_label_is_no_image(tmp_path, monkeypatch, text, hint):
    monkeypatch.setattr("glassnet.data.csv_images.BLOCK", 64)
    path = file_of(tmp_path, text)
    assert message_of(ConfigError, read_csv, path) == (
        f"{path} has no column 'label' in its first line. {NAME_IT} {hint}"
    )


def test_labels_that_are_no_class_numbers_are_refused(tmp_path):
    path = file_of(tmp_path, "0.5" + GOOD[1:])
    assert message_of(DataError, read_csv, path) == (
        f"The labels in {path} must be whole numbers, got 0.5 at index 0."
    )


def test_memory_is_bounded(tmp_path):
    line = file_of(tmp_path, b"1" * (64 << 20), "line.csv.gz")
    many = file_of(tmp_path, b"0,0,0,0,0\n" * (4 << 20), "many.csv.gz")
    long = file_of(tmp_path, ("a" * 100_000 + ",9\n") + "b,9\n" * 1000, "long.csv")
    labels = file_of(tmp_path, "".join(f"a{i},9\n" for i in range(10_001)), "labels.csv")
    tracemalloc.start()
    assert message_of(FileFormatError, read_csv, line) == f"{line} has a line of more than {ROW_LIMIT} bytes."
    assert message_of(FileFormatError, read_csv, many, max_bytes=1 << 22) == (
        f"{many} holds more than {1 << 22} bytes of images and labels. Raise max_bytes to read it."
    )
    assert message_of(FileFormatError, read_csv, labels) == (
        f"{labels} has more than 10000 different labels. {NAME_IT}"
    )
    assert message_of(FileFormatError, read_csv, long).startswith(f"{long} holds more than 500000000 bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 26


def test_mnist_as_csv_is_mnist(tmp_path, generator):
    images = generator.integers(0, 256, (300, 28, 28, 1), np.uint8)
    labels = generator.integers(0, 10, 300)
    rows = np.column_stack([labels, images.reshape(300, 784)])
    path = tmp_path / "mnist.csv"
    np.savetxt(path, rows, fmt="%d", delimiter=",")
    found, found_labels = read_csv(path)
    assert np.array_equal(found, images) and np.array_equal(found_labels, labels)
    np.savetxt(path, np.column_stack([labels, images.reshape(300, 784) / 255]), delimiter=",")
    assert np.array_equal(read_csv(path)[0], (images / 255).astype(np.float32))
