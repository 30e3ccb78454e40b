"""Model files: everything a network means, in one file that is checked when it is read."""

from __future__ import annotations

from glassnet.io.files import write_atomically
from glassnet.io.images import read_images
from glassnet.io.model import load_model as load
from glassnet.io.model import restore, save_model

__all__ = ["load", "read_images", "restore", "save_model", "write_atomically"]
