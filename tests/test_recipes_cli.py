"""glassnet recipe: what is listed, run, kept, written and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from glassnet.recipes import RECIPES
from glassnet.recipes.page import BEGIN, END
from glassnet.recipes.result import Result, SeedResult
from test_cli import run, run_json


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["list", "run", "page"])
def test_the_example_in_the_help_runs(name, capsys):
    Path("systems.md").write_text(BEGIN + END)
    status, text, _ = run(capsys, "recipe", name, "--help")
    example = next(line for line in text.splitlines() if "Example:" in line).split("Example: glassnet ")[1]
    assert status == 0 and example.split()[:2] == ["recipe", name]
    status, out, err = run(capsys, *example.split())
    assert (status, err) == (0, "") and out


def test_the_list_says_what_is_required(capsys):
    result, err = run_json(capsys, "recipe", "list")
    assert [row["recipe"] for row in result["recipes"]] == list(RECIPES)
    line = next(line for line in err.splitlines() if line.startswith("nn-learn-complex"))
    assert "99.33 %" in line and "99.20 %" in line


def test_a_run_ends_with_one_object_and_keeps_its_seeds(capsys, monkeypatch):
    args = ("recipe", "run", "deep-ml-130", "--seeds", 2, "--out", "results")
    result, err = run_json(capsys, *args)
    assert result.keys() >= {"recipe", "test_accuracy", "train_accuracy", "seconds", "published"}
    assert (result["recipe"], result["seeds"], result["published"]) == ("deep-ml-130", 2, None)
    assert "Mean of 2 seeds: test 91." in err
    written = json.loads(Path("results/deep-ml-130.json").read_text())
    assert [entry["seed"] for entry in written["runs"]] == [0, 1]
    assert written["test_accuracy"] == result["test_accuracy"]
    monkeypatch.setattr(type(RECIPES["deep-ml-130"]), "train", None)  # what is kept is not run again
    assert run_json(capsys, *args)[0] == result


def test_one_seed_and_a_rehearsal(capsys):
    result, err = run_json(capsys, "recipe", "run", "deep-ml-130", "--seed", 4, "--steps", 20)
    assert result["seeds"] == 1 and "deep-ml-130, seed 4: test accuracy" in err
    assert not Path("runs").exists()


def test_images_held_out_are_judged_and_kept_apart(capsys):
    result, err = run_json(capsys, "recipe", "run", "deep-ml-130", "--seeds", 2, "--hold-out", 300)
    assert result["judged"] == "held-out" and "Mean of 2 seeds: held-out " in err
    assert Path("runs/hold-out-300/deep-ml-130/seed-1.json").exists()
    again, err = run_json(capsys, "recipe", "run", "deep-ml-130", "--seeds", 2)
    assert again["judged"] == "test" and again["train_accuracy"] != result["train_accuracy"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["simple-n"], "Unknown recipe 'simple-n'. Did you mean 'simple-nn'?"),
        (
            ["simple-nn", "--steps", "3", "--out", "results"],
            "--steps only rehearses, which is no result to write. Leave out --out or --steps.",
        ),
        (
            ["simple-nn", "--hold-out", "9", "--out", "results"],
            "--hold-out does not look at test, which is no result to write. Leave out --out or --hold-out.",
        ),
    ],
)
def test_errors_are_one_message(capsys, args, message):
    assert run(capsys, "recipe", "run", *args) == (2, "", f"Error: {message}\n")


def test_the_picture_of_the_page(capsys, monkeypatch):
    log = tuple(f"cost at epoch {epoch}, j = {0.5 / (epoch + 1):.6f}" for epoch in range(50))
    result = Result("simple-nn", {}, (SeedResult(0, 0.98, 0.99, 60.0, "compiled", (), log),), {})
    result = replace(result, seeds=(*result.seeds, replace(result.seeds[0], seed=1)))
    monkeypatch.setattr("glassnet.cli.recipe.shipped", lambda: {"simple-nn": result})
    Path("page.md").write_text(f"before\n{BEGIN}old\n{END}\nafter\n")
    run_json(capsys, "recipe", "page", "page.md", "--picture", "cost.png")
    text = Path("page.md").read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| 98.55 % | 98.00 % (98.00 to 98.00, 2 seeds) | - | 49 min | 60 s |" in text
    assert Path("cost.png").read_bytes().startswith(b"\x89PNG")
