"""Preprocessing: its equation, its checks, and its way through a dict."""

from __future__ import annotations

import json

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import ConfigError, DataError, ShapeError
from glassnet.preprocessing import Preprocessing
from messages import message_of

GREY = Preprocessing(size=(2, 3), mean=(0.25,), std=(0.5,), channels="L")
RGB = Preprocessing(size=None, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0), channels="RGB")


def test_bytes_are_divided_by_255_then_normalised(generator):
    images = generator.integers(0, 256, (5, 4, 6, 3), np.uint8)
    expected = (images / 255 - np.array(RGB.mean)) / np.array(RGB.std)
    assert RGB.apply(images).dtype == np.float32
    np.testing.assert_allclose(RGB.apply(images), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_in_unit_scale_already(generator, dtype):
    images = generator.random((5, 4, 6, 3)).astype(dtype)
    expected = (images.astype(np.float64) - np.array(RGB.mean)) / np.array(RGB.std)
    assert RGB.apply(images).dtype == np.float32
    np.testing.assert_allclose(RGB.apply(images), expected, rtol=1e-6, atol=1e-6)


def test_grey_images_get_a_channel_axis(generator):
    images = generator.integers(0, 256, (5, 2, 3), np.uint8)
    np.testing.assert_array_equal(GREY.apply(images), GREY.apply(images[..., None]))
    assert GREY.apply(images).shape == (5, 2, 3, 1)


def test_identity_is_unit_scale_bit_for_bit():
    every_byte = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    unit = Preprocessing.identity("L").apply(every_byte).ravel()
    assert unit[0] == 0 and unit[255] == 1
    np.testing.assert_allclose(unit, np.arange(256) / 255, rtol=1e-7)
    assert Preprocessing.identity("RGB") == Preprocessing(None, (0, 0, 0), (1, 1, 1), "RGB")


def test_apply_leaves_its_argument_alone(generator):
    images = generator.random((2, 2, 3, 1), np.float32)
    before = images.copy()
    GREY.apply(images)
    np.testing.assert_array_equal(images, before)


def test_dict_holds_plain_values_only():
    assert GREY.to_dict() == {
        "size": [2, 3],
        "mean": [0.25],
        "std": [0.5],
        "channels": "L",
        "resize": "stretch",
        "tta": "none",
    }
    assert "size" not in RGB.to_dict()


@pytest.mark.parametrize("preprocessing", [GREY, RGB])
def test_dict_and_back_through_json(preprocessing):
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (
            np.zeros((4, 2, 3, 3), np.uint8),
            ShapeError,
            "The images must be 'L', of shape (N, H, W, 1), got (4, 2, 3, 3).",
        ),
        (
            np.zeros((4, 5, 6), np.uint8),
            ShapeError,
            "The images must be 2 high and 3 wide, got 5 high and 6 wide. Resize them first.",
        ),
        (
            np.zeros((4, 2, 3, 2), np.uint8),
            ShapeError,
            "The images must have 1 or 3 channels in their last dimension, got (4, 2, 3, 2).",
        ),
        (
            np.zeros((4, 1, 2, 6), np.uint8),
            ShapeError,
            "The images must have 1 or 3 channels in their last dimension, got (4, 1, 2, 6). "
            "Images are channels-last here: images.transpose(0, 2, 3, 1).",
        ),
        (
            np.zeros(6),
            ShapeError,
            "The images must have shape (N, H, W) or (N, H, W, C), got (6,).",
        ),
        (
            np.zeros((4, 64)),
            ShapeError,
            "The images must have shape (N, H, W) or (N, H, W, C), got (4, 64). "
            "Flat rows become images with images.reshape(-1, 8, 8).",
        ),
        (
            np.zeros((2, 3)),
            ShapeError,
            "The images must have shape (N, H, W) or (N, H, W, C), got (2, 3). "
            "A single grey image becomes a batch of one with image[None].",
        ),
        (
            np.zeros((0, 2, 3)),
            DataError,
            "The images are empty: their shape is (0, 2, 3, 1).",
        ),
        (
            np.zeros((4, 2, 3), np.int64),
            DataError,
            "The images must be uint8 (0 to 255) or float (0 to 1), got int64. "
            "Convert them, for instance with images.astype(np.uint8) if they hold 0 to 255.",
        ),
        (
            np.array([[[0, 0, 0], [0, np.nan, 0]], [[0, 0, np.inf], [-np.inf, 0, 0]]]),
            DataError,
            "The images hold 3 NaN or infinite values, the first at index (0, 1, 1, 0).",
        ),
        (
            np.array([[[0, 0, 1e300], [0, 0, 0]]]),
            DataError,
            "The images hold 1 NaN or infinite value, the first at index (0, 0, 2, 0).",
        ),
    ],
)
def test_images_that_do_not_fit_are_refused(images, error, message):
    assert message_of(error, GREY.apply, images) == message


NO_UNIT = (
    "The images are floats up to 254.9, but floats must be from 0 to 1. "
    "Divide them, for instance with images / 255 if they hold 0 to 255."
)


def test_floats_from_0_to_255_are_refused(generator):
    """Wherever raw images come in, also where the first of them is black."""
    images = np.zeros((3, 2, 3), np.float32)
    images[2, 1, 1] = 254.9
    assert message_of(DataError, GREY.apply, images) == NO_UNIT
    net = gn.Sequential([gn.Flatten(), gn.Linear(2)], input_shape=(2, 3, 1))
    assert net.scores(images[..., None]).shape == (3, 2)
    net.preprocessing = GREY
    for call in (net.scores, net.inputs, net.predict):
        assert message_of(DataError, call, images) == NO_UNIT
    right = (images / 255, [0, 1, 1])
    for what, arrays, splits in (
        ("train", (images, [0, 1, 1]), {}),
        ("val", right, {"val": (images, [0, 1, 1])}),
    ):
        assert message_of(DataError, gn.data.from_arrays, *arrays, **splits) == (
            NO_UNIT.replace("The images", f"The {what} images")
        )


@pytest.mark.parametrize(
    ("images", "std"),
    [
        (np.array([[[-0.5, 0, 20], [0, 0, 0]]]), 0.5),  # standardised, and an outlier
        (np.full((1, 2, 3), 9.9), 0.5),  # standardised, and one bright image alone
        (np.full((1, 2, 3), 254.9), 78.0),  # a network of the days when 0 to 255 was taken
    ],
)
def test_other_floats_are_taken(images, std):
    preprocessing = Preprocessing((2, 3), (0.25,), (std,), "L")
    np.testing.assert_allclose(preprocessing.apply(images)[..., 0], (images - 0.25) / std, rtol=1e-6)


def test_settings_from_before_there_was_resize_mean_stretch():
    assert Preprocessing.from_dict({"mean": [0.25], "std": [0.5], "channels": "L"}).resize == "stretch"
    cropped = Preprocessing((2, 3), (0.25,), (0.5,), "L", "crop")
    assert Preprocessing.from_dict(cropped.to_dict()) == cropped != GREY


SETTINGS = {"size": [2, 3], "mean": [0.25], "std": [0.5], "channels": "L"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": "BGR"}, "channels must be 'L' or 'RGB', got 'BGR'."),
        ({"resize": "pad"}, "resize must be 'stretch' or 'crop', got 'pad'."),
        ({"mean": [0.1, 0.2]}, "mean must be one finite number a channel, 1 for 'L', got [0.1, 0.2]."),
        ({"mean": 0.1}, "mean must be one finite number a channel, 1 for 'L', got 0.1."),
        ({"mean": [True]}, "mean must be one finite number a channel, 1 for 'L', got [True]."),
        ({"std": [float("nan")]}, "std must be one finite number a channel, 1 for 'L', got [nan]."),
        ({"std": ["0.5"]}, "std must be one finite number a channel, 1 for 'L', got ['0.5']."),
        ({"std": [0]}, "std must be above 0 in every channel, got (0.0,)."),
        ({"size": [2]}, "size must be None or (height, width), two whole numbers from 1 on, got [2]."),
        ({"size": [0, 3]}, "size must be None or (height, width), two whole numbers from 1 on, got [0, 3]."),
        ({"size": 28}, "size must be None or (height, width), two whole numbers from 1 on, got 28."),
        ({"means": [0.1]}, "Preprocessing has no setting 'means'. Did you mean 'mean'?"),
        (
            {"gamma": 2},
            "Preprocessing has no setting 'gamma'. Known: channels, mean, resize, size, std, tta.",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, message):
    assert message_of(ConfigError, Preprocessing.from_dict, SETTINGS | change) == message


def test_missing_settings_are_named():
    assert message_of(ConfigError, Preprocessing.from_dict, {"mean": [0.0], "size": None}) == (
        "Preprocessing lacks std and channels."
    )


def test_identity_of_an_unknown_channel_order_is_refused():
    assert message_of(ConfigError, Preprocessing.identity, "CMYK") == (
        "channels must be 'L' or 'RGB', got 'CMYK'."
    )
