"""Occlusion, feature maps, filters, pictures and the sanity check: compared with plain loops and oracles."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from compare import close
from glassnet import explain
from glassnet.errors import ConfigError, DataError
from glassnet.explain.pictures import as_bytes, coloured, upsample
from glassnet.explain.sanity import rank_correlation
from messages import message_of
from oracles import oracle
from torch_twin import TorchTwin


def network(dtype=np.float64):
    layers = [
        gn.Conv2d(5, 3, padding="same"), gn.BatchNorm2d(), gn.ReLU(), gn.Conv2d(4, 3), gn.ReLU(),
        gn.MaxPool2d(2), gn.Flatten(), gn.Linear(3),
    ]  # fmt: skip
    return gn.Sequential(layers, input_shape=(10, 9, 3), seed=2).as_dtype(dtype)


@pytest.fixture
def images(generator):
    return generator.standard_normal((2, 10, 9, 3)).astype(np.float32)


# Occlusion


def occluded_by_torch(net, image, k, patch, stride):
    """One image's map, square by square, with PyTorch's probabilities."""
    torch = oracle("torch")
    twin = TorchTwin(net)

    def probability(x):
        return torch.softmax(twin(torch.tensor(x[None].astype(net.store.values.dtype))), -1)[0, k].item()

    height, width, _ = image.shape
    tops = [*range(0, height - patch + 1, stride)]
    lefts = [*range(0, width - patch + 1, stride)]
    falls = [[[] for _ in range(width)] for _ in range(height)]
    for top in tops if height - patch in tops else [*tops, height - patch]:
        for left in lefts if width - patch in lefts else [*lefts, width - patch]:
            hidden = image.copy()
            hidden[top : top + patch, left : left + patch] = 0
            fall = probability(image) - probability(hidden)
            for i in range(top, top + patch):
                for j in range(left, left + patch):
                    falls[i][j].append(fall)
    return np.array([[np.mean(f) if f else 0.0 for f in row] for row in falls])


@pytest.mark.parametrize(("patch", "stride"), [(1, 1), (3, 2), (4, 4), (2, 5), (9, 3)])
def test_occlusion_is_a_loop_over_squares(images, patch, stride):
    net = network()
    got = explain.occlusion(net, images, [1, 2], patch=patch, stride=stride)
    for heat, image, k in zip(got, images, (1, 2), strict=True):
        close(heat, occluded_by_torch(net, image, k, patch, stride))


def test_occlusion_runs_on_the_compiled_backend(images):
    net = network(np.float32)
    net.backend = "compiled"
    got = explain.occlusion(net, images, [1, 2], patch=3)
    for heat, image, k in zip(got, images, (1, 2), strict=True):
        close(heat, occluded_by_torch(net, image, k, 3, 1), rtol=0, atol=2e-6)


def test_squares_that_do_not_fit_are_refused(images):
    assert message_of(ConfigError, explain.occlusion, network(), images, patch=10) == (
        "Occlusion needs 1 <= patch <= 9 (the image's shorter side) and stride >= 1, got patch=10, stride=5."
    )


# Features and filters


def test_feature_maps_are_the_layer_outputs_of_torch(images):
    torch = oracle("torch")
    net = network()
    twin = TorchTwin(net)
    twin(torch.tensor(images.astype(np.float64)))
    for name in ("conv2d_1", "batchnorm2d_1", "maxpool2d_1"):
        close(explain.feature_maps(net, images, layer=name), twin.outputs[name].numpy())
    close(explain.feature_maps(net, images), twin.outputs["relu_2"].numpy())


def test_each_map_goes_from_black_to_white():
    maps = np.stack([[[1.0, 2], [3, 5]], [[7, 7], [7, 7]]], axis=-1)
    np.testing.assert_array_equal(explain.feature_tiles(maps), [[[0, 0.25], [0.5, 1]], [[0, 0], [0, 0]]])


def test_filters_are_grey_at_zero_and_reach_black_or_white():
    net = network()
    tiles = explain.filter_tiles(explain.filters(net))
    weight = net["conv2d_1"].weight
    assert tiles.shape == (5, 3, 3, 3)
    for o in range(5):
        close(tiles[o], 0.5 + weight[..., o] / (2 * np.abs(weight[..., o]).max()))
    weight = explain.filters(net, layer="conv2d_2")
    tiles = explain.filter_tiles(weight)
    assert tiles.shape == (4 * 5, 3, 3)
    close(tiles[1 * 5 + 3], 0.5 + weight[:, :, 3, 1] / (2 * np.abs(weight[..., 1]).max()))


def test_filters_need_a_convolution():
    net = network()
    assert message_of(ConfigError, explain.filters, net, layer="relu_1") == (
        "relu_1 has no filters to show. Convolutions of this network: conv2d_1, conv2d_2."
    )
    flat = gn.Sequential([gn.Flatten(), gn.Linear(3)], input_shape=(4, 4, 1))
    assert message_of(ConfigError, explain.filters, flat) == (
        "The network has no filters to show. Convolutions of this network: none."
    )


# Pictures


@pytest.mark.parametrize(
    ("size", "larger"), [((3, 4), (9, 9)), ((1, 2), (5, 7)), ((6, 6), (224, 224)), ((5, 5), (5, 5))]
)
def test_upsampling_is_that_of_torch(generator, size, larger):
    torch = oracle("torch")
    maps = generator.standard_normal((2, *size))
    options = {"size": larger, "mode": "bilinear", "align_corners": False}
    wanted = torch.nn.functional.interpolate(torch.tensor(maps)[:, None], **options)[:, 0]
    close(upsample(maps, larger), wanted.numpy())


def test_colours_are_relative_to_the_largest_value():
    maps = np.array([[-1.0, 0.0], [1.0, 2.0]])
    table = oracle("matplotlib").colormaps["inferno"]
    close(coloured(maps), [[table(0.0)[:3]] * 2, [table(0.5)[:3], table(1.0)[:3]]])
    close(coloured(np.zeros((1, 1))), [[table(0.0)[:3]]])


@pytest.mark.parametrize("image", [np.full((2, 2), 255, np.uint8), np.ones((2, 2, 1)), np.ones((2, 2, 3))])
def test_an_overlay_mixes_image_and_colours(image):
    heat = np.array([[0.0, 1.0], [2.0, 4.0]])
    np.testing.assert_array_equal(
        explain.overlay(image, heat, strength=0.25), as_bytes(0.75 + 0.25 * coloured(heat))
    )


def test_a_panel_enlarges_small_images():
    assert explain.panel(np.zeros((8, 8, 1), np.uint8), np.ones((8, 8))).shape == (224, 3 * 224, 3)
    assert explain.panel(np.zeros((300, 200, 3), np.uint8), np.ones((300, 200))).shape == (300, 600, 3)


def test_a_contact_sheet_places_tiles_row_by_row():
    sheet = explain.contact_sheet(np.arange(5)[:, None, None] / 4 * np.ones((5, 2, 3)), columns=3, side=3)
    assert sheet.shape == (2 * 3 + 1, 3 * 4 + 1, 3)
    assert (sheet[0] == 128).all() and (sheet[:, 0] == 128).all() and (sheet[4:, 9:] == 128).all()
    for i in range(5):
        top, left = 1 + 3 * (i // 3), 1 + 4 * (i % 3)
        assert (sheet[top : top + 2, left : left + 3] == round(255 * i / 4 + 1e-9)).all()


# The sanity check


def gradcam(net, images, classes):
    return explain.gradcam(net, images, classes)


def test_rank_correlation_is_spearmans(generator):
    stats = oracle("scipy.stats")
    for a, b in (
        (generator.standard_normal((7, 8)), generator.standard_normal((7, 8))),
        (generator.integers(0, 4, 60), generator.integers(0, 3, 60)),  # many equal values
        (np.arange(9.0), np.arange(9.0) ** 3),
    ):
        assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b, axis=None).statistic, abs=1e-12)
    assert rank_correlation(np.ones(5), np.arange(5)) == 0.0


def test_an_edge_detector_fails_the_sanity_check(images, generator):
    """The paper's point: a picture of the image's edges needs no network, so losing one changes nothing."""
    report = explain.sanity_check(
        lambda net, x, k: np.abs(np.diff(x.sum(-1), axis=1)), network(), images, generator=generator
    )
    assert report.random == pytest.approx(1.0) and not report.ok
    assert [name for name, _ in report.correlations] == ["linear_1", "conv2d_2", "batchnorm2d_1", "conv2d_1"]
    assert str(report).endswith(
        "With random weights 1.000: the map hardly depends on what was learned (limit 0.7)."
    )


def test_saliency_passes_the_sanity_check(images, generator):
    layers = [gn.Conv2d(8, 3, padding="same"), gn.ReLU(), gn.Flatten(), gn.Linear(3)]  # all pixels alike
    net = gn.Sequential(layers, input_shape=(10, 9, 3))
    report = explain.sanity_check(explain.saliency, net, images, generator=generator)
    assert report.ok and abs(report.random) < 0.3
    assert str(report).endswith("the map depends on what was learned.")


def test_the_cascade_is_random_from_the_last_layer_down(images, generator):
    """A method that shows each layer's first weight tells which layers were lost, and when."""
    net, rows = network(), []

    def method(net, x, k):
        rows.append({name: tensor.flat[0] for name, tensor in net.store.tensors().items()})
        return gradcam(net, x, k)

    explain.sanity_check(method, net, images, generator=generator)
    weights = ["linear_1.weight", "conv2d_2.weight", "conv2d_1.weight"]
    lost = [[row[name] != rows[0][name] for name in weights] for row in rows]
    assert lost == [
        [False] * 3, [True, False, False], [True, True, False], [True, True, False], [True] * 3,
    ]  # fmt: skip
    rows.clear()
    report = explain.sanity_check(method, net, images, generator=generator, cascading=False)
    assert len(rows) == 2 and len(report.correlations) == 1
    assert all(rows[1][name] != rows[0][name] for name in weights)
    close([net[name.split(".")[0]].weight.flat[0] for name in weights], [rows[0][name] for name in weights])


def test_maps_without_order_cannot_be_checked(images, generator):
    def nothing(net, x, k):
        return np.zeros(x.shape[:3])

    assert message_of(DataError, explain.sanity_check, nothing, network(), images, generator=generator) == (
        "Every map is the same everywhere, so there is no order to lose. Try other images."
    )
