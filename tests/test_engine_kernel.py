"""Kernels: types, argument blocks, compiled against plain Python, and the cache of machine code."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassnet.engine.machine import cache, cpu, kernel
from glassnet.engine.machine.kernel import f32, f64, i32, i64, inline, u8, u16
from glassnet.errors import EngineError

SCALE = 3


compiled = pytest.mark.usefixtures("jit_on")


@pytest.fixture
def jit_on(monkeypatch):
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)


@inline
def _positive(value: float) -> float:
    return value if not value < np.float32(0) else np.float32(0)


@kernel.kernel
def scaled_relu(x: f32[2], y: f32[2], factor: f32, shift: i64, lo: i64, hi: i64) -> None:
    for n in range(lo, hi):
        for c in range(x.shape[1]):
            y[n, c] = factor * _positive(x[n, c]) + np.float32(SCALE + shift)


@kernel.kernel
def every_type(a: u8[1], b: u16[1], c: i32[1], d: i64[1], e: f64, out: f64[1]) -> None:
    for i in range(out.shape[0]):
        out[i] = e + a[i] + b[i] + c[i] + d[i]


@kernel.kernel
def part(out: i64[1], lo: i64, hi: i64, leaf: i64, first: i64, worker: i64) -> None:
    out[0], out[1], out[2], out[3], out[4] = lo, hi, leaf, first, worker


@kernel.kernel
def exponential(x: f32[1], y: f32[1]) -> None:
    for i in range(x.shape[0]):
        y[i] = np.exp(x[i])


def make_scale(constant):
    @kernel.kernel
    def scale(x: f32[1], y: f32[1]) -> None:
        for i in range(x.shape[0]):
            y[i] = constant * x[i]

    return scale


@settings(max_examples=30, deadline=None)
@given(n=st.integers(0, 5), c=st.integers(0, 40), shift=st.integers(-9, 9), seed=st.integers(0, 99))
def test_compiled_is_plain_python(n, c, shift, seed):
    x = np.random.default_rng(seed).normal(size=(n, c)).astype(np.float32)
    wanted, got, narrow = (np.zeros_like(x) for _ in range(3))
    scaled_relu.python(x, wanted, np.float32(0.1), shift, 0, n)
    scaled_relu(x, got, 0.1, shift, 0, n)
    scaled_relu(x, narrow, 0.1, shift, 0, n, cpu=cpu.host().limited(8))
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    np.testing.assert_allclose(narrow, wanted, rtol=1e-6)


def test_every_type_arrives_unchanged():
    out = np.empty(2)
    every_type(
        np.array([255, 1], np.uint8), np.array([65535, 1], np.uint16), np.array([-(2**31), 1], np.int32),
        np.array([-(2**50), 1]), -0.1, out,
    )  # fmt: skip
    assert out.tolist() == [255 + 65535 - 2**31 - 2**50 - 0.1, 3.9]


def test_parameters_of_the_executor_are_filled():
    out = np.zeros(5, np.int64)
    part(out, 1, 2, 3, 4, 5)
    assert out.tolist() == [1, 2, 3, 4, 5]
    part(out, hi=7)
    assert out.tolist() == [0, 7, 0, 0, 0]


def test_block_takes_an_array_or_its_address_and_shape():
    x, y = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    words = scaled_relu.block(x, (y.ctypes.data, y.shape), -1.0, -2)
    bits = int(np.array(-1, np.float32).view(np.uint32))
    assert words.tolist() == [x.ctypes.data, 2, 3, y.ctypes.data, 2, 3, bits, -2]


@kernel.kernel
def classify(x: f32[1], kind: i64[1]) -> None:
    for i in range(x.shape[0]):
        kind[i] = 1 if x[i] != x[i] else 2 if np.abs(x[i]) == np.float32(np.inf) else 0


def test_nan_and_infinity_are_not_assumed_away():
    kind = np.zeros(4, np.int64)
    classify(np.array([np.nan, np.inf, -np.inf, 1], np.float32), kind)
    assert kind.tolist() == [1, 2, 2, 0]


def test_nan_survives():
    x, y = np.array([[np.nan, np.inf, -np.inf]], np.float32), np.zeros((1, 3), np.float32)
    scaled_relu(x, y, 1.0, 0, 0, 1)
    np.testing.assert_array_equal(y, [[np.nan, np.inf, 3]])


def test_the_c_library_is_found():
    x = np.linspace(-5, 5, 37, dtype=np.float32)
    y = np.empty_like(x)
    exponential(x, y)
    np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 2)), "x of kernel scaled_relu must be float32, got float64."),
        (np.zeros(2, np.float32), "x of kernel scaled_relu must have 2 dimensions, got shape (2,)."),
        (
            np.zeros((4, 2), np.float32)[::2],
            "x of kernel scaled_relu must be C-contiguous, got strides (16, 4) for shape (2, 2).",
        ),
        ([[1.0]], "x of kernel scaled_relu must be an array of float32, got list."),
    ],
)
def test_wrong_arguments_are_named(x, message):
    with pytest.raises(EngineError) as error:
        scaled_relu(x, np.zeros((2, 2), np.float32), 1.0, 0, 0, 2)
    assert str(error.value) == message


def test_number_of_arguments_is_checked():
    with pytest.raises(EngineError) as error:
        scaled_relu.block(1)
    assert str(error.value) == "Kernel scaled_relu needs 4 arguments (x, y, factor, shift), got 1."


def test_unannotated_parameter_is_refused():
    with pytest.raises(EngineError, match=r"^Parameter x of kernel bad must be an array .*, but is None; "):

        @kernel.kernel
        def bad(x, lo: i64) -> None:
            pass


@compiled
def test_kernel_that_can_raise_is_refused():
    @kernel.kernel
    def bad(x: f32[1]) -> None:
        if x[0] > np.float32(0):
            raise ValueError("positive")

    with pytest.raises(EngineError, match=r"^Kernel bad may raise an exception, .*numba_do_raise"):
        bad.address()


@compiled
def test_kernel_that_allocates_is_refused():
    @kernel.kernel
    def bad(x: f32[1]) -> None:
        x[0] = np.zeros(3)[0]

    with pytest.raises(EngineError, match=r"^Kernel bad does not compile"):
        bad.address()


def test_kernel_reads_no_mutable_globals():
    with pytest.raises(EngineError) as error:
        make_scale(np.zeros(3)).fingerprint()
    assert str(error.value) == (
        "scale reads constant, a ndarray; a kernel may read numbers, numpy, math "
        "and functions marked @inline."
    )


def test_closure_constants_are_part_of_the_fingerprint():
    assert make_scale(2).fingerprint() == make_scale(2).fingerprint() != make_scale(3).fingerprint()
    x, y = np.ones(3, np.float32), np.zeros(3, np.float32)
    for constant in (np.float32(2), np.float32(3)):
        make_scale(constant)(x, y)
        assert y[0] == constant


# The cache


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.o"))


@compiled
def test_same_kernel_gives_the_same_bytes_and_is_read_back(tmp_path):
    stores = [cache.Store(tmp_path / name, cpu.host()) for name in "ab"]
    assert not stores[0].has(exponential)
    for store in stores:
        store.address(exponential)
    (first,), (second,) = _files(tmp_path / "a"), _files(tmp_path / "b")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    assert cache.Store(tmp_path / "a", cpu.host()).has(exponential)


@compiled
def test_altered_file_is_compiled_anew(tmp_path):
    cache.Store(tmp_path, cpu.host()).address(exponential)
    (path,) = _files(tmp_path)
    content = path.read_bytes()
    for altered in (b"", content[:-1], content[:40] + b"?" + content[41:]):
        path.write_bytes(altered)
        cache.Store(tmp_path, cpu.host()).address(exponential)
        assert path.read_bytes() == content


@compiled
def test_folder_that_cannot_be_written_is_said_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    for _ in range(2):
        cache.Store(tmp_path / "file", cpu.host()).address(exponential)
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert message.startswith("Compiled code cannot be kept, so that every start compiles anew: ")


def test_other_sources_versions_or_processors_use_another_folder(tmp_path, monkeypatch):
    folders = {cache.Store(tmp_path, processor)._folder for processor in (cpu.host(), cpu.host().limited(4))}
    monkeypatch.setattr(cache, "_engine_sources", lambda: b"changed")
    folders.add(cache.Store(tmp_path, cpu.host())._folder)
    monkeypatch.setattr(cache, "_version", lambda package: "99")
    folders.add(cache.Store(tmp_path, cpu.host())._folder)
    assert len(folders) == 4


@compiled
def test_old_folders_are_deleted(tmp_path):
    for age in range(9):
        (tmp_path / f"old{age}").mkdir()
        os.utime(tmp_path / f"old{age}", (1000 - age, 1000 - age))
    store = cache.Store(tmp_path, cpu.host())
    store.address(exponential)
    assert {path.name for path in tmp_path.iterdir()} == {store._folder.name, "old0", "old1", "old2"}


@compiled
def test_progress_counts_what_is_missing(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("GLASSNET_CACHE", str(tmp_path))
    caplog.set_level(logging.INFO)
    assert cache.compile_all([part], cpu.host()) == 1
    assert cache.compile_all([part, exponential, every_type, part], cpu.host()) == 2
    assert [
        record.getMessage() for record in caplog.records if record.name == "glassnet.engine.machine.cache"
    ] == [
        "Compiling 1 of 1 kernels (once): part",
        "Compiling 1 of 2 kernels (once): exponential",
        "Compiling 2 of 2 kernels (once): every_type",
    ]


USE_AND_REPORT = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
import test_engine_kernel as kernels
x = np.linspace(-5, 5, 37, dtype=np.float32)
y = np.empty_like(x)
kernels.exponential(x, y)
print(y.tobytes().hex(), "numba" in sys.modules)
"""


@compiled
def test_warm_process_gives_the_same_bits_without_numba(tmp_path):
    environment = os.environ | {"GLASSNET_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", USE_AND_REPORT, str(Path(__file__).parent)]
    cold, warm = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    )
    assert cold == [warm[0], "True"]
    assert warm[1] == "False"


@compiled
def test_many_processes_may_compile_at_once(tmp_path):
    environment = os.environ | {"GLASSNET_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", USE_AND_REPORT, str(Path(__file__).parent)]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(3)]
    assert len({process.communicate()[0] for process in running}) <= 2
    assert not any(process.returncode for process in running)
    assert len(_files(tmp_path)) == 1


@compiled
def test_threads_may_load_at_once(tmp_path):
    store, addresses = cache.Store(tmp_path, cpu.host()), set()
    threads = [threading.Thread(target=lambda: addresses.add(store.address(part))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(addresses) == 1


def test_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("GLASSNET_CACHE", "/somewhere")
    assert cache.folder() == Path("/somewhere")
    monkeypatch.delenv("GLASSNET_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache.folder() == Path("/caches/glassnet/machine-code")


def test_only_jit_imports_numba():
    package = Path(cache.__file__).parent.parent
    pattern = re.compile(r"^\s*(import|from) numba", re.MULTILINE)
    assert [path.name for path in package.rglob("*.py") if pattern.search(path.read_text())] == ["jit.py"]
