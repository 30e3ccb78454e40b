"""Grad-CAM as in the paper beside the variant that a published system shows, on discs of three colours."""

import numpy as np
from PIL import Image

import glassnet as gn
from glassnet import explain
from glassnet.recipes.photos_from_scratch import network
from glassnet.recipes.published_cam import published_cam

COLOURS = ("red", "green", "blue")


def picture(generator, discs):
    """(224, 224, 3) in 0..1: noise on grey, and discs {(row, column) of the centre: colour}."""
    image = 0.4 + 0.2 * generator.random((224, 224, 3), np.float32)
    rows, columns = np.indices((224, 224))
    for (row, column), colour in discs.items():
        image[(rows - row) ** 2 + (columns - column) ** 2 < 30**2] = np.eye(3)[colour]
    return image


def left(heat):
    """The share of a map (H, W) that is in its left half."""
    return heat[:, :112].sum() / heat.sum()


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    labels = np.arange(240) % 3
    images = np.stack([picture(generator, {tuple(generator.integers(40, 184, 2)): k}) for k in labels])
    data = gn.data.from_arrays(images, labels, classes=COLOURS)
    net = network(seed=0)
    gn.fit(net, data, epochs=5, batch_size=4, optimizer=gn.Adam(lr=0.001), val_fraction=0)

    both = picture(generator, {(112, 56): 0, (112, 168): 2})[None]
    maps = [explain.gradcam(net, both, [colour])[0] for colour in ("red", "blue")]
    maps.append(published_cam(net, both)[0])
    print(f"Heat in the left half: red {left(maps[0]):.0%}, blue {left(maps[1]):.0%}.")
    discs, average = maps[2][112, [56, 168]].mean(), maps[2].mean()
    print(f"As published: at the discs {discs:.2f}, on average {average:.2f}.")
    row = [np.uint8(255 * both[0]), *(explain.overlay(both[0], heat) for heat in maps)]
    Image.fromarray(np.concatenate(row, axis=1)[::2, ::2]).save("gradcam-beside.png")
