"""Fixtures and settings that every test module shares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# A run draws the same examples every time, and a first call may compile for seconds.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True)
hypothesis.settings.load_profile("house")

# A suite that a script starts in the background is given a Ctrl-C that does nothing, and tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

BESIDE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def generator() -> np.random.Generator:
    """Random numbers that are the same in every run and independent of the order of tests."""
    return np.random.default_rng(20240229)


@pytest.fixture
def real_data(monkeypatch):
    """The folder of the real data sets, with GLASSNET_DATA pointing at it. Skips only where there is none."""
    named = os.environ.get("GLASSNET_DATA")
    if named is None and not BESIDE_CHECKOUT.is_dir():
        pytest.skip("no real data: GLASSNET_DATA is not set and ../shared/data does not exist")
    folder = Path(named) if named is not None else BESIDE_CHECKOUT
    monkeypatch.setenv("GLASSNET_DATA", str(folder))
    return folder
