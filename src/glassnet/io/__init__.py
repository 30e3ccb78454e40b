"""Model files: everything a network means, in one file that is checked when it is read."""

from __future__ import annotations

from glassnet.io.files import model_file, write_atomically
from glassnet.io.images import read_images
from glassnet.io.model import load_model as load
from glassnet.io.model import restore, save_model

__all__ = ["load", "model_file", "read_images", "restore", "save_model", "write_atomically"]
