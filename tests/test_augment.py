"""Augmentation: settings, the distribution of what is drawn, and what the NumPy definition does to pixels."""

from __future__ import annotations

import tomllib
from dataclasses import asdict

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from augmenting import AUGMENTS, naive, pictures, scale_shift
from glassnet.data.augment import DEFAULTS, Augment, beta_quantile, default_augment, mix_targets
from glassnet.errors import ConfigError
from glassnet.ops.augment import (
    COLUMNS,
    CONTRAST,
    CUT_TOP,
    GAIN,
    MIX_KEEP,
    MIX_TOP,
    OWN,
    SATURATION,
    X_0,
    X_I,
    X_J,
    Y_0,
    Y_I,
    Y_J,
    augment_images,
    identity_rows,
)
from glassnet.ops.philox import random_words

SAME = np.ones(3, np.float32), np.zeros(3, np.float32)
PUBLISHED = Augment(
    horizontal_flip=0.5,
    vertical_flip=0.2,
    crop=(0.70, 0.95),
    crop_probability=0.7,
    rotation=(15, 75),
    rotation_probability=0.5,
    expand=True,
    fill="black",
)


def drawn(augment, steps=40, samples=100, size=(30, 20), output=None, seed=5, step=0):
    """Rows and partners of 4,000 samples, one axis of them."""
    rows, partner = augment.draw(seed=seed, step=step, steps=steps, samples=samples, size=size, output=output)
    return rows.reshape(-1, COLUMNS), partner.reshape(-1)


def shown(augment, images, seed=0, output=None):
    """Each image as the augmentation shows it, in raw values."""
    rows, partner = augment.draw(
        seed=seed, step=0, samples=len(images), size=images.shape[1:3], output=output
    )
    scale, shift = (array[: images.shape[3]] for array in SAME)
    return augment_images(images, rows[0], images[partner[0]], scale, shift, output)


# Settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"horizontal_flip": 1.5}, "horizontal_flip must be a number from 0 to 1, got 1.5."),
        ({"vertical_flip": True}, "vertical_flip must be a number from 0 to 1, got True."),
        ({"mix_probability": "often"}, "mix_probability must be a number from 0 to 1, got 'often'."),
        ({"shift": 1.5}, "shift must be a whole number from 0 to 10000, got 1.5."),
        ({"cutout": -1}, "cutout must be a whole number from 0 to 10000, got -1."),
        ({"crop": 0.8}, "crop must be two numbers from 0.05 to 1, the least first, got 0.8."),
        ({"crop": [0.9, 0.8]}, "crop must be two numbers from 0.05 to 1, the least first, got [0.9, 0.8]."),
        ({"zoom": (0, 1)}, "zoom must be two numbers from 0.1 to 10, the least first, got (0, 1)."),
        (
            {"rotation": (1, 2, 3)},
            "rotation must be two numbers from 0 to 180, the least first, got (1, 2, 3).",
        ),
        ({"shear": float("nan")}, "shear must be a number from 0 to 60, got nan."),
        ({"mixup": [0.2]}, "mixup must be a number from 0 to 100, got [0.2]."),
        ({"fill": "white"}, "fill must be 'reflect' or 'black', got 'white'."),
        ({"expand": 1}, "expand must be true or false, got 1."),
    ],
)
def test_wrong_settings_are_refused(given, message):
    with pytest.raises(ConfigError) as error:
        Augment(**given)
    assert str(error.value) == message


@given(AUGMENTS)
def test_settings_survive_toml(augment):
    text = tomli_w.dumps({k: list(v) if isinstance(v, tuple) else v for k, v in asdict(augment).items()})
    assert Augment(**tomllib.loads(text)) == augment


def test_nothing_is_on_unless_set():
    assert Augment().off
    rows, partner = drawn(Augment())
    np.testing.assert_array_equal(rows, identity_rows((4000,)))
    np.testing.assert_array_equal(partner, np.tile(np.arange(100), 40))
    without = {
        "crop": {"crop_probability": 0}, "rotation": {"rotation_probability": 0},
        "aspect": {"crop_probability": 0}, "cutout": {"cutout_probability": 0},
        "mixup": {"mix_probability": 0}, "cutmix": {"mix_probability": 0},
    }  # fmt: skip
    for name, value in {
        "horizontal_flip": 0.1, "vertical_flip": 0.1, "shift": 1, "crop": (0.5, 1), "aspect": (0.5, 1),
        "rotation": (0, 1), "zoom": (1, 2), "shear": 1.0, "brightness": 0.1, "contrast": 0.1,
        "saturation": 0.1, "cutout": 1, "mixup": 0.1, "cutmix": 0.1,
    }.items():  # fmt: skip
        assert not Augment(**{name: value}).off, name
        assert Augment(**{name: value}, **without.get(name, {})).off == (name in without)


def test_defaults_by_kind():
    for kind in DEFAULTS:
        assert not default_augment(kind).off
    assert default_augment("digits").horizontal_flip == default_augment("digits").vertical_flip == 0
    with pytest.raises(ConfigError) as error:
        default_augment("photo")
    assert str(error.value) == "Unknown kind of image 'photo'. Did you mean 'photos'?"


# What is drawn ----------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(AUGMENTS, st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 3))
def test_a_row_depends_on_seed_step_and_place_alone(augment, seed, step):
    sizes = {"size": (9, 11), "output": (7, 8)}
    whole = augment.draw(seed=seed, step=step, steps=3, samples=6, **sizes)
    assert whole.rows.dtype == np.float32 and whole.partner.dtype == np.int64
    assert np.isfinite(whole.rows).all() and (whole.partner >= 0).all() and (whole.partner < 6).all()
    for k in range(3):
        alone = augment.draw(seed=seed, step=step + k, samples=6, **sizes)
        np.testing.assert_array_equal(alone.rows[0], whole.rows[k])
        np.testing.assert_array_equal(alone.partner[0], whole.partner[k])
        fewer = augment.draw(seed=seed, step=step + k, samples=4, **sizes)
        np.testing.assert_array_equal(fewer.rows[0], whole.rows[k, :4])


def test_seeds_steps_and_samples_differ_and_dropout_never_meets_them():
    augment = Augment(rotation=(0, 90))
    rows = np.concatenate([drawn(augment, seed=seed, step=50 * seed)[0] for seed in (0, 1)])
    assert len(np.unique(rows[:, Y_J])) > 0.999 * len(rows)
    flips = drawn(Augment(horizontal_flip=0.5), steps=1)[0][:, X_J] < 0
    dropout = random_words(5, 0, 0, np.arange(100), 1)[:, 0] < 2**31
    assert (flips != dropout).any()
    other = drawn(Augment(horizontal_flip=0.5), steps=1, seed=5 + 2**40)[0][:, X_J] < 0
    assert (flips != other).any()


def test_flips_and_shifts():
    rows, _ = drawn(Augment(horizontal_flip=0.5, vertical_flip=0.2, shift=2))
    mirrored, upside = rows[:, X_J] == -1, rows[:, Y_I] == -1
    assert abs(mirrored.mean() - 0.5) < 0.03 and abs(upside.mean() - 0.2) < 0.03
    assert abs((mirrored & upside).mean() - 0.1) < 0.02
    down, right = rows[:, Y_0] - np.where(upside, 29, 0), rows[:, X_0] - np.where(mirrored, 19, 0)
    for moved in (down, right):
        values, counts = np.unique(moved, return_counts=True)
        np.testing.assert_array_equal(values, [-2, -1, 0, 1, 2])
        assert abs(counts / 4000 - 0.2).max() < 0.03
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.05


def test_crop_keeps_a_window_of_the_image():
    rows, _ = drawn(Augment(crop=(0.5, 0.9), crop_probability=0.7, aspect=(0.5, 2.0)), output=(15, 40))
    tall, wide = rows[:, Y_I] * 15 / 30, rows[:, X_J] * 40 / 20
    cropped = tall * wide < 0.99
    assert abs(cropped.mean() - 0.7) < 0.03
    free = cropped & (tall < 0.999) & (wide < 0.999)
    side, aspect = np.sqrt(tall * wide)[free], (wide / tall)[free]
    assert 0.499 < side.min() < 0.52 and 0.499 < aspect.min() < 0.55 and 1.9 < aspect.max() < 2.001
    top, left = rows[:, Y_0] + 0.5 - rows[:, Y_I] / 2, rows[:, X_0] + 0.5 - rows[:, X_J] / 2
    assert top.min() > -1e-4 and (top + tall * 30).max() < 30.0001
    assert left.min() > -1e-4 and (left + wide * 20).max() < 20.0001
    place = top[free] / (30 * (1 - tall[free]))
    assert abs(np.quantile(place, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.04


def test_published_augmentation():
    """A window of side .70 to .95 in .7; 15 to 75 degrees to either side in .5, the whole image shown."""
    size = (224, 224)
    rows, _ = drawn(PUBLISHED, size=size)
    angle = np.degrees(np.arctan2(-rows[:, Y_J] * np.sign(rows[:, X_J]), abs(rows[:, X_J])))
    rotated = abs(angle) > 1
    assert abs(rotated.mean() - 0.5) < 0.03 and abs((angle > 1).mean() - 0.25) < 0.03
    assert 15 <= abs(angle[rotated]).min() < 15.5 and 74.5 < abs(angle[rotated]).max() <= 75.001
    length = np.hypot(rows[:, X_J], rows[:, Y_J])
    radians = np.radians(abs(angle))
    side = length / np.where(rotated, np.cos(radians) + np.sin(radians), 1)
    cropped = side < 0.9999
    assert abs(cropped.mean() - 0.7) < 0.03
    assert 0.6999 < side.min() < 0.71 and 0.94 < side[cropped].max() < 0.9501
    whole = rotated & ~cropped  # the corners of the image are inside the output
    corners = np.array([[-0.5, -0.5], [-0.5, 223.5], [223.5, -0.5], [223.5, 223.5]])
    for row in rows[whole][:50].astype(np.float64):
        matrix = row[[Y_I, Y_J, X_I, X_J]].reshape(2, 2)
        seen = np.linalg.solve(matrix, (corners - row[[Y_0, X_0]]).T)
        np.testing.assert_allclose([seen.min(), seen.max()], [-0.5, 223.5], atol=0.01)


def test_zoom_and_shear():
    zoomed, _ = drawn(Augment(zoom=(0.5, 2.0)))
    assert 0.5 < zoomed[:, X_J].min() < 0.51 and 1.95 < zoomed[:, Y_I].max() < 2
    slanted, _ = drawn(Augment(shear=45.0))
    assert -1.001 < slanted[:, X_I].min() < -0.98 and 0.98 < slanted[:, X_I].max() < 1.001
    np.testing.assert_array_equal(slanted[:, [Y_I, Y_J, X_J]], np.tile([1.0, 0.0, 1.0], (4000, 1)))


def test_colour_factors():
    rows, _ = drawn(Augment(brightness=0.4, contrast=0.2, saturation=1.0))
    brightness = rows[:, GAIN] / rows[:, CONTRAST]
    for values, largest in ((brightness, 0.4), (rows[:, CONTRAST], 0.2), (rows[:, SATURATION], 1.0)):
        assert 1 - largest - 1e-6 <= values.min() < 1 - 0.97 * largest
        assert 1 + 0.97 * largest < values.max() < 1 + largest + 1e-6
        assert abs(values.mean() - 1) < 0.05 * largest
    assert abs(np.corrcoef(brightness, rows[:, CONTRAST])[0, 1]) < 0.05


def test_cutout_squares():
    rows, _ = drawn(Augment(cutout=6, cutout_probability=0.5))
    top, left, bottom, right = rows[:, CUT_TOP : CUT_TOP + 4].T
    there = bottom > 0
    assert abs(there.mean() - 0.5) < 0.03
    inside = there & (top > 0) & (left > 0) & (bottom < 30) & (right < 20)
    np.testing.assert_array_equal(np.unique((bottom - top)[inside]), [6])
    np.testing.assert_array_equal(np.unique((right - left)[inside]), [6])
    assert (bottom <= 30).all() and (right <= 20).all() and (top >= 0).all() and (left >= 0).all()
    assert set(np.unique(bottom[there])) == set(range(3, 31))


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_beta_quantile(alpha, generator):
    u = (np.arange(200_000) + 0.5) / 200_000
    x = beta_quantile(u, alpha)
    assert (np.diff(x) >= 0).all() and x.min() >= 0 and x.max() <= 1
    np.testing.assert_allclose(x.mean(), 0.5, atol=1e-6)
    np.testing.assert_allclose(x.var(), 1 / (4 * (2 * alpha + 1)), rtol=2e-3)
    sample = np.sort(generator.beta(alpha, alpha, 200_000))
    for at in (0.05, 0.2, 0.4, 0.6, 0.95):
        assert abs(np.mean(sample < beta_quantile(np.array(at), alpha)) - at) < 0.006


def test_mixing():
    rows, partner = drawn(Augment(mixup=0.5, cutmix=1.0, mix_probability=0.8))
    place = np.tile(np.arange(100), 40)
    pasted, blended = rows[:, MIX_KEEP] == 0, (rows[:, MIX_KEEP] > 0) & (partner != place)
    alone = partner == place
    assert abs(pasted.mean() - 0.4) < 0.03 and abs(blended.mean() - 0.4) < 0.03
    np.testing.assert_array_equal(rows[alone], identity_rows((int(alone.sum()),)))
    np.testing.assert_array_equal(rows[blended][:, OWN], rows[blended][:, MIX_KEEP])
    np.testing.assert_array_equal(
        rows[blended][:, MIX_TOP:MIX_KEEP], np.tile([0, 0, 30, 20], (blended.sum(), 1))
    )
    top, left, bottom, right = rows[pasted][:, MIX_TOP:MIX_KEEP].T
    np.testing.assert_allclose(rows[pasted][:, OWN], 1 - (bottom - top) * (right - left) / 600, rtol=1e-6)
    steps = (partner - place) % 100
    assert set(steps[~alone]) == set(range(1, 100))
    assert Augment(mixup=1.0).draw(seed=0, step=0, samples=1, size=(4, 4)).partner.tolist() == [[0]]


def test_targets_are_mixed(generator):
    targets = generator.random((3, 5, 4)).astype(np.float32)
    partner, own = generator.integers(0, 5, (3, 5)), generator.random((3, 5)).astype(np.float32)
    mixed = mix_targets(targets, partner, own)
    for k in range(3):
        np.testing.assert_array_equal(mixed[k], mix_targets(targets[k], partner[k], own[k]))
        for n in range(5):
            share = own[k, n]
            wanted = share * targets[k, n] + (1 - share) * targets[k, partner[k, n]]
            np.testing.assert_array_equal(mixed[k, n], wanted)
    assert mixed.dtype == np.float32


# What happens to pixels -------------------------------------------------------------------------------


def test_flips_and_turns_copy_pixels(generator):
    images = pictures(generator, 6, (7, 7), 3)
    np.testing.assert_array_equal(shown(Augment(), images), images)
    np.testing.assert_array_equal(shown(Augment(horizontal_flip=1), images), images[:, :, ::-1])
    np.testing.assert_array_equal(shown(Augment(vertical_flip=1), images), images[:, ::-1])
    np.testing.assert_array_equal(shown(Augment(rotation=(180, 180)), images), images[:, ::-1, ::-1])
    turned = shown(Augment(rotation=(90, 90)), images)
    for ours, image in zip(turned, images, strict=True):
        assert any(np.array_equal(ours, np.rot90(image, k)) for k in (1, 3))


def test_expanded_quarter_turn_shows_all(generator):
    images = pictures(generator, 1, (6, 10), 3)
    turned = shown(Augment(rotation=(90, 90), expand=True, fill="black"), images, output=(10, 6))[0]
    assert any(np.array_equal(turned, np.rot90(images[0], k)) for k in (1, 3))


@pytest.mark.parametrize("fill", ["reflect", "black"])
def test_shifts_copy_pixels(fill, generator):
    images = pictures(generator, 8, (6, 9), 3)
    augment = Augment(shift=4, fill=fill)
    rows = augment.draw(seed=0, step=0, samples=8, size=(6, 9)).rows[0]
    mode = "reflect" if fill == "reflect" else "constant"
    for ours, image, row in zip(shown(augment, images), images, rows, strict=True):
        wide = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode)
        top, left = 4 + int(row[Y_0]), 4 + int(row[X_0])
        np.testing.assert_array_equal(ours, wide[top : top + 6, left : left + 9])


def test_half_the_size_is_the_mean_of_four(generator):
    images = pictures(generator, 2, (8, 12), 3)
    wanted = images.reshape(2, 4, 2, 6, 2, 3).mean((2, 4))
    np.testing.assert_array_equal(shown(Augment(), images, output=(4, 6)), wanted)


def test_any_map_shows_what_pillow_shows():
    """Bilinear reading of a smooth image inside it: Pillow rounds to whole levels."""
    i, j = np.indices((64, 64))
    smooth = np.stack([128 + 100 * np.sin(i / 9 + j / 13 + c) for c in range(3)], -1).astype(np.uint8)
    augment = Augment(
        horizontal_flip=0.5, vertical_flip=0.5, crop=(0.5, 0.8), aspect=(0.8, 1.2), rotation=(0, 60),
        zoom=(0.9, 1.4), shear=10, shift=3, fill="black",
    )  # fmt: skip
    rows = augment.draw(seed=3, step=0, samples=20, size=(64, 64), output=(40, 48)).rows[0]
    images = np.repeat(smooth[None], 20, axis=0)
    for ours, row in zip(augment_images(images, rows, images, *SAME, (40, 48)), rows, strict=True):
        y_i, y_j, y_0, x_i, x_j, x_0 = map(float, row[:6])
        # Pillow's map leads from (x, y) to (x, y), with half a pixel to the first centre on both sides.
        data = (x_j, x_i, x_0 + 0.5 - (x_i + x_j) / 2, y_j, y_i, y_0 + 0.5 - (y_i + y_j) / 2)
        affine, bilinear = Image.Transform.AFFINE, Image.Resampling.BILINEAR
        theirs = np.asarray(Image.fromarray(smooth).transform((48, 40), affine, data, bilinear), np.float64)
        inside = np.asarray(Image.new("L", (64, 64), 255).transform((48, 40), affine, data, bilinear)) == 255
        u, v = np.indices((40, 48))
        y, x = y_i * u + y_j * v + y_0, x_i * u + x_j * v + x_0
        inside = (y >= 0) & (y <= 63) & (x >= 0) & (x <= 63) & inside
        assert inside.sum() > 300 and abs(ours - theirs)[inside].max() < 1.2


@settings(max_examples=60)
@given(
    AUGMENTS,
    st.tuples(*[st.integers(1, 9)] * 2),
    st.tuples(*[st.integers(1, 9)] * 2),
    st.sampled_from([1, 3]),
    st.sampled_from([np.uint8, np.float32]),
    st.integers(0, 2**16),
)
def test_definition_against_loops(augment, size, output, channels, dtype, seed):
    generator = np.random.default_rng(seed)
    images = pictures(generator, 3, size, channels, dtype)
    scale, shift = scale_shift(channels)
    rows, partner = augment.draw(seed=seed, step=1, samples=3, size=size, output=output)
    got = augment_images(images, rows[0], images[partner[0]], scale, shift, output)
    assert got.dtype == np.float32 and got.shape == (3, *output, channels)
    for n in range(3):
        wanted = naive(images[n], rows[0, n], images[partner[0, n]], scale, shift, output)
        # A dozen roundings of numbers up to 255 * 2 * 2 * 2 * scale.
        np.testing.assert_allclose(got[n], wanted, rtol=0, atol=2e-5)


def test_contrast_turns_round_the_mean():
    """An image of the mean is network input 0, whatever the contrast; brightness moves it."""
    image = np.full((1, 2, 2, 1), 0.25, np.float32)
    scale, shift = np.full(1, 4, np.float32), np.full(1, -1, np.float32)
    rows = identity_rows((1,))
    rows[:, [GAIN, CONTRAST]] = 1.5
    np.testing.assert_array_equal(augment_images(image, rows, image, scale, shift), 0)
    rows[:, CONTRAST] = 1
    np.testing.assert_array_equal(augment_images(image, rows, image, scale, shift), 0.5)


def test_no_saturation_is_grey(generator):
    images = pictures(generator, 1, (16, 16), 3)
    rows = identity_rows((1,))
    rows[:, SATURATION] = 0
    grey = augment_images(images, rows, images, *SAME)[0]
    theirs = np.asarray(Image.fromarray(images[0]).convert("L"), np.float32)
    assert abs(grey - theirs[..., None]).max() <= 0.51
