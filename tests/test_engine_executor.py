"""The executor: who does which part, the same bits on any number of threads, forks, interrupts, idleness."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassnet.engine.machine.executor import Executor
from glassnet.engine.machine.kernel import f32, i64, interpreted, kernel
from glassnet.engine.machine.program import Program, Section, Step
from glassnet.errors import EngineError

LEAVES = 8


@kernel
def count_units(seen: i64[1], lo: i64, hi: i64) -> None:
    for i in range(lo, hi):
        seen[i] += 1


@kernel
def note_sample(order: i64[2], step: i64, lo: i64, hi: i64, leaf: i64, first: i64, worker: i64) -> None:
    for n in range(lo, hi):
        order[n, 0] = order[n, 0] * 10 + step
        order[n, 1] = leaf
        order[n, 2] = first
        order[n, 3] = lo
        order[n, 4] = worker


@kernel
def sum_samples(x: f32[2], sums: f32[2], lo: i64, hi: i64, leaf: i64, first: i64) -> None:
    if first != 0:
        sums[leaf] = np.float32(0)
    for n in range(lo, hi):
        for c in range(x.shape[1]):
            sums[leaf, c] += x[n, c]


@kernel
def add_leaves(sums: f32[2], total: f32[1], lo: i64, hi: i64) -> None:
    for c in range(lo, hi):
        total[c] = ((sums[0, c] + sums[1, c]) + (sums[2, c] + sums[3, c])) + (
            (sums[4, c] + sums[5, c]) + (sums[6, c] + sums[7, c])
        )


@kernel
def next_is_sum(total: f32[1], x: f32[2], lo: i64, hi: i64) -> None:
    for n in range(lo, hi):
        for c in range(x.shape[1]):
            x[n, c] = np.float32(0.5) * x[n, c] + np.float32(0.01) * total[c]


@kernel
def is_denormal_kept(x: f32[1], kept: i64[1], lo: i64, hi: i64) -> None:
    for i in range(lo, hi):
        kept[i] = 1 if x[i] * np.float32(0.5) > np.float32(0) else 0


@kernel
def mark_worker(mark: i64[1], lo: i64, hi: i64, worker: i64) -> None:
    for _ in range(lo, hi):
        mark[0] = worker


@pytest.fixture(scope="module")
def executor():
    return Executor()


def counting(units, sections=1):
    """A program that counts how often each unit is done, in an array for each section."""
    seen = [np.zeros(units, np.int64) for _ in range(sections)]
    program = Program(
        [Section("spread", [Step(count_units, count_units.block(array), units=units)]) for array in seen]
    )
    return program, seen


@settings(max_examples=40, deadline=None)
@given(
    units=st.integers(0, 100), each=st.integers(0, 3), samples=st.integers(0, 20), grain=st.integers(1, 16),
    threads=st.sampled_from([1, 2, 3]), kind=st.sampled_from(["spread", "single"]), repeats=st.integers(0, 3),
)  # fmt: skip
def test_every_unit_is_done_once_a_run(executor, units, each, samples, grain, threads, kind, repeats):
    seen = np.zeros(200, np.int64)
    step = Step(count_units, count_units.block(seen), units, each, grain)
    executor.run(Program([Section(kind, [step, step])]), samples=samples, threads=threads, repeats=repeats)
    extent = units + each * samples
    assert seen[:extent].tolist() == [2 * repeats] * extent
    assert not seen[extent:].any()


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(0, 70), chunk=st.integers(1, 9), threads=st.sampled_from([1, 2, 3]))
def test_samples_go_depth_first_through_leaves(executor, samples, chunk, threads):
    order = np.zeros((samples, 5), np.int64)
    steps = [Step(note_sample, note_sample.block(order, step)) for step in (1, 2, 3)]
    executor.run(Program([Section("sample", steps, chunk, LEAVES)]), samples=samples, threads=threads)
    assert (order[:, 0] == 123).all()
    chunks = -(-samples // chunk)
    leaves = min(chunks, LEAVES)
    sizes = [chunks // leaves + (leaf < chunks % leaves) for leaf in range(leaves)]  # larger ones first
    edges = [min(chunk * sum(sizes[:leaf]), samples) for leaf in range(leaves + 1)] if leaves else []
    for leaf in range(leaves):
        part = order[edges[leaf] : edges[leaf + 1]]
        assert (part[:, 1] == leaf).all()
        starts = np.arange(len(part)) // chunk * chunk
        assert part[:, 2].tolist() == (starts == 0).astype(int).tolist()
        assert part[:, 3].tolist() == (edges[leaf] + starts).tolist()
        assert len(set(part[:, 4].tolist())) == 1


def train(threads, samples):
    """Many dependent sums over samples; returns the last one's bytes."""
    x = np.random.default_rng(0).normal(size=(samples, 33)).astype(np.float32)
    sums, total = np.zeros((LEAVES, 33), np.float32), np.zeros(33, np.float32)
    program = Program(
        [
            Section("sample", [Step(sum_samples, sum_samples.block(x, sums))], 2, LEAVES),
            Section("spread", [Step(add_leaves, add_leaves.block(sums, total), units=33, grain=16)]),
            Section("spread", [Step(next_is_sum, next_is_sum.block(total, x), units_per_sample=1)]),
        ]
    )
    Executor().run(program, samples=samples, threads=threads, repeats=50)
    return total.tobytes()


def test_same_bits_on_any_number_of_threads():
    assert len({train(threads, 61) for threads in (1, 2, 3, 8)}) == 1


def test_bits_do_not_depend_on_where_arrays_lie():
    values = np.random.default_rng(0).normal(size=(LEAVES, 33)).astype(np.float32)
    results = set()
    for distance in (0, 4, 40, 4000):
        memory = np.zeros(values.size + distance + 33, np.float32)
        sums, total = memory[: values.size].reshape(values.shape), memory[values.size + distance :]
        sums[:] = values
        add_leaves(sums, total, 0, 33)
        results.add(total.tobytes())
    assert len(results) == 1


def test_sections_run_alone(executor):
    program, seen = counting(4, sections=3)
    executor.run(program, 1, 2)
    executor.run(program, 2)
    executor.run(program, 1, 1)
    assert [array[0] for array in seen] == [0, 1, 1]


def test_each_worker_has_its_own_block(executor):
    marks = np.full((3, 1), -1, np.int64)
    blocks = np.stack([mark_worker.block(mark) for mark in marks])
    program = Program([Section("spread", [Step(mark_worker, blocks, units=3)])])
    executor.run(program, threads=3)
    assert marks[:, 0].tolist() == ([0, -1, -1] if interpreted() else [0, 1, 2])


def test_denormals_are_flushed_in_every_worker_and_only_there(executor):
    x, kept = np.full(6, 2e-38, np.float32), np.ones(6, np.int64)
    program = Program([Section("spread", [Step(is_denormal_kept, is_denormal_kept.block(x, kept), units=6)])])
    for threads in (1, 3):
        executor.run(program, threads=threads)
        assert kept.tolist() == [int(interpreted())] * 6
    assert (x * np.float32(0.5) > 0).all()


def test_impossible_runs_are_refused(executor):
    program, _ = counting(4, sections=2)
    with pytest.raises(EngineError) as error:
        executor.run(program, 1, 3, samples=5, threads=2)
    wanted = "A program of 2 sections cannot run sections 1 to 3 on 5 samples with 2 threads."
    assert str(error.value) == wanted


def test_runs_after_the_workers_slept(executor):
    program, (seen,) = counting(8)
    for _ in range(5):
        executor.run(program, threads=3)
        time.sleep(0.02)
    assert seen.tolist() == [5] * 8


def test_idle_workers_use_no_processor(executor):
    program, _ = counting(8)
    executor.run(program, threads=3)
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.02


def test_executors_run_at_once_in_several_threads():
    results = {}

    def work(name):
        results[name] = [train(2, 61) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {bits for runs in results.values() for bits in runs} == {train(1, 61)}


def test_one_executor_serves_several_threads(executor):
    program, (seen,) = counting(8)
    threads = [
        threading.Thread(target=lambda: [executor.run(program, threads=2) for _ in range(50)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.tolist() == [150] * 8


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("glassnet-")]


def test_workers_end_with_their_executor():
    gc.collect()
    before = len(workers())
    program, _ = counting(8)
    executor = Executor()
    executor.run(program, threads=3)
    assert len(workers()) == before + (0 if interpreted() else 2)
    executor.run(program, threads=2)
    assert len(workers()) == before + (0 if interpreted() else 1)
    del executor
    gc.collect()
    assert len(workers()) == before


def test_interrupt_leaves_whole_sections(monkeypatch):
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    executor = Executor()
    program, seen = counting(2000, sections=3)

    def interrupt(*_):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for threads in (1, 3):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                while True:
                    executor.run(program, threads=threads)
            assert len({int(n) for array in seen for n in array}) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[1])
import test_engine_executor as tests
executor = tests.Executor()
program, (seen,) = tests.counting(8)
executor.run(program, threads=3)
if sys.argv[2] == "fork":
    child = os.fork()
    executor.run(program, threads=3)
    assert seen.tolist() == [2] * 8
    if child:
        assert os.waitpid(child, 0)[1] == 0
print("done")
"""


@pytest.mark.parametrize("what", ["fork", "exit"])
def test_fork_and_exit(what):
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(Path(__file__).parent), what]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "done\n" * (2 if what == "fork" else 1)
