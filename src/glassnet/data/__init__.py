"""Data to train on: known sets by name, arrays, and the batches cut from them."""

from __future__ import annotations

from glassnet.data.catalog import load
from glassnet.data.dataset import Dataset, Split, from_arrays

__all__ = ["Dataset", "Split", "from_arrays", "load"]
