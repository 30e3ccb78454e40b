"""Explanations by gradients: compared with PyTorch's autograd on the same weights, in float64 and float32."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from compare import close
from glassnet import explain
from glassnet.errors import ConfigError
from glassnet.explain.passes import class_trace, map_layer
from glassnet.explain.pictures import upsample
from glassnet.recipes.published_cam import published_cam
from messages import message_of
from oracles import oracle
from torch_twin import TorchTwin


def plain():
    return [
        gn.Conv2d(6, 3, padding="same"), gn.ReLU(), gn.MaxPool2d(2), gn.Conv2d(8, 3, stride=2, padding=1),
        gn.Tanh(), gn.Dropout(0.5), gn.Flatten(), gn.Linear(4),
    ]  # fmt: skip


def residual():
    main = [gn.Conv2d(6, 3, padding="same", bias=False), gn.BatchNorm2d(), gn.ReLU()]
    return [gn.Conv2d(6, 3), gn.BatchNorm2d(), gn.ReLU(), gn.Residual(main), gn.ReLU(), gn.GlobalAvgPool2d(),
            gn.Linear(4), gn.Softmax()]  # fmt: skip


NETWORKS = {"plain": (plain, "tanh_1"), "residual": (residual, "relu_2")}
CLASSES = np.array([2, 0, 3])


@pytest.fixture(params=NETWORKS)
def case(request, generator):
    """(network in float64 with all its tensors in motion, images, the layer that Grad-CAM takes)."""
    layers, last = NETWORKS[request.param]
    net = gn.Sequential(layers(), input_shape=(12, 14, 3), seed=4).as_dtype(np.float64)
    for name, tensor in net.store.tensors().items():
        noise = generator.standard_normal(tensor.shape)
        tensor += np.abs(noise) if name.endswith("running_var") else 0.3 * noise
    images = generator.standard_normal((3, 12, 14, 3)).astype(np.float32)
    return net, images, last


def torch_at(net, images, classes, layer=None):
    """(output of a layer, gradient at it, gradient at the input) of each image's class score, by autograd."""
    torch = oracle("torch")
    twin = TorchTwin(net)
    x = torch.tensor(np.asarray(images, net.store.values.dtype), requires_grad=True)
    twin(x)[range(len(images)), classes.tolist()].sum().backward()
    seen = twin.outputs.get(layer)
    maps = (None, None) if seen is None else (seen.detach(), seen.grad)
    return *maps, x.grad


def enlarged(torch, heat, size):
    """(N, h, w) -> (N, H, W) as PyTorch does it."""
    options = {"size": size, "mode": "bilinear", "align_corners": False}
    return torch.nn.functional.interpolate(heat[:, None], **options)[:, 0].numpy()


def torch_gradcam(net, images, classes, layer):
    maps, gradient, _ = torch_at(net, images, classes, layer)
    heat = torch_relu((gradient.mean((1, 2), keepdim=True) * maps).sum(-1))
    return enlarged(oracle("torch"), heat, images.shape[1:3])


def torch_gradcam_plus_plus(net, images, classes, layer):
    maps, g, _ = torch_at(net, images, classes, layer)
    r = g**2 / (2 * g**2 + maps.sum((1, 2), keepdim=True) * g**3)
    r = oracle("torch").where(g == 0, 0.0, r)
    heat = torch_relu(((r * torch_relu(g)).sum((1, 2), keepdim=True) * maps).sum(-1))
    return enlarged(oracle("torch"), heat, images.shape[1:3])


def torch_relu(x):
    return x.clamp(min=0)


CAMS = {"gradcam": torch_gradcam, "gradcam_plus_plus": torch_gradcam_plus_plus}


@pytest.mark.parametrize("method", CAMS)
def test_cams_are_those_of_autograd(case, method):
    net, images, last = case
    got = getattr(explain, method)(net, images, CLASSES)
    assert got.max() > 0
    close(got, CAMS[method](net, images, CLASSES, last), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", CAMS)
def test_cams_at_any_layer(case, method):
    net, images, _ = case
    shapes = {layer.name: layer.output_shape for layer in net.walk() if layer.name}
    names = [name for name, shape in shapes.items() if len(shape) == 3]
    assert len(names) >= 5
    for name in names:
        got = getattr(explain, method)(net, images, CLASSES, layer=name)
        close(got, CAMS[method](net, images, CLASSES, name), rtol=1e-8, atol=1e-11)


def test_saliency_is_that_of_autograd(case):
    net, images, _ = case
    gradient = torch_at(net, images, CLASSES)[-1]
    close(explain.saliency(net, images, CLASSES), gradient.abs().amax(-1).numpy())


def test_smoothgrad_is_that_of_autograd_on_the_same_noise(case):
    net, images, _ = case
    images = images.astype(np.float64)
    s = 0.2 * (images.max((1, 2, 3)) - images.min((1, 2, 3)))[:, None, None, None]
    noise, total = np.random.default_rng(5), 0
    for _ in range(4):
        total = total + torch_at(net, images + s * noise.standard_normal(images.shape), CLASSES)[-1]
    got = explain.smoothgrad(net, images, CLASSES, generator=np.random.default_rng(5), samples=4, noise=0.2)
    close(got, (total / 4).abs().amax(-1).numpy(), rtol=1e-9)


@pytest.mark.parametrize("method", ["gradcam", "saliency"])
def test_float32_agrees_to_a_hundred_thousandth(case, method):
    """A network as it is trained, in float32, against PyTorch in float32."""
    net, images, last = case
    small = net.as_dtype(np.float32)
    wanted = (
        torch_gradcam(small, images, CLASSES, last)
        if method == "gradcam"
        else torch_at(small, images, CLASSES)[-1].abs().amax(-1).numpy()
    )
    got = getattr(explain, method)(small, images, CLASSES)
    assert got.dtype == np.float32
    close(got, wanted, rtol=0, atol=1e-5 * wanted.max())


def test_gradcam_by_loops(case):
    """The two equations of the paper, written as loops, on central differences."""
    net, images, last = case
    tail = [layer for name, layer in net.layers.items()]
    start = list(net.layers).index(last) + 1
    ops, image, k = gn.network.ReferenceOps(), images[:1].astype(np.float64), 1
    maps = image
    for layer in tail[:start]:
        maps = layer.forward(ops, maps, False)[0]

    def score(a):
        for layer in tail[start:]:
            if not isinstance(layer, gn.Softmax):
                a = layer.forward(ops, a, False)[0]
        return a[0, k]

    _, h, w, channels = maps.shape
    heat = np.zeros((h, w))
    for c in range(channels):
        weight = 0.0
        for i in range(h):
            for j in range(w):
                step = np.zeros_like(maps)
                step[0, i, j, c] = 1e-5
                weight += (score(maps + step) - score(maps - step)) / 2e-5 / (h * w)
        heat += weight * maps[0, :, :, c]
    got = explain.gradcam(net, images[:1], k)
    close(got, upsample(np.maximum(heat, 0)[None], (12, 14)), rtol=1e-6, atol=1e-8)


def test_the_predicted_class_is_explained_unless_one_is_named(case):
    net, images, _ = case
    net.classes = tuple("abcd")
    best = net.scores(images).argmax(axis=-1)
    for same in (None, best, ["abcd"[k] for k in best]):
        close(explain.gradcam(net, images, same), explain.gradcam(net, images, best))
    close(explain.saliency(net, images, "c"), explain.saliency(net, images, [2, 2, 2]))


def test_each_image_is_explained_by_itself(case):
    net, images, _ = case
    together = explain.gradcam_plus_plus(net, images, CLASSES)
    for i in range(3):
        close(together[i : i + 1], explain.gradcam_plus_plus(net, images[i : i + 1], CLASSES[i]))


def test_a_softmax_at_the_end_is_not_part_of_the_score(case):
    net, images, _ = case
    trace = class_trace(net, images, CLASSES)
    assert "softmax_1" not in trace.layers
    close(trace["linear_1"].output_grad, np.eye(4)[CLASSES])


def test_explaining_changes_nothing(case):
    net, images, _ = case
    before = net.store.snapshot()
    explain.gradcam(net, images)
    for name, tensor in net.store.tensors().items():
        np.testing.assert_array_equal(tensor, before[name])


def test_the_published_variant_knows_no_class_and_is_inverted(case):
    net, images, last = case
    maps, _, _ = torch_at(net, images, CLASSES, last)
    heat = torch_relu((maps.mean((1, 2), keepdim=True) * maps).sum(-1))
    low, high = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
    wanted = enlarged(oracle("torch"), 1 - (heat - low) / (high - low), (12, 14))
    close(published_cam(net, images), wanted)


def test_layers_that_give_no_maps_are_refused():
    net = gn.Sequential([gn.Flatten(), gn.Linear(3)], input_shape=(4, 4, 1))
    assert message_of(ConfigError, map_layer, net, None) == (
        "No layer of this network gives maps (N, H, W, C). Use a method that needs none, such as saliency."
    )
    assert message_of(ConfigError, map_layer, net, "linear_1") == (
        "linear_1 gives (N, 3), but maps (N, H, W, C) are needed."
    )
    assert message_of(ConfigError, map_layer, net, "conv") == (
        "There is no layer 'conv'. The network has flatten_1, linear_1."
    )


def test_classes_that_are_not_there_are_refused():
    net = gn.Sequential([gn.Flatten(), gn.Linear(3)], input_shape=(4, 4, 1))
    image = np.zeros((1, 4, 4, 1), np.float32)
    assert message_of(ConfigError, explain.saliency, net, image, 3) == (
        "A class to explain is a name or a number from 0 to 2, got 3."
    )


@pytest.mark.parametrize("classes", [[1, 2], 1.5, [[0, 1, 2]], []], ids=str)
def test_classes_that_are_not_one_an_image_are_refused(classes):
    net = gn.Sequential([gn.Conv2d(2, 3), gn.Flatten(), gn.Linear(3)], input_shape=(4, 4, 1))
    images = np.zeros((5, 4, 4, 1), np.float32)
    assert message_of(ConfigError, explain.gradcam, net, images, classes) == (
        f"classes must be one name or number, or one for each of the 5 images, got {classes!r}."
    )


def test_smoothgrad_needs_a_sample(case, generator):
    net, images, _ = case
    assert message_of(ConfigError, explain.smoothgrad, net, images, generator=generator, samples=0) == (
        "SmoothGrad needs at least 1 sample, got samples=0."
    )
