"""Images and arrays from files, as a model's preprocessing wants them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from glassnet.errors import ConfigError, FileFormatError
from glassnet.io import read_images
from glassnet.preprocessing import Preprocessing
from messages import message_of

GREY = Preprocessing((2, 3), (0.0,), (1.0,), "L")
COLOUR = Preprocessing(None, (0.0,) * 3, (1.0,) * 3, "RGB")
PIXELS = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)


def saved(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def test_an_image_of_the_right_size_is_read_as_it_is(tmp_path):
    images = read_images(saved(tmp_path / "a.png", PIXELS), GREY)
    assert images.dtype == np.uint8
    assert np.array_equal(images, PIXELS[None, :, :, None])


def test_an_image_is_resized_to_height_and_width(tmp_path):
    large = np.kron(PIXELS, np.ones((20, 20), np.uint8))
    images = read_images(saved(tmp_path / "a.png", large), GREY)
    assert images.shape == (1, 2, 3, 1)
    assert np.abs(images[0, :, :, 0].astype(int) - PIXELS).max() < 20  # bicubic reads across the edges


def test_colour_and_grey_are_converted(tmp_path):
    colour = np.stack([PIXELS, PIXELS, PIXELS], axis=-1)
    assert np.array_equal(read_images(saved(tmp_path / "c.png", colour), GREY)[0, :, :, 0], PIXELS)
    assert np.array_equal(read_images(saved(tmp_path / "g.png", PIXELS), COLOUR)[0], colour)


def test_sixteen_bits_keep_their_high_byte(tmp_path):
    deep = PIXELS.astype(np.uint16) * 256 + 255
    assert np.array_equal(read_images(saved(tmp_path / "a.png", deep), GREY)[0, :, :, 0], PIXELS)


def test_an_image_is_turned_as_its_exif_data_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    turned = np.ascontiguousarray(np.rot90(PIXELS))
    images = read_images(saved(tmp_path / "a.png", turned, exif=exif), GREY)
    assert np.array_equal(images[0, :, :, 0], PIXELS)


def test_arrays_stay_as_they_are(tmp_path, generator):
    images, labels = generator.random((4, 2, 3, 1)), np.arange(4)
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "one.npz", anything=images)
    np.savez(tmp_path / "named.npz", labels=labels, images=images)
    for name in ("a.npy", "one.npz", "named.npz"):
        assert np.array_equal(read_images(tmp_path / name, None), images)
    np.savez(tmp_path / "unclear.npz", x=images, y=labels)
    assert message_of(FileFormatError, read_images, tmp_path / "unclear.npz", None) == (
        f"{tmp_path / 'unclear.npz'} must hold its images as 'images', or one array only, got x, y."
    )


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_damaged_array_file_is_named(tmp_path, name):
    path = tmp_path / name
    (np.save if name == "a.npy" else np.savez)(path, PIXELS)
    whole = path.read_bytes()
    for length in (0, 5, 60, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert message_of(FileFormatError, read_images, path, GREY).startswith(f"{path} ")


def test_a_pickle_is_not_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}]))
    assert message_of(FileFormatError, read_images, tmp_path / "a.npy", None).startswith(
        f"{tmp_path / 'a.npy'} holds Python objects, but must hold numbers or texts."
    )


def test_a_damaged_image_is_named(tmp_path):
    path = saved(tmp_path / "a.png", np.kron(PIXELS, np.ones((50, 50), np.uint8)))
    path.write_bytes(path.read_bytes()[:-80])
    message = message_of(FileFormatError, read_images, path, GREY)
    assert message.startswith(f"{path} is not an image that can be read: ")


def test_an_image_needs_a_preprocessing(tmp_path):
    path = saved(tmp_path / "a.png", PIXELS)
    assert message_of(ConfigError, read_images, path, None) == (
        f"This model has no preprocessing, so {path} cannot be made its input. "
        "Predict on a NumPy file (.npy)."
    )
