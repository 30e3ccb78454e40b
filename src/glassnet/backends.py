"""Which backend runs: one choice, made in one place, and said aloud by whoever makes it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.util import find_spec

from threadpoolctl import threadpool_limits

from glassnet.errors import ConfigError, MissingEngineError, did_you_mean

BACKENDS = ("auto", "reference", "compiled")


def one_blas_thread() -> AbstractContextManager[object]:
    """BLAS cuts sums by its number of threads: with one, bits do not depend on the machine's cores."""
    return threadpool_limits(1, user_api="blas")


def choose_backend(name: str) -> str:
    """ "reference" or "compiled" for a setting: "auto" compiles wherever Numba is installed.

    Whether it can be imported, which takes a second, is seen by whoever makes a plan: MissingEngineError.
    """
    if name not in BACKENDS:
        raise ConfigError(f"Unknown backend {name!r}.{did_you_mean(name, BACKENDS)}")
    compiles = find_spec("numba") is not None
    if name == "compiled" and not compiles:
        raise MissingEngineError(
            "The compiled engine needs Numba, which is not installed. Use backend='reference', or install "
            "Numba with a Python that it supports."
        )
    return "compiled" if compiles and name != "reference" else "reference"
