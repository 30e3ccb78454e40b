"""The published systems, reproduced and beaten: one readable file each, run by `glassnet recipe run NAME`."""

from __future__ import annotations

from glassnet.errors import ConfigError, did_you_mean
from glassnet.recipes import (
    conv_pool_softmax,
    deep_ml_130,
    nn_learn,
    photos_from_scratch,
    photos_study,
    simple_nn,
    today,
)
from glassnet.recipes.base import Recipe
from glassnet.recipes.deep_ml_130 import train_cnn, train_simple_cnn_with_backprop
from glassnet.recipes.result import Result, SeedResult

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for file in (
        *(deep_ml_130, conv_pool_softmax, nn_learn, simple_nn),
        *(photos_from_scratch, photos_study, today),
    )
    for recipe in file.RECIPES
}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name."""
    if name not in RECIPES:
        raise ConfigError(f"Unknown recipe {name!r}.{did_you_mean(name, RECIPES)}")
    return RECIPES[name]


__all__ = [
    "RECIPES",
    "Recipe",
    "Result",
    "SeedResult",
    "recipe_named",
    "train_cnn",
    "train_simple_cnn_with_backprop",
]
