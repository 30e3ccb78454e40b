"""The compiled CPU engine: `steps` are what a backend is asked for, `compile` makes a program of a recording.

lowering/ turns each operation into calls of kernels/, which machine/ compiles and runs. Importing it raises
MissingEngineError where there is no llvmlite, and compiling a kernel where there is no Numba.
"""

from __future__ import annotations

from glassnet.errors import MissingEngineError


def missing(library: str, error: ImportError) -> MissingEngineError:
    """What to say of a library that cannot be imported."""
    return MissingEngineError(
        f"The compiled engine needs {library}, which cannot be imported here: {error}. "
        "Use the reference backend, or versions of Python and NumPy that Numba supports."
    )


try:
    import llvmlite.binding  # noqa: F401  here first, so that one place has the error
except ImportError as error:
    raise missing("llvmlite", error) from error
