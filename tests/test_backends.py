"""Which backend runs, and what is said where Numba is installed, but cannot be imported."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import glassnet as gn
from glassnet.backends import choose_backend
from glassnet.errors import ConfigError, MissingEngineError
from messages import message_of
from test_cli import run_json

WHY = "Numba needs NumPy 2.3 or less"
REASON = (
    f"The compiled engine needs Numba, which cannot be imported here: {WHY}. "
    "Use the reference backend, or versions of Python and NumPy that Numba supports."
)


@pytest.fixture
def broken_numba(tmp_path, monkeypatch):
    """A Numba that NumPy is too new for, and no machine code from before."""
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(f"raise ImportError({WHY!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GLASSNET_CACHE", str(tmp_path / "cache"))
    for name in ("numba", "glassnet.engine.machine.jit"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def network():
    return gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))


def test_a_backend_by_name():
    assert [choose_backend(name) for name in ("auto", "reference", "compiled")] == [
        "compiled",
        "reference",
        "compiled",
    ]
    assert message_of(ConfigError, choose_backend, "compield") == (
        "Unknown backend 'compield'. Did you mean 'compiled'?"
    )


def test_without_numba_auto_is_the_reference(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert choose_backend("auto") == "reference"
    assert message_of(MissingEngineError, choose_backend, "compiled") == (
        "The compiled engine needs Numba, which is not installed. Use backend='reference', or install Numba "
        "with a Python that it supports."
    )


def test_with_a_broken_numba_auto_trains_and_predicts_on_the_reference(broken_numba, caplog):
    caplog.set_level("INFO")
    data, net = gn.data.load("digits"), network()
    assert gn.fit(net, data, epochs=1).backend == "reference"
    assert f"Training on the reference backend: {REASON}" in caplog.messages
    again = network()
    again.store.restore(net.store.snapshot())
    images = data.test.images[:5] / np.float32(255)
    again.scores(images)
    assert f"Predicting on the reference backend: {REASON}" in caplog.messages


def test_with_a_broken_numba_the_compiled_engine_is_refused(broken_numba):
    data, net = gn.data.load("digits"), network()
    assert message_of(MissingEngineError, gn.fit, net, data, backend="compiled") == REASON


def test_doctor_tells_what_runs_where(capsys, monkeypatch):
    monkeypatch.setenv("GLASSNET_DATA", "/some/where")
    result, err = run_json(capsys, "doctor")
    assert result["glassnet"] == gn.__version__
    assert result["numpy"] == np.__version__
    assert result["backend reference"] == "runs on reference"
    assert result["backend auto"] == result["backend compiled"] == "runs on compiled"
    assert result["data folder"] == "/some/where"
    assert {"processor", "machine code", "download cache"} <= result.keys()
    assert "runs on reference" in err


def test_doctor_imports_numba(broken_numba, capsys):
    result, _ = run_json(capsys, "doctor")
    assert result["backend reference"] == "runs on reference"
    assert result["backend auto"] == f"runs on reference. {REASON}"
    assert result["backend compiled"] == REASON


def test_without_llvmlite_all_works_on_the_reference(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    for name in [name for name in sys.modules if name.startswith(("glassnet.engine", "llvmlite."))]:
        monkeypatch.delitem(sys.modules, name)
    for module in ("glassnet.train.compiled", "glassnet.train.warmup"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.delattr("glassnet.engine", raising=False)
    result, _ = run_json(capsys, "doctor")
    assert "needs llvmlite, which cannot be imported here" in result["backend auto"]
    assert "machine code" not in result
    assert gn.fit(network(), gn.data.load("digits"), epochs=1).backend == "reference"
