"""The one decorator that compiles: plain Python functions on arrays, whose annotations name the types.

    @kernel
    def scale(x: f32[2], y: f32[2], factor: f32, lo: i64, hi: i64) -> None:
        for n in range(lo, hi):
            for c in range(x.shape[1]):
                y[n, c] = factor * x[n, c]

Arrays are C-contiguous and do not overlap, unless one is another and each element is read before it is
written. Parameters named in `EXECUTOR` say which part of the work a call does and are filled by the executor;
the others come from an argument block, an array of int64 that holds for each array its address and shape, for
each int its value, for each float its bits. A kernel allocates nothing and cannot raise: both are checked
when it is compiled. Nothing is compiled, and Numba not imported, before it is needed.

With NUMBA_DISABLE_JIT=1 in the environment kernels run as the plain Python functions they are.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import inspect
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from glassnet.engine import missing
from glassnet.engine.machine import cache
from glassnet.engine.machine.cpu import Cpu, host
from glassnet.errors import EngineError

EXECUTOR = ("lo", "hi", "leaf", "first", "worker")
"""The work units of a call, the leaf of the batch, whether its first chunk, the worker's number."""

ENTRY = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)
"""A compiled kernel: entry(block, lo, hi, leaf, first, worker)."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Scalar:
    """The type of a number in a kernel; indexed with a number of dimensions, the type of an array of them."""

    name: str
    dtype: np.dtype[Any]

    def __getitem__(self, ndim: int) -> Array:
        return Array(self, ndim)


@dataclass(frozen=True)
class Array:
    """The type of a C-contiguous array in a kernel."""

    element: Scalar
    ndim: int


# Any, so that `x: f32[4]` is a type to a type checker too.
f32: Any = Scalar("float32", np.dtype(np.float32))
f64: Any = Scalar("float64", np.dtype(np.float64))
u8: Any = Scalar("uint8", np.dtype(np.uint8))
u16: Any = Scalar("uint16", np.dtype(np.uint16))
i32: Any = Scalar("int32", np.dtype(np.int32))
i64: Any = Scalar("int64", np.dtype(np.int64))

PYTHON_AT: dict[int, Callable[..., Any]] = {}
"""What compiled code at an address means in plain Python, for kernels that call others through addresses."""


def interpreted() -> bool:
    """Whether kernels run as plain Python: NUMBA_DISABLE_JIT is set."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def publish(code: cache.Code, python: Callable[..., Any], cpu: Cpu) -> int:
    """An address at which `code` can be called: compiled for `cpu`, or a mere name for `python`."""
    address = -1 - len(PYTHON_AT) if interpreted() else cache.address(code, cpu)
    PYTHON_AT[address] = python
    return address


def inline(function: Function) -> Function:
    """Mark a helper that kernels may call; it stays the plain function it is."""
    return _mark(function, None)


def intrinsic(lower: Callable[..., Any]) -> Callable[[Function], Function]:
    """Mark a helper whose compiled form is built by lower(builder, *arguments) of llvmlite values.

    An array arrives as the pointer to its data, a tuple as a list. The helper returns an int, a
    float (which is float32) or None, as its annotation must say.
    """
    return lambda function: _mark(function, lower)


def _mark(function: Function, lower: Callable[..., Any] | None) -> Function:
    function.__dict__["glassnet_lower"] = lower
    return function


def is_helper(value: object) -> bool:
    """Whether `value` was marked by `inline` or `intrinsic`."""
    return isinstance(value, FunctionType) and "glassnet_lower" in value.__dict__


def read_names(function: FunctionType) -> Iterator[tuple[str, object]]:
    """The global and enclosed names that `function` reads, with their values."""
    yield from inspect.getclosurevars(function).nonlocals.items()
    yield from ((n, function.__globals__[n]) for n in _names(function.__code__) if n in function.__globals__)


def _names(code: CodeType) -> list[str]:
    nested = [name for item in code.co_consts if isinstance(item, CodeType) for name in _names(item)]
    return [*code.co_names, *nested]


class Kernel:
    """A function compiled for the CPU: called on arrays by a test, through its address by the executor."""

    def __init__(self, python: FunctionType) -> None:
        self.python = python
        self.name = python.__name__
        self.parameters = _parameters(python)
        self.arguments = {name: kind for name, kind in self.parameters.items() if name not in EXECUTOR}
        self._signature = inspect.signature(python)
        self._addresses: dict[tuple[bool, Cpu], int] = {}
        self._fingerprint = b""
        functools.update_wrapper(self, python)

    def __repr__(self) -> str:
        return f"<kernel {self.name}>"

    def __call__(self, *args: Any, cpu: Cpu | None = None, **kwargs: Any) -> None:
        """Run on the Python function's arguments; those of the executor are 0 if left out."""
        defaults = {name: 0 for name in self.parameters if name in EXECUTOR}
        given = defaults | self._signature.bind_partial(*args, **kwargs).arguments
        block = self.block(*(given[name] for name in self.arguments if name in given))
        part = [int(given.get(name, 0)) for name in EXECUTOR]
        if interpreted():
            self.interpret(block.ctypes.data, *part)
        else:
            ENTRY(self.address(cpu))(block.ctypes.data, *part)

    def block(self, *args: Any) -> NDArray[np.int64]:
        """The argument block; an argument is an array, its (address, shape), or a number."""
        if len(args) != len(self.arguments):
            wanted = f"{len(self.arguments)} arguments ({', '.join(self.arguments)})"
            raise EngineError(f"Kernel {self.name} needs {wanted}, got {len(args)}.")
        words: list[int] = []
        for (name, kind), value in zip(self.arguments.items(), args, strict=True):
            words += _words(f"{name} of kernel {self.name}", kind, value)
        return np.array(words, np.int64)

    def address(self, cpu: Cpu | None = None) -> int:
        """Where the compiled form starts: void(int64 block, lo, hi, leaf, first, worker)."""
        key = interpreted(), cpu or host()
        if key not in self._addresses:
            self._addresses[key] = publish(self, self.interpret, key[1])
        return self._addresses[key]

    def is_loaded(self, cpu: Cpu) -> bool:
        """Whether its address is known in this process."""
        return (interpreted(), cpu) in self._addresses

    def interpret(self, block: int, lo: int, hi: int, leaf: int, first: int, worker: int) -> None:
        """What the compiled form does, in plain Python: `block` is the address of an argument block."""
        values: dict[str, Any] = dict(zip(EXECUTOR, (lo, hi, leaf, first, worker), strict=True))
        for name, kind in self.arguments.items():
            size = 1 + kind.ndim if isinstance(kind, Array) else 1
            values[name] = _value(kind, _view(block, (size,), i64.dtype))
            block += 8 * size
        with np.errstate(all="ignore"):
            self.python(**{name: values[name] for name in self.parameters})

    def fingerprint(self) -> bytes:
        """Hash of the function's code, of the helpers it calls and of the constants it reads."""
        if not self._fingerprint:
            text = repr((self.parameters, described(self.python)))
            self._fingerprint = hashlib.sha256(text.encode()).digest()
        return self._fingerprint

    def module(self, cpu: Cpu, symbol: str) -> Any:
        """Optimised LLVM IR of the entry, as `cache` asks for it."""
        return compiler()(self, cpu, symbol)


def compiler() -> Callable[[Kernel, Cpu, str], Any]:
    """`jit.module`, which imports Numba, and takes a second for it."""
    try:
        from glassnet.engine.machine.jit import module
    except ImportError as error:
        raise missing("Numba", error) from error
    return module


def kernel(python: Callable[..., None]) -> Kernel:
    """Compile `python` when it is first needed. All its parameters are annotated with f32[4], i64, ..."""
    assert isinstance(python, FunctionType)
    return Kernel(python)


def _parameters(python: FunctionType) -> dict[str, Scalar | Array]:
    annotations = inspect.get_annotations(python, eval_str=True)
    parameters = {name: annotations.get(name) for name in inspect.signature(python).parameters}
    for name, kind in parameters.items():
        if not isinstance(kind, Array) and (name in EXECUTOR or kind not in (f32, f64)) and kind != i64:
            raise EngineError(
                f"Parameter {name} of kernel {python.__name__} must be an array such as f32[4], or f32, f64 "
                f"or i64, but is {kind!r}; those of the executor ({', '.join(EXECUTOR)}) are i64."
            )
    return parameters  # type: ignore[return-value]  # checked above


def _words(what: str, kind: Scalar | Array, value: Any) -> list[int]:
    """The words that stand for one argument in a block."""
    if isinstance(kind, Scalar):
        bits = np.array(value, kind.dtype).tobytes().ljust(8, b"\0")
        return [int.from_bytes(bits, "little", signed=True)]
    if isinstance(value, tuple):
        address, shape = value
    elif not isinstance(value, np.ndarray):
        raise EngineError(f"{what} must be an array of {kind.element.name}, got {type(value).__name__}.")
    elif value.dtype != kind.element.dtype:
        raise EngineError(f"{what} must be {kind.element.name}, got {value.dtype}.")
    elif not value.flags.c_contiguous:
        strides = f"strides {value.strides} for shape {value.shape}"
        raise EngineError(f"{what} must be C-contiguous, got {strides}.")
    else:
        address, shape = value.ctypes.data, value.shape
    if len(shape) != kind.ndim:
        raise EngineError(f"{what} must have {kind.ndim} dimensions, got shape {tuple(shape)}.")
    return [int(address), *map(int, shape)]


def _value(kind: Scalar | Array, words: NDArray[np.int64]) -> Any:
    """The argument that `words` of a block stand for."""
    if isinstance(kind, Array):
        return _view(int(words[0]), tuple(words[1:].tolist()), kind.element.dtype)
    return int(words[0]) if kind == i64 else words.view(kind.dtype)[0]


def _view(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The array of `shape` at `address`."""
    size = math.prod(shape) * dtype.itemsize
    memory: Any = (ctypes.c_char * size).from_address(int(address))
    return np.ndarray(shape, dtype, memory)


def described(function: FunctionType) -> Any:
    """Everything that decides what `function` compiles to, as nested tuples with a stable repr."""
    constants = sorted((name, _constant(name, value, function)) for name, value in read_names(function))
    defaults = repr((function.__defaults__, function.__kwdefaults__))
    return _code(function.__code__), constants, defaults


def _code(code: CodeType) -> Any:
    items = tuple(_code(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts)
    return code.co_code, items, code.co_names, code.co_varnames


def _lowering(lower: Callable[..., Any]) -> Any:
    """The code of an intrinsic's lowering, and the numbers that it was made for."""
    made_for = inspect.getclosurevars(lower).nonlocals.items()
    return _code(lower.__code__), sorted(
        (n, repr(v)) for n, v in made_for if isinstance(v, int | str | tuple)
    )


def _constant(name: str, value: object, function: FunctionType) -> str:
    if isinstance(value, FunctionType) and is_helper(value):
        lower = value.__dict__["glassnet_lower"]
        return repr(described(value) if lower is None else _lowering(lower))
    if value is np or value is math or isinstance(value, type | bool | int | float | str | tuple):
        return repr(value)
    if isinstance(value, np.generic):
        return f"{value.dtype} {value!r}"
    raise EngineError(
        f"{function.__name__} reads {name}, a {type(value).__name__}; a kernel may read numbers, numpy, math "
        "and functions marked @inline."
    )
