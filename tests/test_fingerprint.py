"""Fingerprints: whatever a run would learn from differently changes them, and the change has words."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from glassnet.data import Dataset, from_arrays, load
from glassnet.data import fingerprint as module
from glassnet.data.fingerprint import changes, fingerprint

DIGITS = load("digits")


@pytest.fixture
def data(generator):
    """12 training and 4 test images, uint8."""
    images = generator.integers(0, 256, (16, 5, 4, 3), np.uint8)
    labels = np.arange(16) % 3
    return from_arrays(images[:12], labels[:12], test=(images[12:], labels[12:]), normalise=False)


def altered(data, what, **parts):
    """The data with other images or labels in one split."""
    return replace(data, **{what: replace(getattr(data, what), **parts)})


def words(old, new):
    """What changed, also after the old fingerprint was written to a file and read."""
    found = changes(fingerprint(old), fingerprint(new))
    assert changes(json.loads(json.dumps(fingerprint(old))), fingerprint(new)) == found
    return found


def test_the_same_data_has_the_same_fingerprint_however_it_lies_in_memory(data, tmp_path, monkeypatch):
    assert words(data, data) == [] == words(DIGITS, load("digits"))
    apart = np.zeros((12, 5, 4, 6), np.uint8)[..., ::2]
    apart[...] = data.train.images
    assert words(data, altered(data, "train", images=apart)) == []
    np.save(tmp_path / "images.npy", data.train.images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    monkeypatch.setattr(module, "BLOCK_BYTES", 150)
    assert words(data, altered(data, "train", images=mapped)) == []


@pytest.mark.parametrize("block", [1, 150, 1 << 20])
@pytest.mark.parametrize("what", ["train", "test"])
@pytest.mark.parametrize("part", ["images", "labels"])
def test_one_other_number_is_found_wherever_it_is(data, what, part, block, monkeypatch, generator):
    monkeypatch.setattr(module, "BLOCK_BYTES", block)
    old = fingerprint(data)
    for _ in range(10):
        array = getattr(getattr(data, what), part).copy()
        place = tuple(int(generator.integers(size)) for size in array.shape)
        array[place] ^= 1
        assert changes(old, fingerprint(altered(data, what, **{part: array}))) == [f"{what} {part} differ"]


def test_samples_in_another_order(data):
    swapped = data.train[[1, 0, *range(2, 12)]]
    assert words(data, replace(data, train=swapped)) == ["train images differ", "train labels differ"]


def test_what_has_another_form_is_described(data):
    assert words(data, replace(data, train=data.train[:11])) == [
        "train: 11 images (5, 4, 3) uint8, labels int64, before 12 images (5, 4, 3) uint8, labels int64"
    ]
    floats = altered(data, "test", images=data.test.images.astype(np.float32))
    assert words(data, floats) == [
        "test: 4 images (5, 4, 3) float32, labels int64, before 4 images (5, 4, 3) uint8, labels int64"
    ]
    soft = altered(data, "train", labels=np.eye(3, dtype=np.float32)[data.train.labels])
    assert words(data, soft) == [
        "train: 12 images (5, 4, 3) uint8, labels (3,) float32, "
        "before 12 images (5, 4, 3) uint8, labels int64"
    ]


def test_splits_that_come_and_go(data):
    alone = Dataset(data.name, train=data.train)
    outline = "4 images (5, 4, 3) uint8, labels int64"
    assert words(data, alone) == [f"test: none, before {outline}"]
    assert words(alone, data) == [f"test: {outline}, before none"]
    assert words(DIGITS.holdout(0.1, seed=0), DIGITS.holdout(0.1, seed=1)) == [
        *("train images differ", "train labels differ", "val images differ", "val labels differ"),
    ]


def test_classes_and_preprocessing(data):
    train, test = (replace(split, classes=("0", "1", "7")) for split in (data.train, data.test))
    assert words(data, replace(data, train=train, test=test)) == [
        "classes: ['0', '1', '7'], before ['0', '1', '2']"
    ]
    other = replace(data.preprocessing, mean=(0.5, 0.0, 0.0))
    train, test = (replace(split, preprocessing=other) for split in (data.train, data.test))
    (found,) = words(data, replace(data, train=train, test=test))
    assert found.startswith("preprocessing: {") and "'mean': [0.5, 0.0, 0.0]" in found


def test_weights_of_samples(data):
    none, ones, two = (fingerprint(data, w) for w in (None, np.ones(12), np.r_[2.0, np.ones(11)]))
    assert changes(ones, fingerprint(data, np.ones(12))) == []
    assert changes(none, ones) == changes(ones, two) == changes(two, none) == ["sample weights differ"]


def test_an_old_fingerprint_that_is_none_is_only_different(data):
    assert changes({"train": 3, "classes": None}, fingerprint(data))[0].startswith("classes: ['0', '1', '2']")
