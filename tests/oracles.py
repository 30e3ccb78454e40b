"""Independent libraries that tests compare with."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest


def oracle(name: str) -> ModuleType:
    """An oracle library. Skips without it, except where REQUIRE_ORACLES promises it: there it must be."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("REQUIRE_ORACLES") == "1":
            pytest.fail(f"REQUIRE_ORACLES=1 promises {name}, which cannot be imported: {error}.")
        pytest.skip(f"{name} is not installed: pip install 'glassnet[oracles]'")
