"""Fixtures and settings that every test module shares."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest

# A run draws the same examples every time, and a first call may compile for seconds.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True)
hypothesis.settings.load_profile("house")


@pytest.fixture
def generator() -> np.random.Generator:
    """Random numbers that are the same in every run and independent of the order of tests."""
    return np.random.default_rng(20240229)
