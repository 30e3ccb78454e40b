"""The settings that a data set is trained with unless others are given, chosen on held-out images."""

from __future__ import annotations

from typing import Any, Final

RECIPES: Final[dict[str, dict[str, Any]]] = {
    "any": {
        "model": "small",
        "optimizer": {"name": "adam", "lr": 0.005},
        "schedule": {"name": "one_cycle"},
    },
    "digits": {
        "model": "small_norm",
        "epochs": 30,
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "one_cycle"},
    },
    "mnist": {
        "model": "small",
        "epochs": 1,
        "optimizer": {"name": "adam", "lr": 0.005},
        "schedule": {"name": "one_cycle"},
    },
    "fashion-mnist": {
        "model": "small",
        "epochs": 5,
        "optimizer": {"name": "adam", "lr": 0.005},
        "schedule": {"name": "one_cycle"},
    },
}
