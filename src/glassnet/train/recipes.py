"""The settings that a data set is trained with unless others are given, chosen on held-out images."""

from __future__ import annotations

from typing import Any, Final

RECIPES: Final[dict[str, dict[str, Any]]] = {
    "any": {"model": "small", "optimizer": {"name": "adam"}, "schedule": {"name": "one_cycle"}},
    "digits": {
        "model": "small",
        "epochs": 20,
        "batch_size": 32,
        "optimizer": {"name": "adam", "lr": 0.005},
        "schedule": {"name": "one_cycle"},
    },
    "mnist": {
        "model": "small",
        "epochs": 1,
        "batch_size": 64,
        "optimizer": {"name": "adam", "lr": 0.005},
        "schedule": {"name": "one_cycle"},
    },
    "fashion-mnist": {
        "model": "small",
        "epochs": 3,
        "batch_size": 64,
        "optimizer": {"name": "adam", "lr": 0.005},
        "schedule": {"name": "one_cycle"},
    },
}
