"""From a kernel to LLVM IR by way of Numba: the one file that imports it and sets its flags."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from types import CellType, FunctionType
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaError
from numba.extending import intrinsic
from numba.np import arrayobj
from numba.np.arrayobj import make_array, populate_array

from glassnet.engine.machine.cpu import Cpu
from glassnet.engine.machine.kernel import EXECUTOR, Array, Kernel, Scalar, f32, i64, is_helper, read_names
from glassnet.engine.machine.llvm import missing_symbols, optimise
from glassnet.errors import EngineError

# Never nnan or ninf: a NaN must survive to be reported. _nrt=False refuses whatever would allocate.
FLAGS: dict[str, Any] = {
    "fastmath": {"contract", "nsz", "reassoc", "arcp"},
    "error_model": "numpy",
    "nogil": True,
    "boundscheck": False,
    "_nrt": False,
}
HELPER_FLAGS = FLAGS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

_WORD = ir.IntType(64)
_RETURNED = {None: types.void, int: types.int64, float: types.float32}


def module(kernel: Kernel, cpu: Cpu, symbol: str) -> llvm.ModuleRef:
    """Optimised IR that defines `symbol`, void(int64 block, lo, hi, leaf, first, worker)."""
    try:
        with _settings():
            compiled = _entry(kernel)
    except NumbaError as error:
        raise EngineError(f"Kernel {kernel.name} does not compile: {error}") from error
    code = llvm.parse_assembly(compiled.inspect_llvm())
    optimise(code, cpu, compiled.native_name, symbol)
    if missing := missing_symbols(code):
        raise EngineError(
            f"Kernel {kernel.name} may raise an exception, as a range with a variable step does, or calls "
            f"what the C library does not have: it needs {', '.join(missing)}."
        )
    return code


def _entry(kernel: Kernel) -> Any:
    """The function that reads an argument block and calls the kernel, compiled by Numba but not optimised."""
    body = njit(**HELPER_FLAGS)(_rebound(kernel.python, {}))
    body._compiler._customize_flags = _distinct_arrays
    unpack = _unpack(kernel)

    def entry(block, lo, hi, leaf, first, worker):
        body(*unpack(block, lo, hi, leaf, first, worker))

    return cfunc(types.void(*[types.int64] * 6), **FLAGS)(entry)


def _distinct_arrays(flags: Any) -> Any:
    """Promise LLVM that the arrays of a kernel do not overlap.

    Otherwise it compiles a vector loop and a scalar one, which round differently, and chooses between them by
    how near in memory the arrays happen to lie. Numba has the flag, but no option for it.
    """
    flags.noalias = True
    return flags


def _plain_index(context: Any, builder: ir.IRBuilder, kind: Any, index: ir.Value, size: ir.Value) -> ir.Value:
    """An index as it is. Python's meaning of negative ones would be asked at every access, and keeps LLVM
    from seeing that neighbours lie side by side; kernels have none.
    """
    return context.cast(builder, index, kind, types.intp)


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Keep Numba from optimising for this machine: we do so once, at the end, for the processor asked for.

    Its settings are the process's, hence the lock that every compilation by Numba takes.
    """
    settings: Any = config
    wanted = {"DISABLE_JIT": 0, "LOOP_VECTORIZE": 0, "OPT": type(settings.OPT)(0)}
    with global_compiler_lock:
        before = {name: getattr(settings, name) for name in wanted}
        meaning = arrayobj.fix_integer_index
        vars(settings).update(wanted)
        arrayobj.fix_integer_index = _plain_index
        try:
            yield
        finally:
            vars(settings).update(before)
            arrayobj.fix_integer_index = meaning


def _rebound(function: FunctionType, helpers: dict[FunctionType, Any]) -> FunctionType:
    """The same function, reading in place of each marked helper what Numba compiles for it."""
    compiled = {name: _compiled(value, helpers) for name, value in read_names(function) if is_helper(value)}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closure = tuple(CellType(compiled[name]) if name in compiled else cell for name, cell in cells)
    scope = function.__globals__ | compiled
    return FunctionType(function.__code__, scope, function.__name__, function.__defaults__, closure)


def _compiled(helper: Any, helpers: dict[FunctionType, Any]) -> Any:
    if helper not in helpers:
        if helper.glassnet_lower is None:
            helpers[helper] = njit(**HELPER_FLAGS)(_rebound(helper, helpers))
        else:
            helpers[helper] = _lowered(helper, helper.glassnet_lower)
    return helpers[helper]


def _lowered(helper: FunctionType, lower: Callable[..., Any]) -> Any:
    """A Numba intrinsic that emits lower(builder, *arguments), where an array is the pointer to its data."""
    returned = inspect.get_annotations(helper, eval_str=True)["return"]

    def definition(context, *arguments):
        signature = _RETURNED[returned](*arguments)

        def generate(context, builder, signature, values):
            pairs = zip(signature.args, values, strict=True)
            result = lower(builder, *(_plain(context, builder, kind, value) for kind, value in pairs))
            return context.get_dummy_value() if returned is None else result

        return signature, generate

    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [first, *inspect.signature(helper).parameters.values()]
    definition.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Numba counts these
    definition.__name__ = helper.__name__
    return intrinsic(definition)


def _plain(context: Any, builder: ir.IRBuilder, kind: types.Type, value: ir.Value) -> Any:
    if isinstance(kind, types.Array):
        return make_array(kind)(context, builder, value).data
    if isinstance(kind, types.BaseTuple):
        return [builder.extract_value(value, i) for i in range(len(kind))]
    return context.cast(builder, value, kind, types.int64)


def _numba_type(kind: Scalar | Array) -> Any:
    if isinstance(kind, Array):
        return types.Array(getattr(types, kind.element.name), kind.ndim, "C")
    return getattr(types, kind.name)


def _unpack(kernel: Kernel) -> Any:
    """An intrinsic that reads the kernel's arguments, in the function's order, out of an argument block."""
    kinds = [_numba_type(kind) for kind in kernel.parameters.values()]

    def unpack(context, block, lo, hi, leaf, first, worker):
        signature = types.Tuple(kinds)(*[types.int64] * 6)

        def generate(context, builder, signature, values):
            word = _reader(builder, values[0])
            filled = dict(zip(EXECUTOR, values[1:], strict=True))
            _assume_not_negative(builder, filled["lo"])
            arguments = []
            for (name, kind), numba_type in zip(kernel.parameters.items(), kinds, strict=True):
                if name in EXECUTOR:
                    arguments.append(filled[name])
                elif isinstance(kind, Array):
                    arguments.append(_array(context, builder, numba_type, word))
                else:
                    arguments.append(_number(builder, kind, word()))
            return context.make_tuple(builder, signature.return_type, arguments)

        return signature, generate

    return intrinsic(unpack)


def _reader(builder: ir.IRBuilder, address: ir.Value) -> Callable[[], ir.Value]:
    """A function that loads the next word of the block at `address` each time it is called."""
    pointer = builder.inttoptr(address, _WORD.as_pointer())
    index = iter(range(1 << 16))
    return lambda: builder.load(builder.gep(pointer, [_WORD(next(index))], inbounds=True))


def _array(context: Any, builder: ir.IRBuilder, kind: Any, word: Callable[[], ir.Value]) -> ir.Value:
    array = make_array(kind)(context, builder)
    data = builder.inttoptr(word(), array.data.type)
    shape = [word() for _ in range(kind.ndim)]
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [itemsize]
    for size in reversed(shape):
        _assume_not_negative(builder, size)
        strides.insert(0, builder.mul(strides[0], size, flags=["nsw"]))
    populate_array(array, data, shape, strides[1:], itemsize, meminfo=None)
    return array._getvalue()


def _number(builder: ir.IRBuilder, kind: Scalar, word: ir.Value) -> ir.Value:
    if kind == i64:
        return word
    if kind == f32:
        return builder.bitcast(builder.trunc(word, ir.IntType(32)), ir.FloatType())
    return builder.bitcast(word, ir.DoubleType())


def _assume_not_negative(builder: ir.IRBuilder, value: ir.Value) -> None:
    """Tell LLVM, so that it can drop Python's meaning of negative indices."""
    builder.assume(builder.icmp_signed(">=", value, _WORD(0)))
