"""load: the digits in the package, MNIST and Fashion-MNIST from files, own files, and names that are none."""

from __future__ import annotations

import gzip
import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import glassnet.data
from glassnet.data import catalog
from glassnet.data.catalog import IDX_SETS, load
from glassnet.data.manifest import names_files
from glassnet.errors import ConfigError, DataError, FileFormatError
from messages import message_of
from oracles import oracle
from photos import photo_folder

# Digits


def test_digits_are_a_fixed_stratified_split():
    data = load("digits")
    assert repr(data) == "Dataset('digits', train=1438, test=359, image_shape=(8, 8, 1), classes=10)"
    assert data.classes == tuple("0123456789")
    assert data.train.counts().tolist() == [142, 146, 142, 146, 145, 146, 145, 143, 139, 144]
    assert data.test.counts().tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    sha256 = hashlib.sha256(data.test.images.tobytes()).hexdigest()
    assert sha256 == "79f879f7d5c51589b8875b8f9a3b4cce601d08519a4c9060910c1b6df2c5db27"


def test_digits_are_normalised():
    inputs = load("digits").train.inputs().astype(np.float64)
    assert abs(inputs.mean()) < 1e-3 and abs(inputs.std() - 1) < 1e-3


def test_digits_are_those_of_scikit_learn():
    source = oracle("sklearn.datasets").load_digits()
    data = load("digits")
    ours = np.concatenate([data.train.images, data.test.images])[..., 0]
    labels = np.concatenate([data.train.labels, data.test.labels])
    ink = np.rint(ours * (16 / 255))
    assert sorted(map(bytes_of, ink, labels)) == sorted(map(bytes_of, source.images, source.target))


def bytes_of(image, label):
    return image.astype(np.uint8).tobytes() + bytes([label])


def test_digits_are_small_and_say_where_they_come_from():
    folder = Path(glassnet.data.__file__).parent / "digits"
    assert (folder / "digits.npz").stat().st_size < 70_000
    for fact in ("10.24432/C50P49", "CC BY 4.0", "E. Alpaydin", "Changes made"):
        assert fact in (folder / "SOURCE.md").read_text(encoding="utf-8")


# The real sets


@pytest.mark.parametrize(
    ("name", "train_counts", "first_classes", "first_ink"),
    [
        ("mnist", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], ["5", "0", "4"], 27_525),
        ("fashion-mnist", [6000] * 10, ["Ankle boot", "T-shirt/top", "T-shirt/top"], 76_247),
    ],
)
def test_real_sets_are_whole(real_data, name, train_counts, first_classes, first_ink):
    data = load(name)
    assert repr(data) == f"Dataset({name!r}, train=60000, test=10000, image_shape=(28, 28, 1), classes=10)"
    assert data.train.counts().tolist() == train_counts
    assert [data.classes[label] for label in data.train.labels[:3]] == first_classes
    assert data.train.images[0].sum() == first_ink
    inputs = data.train.inputs().astype(np.float64)
    assert abs(inputs.mean()) < 1e-3 and abs(inputs.std() - 1) < 1e-3


def test_real_files_have_the_checksums_that_downloads_are_held_to(real_data):
    for name, known in IDX_SETS.items():
        for file, sha256 in known.sha256.items():
            assert hashlib.sha256((real_data / name / file).read_bytes()).hexdigest() == sha256


def test_fashion_is_short_for_fashion_mnist(real_data):
    assert load("fashion").name == "fashion-mnist"


# The way to the files, with sets of zeros in place of pictures


def put(folder, file, values, *, zipped=True):
    content = (
        bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (file if zipped else file.removesuffix(".gz"))
    path.write_bytes(gzip.compress(content, 1) if zipped else content)


def put_set(folder, *, zipped=True, labels_up_to=10):
    for prefix, count in (("train", 60_000), ("t10k", 10_000)):
        put(folder, f"{prefix}-images-idx3-ubyte.gz", np.zeros((count, 28, 28), np.uint8), zipped=zipped)
        labels = (np.arange(count) % labels_up_to).astype(np.uint8)
        put(folder, f"{prefix}-labels-idx1-ubyte.gz", labels, zipped=zipped)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_in_the_named_folder_are_used_zipped_or_not(tmp_path, monkeypatch, zipped):
    put_set(tmp_path / "data" / "mnist", zipped=zipped)
    monkeypatch.setenv("GLASSNET_DATA", str(tmp_path / "data"))
    data = load("mnist", cache=tmp_path / "cache")
    assert data.test.labels[:12].tolist() == [*range(10), 0, 1]
    assert not (tmp_path / "cache").exists()


def test_files_in_the_cache_are_used(tmp_path, monkeypatch):
    put_set(tmp_path / "cache" / "mnist")
    monkeypatch.setenv("GLASSNET_DATA", str(tmp_path / "nothing"))
    assert len(load("mnist", cache=tmp_path / "cache").train) == 60_000


def test_files_of_another_size_are_refused(tmp_path, monkeypatch):
    put_set(tmp_path / "mnist")
    put(tmp_path / "mnist", "t10k-labels-idx1-ubyte.gz", np.zeros(9_999, np.uint8))
    monkeypatch.setenv("GLASSNET_DATA", str(tmp_path))
    path = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    assert message_of(FileFormatError, load, "mnist") == f"{path} must have sizes 10000, but has 9999."


def test_files_with_other_labels_are_refused(tmp_path, monkeypatch):
    put_set(tmp_path / "mnist", labels_up_to=11)
    monkeypatch.setenv("GLASSNET_DATA", str(tmp_path))
    assert message_of(DataError, load, "mnist") == (
        "The mnist labels must be below 10, the number of classes, got 10 at index 10."
    )


# Own files


def put_small(folder):
    put(folder, "train-images-idx3-ubyte.gz", np.arange(24, dtype=np.uint8).reshape(4, 2, 3))
    put(folder, "train-labels-idx1-ubyte.gz", np.array([0, 1, 1, 0], np.uint8), zipped=False)


def test_a_folder_of_idx_files_is_read(tmp_path):
    put_small(tmp_path)
    assert load(tmp_path).train.images[1, :, :, 0].tolist() == [[6, 7, 8], [9, 10, 11]]
    put(tmp_path, "t10k-images-idx3-ubyte.gz", np.zeros((1, 2, 3), np.uint8))
    assert message_of(DataError, load, str(tmp_path)) == (
        f"The folder {tmp_path} lacks t10k-labels-idx1-ubyte, "
        "or the same gzipped as t10k-labels-idx1-ubyte.gz."
    )
    put(tmp_path, "t10k-labels-idx1-ubyte.gz", np.ones(1, np.uint8))
    data = load(tmp_path, classes=["no", "yes"])
    assert len(data.test) == 1 and data.classes == ("no", "yes") and data.name == tmp_path.name


def test_files_are_read_by_their_names(tmp_path):
    images, labels = np.zeros((2, 3, 3), np.uint8), np.arange(2)
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    (tmp_path / "a.csv").write_text("0,4,3,2,1\n1,5,6,7,8\n")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"0,4,3,2,1\n1,5,6,7,8\n"))
    assert load(tmp_path / "a.npz").image_shape == (3, 3, 1)
    assert load(str(tmp_path / "a.csv"), shape=(1, 4)).image_shape == (1, 4, 1)
    assert load(tmp_path / "b.csv.gz", test=tmp_path / "a.csv").test.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "photos/a/0.png,cat\nphotos/b/0.png,dog\n"),
        (
            "a.csv",
            "file;class;split\ngone.png;cat;train\nphotos/a/0.png;cat;train\nphotos/b/0.png;dog;train\n",
        ),
        ("a.tsv", "photos/a/0.png\tcat\nphotos/b/0.png\tdog\n"),
    ],
)
def test_a_table_of_paths_is_read_as_photos(tmp_path, name, text):
    photo_folder(tmp_path / "photos", {"a": 1, "b": 1})
    (tmp_path / name).write_text(text)
    data = load(tmp_path / name, size=16, cache_limit=0)
    assert (data.name, data.classes, data.image_shape) == ("a", ("cat", "dog"), (16, 16, 3))
    assert [Path(file).parent.name for file in data.train.files] == ["a", "b"]


@pytest.mark.parametrize("first", ["", "label,a,b,c,d\n", "9" * 100_000 + ",", "a\0b,1\n", "0,1,2,3,4\n"])
def test_a_table_that_names_no_file_is_none_of_paths(tmp_path, first):
    (tmp_path / "a.csv").write_text(first)
    assert not names_files(tmp_path / "a.csv")


def test_a_name_comes_before_a_folder(tmp_path, monkeypatch):
    put_small(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert load("digits").image_shape == (8, 8, 1)
    assert load("./digits").image_shape == (2, 3, 1)


@pytest.mark.parametrize(
    ("source", "option", "message"),
    [
        ("digits", "classes", "The data set 'digits' takes no option 'classes'. It takes none."),
        ("mnist", "shape", "The data set 'mnist' takes no option 'shape'. It takes none."),
        ("cifar10", "lossy", "The data set 'cifar10' takes no option 'lossy'. Did you mean 'lossy_test'?"),
        (
            "a.npz",
            "label",
            "Data from a.npz takes no option 'label'. Known: classes, max_bytes, normalise.",
        ),
        ("a.csv", "shapes", "Data from a.csv takes no option 'shapes'. Did you mean 'shape'?"),
    ],
)
def test_options_that_do_not_apply_are_refused(source, option, message):
    assert message_of(ConfigError, load, source, **{option: 1}) == message


def test_paths_that_hold_nothing_are_refused(tmp_path):
    other = tmp_path / "notes.txt"
    assert message_of(DataError, load, other) == (
        f"There is no data set, file or folder {str(other)!r}. "
        "Known: cifar10, digits, fashion, fashion-mnist, mnist."
    )
    other.touch()
    assert message_of(DataError, load, other) == (
        f"{other} is no data that can be read. Known are .csv, .csv.gz, .tsv and .npz files, and folders."
    )
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "a.csv")


# Names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minst", "There is no data set, file or folder 'minst'. Did you mean 'mnist'?"),
        ("cifar-10", "There is no data set, file or folder 'cifar-10'. Did you mean 'cifar10'?"),
        (
            "imagenet",
            "There is no data set, file or folder 'imagenet'. "
            "Known: cifar10, digits, fashion, fashion-mnist, mnist.",
        ),
        (
            np.zeros(3),
            "load takes the name of a data set, or the path of a file or folder, got ndarray. "
            "Images and labels that you hold go to glassnet.data.from_arrays.",
        ),
    ],
)
def test_names_that_are_none_are_refused(name, message):
    assert message_of(DataError, load, name) == message


def test_cifar10_that_cannot_be_had_says_what_to_do(tmp_path, monkeypatch):
    closed = "http://127.0.0.1:9/"
    monkeypatch.setattr(catalog, "MIRRORS", (closed,))
    monkeypatch.delenv("GLASSNET_DATA", raising=False)
    message = message_of(DataError, load, "cifar10", cache=tmp_path)
    assert message.startswith(
        "The data set 'cifar10' lacks cifar-10-binary.tar.gz: GLASSNET_DATA is not set, not in the cache "
        f"{tmp_path / 'cifar10'}, and no mirror sent cifar-10-binary.tar.gz ({closed}cifar-10-binary.tar.gz: "
    )
    assert message.endswith(
        " Put the files into a folder named cifar10 and set GLASSNET_DATA to the folder that holds it."
    )


def test_importing_data_brings_neither_downloads_nor_pictures():
    code = (
        "import sys, glassnet.data; print(sorted({'pooch', 'requests', 'PIL', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
