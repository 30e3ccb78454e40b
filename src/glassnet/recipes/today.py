"""What the data of the published systems gets today: MNIST in seconds and at its best, Fashion-MNIST, photos.

Networks and settings for MNIST and Fashion-MNIST were chosen on the last 10,000 training images, which a
chosen recipe then trains on too; those for photos, on the validation photos. Test images had no part in it.
"""

from __future__ import annotations

import glassnet as gn
from glassnet.data.augment import Augment, default_augment
from glassnet.models.resnet import resnet
from glassnet.recipes.base import Recipe
from glassnet.recipes.photos_from_scratch import SPLIT_FILES, photos
from glassnet.schedules import OneCycle
from glassnet.train import TrainConfig


def fast(seed: int) -> gn.Sequential:
    """29,434 parameters. Pooled before they are normalised, images leave a quarter of the values for it."""
    layers = [
        *(gn.Conv2d(16, 5, bias=False), gn.MaxPool2d(2), gn.BatchNorm2d(), gn.ReLU()),
        *(gn.Conv2d(32, 3, bias=False), gn.MaxPool2d(2), gn.BatchNorm2d(), gn.ReLU()),
        *(gn.Conv2d(64, 3, bias=False), gn.BatchNorm2d(), gn.ReLU()),
        *(gn.Flatten(), gn.Linear(10)),
    ]
    return gn.Sequential(layers, input_shape=(28, 28, 1), seed=seed)


def deep(seed: int) -> gn.Sequential:
    """207,674 parameters: two convolutions at 28x28, two at 14x14, two at 7x7, 3x3 maps at the end."""
    layers: list[gn.Layer] = []
    for first, second in ((16, 32), (64, 64), (96, 96)):
        layers += [gn.Conv2d(first, 3, padding=1, bias=False), gn.BatchNorm2d(), gn.ReLU()]
        layers += [gn.Conv2d(second, 3, padding=1, bias=False), gn.MaxPool2d(2), gn.BatchNorm2d(), gn.ReLU()]
    layers += [gn.Flatten(), gn.Dropout(0.3), gn.Linear(10)]
    return gn.Sequential(layers, input_shape=(28, 28, 1), seed=seed)


def residual(seed: int) -> gn.Sequential:
    """1,227,171 parameters: four residual blocks after a stem that halves each side twice."""
    return gn.Sequential(resnet(3), input_shape=(128, 128, 3), seed=seed)


SETTINGS = TrainConfig(
    data="mnist",
    epochs=3,
    batch_size=50,
    optimizer=gn.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=OneCycle(),
    loss=gn.SoftmaxCrossEntropy(label_smoothing=0.05),
    augment=Augment(shift=1, rotation=(0, 8), zoom=(0.92, 1.08), fill="black"),
    ema=0.99,
    val_fraction=0,
)

RECIPES = (
    Recipe(
        name="mnist-fast",
        about="MNIST in seconds: three small convolutions, three epochs",
        config=SETTINGS,
        network=fast,
        required=0.9933,
        within=15,
        seeds=5,
    ),
    Recipe(
        name="mnist-best",
        about="MNIST at its best: six convolutions, twelve epochs",
        config=SETTINGS.model_copy(
            update={
                "epochs": 12,
                "batch_size": 64,
                "schedule": OneCycle(rise=0.2),
                "augment": Augment(shift=2, rotation=(0, 12), zoom=(0.88, 1.12), shear=6, fill="black"),
                "ema": 0.998,
            }
        ),
        network=deep,
        required=0.9965,
    ),
    Recipe(
        name="fashion",
        about="Fashion-MNIST: six convolutions, eighteen epochs",
        config=SETTINGS.model_copy(
            update={
                "data": "fashion-mnist",
                "epochs": 18,
                "batch_size": 64,
                "schedule": OneCycle(rise=0.2),
                "augment": Augment(
                    horizontal_flip=0.5, shift=2, cutout=8, cutout_probability=0.5, fill="black"
                ),
                "ema": 0.998,
                "tta": "flip",
            }
        ),
        network=deep,
        required=0.935,
        within=30 * 60,
    ),
    Recipe(
        name="photos",
        about="Photos of dogs, pandas and birds: what `glassnet train` chooses",
        config=TrainConfig(
            data="animals_224",
            data_options={"size": 128, "channels": "RGB", "split_files": SPLIT_FILES},
            epochs=100,
            batch_size=32,
            optimizer=gn.AdamW(lr=0.003, weight_decay=0.05),
            schedule=OneCycle(),
            loss=gn.SoftmaxCrossEntropy(label_smoothing=0.1),
            augment=default_augment("photos"),
            ema=0.998,
        ),
        network=residual,
        read=photos,
        required=0.94,
    ),
)
