"""Every error that glassnet raises on purpose: one class per meaning, one base class."""

from __future__ import annotations

from collections.abc import Iterable


class GlassnetError(Exception):
    """Base class: `except glassnet.GlassnetError` catches all of them."""


class ShapeError(GlassnetError, ValueError):
    """An array or a layer does not fit where it was put."""


class DataError(GlassnetError, ValueError):
    """Images or labels that cannot be learned from."""


class ConfigError(GlassnetError, ValueError):
    """A setting that is unknown, missing or out of range."""


class FileFormatError(GlassnetError, ValueError):
    """A file that is truncated, altered or of another kind than expected."""


class RunFolderError(GlassnetError, OSError):
    """A run folder that cannot be written or read."""


class CheckpointError(GlassnetError, OSError):
    """A checkpoint that cannot be written, or none that can be used."""


class NotFiniteError(GlassnetError, ArithmeticError):
    """A loss, activation or gradient became NaN or infinite; nothing was updated."""


class EngineError(GlassnetError, RuntimeError):
    """The compiled engine cannot run what it was asked to run."""


class MissingEngineError(EngineError):
    """The compiled engine cannot be loaded, for want of Numba."""


class OutOfMemoryError(GlassnetError, MemoryError):
    """More memory is needed than there is; nothing that was there before is lost."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """` Did you mean 'conv2d'?` for a near miss, else the list of choices; ready to append to an error."""
    from difflib import get_close_matches  # not needed to import glassnet

    known = sorted(choices)
    close = get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(known)}."
