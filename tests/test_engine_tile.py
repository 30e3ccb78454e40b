"""Register tiles against their NumPy twin, the twin against nested loops, and the choice of tile shapes."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassnet.engine.machine import cpu as cpus
from glassnet.engine.machine import kernel, peak
from glassnet.engine.machine import llvm as codegen
from glassnet.engine.machine.kernel import f32, i64
from glassnet.engine.machine.peak import measure_peak
from glassnet.engine.machine.tile import (
    Columns,
    TileSpec,
    call_tile,
    plan_parts,
    plan_rows,
    twin,
    vector_shapes,
)
from glassnet.errors import EngineError

HOST = cpus.host()
NARROW = HOST.limited(8)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """Hundreds of drawn tiles are nothing to keep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLASSNET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@kernel.kernel
def one_tile(
    tile: i64, sizes: i64[1], strides: i64[1], a: f32[2], b: f32[1], c: f32[3], bias: f32[1]
) -> None:
    call_tile(
        tile,
        (sizes[0], sizes[1], sizes[2]),
        a, 3, (strides[0], strides[1]), (strides[2], strides[3], strides[4]),
        b, 5, (strides[5], strides[6], strides[7]),
        c, 7, (strides[8], strides[9]),
        bias, 2,
    )  # fmt: skip


@st.composite
def specs(draw, processor):
    lanes = draw(st.sampled_from([n for n in (4, 8, 16) if n <= processor.lanes]))
    vectors = draw(st.integers(1, 3))
    rows = draw(st.integers(1, Columns(vectors, lanes, lanes).max_rows(processor)))
    return TileSpec(
        rows,
        vectors,
        lanes,
        draw(st.integers(1, lanes)),
        draw(st.sampled_from(["zero", "load", "bias"])),
        draw(st.booleans()),
        draw(st.integers(0, rows)),
        draw(st.integers(1, (processor.registers - vectors - 1) // (rows * vectors))),
    )


def operands(spec, sizes, seed):
    """Random operands with random strides, of which those of C keep its rows apart."""
    rng = np.random.default_rng(seed)
    inner = spec.inner or spec.rows
    strides = np.concatenate([rng.integers(0, 50, 5), rng.integers(0, 60, 3), [0, 0]])
    strides[8] = spec.channels + rng.integers(0, 3)
    strides[9] = strides[8] * inner + rng.integers(0, 3)
    reach = (max(spec.rows, *sizes) + 1) * 4 * 60
    numbers = [rng.normal(size=size).astype(np.float32) for size in (2 * reach, reach + 64, 2 * reach, 64)]
    numbers[0], numbers[2] = numbers[0].reshape(2, -1), numbers[2].reshape(2, 2, -1)
    return np.array(sizes), strides, *numbers


def assert_is_twin(tile, spec, processor, sizes=(2, 3, 4), seed=0):
    """The compiled `tile` computes what the twin of `spec` does, and writes nowhere else."""
    sizes_, strides, a, b, c, bias = operands(spec, sizes, seed)
    wanted = c.copy()
    t = strides.tolist()
    twin(spec, sizes, a, 3, t[0:2], t[2:5], b, 5, t[5:8], wanted, 7, t[8:10], bias, 2)
    one_tile(tile.address(processor), sizes_, strides, a, b, c, bias)
    np.testing.assert_allclose(c, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("processor", [HOST, NARROW], ids=["host", "narrow"])
@settings(max_examples=60, deadline=None)
@given(data=st.data(), sizes=st.tuples(*[st.integers(1, 5)] * 3), seed=st.integers(0, 99))
def test_tile_is_its_twin(processor, data, sizes, seed):
    spec = data.draw(specs(processor))
    sizes = (*sizes[:2], sizes[2] * spec.parts)
    assert_is_twin(spec, spec, processor, sizes, seed)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), sizes=st.tuples(*[st.integers(1, 3)] * 3), seed=st.integers(0, 99))
def test_twin_is_nested_loops(data, sizes, seed):
    spec = data.draw(specs(NARROW))
    _, strides, a, b, c, bias = operands(spec, sizes, seed)
    t, wanted = strides.tolist(), c.astype(np.float64)
    for i in range(spec.rows):
        outer, row = divmod(i, spec.inner or spec.rows)
        for v in range(spec.channels):
            at = 7 + row * t[8] + outer * t[9] + v
            total = {"zero": 0.0, "load": c.flat[at], "bias": bias[2 + v]}[spec.start]
            for r, s, k in np.ndindex(sizes):
                x = a.flat[3 + row * t[0] + outer * t[1] + r * t[2] + s * t[3] + k * t[4]]
                total += float(x) * float(b[5 + r * t[5] + s * t[6] + k * t[7] + v])
            wanted.flat[at] = max(total, 0.0) if spec.relu else total
    twin(spec, sizes, a, 3, t[0:2], t[2:5], b, 5, t[5:8], c, 7, t[8:10], bias, 2)
    np.testing.assert_allclose(c, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("start", ["zero", "load", "bias"])
def test_relu_keeps_nan(start):
    spec = TileSpec(3, 1, 4, 3, start, relu=True)
    sizes, strides, a, b, c, bias = operands(spec, (1, 1, 2), 0)
    b[:] = np.nan
    one_tile(spec.address(), sizes, strides, a, b, c, bias)
    assert np.isnan(c).sum() == spec.rows * spec.channels


@pytest.mark.parametrize("what", ["rows", "last_lanes", "start", "relu", "inner"])
def test_wrong_tile_is_caught(what):
    right = TileSpec(5, 2, 4, 3, "load", relu=True, inner=2)
    wrong = {"rows": 4, "last_lanes": 4, "start": "zero", "relu": False, "inner": 5}[what]
    assert_is_twin(right, right, HOST)
    with pytest.raises(AssertionError, match="Not equal"):
        assert_is_twin(dataclasses.replace(right, **{what: wrong}), right, HOST)


class Mutant(TileSpec):
    """A tile of which one instruction is wrong: row 3 of C is taken to be row 2."""

    def fingerprint(self):
        return b"mutant" + super().fingerprint()

    def module(self, cpu, symbol):
        text, count = re.subn(r"(mul i64 \S+), 3", r"\1, 2", str(super().module(cpu, symbol)), count=1)
        assert count == 1
        return llvm.parse_assembly(text)


def test_wrong_instruction_is_caught(monkeypatch):
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    spec = Mutant(5, 2, 4, 3, "load", relu=True)
    with pytest.raises(AssertionError, match="Not equal"):
        assert_is_twin(spec, spec, HOST)


def test_too_many_registers_are_refused():
    with pytest.raises(EngineError, match=r"needs 33 vector registers; .* has 16\.$"):
        TileSpec(15, 2, 8, 8).address(NARROW)


@pytest.mark.parametrize("processor", [HOST, NARROW, cpus.AARCH64], ids=["host", "narrow", "aarch64"])
@pytest.mark.parametrize("vectors", [1, 2, 3])
def test_largest_tiles_fit_in_registers(processor, vectors):
    """No vector is stored but the results: a spilled sum would be."""
    lanes = processor.lanes
    rows = Columns(vectors, lanes, lanes).max_rows(processor)
    tile = TileSpec(rows, vectors, lanes, lanes)
    assembly = codegen.target_machine(processor).emit_assembly(tile.module(processor, "tile"))
    stored = [line for line in assembly.splitlines() if is_vector_store(line)]
    assert sum(2 if "stp" in line else 1 for line in stored) == rows * vectors


def is_vector_store(line):
    words = line.split()
    if len(words) < 2:
        return False
    if words[0] in ("str", "stp", "stur"):
        return words[1].startswith("q")
    return words[0].startswith(("vmovu", "vmova", "movu", "mova")) and words[1].startswith("%")


def test_aarch64_object_is_generated():
    tile = TileSpec(14, 2, 4, 3, "bias", relu=True)
    code = codegen.target_machine(cpus.AARCH64).emit_object(tile.module(cpus.AARCH64, "tile"))
    assert code[:4] == b"\x7fELF"
    assert code[18] == 183  # EM_AARCH64


@settings(deadline=None)
@given(rows=st.integers(1, 300), most=st.integers(1, 30))
def test_rows_are_cut_evenly(rows, most):
    tiles = plan_rows(rows, most)
    assert sum(tiles) == rows
    assert len(tiles) == -(-rows // most)
    assert max(tiles) - min(tiles) <= 1


def test_parts_of_known_sums():
    """Few sums are cut, into a number that divides their terms."""
    assert [plan_parts(sums, 676) for sums in (1, 2, 4, 8, 30)] == [4, 4, 2, 1, 1]
    assert [plan_parts(1, terms) for terms in (1352, 100, 17, 1)] == [8, 5, 1, 1]


def test_rows_of_known_sizes():
    assert plan_rows(27, 12) == [9, 9, 9]
    assert plan_rows(29, 12) == [10, 10, 9]


@settings(deadline=None)
@given(channels=st.integers(1, 600), narrow=st.booleans())
def test_shapes_cover_the_channels(channels, narrow):
    processor = NARROW if narrow else HOST
    shapes = vector_shapes(channels, processor)
    assert sum(shape.channels for shape in shapes) == channels
    assert all(shape.max_rows(processor) >= 4 and 1 <= shape.last_lanes <= shape.lanes for shape in shapes)


def test_shapes_of_known_channels():
    zen4 = dataclasses.replace(HOST, lanes=16, registers=32, split=True)
    assert vector_shapes(1, zen4) == [Columns(1, 4, 1)]
    assert vector_shapes(3, zen4) == [Columns(1, 4, 3)]
    assert vector_shapes(8, zen4) == [Columns(1, 8, 8)]
    assert vector_shapes(10, zen4) == [Columns(1, 16, 10)]
    assert vector_shapes(10, zen4, few=True) == [Columns(2, 8, 2)]
    assert vector_shapes(16, zen4, few=True) == [Columns(1, 16, 16)]
    assert vector_shapes(32, zen4) == [Columns(2, 16, 16)]
    assert vector_shapes(64, zen4) == [Columns(2, 16, 16)] * 2
    assert vector_shapes(100, zen4) == [Columns(3, 16, 16), Columns(2, 16, 16), Columns(2, 16, 4)]


def test_peak_is_that_of_a_processor(monkeypatch):
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    assert 1e9 < measure_peak(seconds=1e-4) < 1e12


def test_the_peak_is_that_of_runs_that_were_not_interrupted(monkeypatch):
    """By a clock of 1 us a run, but 5 ms where another process had the core."""
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    ticks = iter(np.cumsum([step for run in range(99) for step in (0, 5e-3 if run == 1 else 1e-6)]))
    monkeypatch.setattr(peak, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    alone = 2 * cpus.host().lanes * peak._CHAINS * 1000 / 1e-6
    assert measure_peak(seconds=5e-3) >= alone * (1 - 1e-6)
