"""What README and docs say is true: code and commands run, links lead somewhere, commands are described."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import glassnet as gn
from glassnet import layers
from glassnet.cli.app import app
from glassnet.losses import LOSSES, Loss
from glassnet.optim import OPTIMIZERS, Optimizer
from glassnet.settings.defaults import DEFAULTS
from photos import photo_folder

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
MANUAL = ROOT / "docs" / "command-line.md"
LAYERS = ROOT / "docs" / "layers" / "index.md"
COMMANDS = [command.callback.__name__ for command in app.registered_commands]
COMMANDS += [group.typer_instance.info.name for group in app.registered_groups]
PARTS = [gn.Sequential, *(getattr(layers, name) for name in layers.__all__ if name != "Layer")]
PARTS += [*LOSSES.values(), *OPTIMIZERS.values()]
INSTALLS = ("python3 -m venv .venv", ".venv/bin/pip install -e '.[test]'", ".venv/bin/python -m pytest")


def blocks(page, language):
    """The code blocks of a page in that language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def commands(page):
    """Its command lines."""
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line]


def with_blocks(language):
    """The pages that have such blocks, as parameters of a test."""
    return each([page for page in PAGES if blocks(page, language)])


def each(pages):
    """Pages as parameters of a test, named by their paths."""
    return pytest.mark.parametrize("page", pages, ids=lambda p: str(p.relative_to(ROOT).with_suffix("")))


@with_blocks("python")
def test_python_blocks_run_one_after_another(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photo_folder(Path("photos"), {"cat": 6, "dog": 6})
    monkeypatch.setattr("glassnet.data.catalog.user_cache", lambda: tmp_path / "cache")
    names = {"__name__": "page"}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


@with_blocks("python")
def test_names_that_a_page_uses_are_public(page):
    """So that its code runs in a fresh Python, which has imported none of our modules yet."""
    assert set(re.findall(r"\bgn\.(\w+)", "".join(blocks(page, "python")))) <= set(gn.__all__)


def test_public_names_are_there_in_a_fresh_python():
    program = "import glassnet as gn; print([gn.__getattr__(n) for n in {*gn.__all__} - vars(gn).keys()])"
    subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)


@with_blocks("sh")
def test_commands_run_one_after_another(page, tmp_path, monkeypatch, capsys):
    """With short defaults for digits: what the real ones reach is a test of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DEFAULTS, "digits", {"model": "linear", "epochs": 1})
    digits = gn.data.load("digits").test
    Image.fromarray(digits.images[int(np.argmax(digits.labels == 7)), ..., 0]).save("seven.png")
    photo_folder(Path("photos"), {"cat": 6, "dog": 6})
    monkeypatch.setattr("glassnet.data.catalog.user_cache", lambda: tmp_path / "cache")
    if commands(page)[0] != "glassnet train digits":
        assert run("glassnet train digits") == 0
    for command in commands(page):
        if command.startswith("make "):
            assert f"\n{command.split()[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
        elif command.startswith("glassnet "):
            assert run(command) == 0, capsys.readouterr().err
        else:
            assert command in (*INSTALLS, ".venv/bin/glassnet train digits")


def run(command):
    """The exit status of one command line."""
    with pytest.raises(SystemExit) as end:
        app(shlex.split(command)[1:], prog_name="glassnet")
    return end.value.code or 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_section_with_an_example(command):
    text = MANUAL.read_text(encoding="utf-8")
    section = re.search(rf"^## glassnet {command}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section
    assert f"\nglassnet {command} " in section[1] or f"\nglassnet {command}\n" in section[1]


def test_no_command_is_described_that_does_not_exist():
    sections = re.findall(r"^## glassnet (\w+)$", MANUAL.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == COMMANDS


@each(PAGES)
def test_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", text) + re.findall(r"\{literalinclude\} (\S+)", text)
    for link in links:
        assert (page.parent / link).exists(), link


@each(PAGES)
def test_quoted_code_exists(page):
    """`:pyobject:` names a function or method of the file that it is quoted from; other options, its text."""
    text = page.read_text(encoding="utf-8")
    for file, options in re.findall(r"\{literalinclude\} (\S+)\n((?::.*\n)*)", text):
        source = (page.parent / file).read_text(encoding="utf-8")
        for option, value in re.findall(r'^:([\w-]+): "?(.*?)"?$', options, re.MULTILINE):
            if option == "pyobject":
                for part in value.split("."):
                    assert re.search(rf"^ *(def|class) {part}\b", source, re.MULTILINE), value
            else:
                assert option in ("start-at", "end-before")
                assert f"\n{value}" in source


@pytest.mark.parametrize("kind", PARTS, ids=lambda kind: kind.__name__)
def test_every_layer_loss_and_optimiser_has_its_page(kind):
    """The table leads to it. It quotes the code of the gradient, and checks that by gradcheck."""
    link = re.search(rf"\[{kind.__name__}\]\((\S+)\)", LAYERS.read_text(encoding="utf-8"))
    assert link, f"{kind.__name__} has no page in docs/layers/index.md"
    page = LAYERS.parent / link[1]
    text, code = page.read_text(encoding="utf-8"), "".join(blocks(page, "python"))
    assert f"gn.{kind.__name__}(" in code or kind is layers.Chain
    if issubclass(kind, Optimizer):
        quoted = kind().rule().__name__
    elif issubclass(kind, Loss):
        quoted = rf"LossOps\.{kind.operation}_grad"
    else:
        quoted = rf"{kind.backward.__qualname__.split('.')[0]}(\.backward)?"
    assert re.search(rf"^:pyobject: {quoted}$", text, re.MULTILINE)
    if not issubclass(kind, Optimizer):
        assert re.search(r"\bgn\.gradcheck\(", code) and "backward" in code


def test_the_readme_shows_the_twenty_lines():
    """The start of the README's first block is the example that the design promises."""
    code = blocks(ROOT / "README.md", "python")[0]
    for promised in (
        "gn.data.load(",
        "gn.Sequential(",
        "net.summary()",
        "gn.fit(",
        "gn.gradcheck(",
        "net.trace(",
    ):
        assert promised in code
