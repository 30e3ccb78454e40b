"""The tables of the documentation, made from the results that come with the package."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from glassnet.errors import FileFormatError
from glassnet.recipes import RECIPES, Recipe, Result, photos_study
from glassnet.recipes.photos_study import STUDY
from glassnet.recipes.result import SeedResult
from glassnet.runs.records import rank

BEGIN, END = "<!-- table: glassnet recipe page -->\n", "<!-- end of the table -->"
STUDY_BEGIN = "<!-- study: glassnet recipe page -->\n"
HEADER = ("system", "published", "same settings", "today", "time there", "time here", "command")
STUDY_HEADER = ("network", "while learning", "train", "valid", "valid there", "test", "what it shows")


def filled(text: str, results: dict[str, Result]) -> str:
    """The text of a page with the table of these results between its two marks: the systems or the study."""
    begin, make = (STUDY_BEGIN, study) if STUDY_BEGIN in text else (BEGIN, table)
    before, begin, rest = text.partition(begin)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise FileFormatError(f"The page needs the two lines {BEGIN.strip()!r} and {END!r}.")
    return before + begin + make(results) + END + after


def table(results: dict[str, Result]) -> str:
    """Markdown: a row for each recipe that has a result, but those of the study."""
    studied = {recipe.name for recipe in photos_study.RECIPES}
    shown = [recipe for name, recipe in RECIPES.items() if name in results and name not in studied]
    return markdown(HEADER, [row(recipe, results) for recipe in shown])


def study(results: dict[str, Result]) -> str:
    """Markdown: a row for each recipe of the study that has a result."""
    return markdown(STUDY_HEADER, [study_row(name, results[name]) for name in STUDY if name in results])


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [header, ("---",) * len(header), *rows])


def study_row(name: str, result: Result) -> tuple[str, ...]:
    """One network: its means over seeds, in training and in evaluation, beside what was published."""
    there, shows = STUDY[name]
    epochs = [kept(run, result.settings) for run in result.seeds]
    return (
        RECIPES[name].about,
        accuracy(fmean(epoch["accuracy"] for epoch in epochs)),
        accuracy(result.mean("train_accuracy")),
        accuracy(fmean(epoch["val_accuracy"] for epoch in epochs)),
        there,
        over_seeds(result, "test_accuracy"),
        shows,
    )


def kept(run: SeedResult, settings: dict[str, Any]) -> dict[str, Any]:
    """The epoch whose weights the run kept: the one that early stopping goes back to, or the last."""
    if settings["early_stopping"]:
        monitor = settings.get("monitor", "loss")  # results from before there was a choice have none
        return min(run.curve, key=lambda epoch: rank(monitor, epoch["val_loss"], epoch["val_accuracy"]))
    return run.curve[-1]


def row(recipe: Recipe, results: dict[str, Result]) -> tuple[str, ...]:
    """One recipe beside its publication, and what its task gets today."""
    result, published = results[recipe.name], recipe.published
    train = published.test_accuracy is None and published.train_accuracy is not None
    what = "train_accuracy" if train else "test_accuracy"
    here = over_seeds(result, what)
    return (
        recipe.about,
        accuracy(getattr(published, what)) + " on train" * train,
        *((here, today(recipe.today, results)) if recipe.as_published else ("-", here)),
        duration(published.seconds),
        duration(result.fastest),
        f"`glassnet recipe run {recipe.name}`",
    )


def over_seeds(result: Result, what: str) -> str:
    """Mean, least and greatest of a figure."""
    values = result.values(what)
    spread = f"{100 * min(values):.2f} to {100 * max(values):.2f}, {len(values)} seeds"
    return f"{accuracy(result.mean(what))} ({spread})"


def today(name: str, results: dict[str, Result]) -> str:
    """What the recipe of that name gets for the same task, and in what time."""
    if name not in results:
        return "-"
    found = results[name]
    return f"{accuracy(found.mean('test_accuracy'))} in {duration(found.fastest)}: `{name}`"


def accuracy(share: float | None) -> str:
    """98.55 %, or a dash."""
    return "-" if share is None else f"{100 * share:.2f} %"


def duration(seconds: float | None) -> str:
    """55 s, 49 min, 11.6 h; two digits below ten seconds."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
