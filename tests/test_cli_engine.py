"""The commands that look into the compiled engine: plan, profile, warmup; and what a first use says."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import glassnet as gn
from glassnet.cli.app import app
from glassnet.cli.progress import compiling
from glassnet.engine.machine import cache
from glassnet.engine.profile import profile
from glassnet.models import MODELS
from glassnet.train import TrainConfig
from glassnet.train.example import example_step
from glassnet.train.warmup import CLASSES, IMAGES, warm_up
from photos import photo_folder

SOURCE = Path(__file__).parents[1] / "src"


def run_json(capsys, *args):
    """The object in the last line of stdout of a command that succeeds, and what it says."""
    with pytest.raises(SystemExit) as end:
        app([*map(str, args), "--json"], prog_name="glassnet")
    out, err = capsys.readouterr()
    assert not end.value.code, err
    return json.loads(out), err


# plan


def test_plan_lists_steps_and_buffers(capsys):
    found, text = run_json(capsys, "plan", "digits", "--batch-size", 12, "--threads", 2)
    steps, buffers = found["steps"], {buffer["number"]: buffer for buffer in found["buffers"]}
    assert found["batch_size"] == 12 and 1 <= found["leaves"] <= 8
    assert steps[-1]["section"].endswith(" update")
    forward = next(s for s in steps if (s["layer"], s["operation"]) == ("conv2d_2", "conv2d"))
    assert forward["macs"] == 12 * 8 * 8 * 9 * 16 * 32
    assert [buffers[number]["halo"] for number in forward["reads"]] == [[1, 1, 1, 1]]
    assert [buffers[number]["shape"] for number in forward["writes"]] == [[8, 8, 32]]
    assert found["macs"] == sum(step["macs"] for step in steps)
    assert "conv2d_2" in text and f"{found['bytes_shared']:,} shared" in text


def test_every_buffer_lies_in_its_arena_and_is_written_by_a_step(capsys):
    found, _ = run_json(capsys, "plan", "digits")
    written = {number for step in found["steps"] for number in step["writes"]}
    assert written == {buffer["number"] for buffer in found["buffers"]}
    for buffer in found["buffers"]:
        arena = found["bytes_per_worker" if buffer["local"] else "bytes_shared"]
        assert buffer["offset"] >= 0 and buffer["offset"] + buffer["bytes"] <= arena


def test_the_batch_of_a_plan_is_that_of_the_config(capsys, tmp_path):
    config = tmp_path / "net.toml"
    config.write_text('data = "digits"\nmodel = "linear"\nbatch_size = 24\naccumulate = 2\n')
    assert run_json(capsys, "plan", config)[0]["batch_size"] == 12


# profile


def test_a_profile_divides_by_the_time_of_each_step():
    config = TrainConfig.resolve({"data": "digits"})
    net = gn.Sequential(MODELS["linear"](CLASSES), input_shape=IMAGES[0])
    compiled = example_step(net, config.loss, config.optimizer, 8, threads=1).compiled
    ticks = iter(range(10**6))
    found = profile(compiled, rounds=3, clock=lambda: next(ticks))
    assert [row.seconds for row in found.rows] == [1.0] * sum(len(s.steps) for s in compiled.sections)
    row = next(row for row in found.rows if row.operation == "linear")
    assert row.macs == 8 * 64 * CLASSES
    assert row.gflops == pytest.approx(2e-9 * row.macs)
    assert row.share_of_peak == pytest.approx(2 * row.macs / found.peak)
    assert found.seconds == len(found.rows)


def test_profile_is_a_table_and_a_picture(capsys, tmp_path):
    found, text = run_json(capsys, "profile", "digits", "--batch-size", 8, "--out", tmp_path / "p.png")
    assert len(found["steps"]) > 20 and found["seconds"] == sum(step["seconds"] for step in found["steps"])
    shares = [step["share_of_peak"] for step in found["steps"] if step["kernel"] == "tile_rows"]
    assert shares and all(0.05 < share < 2 for share in shares)
    assert "GF/s" in text and "of the peak of" in text
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size[0] == 1080


def test_a_profile_of_photos_says_how_fast_they_come(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("glassnet.data.catalog.user_cache", lambda: tmp_path / "cache")
    photos = photo_folder(tmp_path / "photos", {"cat": 4, "dog": 4})
    found, text = run_json(capsys, "profile", photos, "--batch-size", 4)
    rates, inputs = found["images_per_second"], [s for s in found["steps"] if s["layer"] == "input"]
    assert [step["kernel"] for step in inputs] == ["augment_bytes"]
    assert rates["inputs"] == pytest.approx(4 / inputs[0]["seconds"])
    assert rates["training"] == pytest.approx(4 / found["seconds"])
    assert rates["decoding"] > 1 and "decoding" in text


# Compiling


def test_compiling_is_said_at_most_once_a_second_and_counted(monkeypatch):
    now = iter([10.0, 10.0, 10.5, 11.5, 11.5])
    monkeypatch.setattr("glassnet.cli.progress.time.monotonic", lambda: next(now))
    log, said = logging.getLogger("glassnet.engine.machine.cache"), []
    before = log.level
    with compiling(said.append) as seen:
        for k in (1, 2, 3):
            log.info("%d of 3", k)
    log.info("unseen")
    assert said == ["1 of 3", "3 of 3"]
    assert seen.count == 3
    assert log.level == before and seen not in log.handlers


def test_a_first_use_says_what_it_compiles_and_a_second_does_not(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "GLASSNET_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "glassnet", "train", "digits", "--model", "linear", "--epochs", "1"]
    first, second = (
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert first.stdout.startswith("Compiling 1 of ") and " kernels (once): " in first.stdout
    assert "Compiling" not in second.stdout
    assert first.stderr == second.stderr == ""


def test_after_a_warmup_named_models_compile_nothing(monkeypatch):
    compile_all, asked = cache.compile_all, set()

    def noted(codes, cpu):
        codes = list(codes)
        asked.update(codes)
        return compile_all(codes, cpu)

    monkeypatch.setattr(cache, "compile_all", noted)
    warm_up()
    warmed = frozenset(asked)
    config = TrainConfig.resolve({"data": "digits"})
    for make in MODELS.values():
        for shape in IMAGES:
            net = gn.Sequential(make(CLASSES), input_shape=shape)
            for batch_size in (1, 10, 100):
                example_step(net, config.loss, gn.Adam(), batch_size)
    assert asked == warmed


def test_warmup_says_how_many_and_where(capsys, monkeypatch):
    log = logging.getLogger("glassnet.engine.machine.cache")
    monkeypatch.setattr("glassnet.cli.warmup.warm_up", lambda: log.info("Compiling 1 of 1 kernels (once): x"))
    found, text = run_json(capsys, "warmup")
    assert found["compiled"] == 1 and found["folder"] == str(cache.folder())
    assert text.splitlines()[-1].startswith("Compiled 1 kernels in ")
