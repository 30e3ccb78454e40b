"""The command line: what commands do, what they print, and how they end."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import glassnet as gn
from glassnet.cli.app import app
from glassnet.cli.output import Output
from glassnet.cli.progress import Bar, heard, progress
from glassnet.runs import checkpoint
from glassnet.train import fit, health

SOURCE = Path(__file__).parents[1] / "src"
COMMANDS = {command.callback.__name__: command.callback for command in app.registered_commands}


def run(capsys, *args):
    """(exit status, stdout, stderr) of one command, in this process."""
    with pytest.raises(SystemExit) as end:
        app([str(arg) for arg in args], prog_name="glassnet")
    captured = capsys.readouterr()
    return end.value.code or 0, captured.out, captured.err


def run_json(capsys, *args):
    """(the object in the last line of stdout, stderr) of a command that succeeds."""
    status, out, err = run(capsys, *args, "--json")
    assert status == 0, err
    assert out.count("\n") == 1
    return json.loads(out), err


def start(*args, folder):
    """A command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "glassnet", *args],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a picture of a seven and one trained run."""
    folder = tmp_path_factory.mktemp("cli")
    data = gn.data.load("digits")
    seven = data.test.images[int(np.argmax(data.test.labels == 7)), ..., 0]
    Image.fromarray(seven).resize((80, 80), Image.Resampling.NEAREST).save(folder / "seven.png")
    layers = [gn.Flatten(), gn.Linear(10)]
    net = gn.Sequential(layers, input_shape=data.image_shape)
    fit(net, data, epochs=3, optimizer=gn.Adam(lr=0.01), run_dir=folder / "runs" / "digits-1")
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


# Examples in the help


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_in_the_help_runs(name, capsys):
    status, text, _ = run(capsys, name, "--help")
    examples = [line.split("Example: glassnet ")[1] for line in text.splitlines() if "Example:" in line]
    assert status == 0 and examples
    for example in examples:
        assert example.split()[0] == name
        status, out, err = run(capsys, *example.split())
        assert status == 0, err
        assert out and not err


def test_help_loads_no_compiler_and_no_plots():
    program = (
        "import sys\nfrom glassnet.cli import main\n"
        "try: main()\nexcept SystemExit: print({'numba', 'matplotlib', 'pooch'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    result = subprocess.run(
        [sys.executable, "-c", program, "--help"], env=environment, capture_output=True, text=True
    )
    assert "Usage: glassnet" in result.stdout
    assert result.stdout.splitlines()[-1] == "set()"


# The other commands


def test_evaluate_gives_the_figures_of_the_library(capsys):
    result, err = run_json(capsys, "evaluate", "runs/digits-1")
    data = gn.data.load("digits")
    expected = gn.evaluate(gn.load("runs/digits-1/last.gnet"), data.test).to_dict()
    assert {key: result[key] for key in expected} == expected
    assert f"accuracy {100 * expected['accuracy']:.2f} %" in err
    assert result["data"] == "digits"


def test_evaluate_needs_to_know_the_data(capsys, tmp_path):
    copy = tmp_path / "copy.gnet"
    copy.write_bytes(Path("runs/digits-1/last.gnet").read_bytes())
    assert run(capsys, "evaluate", copy) == (
        2,
        "",
        f"Error: {copy} does not say what data it is for. Add --data, such as --data digits.\n",
    )
    assert run(capsys, "evaluate", copy, "--data", "digits")[0] == 0


def test_predict_names_images_and_arrays(capsys, tmp_path):
    images = gn.data.load("digits").test.images[:3]
    np.save(tmp_path / "three.npy", images)
    net = gn.load("runs/digits-1/last.gnet")
    result, err = run_json(
        capsys, "predict", "runs/digits-1", "seven.png", tmp_path / "three.npy", "--top-k", 2
    )
    files = [entry["file"] for entry in result["predictions"]]
    assert files == ["seven.png", *(f"{tmp_path / 'three.npy'}[{i}]" for i in range(3))]
    assert result["predictions"][0]["top"][0]["class"] == "7"
    assert [p["top"][0]["class"] for p in result["predictions"][1:]] == net.predict(images).tolist()
    assert all(p["top"][0]["score"] >= p["top"][1]["score"] for p in result["predictions"])
    assert err.splitlines()[0].split() == ["file", "class", "1", "score", "1", "class", "2", "score", "2"]


def test_summary_of_a_name_a_config_and_a_model(capsys, tmp_path):
    config = tmp_path / "net.toml"
    config.write_text('data = "digits"\nmodel = "linear"\n')
    for target in (config, "runs/digits-1", "runs/digits-1/last.gnet"):
        result, err = run_json(capsys, "summary", target)
        assert result["parameters"] == result["macs"] + 10 == 650
        assert [row["kind"] for row in result["layers"]] == ["Flatten", "Linear"]
        assert "linear_1" in err
    assert run_json(capsys, "summary", "digits")[0]["parameters"] > 650


def test_gradcheck_of_a_model_proves_every_gradient(capsys):
    result, err = run_json(capsys, "gradcheck", "runs/digits-1", "--samples", 2)
    assert result["ok"] is True
    assert {("linear_1", name) for name in ("x", "weight", "bias")} <= {
        (row["layer"], row["tensor"]) for row in result["rows"]
    }
    assert all(row["error"] < 1e-6 for row in result["rows"])
    assert "linear_1.weight" in err and " proved to 1e-06." in err


def test_gradcheck_takes_other_data_than_the_run_names(capsys, tmp_path):
    copy = tmp_path / "copy.gnet"
    copy.write_bytes(Path("runs/digits-1/last.gnet").read_bytes())
    assert run(capsys, "gradcheck", copy)[2].endswith("Add --data, such as --data digits.\n")
    assert run(capsys, "gradcheck", copy, "--data", "digits")[0] == 0


def test_gradcheck_fails_where_a_gradient_is_wrong(capsys, monkeypatch):
    right = gn.Linear.backward

    def wrong(self, ops, dy, x, *, input_grad=True):
        dx, grads = right(self, ops, dy, x, input_grad=input_grad)
        return dx, grads | {"bias": grads["bias"] * 1.001}

    monkeypatch.setattr(gn.Linear, "backward", wrong)
    status, out, err = run(capsys, "gradcheck", "runs/digits-1")
    assert (status, err) == (1, "")
    assert re.search(r"linear_1\.bias .* wrong\n", out)


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"glassnet {gn.__version__}\n", "")


# Errors


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train"], "train needs a data set or a --config file. Try: glassnet train digits"),
        (["train", "mnits"], "There is no data set, file or folder 'mnits'. Did you mean 'mnist'?"),
        (["train", "digits", "--set", "epoch=1"], "Unknown setting 'epoch'. Did you mean 'epochs'?"),
        (["train", "digits", "--model", "smal"], "Unknown model 'smal'. Did you mean 'small'?"),
        (
            ["train", "digits", "--run-dir", "seven.png"],
            "The run folder seven.png/digits-1 cannot be made: Not a directory. Choose another place.",
        ),
        (
            ["evaluate", "runs/none"],
            "There is no model file or run folder runs/none. Train one with `glassnet train digits`.",
        ),
        (
            ["evaluate", "runs"],
            "The folder runs holds no best.gnet or last.gnet, so that it is not a run folder.",
        ),
        (["predict", "runs/digits-1", "eight.png"], "eight.png: No such file or directory."),
        (
            ["predict", "runs/digits-1", "runs/digits-1/config.toml"],
            "runs/digits-1/config.toml is not an image that can be read: its content is none of JPEG, PNG, "
            "WEBP, BMP, GIF, TIFF, PPM.",
        ),
        *(
            ([*command, "--out", place], message)
            for command, kind in (
                (["lr", "digits"], ".png"),
                (["profile", "digits"], ".png"),
                (["report", "runs/digits-1"], ".html"),
            )
            for place, message in (
                ("x", f"--out must be a {kind} file, got x."),
                ("x.foo", f"--out must be a {kind} file, got x.foo."),
                (
                    f"gone/x{kind}",
                    f"--out gone/x{kind} is to be in a folder that is not there. Make gone first.",
                ),
            )
        ),
        (["summary", "digit"], "There is no data set, file or folder 'digit'. Did you mean 'digits'?"),
    ],
)
def test_errors_are_one_message(capsys, args, message):
    assert run(capsys, *args) == (2, "", f"Error: {message}\n")


def test_a_terminal_without_the_letters_shows_escapes(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONIOENCODING": "cp1252"}
    for name in ("doctor", "нет"):
        result = subprocess.run(
            [sys.executable, "-m", "glassnet", name],
            env=environment | {"GLASSNET_DATA": "/фото"},
            capture_output=True,
        )
        assert (b"\\u0444\\u043e" if name == "doctor" else b"\\u043d\\u0435") in result.stdout + result.stderr


def test_debug_shows_where(capsys):
    status, out, err = run(capsys, "--debug", "evaluate", "nowhere")
    assert (status, out) == (2, "")
    assert err.startswith("Traceback (most recent call last):")
    assert err.splitlines()[-1].startswith("Error: There is no model file")


# Output


class Shown(Bar):
    """A bar on a terminal of the test's."""

    def __init__(self):
        super().__init__(Console(file=io.StringIO(), force_terminal=True, width=100))

    def text(self):
        self.progress.stop()
        return self.progress.console.file.getvalue()


def test_the_bar_goes_away_when_training_fails(monkeypatch):
    monkeypatch.setattr(Console, "is_terminal", True)
    with pytest.raises(gn.NotFiniteError), progress(Output(json=True)) as bar:
        bar.progress.start()
        raise gn.NotFiniteError
    assert not bar.progress.live.is_started


def test_a_long_epoch_has_lines_in_between(capsys, monkeypatch):
    monkeypatch.setattr("glassnet.cli.progress.QUIET_SECONDS", -1)
    args = ("train", "digits", "--model", "linear", "--epochs", 1, "--batch-size", 1000)
    _, out, _ = run(capsys, *args)
    assert re.search(r"^epoch 1/1  batch 1/2  loss [\d.]+  [\d,]+ images/s$", out, re.MULTILINE)


@pytest.mark.parametrize("plain", [False, True])
def test_the_bar_shows_speed_loss_and_time_left(monkeypatch, plain):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if plain:
        monkeypatch.setenv("NO_COLOR", "1")
    data = gn.data.load("digits")
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=data.image_shape)
    bar = Shown()
    fit(net, (data.train.images[:200], data.train.labels[:200]), epochs=2, callbacks=[bar])
    text = bar.text()
    assert "epoch 2/2" in text and "images/s  loss" in text and "left" in text
    assert "epoch 1/2  loss" in text
    assert ("\x1b[36m" in text) is not plain  # cyan is the colour of the time left


@pytest.mark.parametrize("module", [health, checkpoint])
def test_a_warning_of_the_training_or_of_its_files_is_said_once(module):
    said = []
    with heard(said.append):
        module.log.warning("%s is odd.", "This")
    module.log.warning("Nobody listens.")
    assert said == ["Warning: This is odd."]
