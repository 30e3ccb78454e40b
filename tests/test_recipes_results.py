"""What is kept of recipes: result files, those that come with the package, and the page made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glassnet.engine.machine.cpu import host
from glassnet.errors import FileFormatError
from glassnet.recipes import RECIPES, Recipe, photos_study
from glassnet.recipes.page import filled, row
from glassnet.recipes.result import Finished, Result, SeedResult, same_settings, shipped, versions
from messages import message_of

PAGE = Path(__file__).parents[1] / "docs" / "systems.md"
RUN = SeedResult(0, 0.9, 0.95, 1.5, "compiled", ({"epoch": 1, "loss": 0.5},), ("a line",))


def test_a_finished_seed_is_kept_for_the_same_settings(tmp_path):
    kept = Finished(tmp_path, "some", {"data": "mnist", "epochs": 3, "sizes": (1, 2)})
    assert kept.get(0) is None
    kept.put(RUN)
    assert kept.get(0).test_accuracy == 0.9 and kept.get(1) is None
    assert Finished(tmp_path, "some", kept.settings | {"epochs": 4}).get(0) is None
    assert Finished(tmp_path, "some", kept.settings | {"ema": 0.0}).get(0) is not None  # a later default
    assert Finished(tmp_path, "some", kept.settings | {"ema": 0.9}).get(0) is None
    assert Finished(tmp_path, "some", {"data": "mnist", "epochs": 3}).get(0) is None


def test_a_result_file_gives_back_the_result():
    result = Result("some", {"epochs": 3}, (RUN, replace(RUN, seed=1, test_accuracy=0.8)), {"numpy": "2"})
    again = Result.from_json(result.to_json(), "some.json")
    assert again.to_json() == result.to_json()
    plain = json.loads(result.to_json())
    assert plain["test_accuracy"] == pytest.approx(0.85) and plain["spread"] == [0.8, 0.9]
    assert message_of(FileFormatError, Result.from_json, "{}", "some.json") == (
        "some.json is not the result of a recipe: KeyError('runs')."
    )


def test_the_page_agrees_with_the_results():
    text = PAGE.read_text(encoding="utf-8")
    assert filled(text, shipped()) == text
    elsewhere = {recipe.name for recipe in photos_study.RECIPES}
    assert all(f"recipe run {name}`" in text for name in shipped().keys() - elsewhere)


def test_a_recipe_without_a_publication_is_what_its_task_gets_today():
    own = Recipe(
        name="fast",
        about="Any network",
        config=RECIPES["simple-nn"].config,
        network=RECIPES["simple-nn"].network,
    )
    result = Result("fast", {}, (RUN,), {})
    cells = row(own, {"fast": result})
    assert cells == (
        *("Any network", "-", "-", "90.00 % (90.00 to 90.00, 1 seeds)", "-", "1.5 s"),
        "`glassnet recipe run fast`",
    )
    other = replace(RECIPES["nn-learn-simple"], as_published=False)
    assert row(other, {other.name: result})[1:4] == ("97.67 %", "-", cells[3])
    published = replace(RECIPES["nn-learn-simple"], today="fast")
    shown = row(published, {"fast": result, "nn-learn-simple": result})
    assert shown[1:4] == ("97.67 %", "90.00 % (90.00 to 90.00, 1 seeds)", "90.00 % in 1.5 s: `fast`")


def test_shipped_results_are_of_the_settings_of_now():
    for name, result in shipped().items():
        assert same_settings(result.settings, RECIPES[name].settings()), name


def test_every_recipe_has_a_result_that_reaches_what_is_required():
    results = shipped()
    assert results.keys() == RECIPES.keys()
    for name, recipe in RECIPES.items():
        result = results[name]
        assert result.mean("test_accuracy") >= (recipe.required or 0), name
        assert result.mean("train_accuracy") >= (recipe.required_train or 0), name
        assert result.fastest <= (recipe.within or np.inf), name
        assert len(result.seeds) >= recipe.seeds, name


def test_a_result_names_the_processor():
    assert versions()["processor"] == host().name and int(versions()["processors"]) >= 1


def test_a_page_without_marks_is_refused():
    assert message_of(FileFormatError, filled, "nothing", {}) == (
        "The page needs the two lines '<!-- table: glassnet recipe page -->' and '<!-- end of the table -->'."
    )
