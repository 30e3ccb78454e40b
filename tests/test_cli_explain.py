"""glassnet explain: which pictures it writes, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import glassnet as gn
from glassnet import explain
from test_cli import run, run_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two pictures of the same name, an array of three and a model with convolutions."""
    folder = tmp_path_factory.mktemp("explain")
    data = gn.data.load("digits")
    layers = [gn.Conv2d(6, 3), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(10)]
    net = gn.Sequential(layers, input_shape=data.image_shape)
    gn.fit(net, data, epochs=2)
    net.save(folder / "net.gnet")
    net.classes = None
    net.save(folder / "unnamed.gnet")
    images = data.test.images[:3]
    np.save(folder / "three.npy", images)
    (folder / "other").mkdir()
    for name, image in zip(("one.png", "other/one.png"), images[..., 0], strict=False):
        Image.fromarray(image).save(folder / name)
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_a_picture_for_each_image(capsys, folder):
    result, err = run_json(
        capsys, "explain", "net.gnet", "one.png", "other/one.png", "three.npy", "--out", "a"
    )
    net, images = gn.load("net.gnet"), np.load("three.npy")
    names = ["one-gradcam", "one-gradcam-2", "three-0-gradcam", "three-1-gradcam", "three-2-gradcam"]
    assert [entry["picture"] for entry in result["pictures"]] == [f"a/{name}.png" for name in names]
    assert [entry["class"] for entry in result["pictures"][2:]] == net.predict(images).tolist()
    assert err.splitlines()[0].split() == ["image", "class", "picture"]
    heat = explain.gradcam(net, images / np.float32(255))
    for i, name in enumerate(names[2:]):
        with Image.open(f"a/{name}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), explain.panel(images[i], heat[i]))


@pytest.mark.parametrize("method", ["gradcam", "features"])
def test_folders_and_patterns_are_explained_and_what_does_not_fit_is_named(capsys, method):
    Path("mixed/deep").mkdir(parents=True, exist_ok=True)
    shutil.copy("one.png", "mixed/deep/one.png")
    Path("mixed/broken.png").write_bytes(b"")
    np.save("flat.npy", np.zeros((3, 64), np.uint8))
    args = ("mixed", "oth*/*.png", "flat.npy", "--method", method, "--out", f"mixed-{method}")
    result, err = run_json(capsys, "explain", "net.gnet", *args)
    assert [entry["image"] for entry in result["pictures"]] == ["one", "one"]
    assert "Left out, for they cannot be read or do not fit: 2\n  mixed/broken.png " in err
    assert "\n  flat.npy: The images must have shape " in err
    assert run(capsys, "explain", "net.gnet", "flat.npy")[2].startswith("Error: flat.npy: The images must ")


@pytest.mark.parametrize("method", ["gradcam++", "saliency", "smoothgrad", "occlusion"])
def test_every_method_explains_the_class_that_is_asked_for(capsys, method):
    result, _ = run_json(capsys, "explain", "net.gnet", "one.png", "--method", method, "--class", "3")
    assert result["pictures"] == [{"image": "one", "class": "3", "picture": f"explained/one-{method}.png"}]
    with Image.open(result["pictures"][0]["picture"]) as picture:
        assert picture.size == (3 * 224, 224)


def test_classes_without_names_have_numbers(capsys):
    result, _ = run_json(capsys, "explain", "unnamed.gnet", "one.png", "--class", 4)
    assert result["pictures"][0]["class"] == "4"
    assert run(capsys, "explain", "unnamed.gnet", "one.png", "--class", "four")[2] == (
        "Error: This network's classes have no names. Give a number, got --class four.\n"
    )


def test_contact_sheets(capsys):
    result, _ = run_json(
        capsys, "explain", "net.gnet", "one.png", "--method", "features", "--layer", "conv2d_1"
    )
    assert result["pictures"] == [{"image": "one", "picture": "explained/one-conv2d_1.png"}]
    net = gn.load("net.gnet")
    result, _ = run_json(capsys, "explain", "net.gnet", "--method", "filters")
    with Image.open(result["pictures"][0]["picture"]) as picture:
        wanted = explain.contact_sheet(explain.filter_tiles(net["conv2d_1"].weight))
        np.testing.assert_array_equal(np.asarray(picture), wanted)


def test_the_sanity_check_has_a_verdict(capsys, monkeypatch):
    args = ("explain", "net.gnet", "three.npy", "--method", "saliency", "--sanity")
    result, err = run_json(capsys, *args)
    assert result["sanity"]["ok"] is True
    assert [name for name, _ in result["sanity"]["correlations"]] == ["linear_1", "conv2d_1"]
    assert err.endswith("the map depends on what was learned.\n")
    monkeypatch.setattr("glassnet.cli.explain.saliency", lambda net, images, classes: images[..., 0])
    status, out, _ = run(capsys, *args)
    assert status == 1
    assert out.endswith("the map hardly depends on what was learned (limit 0.7).\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--method", "gradcan"], "Unknown method 'gradcan'. Did you mean 'gradcam'?"),
        (["--method", "gradcam"], "The method gradcam needs at least one image."),
        (["one.png", "--method", "filters"], "The method filters is about weights and takes no images."),
        (["one.png", "--method", "saliency", "--layer", "relu_1"],
         "The method saliency takes no --layer. Leave it out."),
        (["--method", "filters", "--class", "1"], "The method filters takes no --class. Leave it out."),
        (["one.png", "--method", "features", "--sanity"],
         "The method features takes no --sanity. Leave it out."),
        (["one.png", "--class", "ten"],
         "Unknown class ten. This network knows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9."),
        (["one.png", "--layer", "linear_1"], "linear_1 gives (N, 10), but maps (N, H, W, C) are needed."),
    ],
)  # fmt: skip
def test_what_is_refused(capsys, args, message):
    assert run(capsys, "explain", "net.gnet", *args) == (2, "", f"Error: {message}\n")
